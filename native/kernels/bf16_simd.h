// The kernels of bf16.h, written once over a vector type; included by an instruction set's file inside an anonymous
// namespace, like simd.h, after it has defined
//   Vector, lanes, VECTORS                         as for simd.h
//   load, store, load_some, store_some             of floats and, widening and rounding, of Bf16
//   accumulate<vectors, tile, listed>(a, p, acc)   a product's sums: products.h's, or its own
//   largest(a, b), smallest(a, b)                  the second argument where it is not a number

// How many elements of a vector count: all of them (known when compiling), or some.
struct Whole {};
template <typename T>
inline Vector take(const T* p, Whole) {
    return load(p);
}
template <typename T>
inline Vector take(const T* p, int count) {
    return load_some(p, count);
}
template <typename T>
inline void put(T* p, Vector v, Whole) {
    store(p, v);
}
template <typename T>
inline void put(T* p, Vector v, int count) {
    store_some(p, v, count);
}

template <typename N, typename Function>
inline void sweep(N n, Function f) {
    N i = 0;
    for (; i + lanes <= n; i += lanes) f(i, Whole());
    if (i < n) f(i, static_cast<int>(n - i));
}

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

template <int tile, typename Out>
inline void depthwise_tile(const Bf16Depthwise<Out>& a, int position) {
    const Bf16* rows[tile];
    for (int p = 0; p < tile; p++) rows[p] = a.rows[position + p];
    const Vector least = all(a.least), most = all(a.most);
    sweep(a.channels, [&](int c, auto count) {
        Vector acc[tile];
        const Vector bias = take(a.bias + c, count);
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++) acc[p] = bias;
        const float* weights = a.weights + c;
        for (int t = 0; t < a.tap_count; t++, weights += a.channels) {
            const Vector w = take(weights, count);
            const std::ptrdiff_t tap = a.taps[t] + c;
#pragma GCC unroll 8
            for (int p = 0; p < tile; p++) acc[p] += take(rows[p] + tap, count) * w;
        }
#pragma GCC unroll 8
        for (int p = 0; p < tile; p++) {
            if (a.addends) acc[p] += take(a.addends[position + p] + c, count);
            put(a.outputs[position + p] + c, smallest(most, largest(least, acc[p])), count);
        }
    });
}

template <typename Out>
void depthwise(const Bf16Depthwise<Out>& a, int positions) {
    int p = 0;
    for (; p + 8 <= positions; p += 8) depthwise_tile<8>(a, p);
    for (; p + 2 <= positions; p += 2) depthwise_tile<2>(a, p);
    for (; p < positions; p++) depthwise_tile<1>(a, p);
}

// Means of `across` windows next to each other, of `vectors` vectors of channels each: sums that need not wait for each other.
// `count`: how many elements of each vector count.
template <int across, int vectors, typename Out, typename N>
inline void means_of(const Bf16Windows<Out>& a, int window, int c, N count) {
    Vector sums[across][vectors] = {};
    const auto* from = a.from + window * a.from_step + c;
    for (int y = 0; y < a.count_y; y++)
        for (int x = 0; x < a.count_x; x++) {
            const auto* at = from + y * a.step_y + x * a.step_x;
#pragma GCC unroll 4
            for (int w = 0; w < across; w++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) sums[w][v] += take(at + w * a.from_step + v * lanes, count);
        }
    for (int w = 0; w < across; w++)
        for (int v = 0; v < vectors; v++) put(a.to + (window + w) * a.to_step + c + v * lanes, sums[w][v] * a.factor, count);
}

template <typename Out>
inline void means(const Bf16Windows<Out>& a) {
    constexpr int together = 4;
    const int whole = a.channels / (together * lanes) * together * lanes;
    for (int w = 0; w < a.windows; w++)
        for (int c = 0; c < whole; c += together * lanes) means_of<1, together>(a, w, c, Whole());
    sweep(a.channels - whole, [&](int c, auto count) {
        int w = 0;
        for (; w + together <= a.windows; w += together) means_of<together, 1>(a, w, whole + c, count);
        for (; w < a.windows; w++) means_of<1, 1>(a, w, whole + c, count);
    });
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
