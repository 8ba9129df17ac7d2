// The kernels of Winograd's F(2x2, 3x3) in integers of 16 bits, after int8_quads.h and like it, for processors that multiply pairs
// of 16 bits as fast as anything smaller. Bytes of weights are widened by unpacking, and pairs of two inputs' weights are
// formed likewise when they are read: outputs are in order then. An instruction set's file defines before it also
//   Shorts                                 as int8_pairs.h has it
//   store(p, v)                            of a whole register
//   HalfRegister, load_half(p, n)          the first n bytes of as many as a register has shorts; the others read 0
//   signed_shorts(v), unsigned_shorts(v)   these bytes, each as 16 bits
//   squares_at_once(vectors)               whose products with one or two vectors of outputs are computed at once

#include "winograd_dimensions.h"

typedef std::uint32_t Modular __attribute__((vector_size(sizeof(Register))));  // int32s modulo 2^32

constexpr int shorts_each = 2 * lanes;  // of a register

// -- inputs --------------------------------------------------------------------------------------------------------

template <typename Take>
inline void patch(const std::uint8_t* from, const Int8Patches& a, std::int16_t* to, std::ptrdiff_t stride, Take take) {
    elements_of_patch<Shorts>([&](int y, int x) { return take(from + y * a.step_y + x * a.step_x); },
                              [&](int e, Shorts v) { store(to + e * stride, Register(v)); });
}

template <bool is_signed>
inline void patches_of(const Int8Patches& a) {
    const auto take = [](const std::uint8_t* p, int n) {
        const HalfRegister bytes = load_half(p, n);
        return Shorts(is_signed ? signed_shorts(bytes) : unsigned_shorts(bytes));
    };
    const int blocks = (a.channels + shorts_each - 1) / shorts_each;
    const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(a.room) * shorts_each, element = blocks * block;
    for (int s = 0; s < a.squares; s++) {
        const std::uint8_t* const from = a.from[s];
        std::int16_t* to = a.to + static_cast<std::ptrdiff_t>(s) * shorts_each;
        int c = 0;
        for (; c + shorts_each <= a.channels; c += shorts_each, to += block)
            patch(from + c, a, to, element, [&](const std::uint8_t* p) { return take(p, shorts_each); });
        if (c < a.channels) patch(from + c, a, to, element, [&](const std::uint8_t* p) { return take(p, a.channels - c); });
    }
}

void patches(const Int8Patches& a) { a.is_signed ? patches_of<true>(a) : patches_of<false>(a); }

// -- weights -------------------------------------------------------------------------------------------------------

// One dimension of 2 G w: (2 w0, w0 + w1 + w2, w0 - w1 + w2, 2 w2).
inline void spread(Shorts a, Shorts b, Shorts c, Shorts (&to)[4]) {
    const Shorts ends = a + c;
    to[0] = a + a, to[1] = ends + b, to[2] = ends - b, to[3] = c + c;
}

// Bytes as shorts: those that unpacking takes from the lower, or upper, half of each 128 bits.
template <bool upper>
inline Shorts widened(Register bytes) {
    return Shorts(upper ? high_bytes(bytes, bytes) : low_bytes(bytes, bytes)) >> 8;
}

template <bool upper>
inline void spread_half(const Register (&taps)[9], std::int16_t* to, std::ptrdiff_t stride) {
    Shorts columns[3][4];
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++) spread(widened<upper>(taps[x]), widened<upper>(taps[3 + x]), widened<upper>(taps[6 + x]), columns[x]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        Shorts line[4];
        spread(columns[0][i], columns[1][i], columns[2][i], line);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) store(to + (4 * i + j) * stride, Register(line[j]));
    }
}

void element_weights(const Int8ElementWeights& a) {
    const auto at = [&](int tap, int n) {
        const int r = tap % 3 * a.inputs + a.begin + n;
        return a.from + tap / 3 * a.line_stride + static_cast<std::ptrdiff_t>(a.rows ? a.rows[r] : r) * row;
    };
    for (int n = 0; n < a.count; n++) {
        const int later = n + 6 < a.count ? n + 6 : a.count - 1;  // rows come from memory
        Register taps[9];
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; tap++) {
            taps[tap] = load(at(tap, n));
            __builtin_prefetch(at(tap, later));
        }
        std::int16_t* const to = a.to + static_cast<std::ptrdiff_t>(n) * row;
        spread_half<false>(taps, to, a.to_stride);
        if (a.width > shorts_each) spread_half<true>(taps, to + shorts_each, a.to_stride);
    }
}

