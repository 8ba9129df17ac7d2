// The kernels of bf16.h, written once over a vector type; included by an instruction set's file inside an anonymous
// namespace, like simd.h, after it has defined
//   Vector, lanes, VECTORS                         as for simd.h
//   load, store, load_some, store_some             of floats and, widening and rounding, of Bf16
//   accumulate<vectors, tile, listed>(a, p, acc)   a product's sums: bf16_widened.h's, or its own
//   largest(a, b), smallest(a, b)                  the second argument where it is not a number

#include "channels_simd.h"

template <int vectors, int tile>
void product(const Bf16Product& a, int position) {
    constexpr int row = vectors * lanes;
    Vector acc[tile][vectors];
    float* kept = a.accumulators + static_cast<std::ptrdiff_t>(position) * row;
#pragma GCC unroll 8
    for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[p][v] = a.first ? Vector{} : load(kept + p * row + v * lanes);
    if (a.last)  // what the results are added to and where they go comes from afar
        for (int p = 0; p < tile; p++)
            for (int v = 0; v < vectors; v += 2) {
                if (a.addends) __builtin_prefetch(a.addends[position + p] + v * lanes);
                __builtin_prefetch(a.outputs[position + p] + v * lanes, 1);
            }
    if (position + 2 * tile <= a.positions)  // and the next tile's inputs, of which the hardware then fetches the rest
        for (int p = 0; p < tile; p++) {
            const Bf16* next = a.rows[position + tile + p] + a.taps[0] + a.begin;
            const int most = a.end - a.begin < 128 ? a.end - a.begin : 128;
            for (int i = 0; i < most; i += 32) __builtin_prefetch(next + i);
        }
    a.weight_rows ? accumulate<vectors, tile, true>(a, position, acc) : accumulate<vectors, tile, false>(a, position, acc);
    if (!a.last) {
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) store(kept + p * row + v * lanes, acc[p][v]);
        return;
    }
    const Vector least = all(a.least), most = all(a.most);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const int left = a.width - v * lanes, count = left < lanes ? left : lanes;
        if (count <= 0) break;
        const Vector bias = load(a.bias + v * lanes);
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++) {
            Vector y = acc[p][v] + bias;
            if (a.addends) y += load_some(a.addends[position + p] + v * lanes, count);
            store_some(a.outputs[position + p] + v * lanes, smallest(most, largest(least, y)), count);
        }
    }
}

template <int vectors, int... positions>
constexpr void fill(Bf16Kernels& table, std::integer_sequence<int, positions...>) {
    ((table.product[vectors - 1][positions] = product<vectors, positions + 1>), ...);
    table.tile[vectors - 1] = sizeof...(positions);
}

template <typename Out>
void depthwise(const Bf16Depthwise<Out>& a, int positions) {
    const Vector least = all(a.least), most = all(a.most);
    depthwise_rows(a, positions, [&](Vector sums) { return smallest(most, largest(least, sums)); });
}

template <typename Out>
inline void maxima(const Bf16Windows<Out>& a) {
    const Bf16* from = a.from;
    Out* to = a.to;
    for (int w = 0; w < a.windows; w++, from += a.from_step, to += a.to_step)
        sweep(a.channels, [&](int c, auto count) {
            Vector result = take(from + c, count), unordered = result != result ? result : Vector{};
            for (int y = 0; y < a.count_y; y++)
                for (int x = y == 0; x < a.count_x; x++) {
                    const Vector value = take(from + y * a.step_y + x * a.step_x + c, count);
                    unordered += value != value ? value : Vector{};
                    result = result > value ? result : value;
                }
            put(to + c, unordered != unordered ? unordered : result, count);  // a maximum forgets what is not a number
        });
}

template <typename Out>
void windows(const Bf16Windows<Out>& a) {
    a.maximum ? maxima(a) : means(a);
}

void widen(float* to, const Bf16* from, std::ptrdiff_t n) {
    sweep(n, [&](std::ptrdiff_t i, auto count) { put(to + i, take(from + i, count), count); });
}
void narrow(Bf16* to, const float* from, std::ptrdiff_t n) {
    sweep(n, [&](std::ptrdiff_t i, auto count) { put(to + i, take(from + i, count), count); });
}

// The table of one instruction set, whose products of v vectors compute at most tiles[v - 1] positions at once.
template <int... tiles>
constexpr Bf16Kernels table_of(const char* name, const Kernels* floats) {
    static_assert(sizeof...(tiles) == VECTORS);
    Bf16Kernels table{};
    table.name = name;
    table.floats = floats;
    table.lanes = lanes;
    table.vectors = VECTORS;
    [&]<int... v>(std::integer_sequence<int, v...>) {
        (fill<v + 1>(table, std::make_integer_sequence<int, tiles>()), ...);
    }(std::make_integer_sequence<int, VECTORS>());
    table.place = place;
    table.pack_columns = pack_columns;
    table.depthwise = depthwise<Bf16>;
    table.depthwise_to_float = depthwise<float>;
    table.windows = windows<Bf16>;
    table.windows_to_float = windows<float>;
    table.widen = widen;
    table.narrow = narrow;
    return table;
}
