// The kernels of Winograd's F(2x2, 3x3), after simd.h and like it.

#include "winograd_transforms.h"

// Tile of `tile` squares from `square` on.
template <int vectors, int tile, bool listed>
void element_tile(const Element& a, int square, Fetching<Ahead>& fetching) {
    constexpr int row = vectors * lanes;
    const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(a.room) * lanes;
    float* out = a.out + static_cast<std::ptrdiff_t>(square) * row;
    Vector acc[tile][vectors];
#pragma GCC unroll 16
    for (int s = 0; s < tile; s++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) acc[s][v] = a.first ? Vector{} : load(out + s * row + v * lanes);
    for (int begin = a.begin; begin < a.end; begin += lanes) {
        if constexpr (fetches<vectors>) fetching.turn();
        const float* x = a.inputs + begin / lanes * block + square * lanes;
        const int n = a.end - begin < lanes ? a.end - begin : lanes;
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const float* weights = a.weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[begin + i] : begin + i) * row;
            Vector w[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) w[v] = load(weights + v * lanes);
#pragma GCC unroll 16
            for (int s = 0; s < tile; s++) {
                const Vector xs = all(x[s * lanes + i]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) acc[s][v] += xs * w[v];
            }
        }
    }
#pragma GCC unroll 16
    for (int s = 0; s < tile; s++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) store(out + s * row + v * lanes, acc[s][v]);
}

using ElementTile = void (*)(const Element&, int square, Fetching<Ahead>&);

template <int vectors, bool listed, int... tiles>
inline void element_tiles(const Element& a, std::integer_sequence<int, tiles...>) {
    static constexpr ElementTile kernels[] = {element_tile<vectors, tiles + 1, listed>...};
    constexpr int most = sizeof...(tiles);
    const int n = (a.squares + most - 1) / most;
    Fetching fetching(a.ahead, (vectors * lanes + line - 1) / line, fetches<vectors> ? n * ((a.end - a.begin + lanes - 1) / lanes) : 0);
    for (int i = 0; i < n; i++) {
        const int begin = a.squares * i / n, end = a.squares * (i + 1) / n;
        kernels[end - begin - 1](a, begin, fetching);
    }
}

template <int vectors, int most>
void element(const Element& a) {
    if (a.weight_rows)
        element_tiles<vectors, true>(a, std::make_integer_sequence<int, most>());
    else
        element_tiles<vectors, false>(a, std::make_integer_sequence<int, most>());
}

void squares(const Squares& a) {
    with(a.activation, [&](auto activate) { squares_with(a, activate); });
}
