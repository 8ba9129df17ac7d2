// The transformations of Winograd's F(2x2, 3x3), of maps and weights as they are stored, after channels_simd.h and like it. What
// is transformed is float32.

#include "winograd_dimensions.h"

template <typename T, typename Count>
inline void patch(const T* from, const PatchesOf<T>& a, float* to, std::ptrdiff_t stride, Count count) {
    elements_of_patch<Vector>([&](int y, int x) { return take(from + y * a.step_y + x * a.step_x, count); },
                              [&](int e, Vector v) { store(to + e * stride, v); });
}

template <typename T>
void patches(const PatchesOf<T>& a) {
    const int blocks = (a.channels + lanes - 1) / lanes;
    const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(a.room) * lanes;
    for (int s = 0; s < a.squares; s++) {
        const T* const next = a.from[s + 1 < a.squares ? s + 1 : s];
        sweep(a.channels, [&](int c, auto count) {
            // A neighbour's patch shares two columns with this one.
            for (int i = 0; i < 4; i++)
                for (int j = 2; j < 4; j++) __builtin_prefetch(next + i * a.step_y + j * a.step_x + c);
            patch(a.from[s] + c, a, a.to + c / lanes * block + s * lanes, blocks * block, count);
        });
    }
}

// One dimension of G w: (w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2).
inline void spread(const Vector& a, const Vector& b, const Vector& c, Vector (&to)[4]) {
    const Vector half = (a + c) * 0.5f, middle = b * 0.5f;
    to[0] = a, to[1] = half + middle, to[2] = half - middle, to[3] = c;
}

template <typename T>
void element_weights(const ElementWeightsOf<T>& a) {
    for (int n = 0; n < a.count; n++) {
        const T* from = a.from + static_cast<std::ptrdiff_t>(a.rows ? a.rows[n] : n) * a.row;
        float* to = a.to + static_cast<std::ptrdiff_t>(n) * a.row;
        const int later = n + 6 < a.count ? n + 6 : a.count - 1;  // rows come from memory
        const T* ahead = a.from + static_cast<std::ptrdiff_t>(a.rows ? a.rows[later] : later) * a.row;
        for (int o = 0; o < a.row; o += lanes) {
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; tap++) __builtin_prefetch(ahead + tap * a.tap_stride + o);
            Vector columns[3][4];
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++)
                spread(load(from + x * a.tap_stride + o), load(from + (3 + x) * a.tap_stride + o),
                       load(from + (6 + x) * a.tap_stride + o), columns[x]);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                Vector row[4];
                spread(columns[0][i], columns[1][i], columns[2][i], row);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) store(to + (4 * i + j) * a.to_stride + o, row[j]);
            }
        }
    }
}

inline void to_corners(const float* from, std::ptrdiff_t stride, Vector bias, Vector (&y)[4]) {
    corners_of_products([&](int e) { return load(from + e * stride); }, y);
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; corner++) y[corner] += bias;
}

template <typename Args>
inline void fetch_corners(const Args& a, int s, int c) {
    const int next = 4 * (s + 1 < a.squares ? s + 1 : s);
    for (int position = next; position < next + 4; position++) {
        if (a.addends) __builtin_prefetch(a.addends[position] + c);
        __builtin_prefetch(a.to[position] + c, 1);
    }
}

template <typename Args, typename Activate>
inline void square(const Args& a, int s, Activate activate) {
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.room) * a.row;
    const float* from = a.from + static_cast<std::ptrdiff_t>(s) * a.row;
    sweep(a.width, [&](int c, auto count) {
        fetch_corners(a, s, c);
        Vector y[4];
        to_corners(from + c, stride, load(a.bias + c), y);
#pragma GCC unroll 4
        for (int corner = 0; corner < 4; corner++) {
            const int position = 4 * s + corner;
            if (a.addends) y[corner] += take(a.addends[position] + c, count);
            put(a.to[position] + c, activate(y[corner]), count);
        }
    });
}

// Of a vector of results: which lanes are kept, and where the first of them goes.
struct KeptLanes {
    unsigned lanes;
    int begin, count;
};

template <typename Args, typename Activate>
inline void square_of(const Args& a, const KeptLanes* kept, int s, Activate activate) {
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(a.room) * a.row;
    const float* from = a.from + static_cast<std::ptrdiff_t>(s) * a.row;
    for (int c = 0; c < a.row; c += lanes, kept++) {
        if (!kept->count) continue;
        fetch_corners(a, s, kept->begin);
        Vector y[4];
        to_corners(from + c, stride, load(a.bias + c), y);
#pragma GCC unroll 4
        for (int corner = 0; corner < 4; corner++) {
            const int position = 4 * s + corner;
            Vector results = packed_lanes(y[corner], kept->lanes);
            if (a.addends) results += load_some(a.addends[position] + kept->begin, kept->count);
            store_some(a.to[position] + kept->begin, activate(results), kept->count);
        }
    }
}

// What is kept of a row that is no wider than `max_vectors`.
struct KeptOfRow {
    KeptLanes vectors[max_vectors] = {};

    template <typename Args>
    explicit KeptOfRow(const Args& a) {
        for (int i = 0; i < a.width; i++) vectors[a.kept[i] / lanes].lanes |= 1u << a.kept[i] % lanes;
        for (int v = 0, begin = 0; v < a.row / lanes; v++) {
            vectors[v].begin = begin, vectors[v].count = __builtin_popcount(vectors[v].lanes);
            begin += vectors[v].count;
        }
    }
};

// `activate`: what is written of a vector of results.
template <typename Args, typename Activate>
inline void squares_with(const Args& a, Activate activate) {
    if (!a.kept) {
        for (int s = 0; s < a.squares; s++) square(a, s, activate);
        return;
    }
    const KeptOfRow kept(a);
    for (int s = 0; s < a.squares; s++) square_of(a, kept.vectors, s, activate);
}