// -- products ------------------------------------------------------------------------------------------------------

// `vectors` vectors of outputs, one or two, of a register of each row, from `weights` on.
template <int vectors, int tile>
void element_tile(const Int8Element& a, const std::int16_t* weights, int square, std::int32_t* out) {
    const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(a.room) * shorts_each;
    Register acc[tile][vectors];
#pragma GCC unroll 16
    for (int s = 0; s < tile; s++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[s][v] = a.first ? Register{} : load(out + s * row + v * lanes);
    const std::int16_t* from = a.inputs + static_cast<std::ptrdiff_t>(square) * shorts_each;
    for (int begin = 0; begin < a.count; begin += shorts_each, from += block) {
        const std::int16_t* x = from;
        const int end = begin + shorts_each < a.count ? begin + shorts_each : a.count;
        for (int i = begin; i < end; i += 2, x += 2, weights += 2 * row) {
            const Register one = load(weights), other = i + 1 < end ? load(weights + row) : Register{};
            const Register w[2] = {low_shorts(one, other), high_shorts(one, other)};
#pragma GCC unroll 16
            for (int s = 0; s < tile; s++) {
                int pair;
                std::memcpy(&pair, x + s * shorts_each, sizeof(pair));
                const Register inputs = numbers_of(pair);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) acc[s][v] = add_pairs(acc[s][v], inputs, w[v]);
            }
        }
    }
#pragma GCC unroll 16
    for (int s = 0; s < tile; s++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(out + s * row + v * lanes, acc[s][v]);
}

template <int vectors, int... n>
void element_tiles(const Int8Element& a, int o, std::integer_sequence<int, n...>) {
    constexpr void (*kernels[])(const Int8Element&, const std::int16_t*, int, std::int32_t*) = {element_tile<vectors, n + 1>...};
    constexpr int most = sizeof...(n);
    const int tiles = ceil_div(a.squares, most);
    for (int i = 0; i < tiles; i++) {
        const int begin = even_part(a.squares, i, tiles), end = even_part(a.squares, i + 1, tiles);
        kernels[end - begin - 1](a, a.weights + o, begin, a.out + static_cast<std::ptrdiff_t>(begin) * row + o);
    }
}

void element(const Int8Element& a) {
    for (int o = 0; o < a.width; o += shorts_each) {
        if (a.width - o > lanes)
            element_tiles<2>(a, o, std::make_integer_sequence<int, squares_at_once(2)>());
        else
            element_tiles<1>(a, o, std::make_integer_sequence<int, squares_at_once(1)>());
    }
}

// -- results -------------------------------------------------------------------------------------------------------

void squares(const Int8Squares& a) {
    constexpr int most = 8;  // whose results are finished together
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.room) * row;
    const int vectors = ceil_div(a.width, lanes);
    const Finish<false> finish(a.finish, 0, a.width);
    for (int s = 0; s < a.squares; s += most) {
        const int n = a.squares - s < most ? a.squares - s : most;
        Register sums[most * 4 * 4];
        for (int v = 0; v < vectors; v++) {
            const Modular start = Modular(load_numbers(a.start + v * lanes, a.width - v * lanes, 0));
            for (int i = 0; i < n; i++) {
                Modular y[4];
                const std::int32_t* const from = a.from + static_cast<std::ptrdiff_t>(s + i) * row + v * lanes;
                corners_of_products([&](int e) { return Modular(load(from + e * stride)); }, y);
#pragma GCC unroll 4
                for (int corner = 0; corner < 4; corner++) sums[(4 * i + corner) * vectors + v] = Register(Modular(Numbers(y[corner]) >> 2) + start);
            }
        }
        finish.write(sums, vectors, 4 * n, a.width, a.addends ? a.addends + 4 * s : nullptr, a.outputs + 4 * s);
    }
}

constexpr Int8Kernels with_winograd(Int8Kernels table) {
    table.patches = patches;
    table.element_weights = element_weights;
    table.element = element;
    table.squares = squares;
    return table;
}
