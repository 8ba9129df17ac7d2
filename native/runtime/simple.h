// Layers that are not convolutions.
#pragma once

#include "layer.h"

namespace convgate {

struct SimpleSpec {
    const Kernels* kernels;
    const Operation* operation;
    std::vector<const Layout*> in;
    const Layout* out = nullptr;
    int use = -1;  // spread of the operation's gate
    Form form{Storage::f32, Storage::f32};
    const Bf16Kernels* halves = nullptr;   // of layers that read bfloat16
    const Int8Kernels* integers = nullptr;  // of layers that read or write integers
};

// A layer whose maps are all stored alike, as floats;
template <template <typename> class Of, typename... More>
std::unique_ptr<Layer> make_for_floats(const SimpleSpec& spec, More&... more) {
    if (spec.form.out == Storage::f32) return std::make_unique<Of<float>>(spec, more...);
    return std::make_unique<Of<Bf16>>(spec, more...);
}
// or as anything, as elements are only moved.
template <template <typename> class Of>
std::unique_ptr<Layer> make_for_elements(const SimpleSpec& spec) {
    if (integral(spec.form.out)) return std::make_unique<Of<std::uint8_t>>(spec);
    return make_for_floats<Of>(spec);
}

std::unique_ptr<Layer> make_pool(const SimpleSpec&);
std::unique_ptr<Layer> make_pool_to_grid(const SimpleSpec&, Needs&);
// activate, affine, prelu, constant
std::unique_ptr<Layer> make_row_by_row(const SimpleSpec&);
// concat, slice, pick, mask
std::unique_ptr<Layer> make_choice(const SimpleSpec&);
// quantize, dequantize, lookup; add, of integers
std::unique_ptr<Layer> make_of_integers(const SimpleSpec&);
// add, multiply, arithmetic
std::unique_ptr<Layer> make_elementwise(const SimpleSpec&, Needs&);
std::unique_ptr<Layer> make_fill_closed(const SimpleSpec&);
std::unique_ptr<Layer> make_transposed(const SimpleSpec&, Needs&);
// How far past its input's ends a transposed convolution reads.
void reach_of_transposed(const Operation&, const Value& in, const Value& out, int* top, int* left, int* bottom, int* right);
// pad, pixel_shuffle, pixel_unshuffle, reshape
std::unique_ptr<Layer> make_rearrangement(const SimpleSpec&);
std::unique_ptr<Layer> make_group_norm(const SimpleSpec&);
// layer_norm, softmax, over_channels
std::unique_ptr<Layer> make_over_channels(const SimpleSpec&);
std::unique_ptr<Layer> make_interpolate(const SimpleSpec&);
// The activation of a convolution that its kernels have not applied, in place; `gated`: only where its gate of positions
// (`use`) is open, as all else is zero or unread.
std::unique_ptr<Layer> make_activation_in_place(const SimpleSpec&, bool gated);
std::unique_ptr<Layer> make_decide(const SimpleSpec&);
// The same for an activation gate.
std::unique_ptr<Layer> make_decide_activations(const SimpleSpec&, const Gate&, Needs&);
// The same on partial sums of integers.
std::unique_ptr<Layer> make_decide_sums(const SimpleSpec&, const Gate&);
// Copies the open channels of in[0] to out, which is compact.
std::unique_ptr<Layer> make_compact(const SimpleSpec&);
// Copies in[0], with its border, to out, which is the same stored as another type.
std::unique_ptr<Layer> make_conversion(const SimpleSpec&);

}  // namespace convgate
