// Kernels for 8-bit integers with `vpdpbusd`, which multiplies four inputs without a sign by four weights with one, and
// adds the products to an int32. Quads of inputs are formed when weights are read: four rows are interleaved by unpacking,
// for which each row is stored in the order that unpacking wants. So a closed input costs nothing, whichever its
// neighbours are. Inputs with a sign are read as x + 128; sums start at -128 times the weights' sums.
#include <immintrin.h>

#include <bit>
#include <cstring>
#include <utility>

#include "int8_numbers.h"

namespace convgate {
namespace {

#include "int8_rows.h"

constexpr int lanes = 16, row = 64;
constexpr int tile_of(int vectors) { return vectors == 1 ? 12 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6; }
alignas(64) const std::int8_t no_weights[row] = {};

int place(int o) { return 16 * (o % 16 / 4) + 4 * (o / 16) + o % 4; }

inline __mmask16 first(int n) { return n >= lanes ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1); }
inline __mmask64 first_bytes(int n) { return n >= row ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

// (x * m + 2^(s-1)) >> s of 32-bit lanes, clamped to what any clamp to 8 bits, after an addend, leaves as it is.
__m512i brought_far(__m512i x, __m512i m, __m512i s) {
    const __m512i low = _mm512_set1_epi64(0xffffffff), one = _mm512_set1_epi64(1), most = _mm512_set1_epi64(1 << 29);
    const auto half = [&](__m512i x, __m512i m, __m512i s) {
        const __m512i rounded = _mm512_add_epi64(_mm512_mul_epi32(x, m), _mm512_sllv_epi64(one, _mm512_sub_epi64(s, one)));
        const __m512i y = _mm512_srav_epi64(rounded, s);
        return _mm512_max_epi64(_mm512_min_epi64(y, most), _mm512_sub_epi64(_mm512_setzero_si512(), most));
    };
    const __m512i even = half(x, m, _mm512_and_si512(s, low));
    const __m512i odd = half(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(m, 32), _mm512_srli_epi64(s, 32));
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

// The four 128-bit lanes of each of four vectors as four vectors of the first lanes, the second ones, ..
inline void transpose_lanes(__m512i (&v)[4]) {
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88), v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88), v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

// Up to 64 numbers of 32 bits as four vectors: in order, or as the interleaving of bytes leaves them, by quarters.
template <bool by_quarters>
inline void load_numbers(const std::int32_t* from, int n, int otherwise, __m512i (&to)[4]) {
    for (int v = 0; v < 4; v++) to[v] = _mm512_mask_loadu_epi32(_mm512_set1_epi32(otherwise), first(n - v * lanes), from + v * lanes);
    if constexpr (by_quarters) transpose_lanes(to);
}

// How 64 sums become bytes, ready to be used. With shifts of 17 and more, 32 bits are enough, as the floor of a floor is one:
// with sum = 2^16 high + low, the result is (high * m + (low * m >> 16) + 2^(s-17)) >> (s - 16).
template <bool by_quarters>
struct Finish {
    const Int8Finish& f;
    __m512i m[4], s[4], high[4], half[4];
    __m512i low, most;
    bool near, positive;

    Finish(const Int8Finish& finish, int o, int n) : f(finish) {
        load_numbers<by_quarters>(f.multiplier + o, n, 0, m);
        load_numbers<by_quarters>(f.shift + o, n, 17, s);
        near = true;
        for (int v = 0; v < 4; v++) near &= _mm512_cmplt_epi32_mask(s[v], _mm512_set1_epi32(17)) == 0;
        if (near)
            for (int v = 0; v < 4; v++) {
                high[v] = _mm512_slli_epi32(m[v], 16);
                s[v] = _mm512_sub_epi32(s[v], _mm512_set1_epi32(16));
                half[v] = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_sub_epi32(s[v], _mm512_set1_epi32(1)));
            }
        positive = f.low >= 0;
        low = _mm512_set1_epi8(static_cast<char>(f.low)), most = _mm512_set1_epi8(static_cast<char>(f.high));
    }

    __m512i brought(__m512i x, int v) const {
        if (!near) return brought_far(x, m[v], s[v]);
        const __m512i upper = _mm512_madd_epi16(x, high[v]), lower = _mm512_mulhi_epu16(x, m[v]);
        return _mm512_srav_epi32(_mm512_add_epi32(_mm512_add_epi32(upper, lower), half[v]), s[v]);
    }

    // An addend, brought to the scale; of a shift over 24, nothing is left.
    void add(__m512i& to, __m512i x) const {
        if (f.addend.shift > 24) return;
        const __m512i product = _mm512_mullo_epi32(x, _mm512_set1_epi32(f.addend.multiplier));
        const __m512i rounded = _mm512_add_epi32(product, _mm512_set1_epi32(1 << (f.addend.shift - 1)));
        to = _mm512_add_epi32(to, _mm512_srav_epi32(rounded, _mm512_set1_epi32(f.addend.shift)));
    }

    // Dwords of four vectors' quads of outputs: from order to quarters and back.
    static __m512i turned(__m512i x) {
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
    }

    // Saturating to 16 bits on the way leaves any clamp to 8 bits as it is, also after an addend that has 8 bits. One that
    // is brought to another scale is added in 32 bits.
    // A function of its own: inlined into every kernel it would be most of the code.
    [[gnu::noinline]] void write(const __m512i* sums, int vectors, __mmask64 some, const std::uint8_t* addend, std::uint8_t* to) const {
        const __m512i none = _mm512_setzero_si512();
        __m512i results[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) results[v] = v < vectors ? brought(sums[v], v) : none;
        __m512i first = none, second = none;
        if (addend) {
            __m512i x = _mm512_maskz_loadu_epi8(some, addend);
            if constexpr (!by_quarters) x = turned(x);
            const __m512i sign = f.addend_signed ? _mm512_movm_epi8(_mm512_movepi8_mask(x)) : none;
            first = _mm512_unpacklo_epi8(x, sign), second = _mm512_unpackhi_epi8(x, sign);
            if (!f.addend.same()) {
                const __m512i upper = _mm512_srai_epi16(first, 15), last = _mm512_srai_epi16(second, 15);
                add(results[0], _mm512_unpacklo_epi16(first, upper)), add(results[1], _mm512_unpackhi_epi16(first, upper));
                add(results[2], _mm512_unpacklo_epi16(second, last)), add(results[3], _mm512_unpackhi_epi16(second, last));
                first = second = none;
            }
        }
        const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(results[0], results[1]), first);
        const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(results[2], results[3]), second);
        __m512i bytes;
        if (positive)
            bytes = _mm512_max_epu8(_mm512_min_epu8(_mm512_packus_epi16(a, b), most), low);
        else
            bytes = _mm512_max_epi8(_mm512_min_epi8(_mm512_packs_epi16(a, b), most), low);
        _mm512_mask_storeu_epi8(to, some, by_quarters ? bytes : turned(bytes));
    }
};

