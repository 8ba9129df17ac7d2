// Kernels for 8-bit integers by quads: four inputs of a position meet four weights of an output in one 32-bit lane. Quads of
// inputs are formed when weights are read: four rows are interleaved by unpacking, for which each row is stored in the
// order that unpacking wants. So a closed input costs nothing, whichever its neighbours are. Inputs with a sign are read as
// x + 128; sums start at -128 times the weights' sums.
//
// Written once over a register of any width. An instruction set's file defines before it includes this one, in an anonymous
// namespace:
//   Register                                  as many bytes as a row of weights has outputs; also a vector of int32
//   lanes                                     its int32s, a quarter of them
//   flips(is_signed)                          whether inputs are multiplied with their upper bit turned: with a sign as x + 128,
//                                             without as x - 128
//   at_once, tile_of(vectors)                 vectors of outputs, and then positions, that a product computes at once
//   load(p), load_bytes(p, n), store_bytes(p, v, n)     n may be less than there are: others read 0, and stay in memory
//   load_numbers(p, n, otherwise)                       int32s, for any n
//   store_numbers(p, v, n), store_scaled(p, v, scale, n) as int32s, or as floats times scale[i]
//   bytes_of(x), numbers_of(x)                the same in each byte, or int32
//   low_bytes(a, b), high_bytes(a, b), low_shorts(a, b), high_shorts(a, b)    unpacked within 128 bits
//   to_shorts, to_bytes, to_unsigned_bytes(a, b), add_shorts(a, b)            saturating, packed within 128 bits
//   signs_of_bytes(v), signs_of_shorts(v)     all bits of an element are its sign's
//   smallest, largest(a, b), smallest_unsigned, largest_unsigned(a, b)       of bytes
//   add_pairs(sum, a, b)                      of products of 16 bits with a sign two to each of 32
//   multiply_high(a, b)                       the upper 16 bits of products of 16 bits without a sign
//   brought_far(x, m, s)                      (x * m + 2^(s-1)) >> s for any s, clamped to 30 bits
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

// How a row of sums becomes bytes, ready to be used. With shifts of 17 and more, 32 bits are enough, as the floor of a floor
// is one: with sum = 2^16 high + low, the result is (high * m + (low * m >> 16) + 2^(s-17)) >> (s - 16).
template <bool by_quarters>
class Finish {
    const Int8Finish& f;
    Register m[4], s[4], high[4], half[4];
    Register low, most;
    bool near, positive;

public:
    Finish(const Int8Finish& finish, int o, int n) : f(finish) {
        load_row<by_quarters>(f.multiplier + o, n, 0, m);
        load_row<by_quarters>(f.shift + o, n, 17, s);
        Numbers small{};
        for (int v = 0; v < 4; v++) small |= Numbers(s[v]) < 17;
        near = !any(Register(small));
        if (near)
            for (int v = 0; v < 4; v++) {
                high[v] = Register(Numbers(m[v]) << 16);
                const Numbers left = Numbers(s[v]) - 16;
                s[v] = Register(left);
                half[v] = Register((Numbers{} + 1) << (left - 1));
            }
        positive = f.low >= 0;
        low = bytes_of(f.low), most = bytes_of(f.high);
    }

    // An addend, brought to the scale; of a shift over 24, nothing is left.
    void add(Register& to, Register x) const {
        if (f.addend.shift > 24) return;
        const Numbers product = Numbers(x) * f.addend.multiplier;
        to = Register(Numbers(to) + ((product + (1 << (f.addend.shift - 1))) >> f.addend.shift));
    }

