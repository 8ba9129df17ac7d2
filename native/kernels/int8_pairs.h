// How quads are multiplied where no instruction does it: their bytes are widened to 16 bits by turns, whose products `add_pairs`
// adds exactly. (`vpmaddubsw` would be the instruction for bytes, but it saturates: two products of 255 * 127 do not fit into its
// 16 bits.) On a set that `widens`, only depthwise convolutions do so. Included before int8_quads.h.

typedef std::int16_t Shorts __attribute__((vector_size(sizeof(Register))));
typedef std::uint16_t UnsignedShorts __attribute__((vector_size(sizeof(Register))));

// Of each quad the first and third byte, the second and fourth, as 16 bits.
struct Pairs {
    Register even, odd;
};
using Inputs = Pairs;
using Weights = Pairs;

inline Inputs inputs_of(Register v) {
    const UnsignedShorts both = UnsignedShorts(v);
    return {Register(both & 0xff), Register(both >> 8)};
}
inline Weights weights_of(Register v) {
    const Shorts both = Shorts(v);
    return {Register((both << 8) >> 8), Register(both >> 8)};
}
inline Register dot(Register sum, const Inputs& inputs, const Weights& weights) {
    return add_pairs(add_pairs(sum, inputs.even, weights.even), inputs.odd, weights.odd);
}
