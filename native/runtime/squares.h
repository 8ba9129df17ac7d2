// What both ways of Winograd's F(2x2, 3x3) share: the squares of 2x2 outputs, which of them are open, their inputs.
#pragma once

#include <functional>

#include "convolution.h"

namespace convgate {

// How many squares an output has.
int all_squares(const ConvolutionSpec&);
// A 3x3 convolution of stride 1 that writes its outputs next to each other, with channels enough to fill vectors.
bool is_in_squares(const ConvolutionSpec&);
// Numbers of its transformed weights. In float32: whether they are kept, and with how many open squares and positions Winograd's
// algorithm pays. The same whether squares or outputs lie along the lanes, so that results do not depend on which.
std::size_t elements_weights(const ConvolutionSpec&);
bool keeps_elements(const ConvolutionSpec&);
bool winograd_pays(const ConvolutionSpec&, int squares, int positions);

// Of maps that are stored as T.
template <typename T>
class ConvolutionInSquaresOf : public ConvolutionOf<T, T> {
protected:
    using typename ConvolutionOf<T, T>::Run;
    static constexpr int area = 9;     // taps
    static constexpr int corners = 4;  // of a square: its positions from the upper left one on, 2 * y + x

    explicit ConvolutionInSquaresOf(const ConvolutionSpec&);

    // Squares with open positions, and which of each square's corners are, as bits.
    struct Chosen {
        const std::int32_t* squares;
        int count;
        const std::uint8_t* open;
    };
    Chosen choose_squares(Sample&) const;
    int squares() const { return static_cast<int>(all_.size()); }
    int first_position(int square) const { return square / columns_ * 2 * spec_.out->value.width + square % columns_ * 2; }
    // To scratch.columns, as the kernels' patches say: of squares [first, first + count), of `ins` inputs.
    void transform_inputs(const Run&, const Chosen&, Scratch&, int first, int count, int ins) const;
    // Where the positions of squares are written, and addends read, from an output channel on: outputs and addends of
    // scratch.places<T>(), 4 * square + corner. Closed corners go to `waste`.
    void point_corners(const Run&, const Chosen&, Scratch&, int first, int count, int out_begin, T* waste) const;
    int padded(int ins) const;  // to whole blocks of transformed inputs
    // An odd number, so that no two elements of a square are a power of two apart in memory.
    static int room(int squares) { return squares | 1; }

    using ConvolutionOf<T, T>::spec_;

private:
    using ConvolutionOf<T, T>::in_at_, ConvolutionOf<T, T>::out_at_, ConvolutionOf<T, T>::addend_at_;

    const int columns_;                            // of squares
    std::vector<std::int32_t> square_, all_;       // per position; all squares
    std::vector<std::uint8_t> corner_, all_open_;  // per position, as a bit; per square, the corners that there are
};

// One output's transformed weights after the other: value(out, element, in).
std::function<float(int out, int element, int in)> transformed_weights(const ConvolutionSpec&);

}  // namespace convgate
