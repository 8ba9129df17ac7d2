// Kernels for 8-bit integers by quads: four inputs of a position meet four weights of an output in one 32-bit lane. Quads of
// inputs are formed when weights are read: four rows are interleaved by unpacking, for which each row is stored in the
// order that unpacking wants. So a closed input costs nothing, whichever its neighbours are. (Where `widens`, products have
// pairs of 16 bits instead: int8_pair_product.h.) An instruction wants inputs
// with a sign or without: the others are read as x + 128 or x - 128, and sums start as much lower or higher.
//
// Written once over a register of any width. An instruction set's file defines before it includes this one, in an anonymous
// namespace:
//   Register                                  as many bytes as a row of weights has outputs; also a vector of int32
//   lanes                                     its int32s, a quarter of them
//   flips(is_signed)                          whether inputs are multiplied with their upper bit turned: with a sign as x + 128,
//                                             without as x - 128
//   at_once, tile_of(vectors)                 vectors of outputs, and then positions, that a product computes at once
//   widens                                    whether a product's inputs and weights become pairs of 16 bits first
//   load(p), load_bytes(p, n), store_bytes(p, v, n)     n may be less than there are: others read 0, and stay in memory
//   load_numbers(p, n, otherwise)                       int32s, for any n
//   store_numbers(p, v, n), store_scaled(p, v, scale, n) as int32s, or as floats times scale[i]
//   bytes_of(x), numbers_of(x)                the same in each byte, or int32
//   low_bytes(a, b), high_bytes(a, b), low_shorts(a, b), high_shorts(a, b)    unpacked within 128 bits
//   to_shorts, to_bytes, to_unsigned_bytes(a, b), add_shorts(a, b)            saturating, packed within 128 bits
//   signs_of_bytes(v), signs_of_shorts(v)     all bits of an element are its sign's
//   smallest, largest(a, b), smallest_unsigned, largest_unsigned(a, b)       of bytes
//   add_pairs(sum, a, b)                      of products of 16 bits with a sign two to each of 32
//   sixteen_bytes(p), of_sixteen(entries, x), less_sixteen(x)   a table's row; its entries at x, 0 where x is not below 16; x - 16
//   multiply_high(a, b)                       the upper 16 bits of products of 16 bits without a sign
//   brought_in_64_bits(x, m, s)                      (x * m + 2^(s-1)) >> s for any s, clamped to 30 bits
//   to_quarters(v[4]), from_quarters(v[4])    numbers in order to as unpacking leaves them, and back
//   in_order(v), out_of_order(v)              dwords after packing four vectors that are in order, and before
//   Inputs, Weights, inputs_of(v), weights_of(v), dot(sum, inputs, weights)  quads without and with a sign, multiplied and added
//   any(v)                                    whether a bit is set
//   Permutation                               of a row's bytes: take(from, to), then apply(v, packed) puts those taken in place
//   permutes(), PERMUTING                     whether this processor can; what the compiler is to be told of functions that do

constexpr int row = 4 * lanes;
alignas(64) const std::int8_t no_weights[row] = {};

// Where unpacking wants output o: by its quarter of a vector, then its vector.
int place(int o) { return 16 * (o % lanes / 4) + 4 * (o / lanes) + o % 4; }

// Up to a row of numbers as four vectors: in order, or as the interleaving of bytes leaves them, by quarters.
template <bool by_quarters>
inline void load_row(const std::int32_t* from, int n, int otherwise, Register (&to)[4]) {
    for (int v = 0; v < 4; v++) to[v] = load_numbers(from + v * lanes, n - v * lanes, otherwise);
    if constexpr (by_quarters) to_quarters(to);
}

// Four rows of bytes -> vectors of four bytes each, one of each row: `vectors` of a row's four, from one on.
template <int vectors, int from = 0>
inline void interleave(const Register (&r)[4], Register (&w)[vectors]) {
    const auto pair = [](Register a, Register b, int v) { return v % 2 ? high_shorts(a, b) : low_shorts(a, b); };
    if constexpr (from < 2) {
        const Register a = low_bytes(r[0], r[1]), b = low_bytes(r[2], r[3]);
        constexpr int end = from + vectors < 2 ? from + vectors : 2;
#pragma GCC unroll 2
        for (int v = from; v < end; v++) w[v - from] = pair(a, b, v);
    }
    if constexpr (from + vectors > 2) {
        const Register a = high_bytes(r[0], r[1]), b = high_bytes(r[2], r[3]);
        constexpr int first = from < 2 ? 2 : from;
#pragma GCC unroll 2
        for (int v = first; v < from + vectors; v++) w[v - from] = pair(a, b, v);
    }
}

#include "int8_finish.h"
#include "int8_pair_product.h"
#include "int8_product.h"
#include "int8_depthwise.h"
#include "int8_packing.h"
#include "int8_look_up.h"

constexpr Int8Kernels table_of(const char* name, const Kernels* floats) {
    return {
        .name = name,
        .floats = floats,
        .lanes = lanes,
        .row = row,
        .place = place,
        .excess_signed = flips(true) ? 128 : 0,
        .excess_unsigned = flips(false) ? -128 : 0,
        .product = product,
        .depthwise = depthwise,
        .pack_columns = pack_columns,
        .maxima = maxima,
        .means = means,
        .sum = sum,
        .complete = complete,
        .quantize = quantize,
        .dequantize = dequantize,
        .look_up = look_up,
    };
}