void write_floats(const __m512i* sums, int vectors, int n, const float* scale, float* to) {
    for (int v = 0; v < vectors; v++) {
        const __mmask16 some = first(n - v * lanes);
        const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[v]), _mm512_maskz_loadu_ps(some, scale + v * lanes));
        _mm512_mask_storeu_ps(to + v * lanes, some, y);
    }
}

// Four rows of bytes -> vectors of four bytes each, one of each row.
template <int vectors>
inline void interleave(const __m512i (&r)[4], __m512i (&w)[4]) {
    const __m512i a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpacklo_epi8(r[2], r[3]);
    w[0] = _mm512_unpacklo_epi16(a, b);
    if constexpr (vectors > 1) w[1] = _mm512_unpackhi_epi16(a, b);
    if constexpr (vectors > 2) {
        const __m512i c = _mm512_unpackhi_epi8(r[0], r[1]), d = _mm512_unpackhi_epi8(r[2], r[3]);
        w[2] = _mm512_unpacklo_epi16(c, d);
        if constexpr (vectors > 3) w[3] = _mm512_unpackhi_epi16(c, d);
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

template <int vectors, int n, int some>
__attribute__((always_inline)) inline void add_quad(const std::int8_t* const (&rows)[4], const std::uint8_t* const (&from)[n],
                                                    std::ptrdiff_t at, __m512i flip, __m512i (&sums)[n][vectors]) {
    __m512i r[4], w[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) r[k] = k < some ? _mm512_loadu_si512(rows[k]) : _mm512_setzero_si512();
    interleave<vectors>(r, w);
#pragma GCC unroll 16
    for (int p = 0; p < n; p++) {
        const __m512i inputs = _mm512_xor_si512(_mm512_set1_epi32(quad<some>(from[p] + at)), flip);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sums[p][v] = _mm512_dpbusd_epi32(sums[p][v], inputs, w[v]);
    }
}

template <int vectors, int n, bool listed>
__attribute__((always_inline)) inline void accumulate(const Int8Product& a, int position, __m512i (&sums)[n][vectors]) {
    const std::uint8_t* from[n];
    for (int p = 0; p < n; p++) from[p] = a.rows[position + p];
    const __m512i flip = _mm512_set1_epi8(a.is_signed ? -128 : 0);
    for (int t = 0; t < a.tap_count; t++) {
        const std::int8_t* weights = a.weights + t * a.tap_stride;
        const auto at = [&](int i) { return weights + static_cast<std::ptrdiff_t>(listed ? a.weight_rows[i] : i) * row; };
        const std::ptrdiff_t tap = a.taps[t];
        int i = 0;
        for (; i + 4 <= a.count; i += 4) {
            const std::int8_t* const rows[4] = {at(i), at(i + 1), at(i + 2), at(i + 3)};
            add_quad<vectors, n, 4>(rows, from, tap + i, flip, sums);
        }
        const int rest = a.count - i;
        if (rest == 0) continue;
        const std::int8_t* const rows[4] = {at(i), rest > 1 ? at(i + 1) : no_weights, rest > 2 ? at(i + 2) : no_weights, no_weights};
        switch (rest) {
            case 1: add_quad<vectors, n, 1>(rows, from, tap + i, flip, sums); break;
            case 2: add_quad<vectors, n, 2>(rows, from, tap + i, flip, sums); break;
            case 3: add_quad<vectors, n, 3>(rows, from, tap + i, flip, sums); break;
        }
    }
}

void write_sums(const __m512i* sums, int vectors, int n, std::int32_t* to) {
    for (int v = 0; v < vectors; v++) _mm512_mask_storeu_epi32(to + v * lanes, first(n - v * lanes), sums[v]);
}

void write_all(const Int8Product& a, const Finish<false>& finish, const __m512i* sums, int vectors, int position, int n) {
    const __mmask64 some = first_bytes(a.width);
    for (int p = position; p < position + n; p++, sums += vectors) {
        if (a.sums)
            write_sums(sums, vectors, a.width, a.sums[p]);
        else if (a.outputs)
            finish.write(sums, vectors, some, a.addends ? a.addends[p] : nullptr, a.outputs[p]);
        else
            write_floats(sums, vectors, a.width, a.scale, a.floats[p]);
    }
}

template <int vectors, int n>
void block(const Int8Product& a, const Finish<false>& finish, int position) {
    __m512i sums[n][vectors];
    for (int v = 0; v < vectors; v++) {
        const __m512i start = _mm512_loadu_si512(a.start + v * lanes);
        for (int p = 0; p < n; p++) sums[p][v] = start;
        if (a.adds) {
            const __mmask16 some = first(a.width - v * lanes);
            for (int p = 0; p < n; p++) sums[p][v] = _mm512_add_epi32(start, _mm512_maskz_loadu_epi32(some, a.sums[position + p] + v * lanes));
        }
    }
    a.weight_rows ? accumulate<vectors, n, true>(a, position, sums) : accumulate<vectors, n, false>(a, position, sums);
    // To memory: what is indexed by a loop that is not unrolled would never be in registers.
    __m512i done[n * vectors];
#pragma GCC unroll 16
    for (int p = 0; p < n; p++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) done[p * vectors + v] = sums[p][v];
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
    switch ((a.width + lanes - 1) / lanes) {
        case 1: return blocks<1>(a);
        case 2: return blocks<2>(a);
        case 3: return blocks<3>(a);
        case 4: return blocks<4>(a);
    }
}

// Four taps of 64 channels at a time, interleaved; their sums lie by quarters, which packing puts in order.
constexpr int kept_quads = 16;

void depthwise(const Int8Depthwise& a, int positions) {
    const int quads = (a.tap_count + 3) / 4;
    const __m512i flip = _mm512_set1_epi8(a.is_signed ? -128 : 0);
    for (int c = 0; c < a.channels; c += row) {
        const int n = std::min(row, a.channels - c);
        const __mmask64 some = first_bytes(n);
        const auto weights_of = [&](int q, __m512i(&to)[4]) { load_numbers<true>(a.weights + static_cast<std::ptrdiff_t>(q) * a.channels + c, n, 0, to); };
        __m512i weights[kept_quads][4], start[4];
        for (int q = 0; q < std::min(quads, kept_quads); q++) weights_of(q, weights[q]);
        load_numbers<true>(a.start + c, n, 0, start);
        const Int8Finish none{a.start, a.start, {}, false, 0, 0};
        const Finish<true> finish(a.outputs ? a.finish : none, c, a.outputs ? n : 0);
        for (int p = 0; p < positions; p++) {
            const std::uint8_t* from = a.rows[p] + c;
            __m512i sums[4] = {start[0], start[1], start[2], start[3]};
            for (int q = 0; q < quads; q++) {
                __m512i r[4], x[4];
                for (int k = 0; k < 4; k++) {
                    const int t = 4 * q + k;
                    r[k] = t < a.tap_count ? _mm512_xor_si512(_mm512_maskz_loadu_epi8(some, from + a.taps[t]), flip) : _mm512_setzero_si512();
                }
                interleave<4>(r, x);
                if (q < kept_quads) {
                    for (int v = 0; v < 4; v++) sums[v] = _mm512_dpbusd_epi32(sums[v], x[v], weights[q][v]);
                } else {
                    __m512i w[4];
                    weights_of(q, w);
                    for (int v = 0; v < 4; v++) sums[v] = _mm512_dpbusd_epi32(sums[v], x[v], w[v]);
                }
            }
            if (a.outputs) {
                finish.write(sums, 4, some, a.addends ? a.addends[p] + c : nullptr, a.outputs[p] + c);
                continue;
            }
            transpose_lanes(sums);
            write_floats(sums, 4, n, a.scale + c, a.floats[p] + c);
        }
    }
}

// From a panel's row: which of its bytes go where in a row of packed columns.
struct Part {
    int from;
    __m512i index;
    __mmask64 taken;
};

// A permutation of 64 bytes is one instruction with AVX512-VBMI.
__attribute__((target("avx512vbmi"))) void pack_by_permutation(const std::int8_t* from, const std::int32_t* rows_list, int rows,
                                                               const std::int32_t* columns, int n, std::int8_t* to) {
    Part parts[row];
    int count = 0;
    for (int j = 0; j < n;) {
        const int base = columns[j] / row * row;
        alignas(64) std::uint8_t index[row] = {};
        std::uint64_t taken = 0;
        for (; j < n && columns[j] / row * row == base; j++) {
            index[place(j)] = static_cast<std::uint8_t>(place(columns[j] - base));
            taken |= std::uint64_t{1} << place(j);
        }
        parts[count++] = {base, _mm512_load_si512(index), taken};
    }
    for (int r = 0; r < rows; r++) {
        const std::int8_t* source = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[r] : r) * row;
        const int later = r + 12 < rows ? r + 12 : rows - 1;  // the rows come from memory
        const std::int8_t* ahead = from + static_cast<std::ptrdiff_t>(rows_list ? rows_list[later] : later) * row;
        __m512i packed = _mm512_setzero_si512();
        for (int i = 0; i < count; i++) {
            __builtin_prefetch(ahead + parts[i].from);
            packed = _mm512_mask_permutexvar_epi8(packed, parts[i].taken, parts[i].index, _mm512_loadu_si512(source + parts[i].from));
        }
        _mm512_storeu_si512(to + static_cast<std::ptrdiff_t>(r) * row, packed);
    }
}

void pack_columns(const std::int8_t* from, const std::int32_t* rows_list, int rows, const std::int32_t* columns, int n, std::int8_t* to) {
    static const bool permutes = __builtin_cpu_supports("avx512vbmi");
    if (permutes)
        pack_by_permutation(from, rows_list, rows, columns, n, to);
    else
        pack_in_order(place, row, from, rows_list, rows, columns, n, to);
}

constexpr Int8Kernels make(const Kernels* floats) {
    return {"avx512vnni", floats, lanes, row, place, 128, product, depthwise, pack_columns, maxima, means, sum, complete, quantize, dequantize};
}

}  // namespace

extern const Kernels avx512_kernels;
extern const Int8Kernels avx512vnni_int8_kernels;
const Int8Kernels avx512vnni_int8_kernels = make(&avx512_kernels);

}  // namespace convgate
