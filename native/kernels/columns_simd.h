// Products with positions along the lanes; part of simd.h and of bf16_avx512bf16.cpp, which define add_product(sum, a,
// b), which adds to each lane of the sum the product of those of a and b, and include fetching.h, before it.

constexpr int rows_in_turn = 16;

template <int vectors, int tile, bool listed>
void columns_tile(const Columns& a, int output, Fetching<Ahead>& fetching) {
    constexpr int row = vectors * lanes;
    float* kept = a.accumulators + static_cast<std::ptrdiff_t>(output) * row;
    Vector acc[tile][vectors];
    const float* w[tile];
#pragma GCC unroll 16
    for (int o = 0; o < tile; o++) {
        w[o] = a.weights + a.columns[output + o];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[o][v] = a.first ? Vector{} : load(kept + o * row + v * lanes);
    }
    const float* inputs = a.inputs;
    const std::ptrdiff_t stride = a.weight_stride;
    for (int begin = 0; begin < a.rows; begin += rows_in_turn) {
        fetching.turn();
        const int end = begin + rows_in_turn < a.rows ? begin + rows_in_turn : a.rows;
#pragma GCC unroll 2
        for (int r = begin; r < end; r++, inputs += row) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(listed ? a.weight_rows[r] : r) * stride;
            Vector x[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) x[v] = load(inputs + v * lanes);
#pragma GCC unroll 16
            for (int o = 0; o < tile; o++) {
                const Vector wv = all(w[o][at]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) add_product(acc[o][v], wv, x[v]);
            }
        }
    }
#pragma GCC unroll 16
    for (int o = 0; o < tile; o++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store(kept + o * row + v * lanes, acc[o][v]);
}

using ColumnsTile = void (*)(const Columns&, int output, Fetching<Ahead>&);

template <int vectors, bool listed, int... tiles>
inline void columns_tiles(const Columns& a, std::integer_sequence<int, tiles...>) {
    static constexpr ColumnsTile kernels[] = {columns_tile<vectors, tiles + 1, listed>...};
    constexpr int most = sizeof...(tiles);
    const int n = (a.outputs + most - 1) / most;
    const int turns = n * ((a.rows + rows_in_turn - 1) / rows_in_turn);
    // An eighth too early, as the next call may begin with a line of each row (winograd_columns.cpp).
    Fetching fetching(a.ahead, a.ahead_lines, turns - turns / 8);
    for (int i = 0; i < n; i++) {
        const int begin = a.outputs * i / n, end = a.outputs * (i + 1) / n;
        kernels[end - begin - 1](a, begin, fetching);
    }
}

template <int vectors, int most>
void columns(const Columns& a) {
    if (a.weight_rows)
        columns_tiles<vectors, true>(a, std::make_integer_sequence<int, most>());
    else
        columns_tiles<vectors, false>(a, std::make_integer_sequence<int, most>());
}
