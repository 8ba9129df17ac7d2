// Quads that an instruction multiplies as they are; included before int8_quads.h.

using Inputs = Register;
using Weights = Register;
constexpr bool widens = false;
inline Inputs inputs_of(Register v) { return v; }
inline Weights weights_of(Register v) { return v; }
