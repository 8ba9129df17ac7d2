// What int8_quads.h asks for, with AVX2, but for how quads and pairs are multiplied; included before it.

using Register = __m256i;
typedef std::int32_t Numbers __attribute__((vector_size(32)));

constexpr int lanes = 8, at_once = 2;
constexpr bool flips(bool is_signed) { return is_signed; }

inline Register load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, Register v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

#include "avx2_some.h"

// Bytes have no masks.
inline Register load_bytes(const void* p, int n) {
    if (n >= 32) return load(p);
    const __m128i low = load_first_bytes(p, n);
    if (n <= 16) return _mm256_zextsi128_si256(low);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), load_first_bytes(static_cast<const std::uint8_t*>(p) + 16, n - 16), 1);
}
inline void store_bytes(void* p, Register v, int n) {
    if (n >= 32) return store(p, v);
    store_first_bytes(p, _mm256_castsi256_si128(v), n);
    if (n > 16) store_first_bytes(static_cast<std::uint8_t*>(p) + 16, _mm256_extracti128_si256(v, 1), n - 16);
}

inline Register load_numbers(const std::int32_t* p, int n, int otherwise) {
    if (n >= lanes) return load(p);
    return _mm256_blendv_epi8(_mm256_set1_epi32(otherwise), _mm256_maskload_epi32(p, first(n)), first(n));
}
inline void store_numbers(std::int32_t* p, Register v, int n) { store_first(p, _mm256_castsi256_ps(v), n); }
inline void store_scaled(float* p, Register v, const float* scale, int n) {
    store_first(p, _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_maskload_ps(scale, first(n))), n);
}

inline Register bytes_of(int x) { return _mm256_set1_epi8(static_cast<char>(x)); }
inline Register numbers_of(int x) { return _mm256_set1_epi32(x); }
inline bool any(Register v) { return !_mm256_testz_si256(v, v); }

inline Register low_bytes(Register a, Register b) { return _mm256_unpacklo_epi8(a, b); }
inline Register high_bytes(Register a, Register b) { return _mm256_unpackhi_epi8(a, b); }
inline Register low_shorts(Register a, Register b) { return _mm256_unpacklo_epi16(a, b); }
inline Register high_shorts(Register a, Register b) { return _mm256_unpackhi_epi16(a, b); }
inline Register to_shorts(Register a, Register b) { return _mm256_packs_epi32(a, b); }
inline Register to_bytes(Register a, Register b) { return _mm256_packs_epi16(a, b); }
inline Register to_unsigned_bytes(Register a, Register b) { return _mm256_packus_epi16(a, b); }
inline Register add_shorts(Register a, Register b) { return _mm256_adds_epi16(a, b); }
inline Register signs_of_bytes(Register v) { return _mm256_cmpgt_epi8(_mm256_setzero_si256(), v); }
inline Register signs_of_shorts(Register v) { return _mm256_srai_epi16(v, 15); }
inline Register smallest(Register a, Register b) { return _mm256_min_epi8(a, b); }
inline Register largest(Register a, Register b) { return _mm256_max_epi8(a, b); }
inline Register smallest_unsigned(Register a, Register b) { return _mm256_min_epu8(a, b); }
inline Register largest_unsigned(Register a, Register b) { return _mm256_max_epu8(a, b); }
// Sixteen entries for each half; what they hold at x, or 0 where x is no index of theirs.
inline Register sixteen_bytes(const void* p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
inline Register of_sixteen(Register entries, Register x) { return _mm256_shuffle_epi8(entries, _mm256_adds_epu8(x, bytes_of(0x70))); }
inline Register less_sixteen(Register x) { return _mm256_sub_epi8(x, bytes_of(16)); }
inline Register multiply_high(Register a, Register b) { return _mm256_mulhi_epu16(a, b); }

inline Register brought_in_64_bits(Register x, Register m, Register s) {
    const Register low = _mm256_set1_epi64x(0xffffffff), one = _mm256_set1_epi64x(1), sign = _mm256_set1_epi64x(std::int64_t{1} << 63);
    const auto half = [&](Register x, Register m, Register s) {
        const Register rounded = _mm256_add_epi64(_mm256_mul_epi32(x, m), _mm256_sllv_epi64(one, _mm256_sub_epi64(s, one)));
        // There is no shift of 64 bits that keeps a sign: it is made one bit among others, and taken off where it went.
        const Register y = _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(rounded, sign), s), _mm256_srlv_epi64(sign, s));
        const Register most = _mm256_set1_epi64x(1 << 29), least = _mm256_set1_epi64x(-(1 << 29));
        const Register below = _mm256_blendv_epi8(y, most, _mm256_cmpgt_epi64(y, most));
        return _mm256_blendv_epi8(below, least, _mm256_cmpgt_epi64(least, below));
    };
    const Register even = half(x, m, _mm256_and_si256(s, low));
    const Register odd = half(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m, 32), _mm256_srli_epi64(s, 32));
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

// Of each vector of eight numbers the lower four and the upper four are 128-bit lanes. By quarters, the lower lanes hold the
// first sixteen numbers, four by four, the upper ones the others.
inline void to_quarters(Register (&v)[4]) {
    const Register a = v[0], b = v[1], c = v[2], d = v[3];
    v[0] = _mm256_permute2x128_si256(a, c, 0x20), v[1] = _mm256_permute2x128_si256(a, c, 0x31);
    v[2] = _mm256_permute2x128_si256(b, d, 0x20), v[3] = _mm256_permute2x128_si256(b, d, 0x31);
}
inline void from_quarters(Register (&v)[4]) {
    const Register a = v[0], b = v[1], c = v[2], d = v[3];
    v[0] = _mm256_permute2x128_si256(a, b, 0x20), v[1] = _mm256_permute2x128_si256(c, d, 0x20);
    v[2] = _mm256_permute2x128_si256(a, b, 0x31), v[3] = _mm256_permute2x128_si256(c, d, 0x31);
}

inline Register in_order(Register v) { return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); }
inline Register out_of_order(Register v) { return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)); }

// Bytes are taken out of 16 at a time, wherever they go; an index with its upper bit set takes nothing.
#define PERMUTING
inline bool permutes() { return true; }
struct Permutation {
    alignas(32) std::uint8_t of_lower[32], of_upper[32];

    Permutation() {
        std::memset(of_lower, 0x80, sizeof(of_lower));
        std::memset(of_upper, 0x80, sizeof(of_upper));
    }
    void take(int source, int target) { (source < 16 ? of_lower : of_upper)[target] = static_cast<std::uint8_t>(source % 16); }
    Register apply(Register v, Register packed) const {
        const Register lower = _mm256_shuffle_epi8(_mm256_permute2x128_si256(v, v, 0x00), load(of_lower));
        const Register upper = _mm256_shuffle_epi8(_mm256_permute2x128_si256(v, v, 0x11), load(of_upper));
        return _mm256_or_si256(packed, _mm256_or_si256(lower, upper));
    }
};

using HalfRegister = __m128i;
inline HalfRegister load_half(const std::uint8_t* p, int n) { return load_first_bytes(p, n); }
inline Register signed_shorts(HalfRegister v) { return _mm256_cvtepi8_epi16(v); }
inline Register unsigned_shorts(HalfRegister v) { return _mm256_cvtepu8_epi16(v); }