    // Sums of `count` positions as `n` bytes from `offset` on, at each: `vectors` registers for each position.
    void write(const Register* sums, int vectors, int count, int n, const std::uint8_t* const* addends, std::uint8_t* const* outputs,
               std::ptrdiff_t offset = 0) const {
        const auto all = [&](auto of) {
            near ? write<of.value, true>(sums, count, n, addends, outputs, offset) : write<of.value, false>(sums, count, n, addends, outputs, offset);
        };
        switch (vectors) {
            case 1: return all(std::integral_constant<int, 1>());
            case 2: return all(std::integral_constant<int, 2>());
            case 3: return all(std::integral_constant<int, 3>());
            case 4: return all(std::integral_constant<int, 4>());
        }
    }

private:
    // A function of its own: inlined into every kernel it would be most of the code. What it reads for each position is copied,
    // as bytes that are written could be part of it for all that the compiler knows.
    // Saturating to 16 bits on the way leaves any clamp to 8 bits as it is, also after an addend that has 8 bits. One that
    // is brought to another scale is added in 32 bits.
    template <int vectors, bool near>
    [[gnu::noinline]] void write(const Register* sums, int count, int n, const std::uint8_t* const* addends, std::uint8_t* const* outputs,
                                 std::ptrdiff_t offset) const {
        const Register none{}, low = this->low, most = this->most;
        const bool positive = this->positive;
        Register m[vectors], s[vectors], high[vectors], half[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) m[v] = this->m[v], s[v] = this->s[v], high[v] = this->high[v], half[v] = this->half[v];
        for (int p = 0; p < count; p++, sums += vectors) {
            Register results[4] = {none, none, none, none};
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                if constexpr (near) {
                    const Numbers upper = Numbers(add_pairs(half[v], sums[v], high[v])), lower = Numbers(multiply_high(sums[v], m[v]));
                    results[v] = Register((upper + lower) >> Numbers(s[v]));
                } else {
                    results[v] = brought_far(sums[v], m[v], s[v]);
                }
            Register first = none, second = none;
            if (addends) {
                Register x = load_bytes(addends[p] + offset, n);
                if constexpr (!by_quarters) x = out_of_order(x);
                const Register sign = f.addend_signed ? signs_of_bytes(x) : none;
                first = low_bytes(x, sign), second = high_bytes(x, sign);
                if (!f.addend.same()) {
                    const Register upper = signs_of_shorts(first), last = signs_of_shorts(second);
                    add(results[0], low_shorts(first, upper)), add(results[1], high_shorts(first, upper));
                    add(results[2], low_shorts(second, last)), add(results[3], high_shorts(second, last));
                    first = second = none;
                }
            }
            const Register a = add_shorts(to_shorts(results[0], results[1]), first);
            const Register b = add_shorts(to_shorts(results[2], results[3]), second);
            Register bytes;
            if (positive)
                bytes = largest_unsigned(smallest_unsigned(to_unsigned_bytes(a, b), most), low);
            else
                bytes = largest(smallest(to_bytes(a, b), most), low);
            store_bytes(outputs[p] + offset, by_quarters ? bytes : in_order(bytes), n);
        }
    }
};

