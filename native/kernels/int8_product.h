// Products of 8-bit integers, output channels along the lanes; part of int8_quads.h.

// The first `some` bytes of four, and zeros.
template <int some>
inline int quad(const std::uint8_t* from) {
    if constexpr (some == 1) return from[0];
    std::uint16_t two;
    std::memcpy(&two, from, 2);
    if constexpr (some == 2) return two;
    if constexpr (some == 3) return two | from[2] << 16;
    int four;
    std::memcpy(&four, from, 4);
    return four;
}

template <int vectors, int begin, int n, int some>
__attribute__((always_inline)) inline void add_quad(const std::int8_t* const (&rows)[4], const std::uint8_t* const (&from)[n],
                                                    std::ptrdiff_t at, Register flip, Register (&sums)[n][vectors]) {
    Register r[4], w[vectors];
    Weights weights[vectors];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) r[k] = k < some ? load(rows[k]) : Register{};
    interleave<vectors, begin>(r, w);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) weights[v] = weights_of(w[v]);
#pragma GCC unroll 16
    for (int p = 0; p < n; p++) {
        const Inputs inputs = inputs_of(numbers_of(quad<some>(from[p] + at)) ^ flip);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sums[p][v] = dot(sums[p][v], inputs, weights[v]);
    }
}

template <int vectors, int begin, int n, bool listed>
__attribute__((always_inline)) inline void accumulate(const Int8Product& a, int position, Register (&sums)[n][vectors]) {
    const std::uint8_t* from[n];
    for (int p = 0; p < n; p++) from[p] = a.rows[position + p];
    const Register flip = bytes_of(flips(a.is_signed) ? -128 : 0);
    for (int t = 0; t < a.tap_count; t++) {
        const std::int8_t* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        const std::ptrdiff_t tap = a.taps[t];
        int i = 0;
        for (; i + 4 <= a.count; i += 4) {
            const std::int8_t* const rows[4] = {at(i), at(i + 1), at(i + 2), at(i + 3)};
            add_quad<vectors, begin, n, 4>(rows, from, tap + i, flip, sums);
        }
        const int rest = a.count - i;
        if (rest == 0) continue;
        const std::int8_t* const rows[4] = {at(i), rest > 1 ? at(i + 1) : no_weights, rest > 2 ? at(i + 2) : no_weights, no_weights};
        switch (rest) {
            case 1: add_quad<vectors, begin, n, 1>(rows, from, tap + i, flip, sums); break;
            case 2: add_quad<vectors, begin, n, 2>(rows, from, tap + i, flip, sums); break;
            case 3: add_quad<vectors, begin, n, 3>(rows, from, tap + i, flip, sums); break;
        }
    }
}

// Sums of `vectors` vectors of outputs from one on, of n positions, to done[p * stride + v].
template <int vectors, int begin, int n>
inline void sums_of(const Int8Product& a, int position, Register* done, int stride) {
    Register sums[n][vectors];
    for (int v = 0; v < vectors; v++) {
        const Register start = load(a.start + (begin + v) * lanes);
        for (int p = 0; p < n; p++) sums[p][v] = start;
        if (a.adds)
            for (int p = 0; p < n; p++) {
                const Register before = load_numbers(a.sums[position + p] + (begin + v) * lanes, a.width - (begin + v) * lanes, 0);
                sums[p][v] = Register(Numbers(start) + Numbers(before));
            }
    }
    a.weight_rows ? accumulate<vectors, begin, n, true>(a, position, sums) : accumulate<vectors, begin, n, false>(a, position, sums);
    // To memory: what is indexed by a loop that is not unrolled would never be in registers.
#pragma GCC unroll 16
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) done[p * stride + begin + v] = sums[p][v];
}

template <int vectors, int n>
void block(const Int8Product& a, const Finish<false>& finish, int position) {
    constexpr int first = vectors < at_once ? vectors : at_once;
    Register done[n * vectors];
    sums_of<first, 0, n>(a, position, done, vectors);
    if constexpr (vectors > first) sums_of<vectors - first, first, n>(a, position, done, vectors);
    write_all(a, finish, done, vectors, position, n);
}

template <int vectors, int... n>
void blocks_of(const Int8Product& a, std::integer_sequence<int, n...>) {
    constexpr void (*kernels[])(const Int8Product&, const Finish<false>&, int) = {block<vectors, n + 1>...};
    constexpr int tile = tile_of(vectors);
    const Finish<false> finish = finish_of(a);
    // Even tiles: none is so small that its product waits for weights.
    const int tiles = (a.positions + tile - 1) / tile;
    for (int i = 0; i < tiles; i++) {
        const int begin = even_part(a.positions, i, tiles);
        const int end = even_part(a.positions, i + 1, tiles);
        kernels[end - begin - 1](a, finish, begin);
    }
}

template <int vectors>
void blocks(const Int8Product& a) {
    if constexpr (widens)
        pair_blocks<vectors>(a);
    else
        blocks_of<vectors>(a, std::make_integer_sequence<int, tile_of(vectors)>());
}

void product(const Int8Product& a) {
    static_assert(at_once >= 2);
    switch ((a.width + lanes - 1) / lanes) {
        case 1: return blocks<1>(a);
        case 2: return blocks<2>(a);
        case 3: return blocks<3>(a);
        case 4: return blocks<4>(a);
    }
}
