// Products of 8-bit integers by pairs of 16 bits, for processors that cannot multiply quads of bytes; part of int8_quads.h. Inputs
// are widened once for all outputs of the panel and weights once for many positions, so that nothing is taken apart in the
// innermost loop.

// Inputs that are widened at once, of several taps where each has few; a panel's weights for them fill half of a first-level
// cache. And positions that meet these weights before the next ones are widened.
constexpr int widened_at_once = 256, positions_per_batch = 56;

typedef std::uint8_t FewBytes __attribute__((vector_size(4)));
typedef std::uint16_t FewShorts __attribute__((vector_size(8)));
typedef std::uint8_t ManyBytes __attribute__((vector_size(16)));
typedef std::uint16_t ManyShorts __attribute__((vector_size(32)));

// Bytes as 16 bits, vector by vector. Where they do not fill the last vector, it overlaps the one before it.
template <typename Bytes, typename Shorts>
inline void widen_by(const std::uint8_t* from, int count, std::uint16_t flip, std::int16_t* to) {
    constexpr int n = sizeof(Bytes);
    const auto one = [&](int i) {
        Bytes bytes;
        std::memcpy(&bytes, from + i, n);
        const Shorts shorts = __builtin_convertvector(bytes, Shorts) ^ flip;
        std::memcpy(to + i, &shorts, sizeof(shorts));
    };
    for (int i = 0; i + n <= count; i += n) one(i);
    if (count % n) one(count - n);
}

// A zero makes their number even.
inline void widen(const std::uint8_t* from, int count, std::uint16_t flip, std::int16_t* to) {
    if (count >= 16)
        widen_by<ManyBytes, ManyShorts>(from, count, flip, to);
    else if (count >= 4)
        widen_by<FewBytes, FewShorts>(from, count, flip, to);
    else
        for (int i = 0; i < count; i++) to[i] = static_cast<std::int16_t>(from[i] ^ flip);
    if (count % 2) to[count] = 0;
}

// Inputs [begin, end) of the taps [first_tap, end_tap).
struct Slice {
    int first_tap, end_tap, begin, end;

    int count() const { return end - begin; }
    int pairs_of_tap() const { return (count() + 1) / 2; }
    int pairs() const { return (end_tap - first_tap) * pairs_of_tap(); }
};

// Weights as pairs of two rows: of each pair of inputs `vectors` registers.
template <int vectors>
inline void widen_weights(const Int8Product& a, const Slice& of, Register* to) {
    typedef std::int16_t Shorts __attribute__((vector_size(sizeof(Register))));
    for (int t = of.first_tap; t < of.end_tap; t++) {
        const std::int8_t* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(a.weight_rows ? a.weight_rows[i] : i) * row; };
        for (int i = of.begin; i < of.end; i += 2, to += vectors) {
            const Register one = load(at(i)), other = load(i + 1 < of.end ? at(i + 1) : no_weights);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                const Register pairs = v / 2 ? high_bytes(one, other) : low_bytes(one, other);
                const Register twice = v % 2 ? high_bytes(pairs, pairs) : low_bytes(pairs, pairs);
                to[v] = Register(Shorts(twice) >> 8);
            }
        }
    }
}

// Adds the products of n positions with `some` of a panel's vectors; `weights` and `to` point to the first of these.
template <int vectors, int some, int n>
__attribute__((always_inline)) inline void add_pairs_of(const std::int16_t (&x)[n][widened_at_once], int pairs, const Register* weights, Register* to) {
    Register sums[n][some];
#pragma GCC unroll 16
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int v = 0; v < some; v++) sums[p][v] = to[p * vectors + v];
    for (int k = 0; k < pairs; k++, weights += vectors) {
#pragma GCC unroll 16
        for (int p = 0; p < n; p++) {
            int pair;
            std::memcpy(&pair, x[p] + 2 * k, sizeof(pair));
            const Register inputs = numbers_of(pair);
#pragma GCC unroll 4
            for (int v = 0; v < some; v++) sums[p][v] = add_pairs(sums[p][v], inputs, weights[v]);
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int v = 0; v < some; v++) to[p * vectors + v] = sums[p][v];
}

template <int vectors, int n>
void pair_tile(const Int8Product& a, const Slice& of, int position, const Register* weights, Register* sums) {
    constexpr int first = vectors < at_once ? vectors : at_once;
    alignas(64) std::int16_t x[n][widened_at_once];
    for (int p = 0; p < n; p++)
        for (int t = of.first_tap; t < of.end_tap; t++)
            widen(a.rows[position + p] + a.taps[t] + of.begin, of.count(), flips(a.is_signed) ? 0x80 : 0, x[p] + 2 * (t - of.first_tap) * of.pairs_of_tap());
    add_pairs_of<vectors, first, n>(x, of.pairs(), weights, sums);
    if constexpr (vectors > first) add_pairs_of<vectors, vectors - first, n>(x, of.pairs(), weights + first, sums + first);
}

template <int vectors, int... n>
void pair_blocks_of(const Int8Product& a, std::integer_sequence<int, n...>) {
    constexpr void (*kernels[])(const Int8Product&, const Slice&, int, const Register*, Register*) = {pair_tile<vectors, n + 1>...};
    constexpr int tile = tile_of(vectors);
    const Finish<false> finish = finish_of(a);
    const int step = std::min(a.count + a.count % 2, widened_at_once), taps = widened_at_once / std::max(step, 2);
    const int batches = ceil_div(a.positions, positions_per_batch);
    for (int batch = 0; batch < batches; batch++) {
        const int begin = even_part(a.positions, batch, batches), count = even_part(a.positions, batch + 1, batches) - begin;
        Register sums[positions_per_batch * vectors], weights[widened_at_once / 2 * vectors];
        for (int v = 0; v < vectors; v++) {
            const Register start = load(a.start + v * lanes);
            for (int p = 0; p < count; p++) {
                const Register before = a.adds ? load_numbers(a.sums[begin + p] + v * lanes, a.width - v * lanes, 0) : Register{};
                sums[p * vectors + v] = Register(Numbers(start) + Numbers(before));
            }
        }
        const int tiles = ceil_div(count, tile);
        for (int t = 0; t < a.tap_count; t += taps)
            for (int i = 0; i < a.count; i += step) {
                const Slice of{t, std::min(t + taps, a.tap_count), i, std::min(i + step, a.count)};
                widen_weights<vectors>(a, of, weights);
                for (int j = 0; j < tiles; j++) {
                    const int from = even_part(count, j, tiles), to = even_part(count, j + 1, tiles);
                    kernels[to - from - 1](a, of, begin + from, weights, sums + from * vectors);
                }
            }
        write_all(a, finish, sums, vectors, begin, count);
    }
}

template <int vectors>
void pair_blocks(const Int8Product& a) {
    static_assert(!widens || !flips(false));  // inputs without a sign are widened as they are
    pair_blocks_of<vectors>(a, std::make_integer_sequence<int, tile_of(vectors)>());
}