void write_floats(const Register* sums, int vectors, int n, const float* scale, float* to) {
    for (int v = 0; v < vectors; v++) store_scaled(to + v * lanes, sums[v], scale + v * lanes, n - v * lanes);
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

void write_all(const Int8Product& a, const Finish<false>& finish, const Register* sums, int vectors, int position, int n) {
    if (!a.sums && a.outputs) return finish.write(sums, vectors, n, a.width, a.addends ? a.addends + position : nullptr, a.outputs + position);
    for (int p = position; p < position + n; p++, sums += vectors) {
        if (a.sums)
            for (int v = 0; v < vectors; v++) store_numbers(a.sums[p] + v * lanes, sums[v], a.width - v * lanes);
        else
            write_floats(sums, vectors, a.width, a.scale, a.floats[p]);
    }
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
    const Int8Finish none{a.start, a.start, {}, false, 0, 0};
    const Finish<false> finish(a.outputs ? a.finish : none, 0, a.outputs ? row : 0);
    // Even tiles: none is so small that its product waits for weights.
    const int tiles = (a.positions + tile - 1) / tile;
    for (int i = 0; i < tiles; i++) {
        const int begin = static_cast<int>(static_cast<long long>(a.positions) * i / tiles);
        const int end = static_cast<int>(static_cast<long long>(a.positions) * (i + 1) / tiles);
        kernels[end - begin - 1](a, finish, begin);
    }
}

template <int vectors>
void blocks(const Int8Product& a) { blocks_of<vectors>(a, std::make_integer_sequence<int, tile_of(vectors)>()); }

void product(const Int8Product& a) {
    static_assert(at_once >= 2);
    switch ((a.width + lanes - 1) / lanes) {
        case 1: return blocks<1>(a);
        case 2: return blocks<2>(a);
        case 3: return blocks<3>(a);
        case 4: return blocks<4>(a);
    }
}

// Four taps of a row of channels at a time, interleaved; their sums lie by quarters, which packing puts in order.
constexpr int kept_quads = 16, positions_at_once = 8;

// The quads of a kernel's three columns, in registers from one position to the next. (In memory, in a ring, they took as long
// as reading them anew.)
class Columns {
    Inputs quads_[3][4] = {};

    void move(int from, int to) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) quads_[to][v] = quads_[from][v];
    }

public:
    // Those of a position that has columns in common with the one before it, from that one's column `shift` on.
    template <typename Load>
    __attribute__((always_inline)) void read(int shift, Load load) {
        if (shift == 1) {
            move(1, 0), move(2, 1);
        } else {
            shift == 2 ? move(2, 0) : load(0, quads_[0]);
            load(1, quads_[1]);
        }
        load(2, quads_[2]);
    }
    __attribute__((always_inline)) void add(const Weights (&weights)[3][4], Register (&sums)[4]) const {
#pragma GCC unroll 3
        for (int q = 0; q < 3; q++)
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) sums[v] = dot(sums[v], quads_[q][v], weights[q][v]);
    }
};

// A row of channels from c on, at all positions: the sums by `sums_at`, and what follows them, some positions at once, as what
// that needs is read once for all of them.
template <typename Sums>
inline void depthwise_row(const Int8Depthwise& a, int positions, int c, int n, Sums sums_at) {
    Register start[4];
    load_row<true>(a.start + c, n, 0, start);
    const Int8Finish none{a.start, a.start, {}, false, 0, 0};
    const Finish<true> finish(a.outputs ? a.finish : none, c, a.outputs ? n : 0);
    for (int begin = 0; begin < positions; begin += positions_at_once) {
        const int some = std::min(positions_at_once, positions - begin);
        Register done[positions_at_once][4];
        for (int p = 0; p < some; p++) {
            Register sums[4] = {start[0], start[1], start[2], start[3]};
            sums_at(begin + p, sums);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) done[p][v] = sums[v];
        }
        if (a.outputs) {
            finish.write(done[0], 4, some, n, a.addends ? a.addends + begin : nullptr, a.outputs + begin, c);
            continue;
        }
        for (int p = 0; p < some; p++) {
            from_quarters(done[p]);
            write_floats(done[p], 4, n, a.scale + c, a.floats[begin + p] + c);
        }
    }
}

