// The kernels of Winograd's F(2x2, 3x3) for maps and weights in bfloat16, after bf16_simd.h and like it, for processors that widen
// them: what is transformed is float32, and nothing is rounded to bfloat16 on the way. An instruction set's file defines before it
// also
//   packed_lanes(v, kept)   the lanes of a vector whose bits are set, in its first ones

#include "winograd_transforms.h"

void squares(const Bf16Squares& a) {
    const Vector least = all(a.activation.least), most = all(a.activation.most);
    squares_with(a, [&](Vector y) { return smallest(most, largest(least, y)); });
}

constexpr Bf16Kernels with_winograd(Bf16Kernels table) {
    table.patches = patches<Bf16>;
    table.element_weights = element_weights<Bf16>;
    table.squares = squares;
    return table;
}