template <bool is_signed, bool in_columns>
void depthwise_of(const Int8Depthwise& a, int positions) {
    const int quads = (a.tap_count + 3) / 4;
    for (int c = 0; c < a.channels; c += row) {
        const int n = std::min(row, a.channels - c);
        const auto load_weights = [&](int q, Weights (&to)[4]) {
            Register numbers[4];
            load_row<true>(a.weights + static_cast<std::ptrdiff_t>(q) * a.channels + c, n, 0, numbers);
            for (int v = 0; v < 4; v++) to[v] = weights_of(numbers[v]);
        };
        const auto tap = [&](const std::uint8_t* from, int t) {
            const Register x = load_bytes(from + a.taps[t] + c, n);
            return flips(is_signed) ? x ^ bytes_of(-128) : x;
        };
        const auto interleaved = [](const Register (&r)[4], Inputs (&to)[4]) {
            Register x[4];
            interleave<4>(r, x);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) to[v] = inputs_of(x[v]);
        };
        if constexpr (in_columns) {
            Weights weights[3][4];
            for (int q = 0; q < 3; q++) load_weights(q, weights[q]);
            Columns columns;
            depthwise_row(a, positions, c, n, [&](int p, Register(&sums)[4]) {
                const std::uint8_t* from = a.rows[p];
                const bool follows = p > 0 && from - a.rows[p - 1] == a.sliding.step;
                columns.read(follows ? a.sliding.shift : 3, [&](int q, Inputs(&to)[4]) {
                    const Register last = tap(from, 4 * q + 2);
                    interleaved({tap(from, 4 * q), tap(from, 4 * q + 1), last, last}, to);
                });
                columns.add(weights, sums);
            });
        } else {
            Weights weights[kept_quads][4];
            for (int q = 0; q < std::min(quads, kept_quads); q++) load_weights(q, weights[q]);
            depthwise_row(a, positions, c, n, [&](int p, Register(&sums)[4]) {
                for (int q = 0; q < quads; q++) {
                    Register r[4];
                    for (int k = 0; k < 4; k++) r[k] = 4 * q + k < a.tap_count ? tap(a.rows[p], 4 * q + k) : Register{};
                    Inputs x[4];
                    interleaved(r, x);
                    Weights others[4];
                    if (q >= kept_quads) load_weights(q, others);
                    const Weights(&w)[4] = q < kept_quads ? weights[q] : others;
                    for (int v = 0; v < 4; v++) sums[v] = dot(sums[v], x[v], w[v]);
                }
            });
        }
    }
}

template <bool is_signed>
void depthwise_of(const Int8Depthwise& a, int positions) {
    a.sliding.shift ? depthwise_of<is_signed, true>(a, positions) : depthwise_of<is_signed, false>(a, positions);
}

void depthwise(const Int8Depthwise& a, int positions) {
    a.is_signed ? depthwise_of<true>(a, positions) : depthwise_of<false>(a, positions);
}

// From a panel's row: which of its bytes go where in a row of packed columns.
struct Part {
    int from;
    Permutation permutation;
};

PERMUTING void pack_by_permutation(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns,
                                   int n, std::int8_t* to) {
    Part parts[row];
    int count = 0;
    for (int j = 0; j < n;) {
        const int base = columns[j] / row * row;
        Part& part = parts[count++] = {base, {}};
        for (; j < n && columns[j] / row * row == base; j++) part.permutation.take(place(columns[j] - base), place(j));
    }
    for (int r = 0; r < rows; r++) {
        const std::int8_t* source = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[r] : r) * row;
        const int later = r + 12 < rows ? r + 12 : rows - 1;  // the rows come from memory
        const std::int8_t* ahead = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[later] : later) * row;
        Register packed{};
        for (int i = 0; i < count; i++) {
            __builtin_prefetch(ahead + parts[i].from);
            packed = parts[i].permutation.apply(load(source + parts[i].from), packed);
        }
        store_bytes(to + static_cast<std::ptrdiff_t>(r) * row, packed, row);
    }
}

void pack_columns(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n, std::int8_t* to) {
    if (permutes())
        pack_by_permutation(from, rows_list, rows, columns, n, to);
    else
        pack_in_order(place, row, from, rows_list, rows, columns, n, to);
}

constexpr Int8Kernels table_of(const char* name, const Kernels* floats) {
    return {name, floats, lanes, row, place, flips(true) ? 128 : 0, flips(false) ? -128 : 0, product, depthwise, pack_columns, maxima, means, sum, complete, quantize, dequantize};
}
