// What int8_quads.h asks for, with AVX-512 (F, BW, DQ, VL), but for how quads and pairs are multiplied; included before it.

using Register = __m512i;
typedef std::int32_t Numbers __attribute__((vector_size(64)));

constexpr int lanes = 16;
constexpr bool flips(bool is_signed) { return is_signed; }

inline __mmask16 first(int n) { return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1); }
inline __mmask64 first_bytes(int n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

inline Register load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(void* p, Register v) { _mm512_storeu_si512(p, v); }
inline Register load_bytes(const void* p, int n) { return _mm512_maskz_loadu_epi8(first_bytes(n), p); }
inline void store_bytes(void* p, Register v, int n) { _mm512_mask_storeu_epi8(p, first_bytes(n), v); }
inline Register load_numbers(const std::int32_t* p, int n, int otherwise) {
    return _mm512_mask_loadu_epi32(_mm512_set1_epi32(otherwise), first(n), p);
}
inline void store_numbers(std::int32_t* p, Register v, int n) { _mm512_mask_storeu_epi32(p, first(n), v); }
inline void store_scaled(float* p, Register v, const float* scale, int n) {
    _mm512_mask_storeu_ps(p, first(n), _mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_maskz_loadu_ps(first(n), scale)));
}

inline Register bytes_of(int x) { return _mm512_set1_epi8(static_cast<char>(x)); }
inline Register numbers_of(int x) { return _mm512_set1_epi32(x); }
inline bool any(Register v) { return _mm512_test_epi32_mask(v, v) != 0; }

inline Register low_bytes(Register a, Register b) { return _mm512_unpacklo_epi8(a, b); }
inline Register high_bytes(Register a, Register b) { return _mm512_unpackhi_epi8(a, b); }
inline Register low_shorts(Register a, Register b) { return _mm512_unpacklo_epi16(a, b); }
inline Register high_shorts(Register a, Register b) { return _mm512_unpackhi_epi16(a, b); }
inline Register to_shorts(Register a, Register b) { return _mm512_packs_epi32(a, b); }
inline Register to_bytes(Register a, Register b) { return _mm512_packs_epi16(a, b); }
inline Register to_unsigned_bytes(Register a, Register b) { return _mm512_packus_epi16(a, b); }
inline Register add_shorts(Register a, Register b) { return _mm512_adds_epi16(a, b); }
inline Register signs_of_bytes(Register v) { return _mm512_movm_epi8(_mm512_movepi8_mask(v)); }
inline Register signs_of_shorts(Register v) { return _mm512_srai_epi16(v, 15); }
inline Register smallest(Register a, Register b) { return _mm512_min_epi8(a, b); }
inline Register largest(Register a, Register b) { return _mm512_max_epi8(a, b); }
inline Register smallest_unsigned(Register a, Register b) { return _mm512_min_epu8(a, b); }
inline Register largest_unsigned(Register a, Register b) { return _mm512_max_epu8(a, b); }
// Sixteen entries for each quarter; what they hold at x, or 0 where x is no index of theirs.
inline Register sixteen_bytes(const void* p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
inline Register of_sixteen(Register entries, Register x) { return _mm512_shuffle_epi8(entries, _mm512_adds_epu8(x, bytes_of(0x70))); }
inline Register less_sixteen(Register x) { return _mm512_sub_epi8(x, bytes_of(16)); }
inline Register multiply_high(Register a, Register b) { return _mm512_mulhi_epu16(a, b); }

inline Register brought_in_64_bits(Register x, Register m, Register s) {
    const Register low = _mm512_set1_epi64(0xffffffff), one = _mm512_set1_epi64(1), most = _mm512_set1_epi64(1 << 29);
    const auto half = [&](Register x, Register m, Register s) {
        const Register rounded = _mm512_add_epi64(_mm512_mul_epi32(x, m), _mm512_sllv_epi64(one, _mm512_sub_epi64(s, one)));
        const Register y = _mm512_srav_epi64(rounded, s);
        return _mm512_max_epi64(_mm512_min_epi64(y, most), _mm512_sub_epi64(_mm512_setzero_si512(), most));
    };
    const Register even = half(x, m, _mm512_and_si512(s, low));
    const Register odd = half(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(m, 32), _mm512_srli_epi64(s, 32));
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

// The four 128-bit lanes of each of four vectors as four vectors of the first lanes, the second ones, ..
inline void to_quarters(Register (&v)[4]) {
    const Register a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const Register c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88), v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88), v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}
inline void from_quarters(Register (&v)[4]) { to_quarters(v); }

inline Register in_order(Register v) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}
inline Register out_of_order(Register v) { return in_order(v); }

// One instruction with AVX512-VBMI.
#define PERMUTING __attribute__((target("avx512vbmi")))
inline bool permutes() {
    static const bool found = __builtin_cpu_supports("avx512vbmi");
    return found;
}
struct Permutation {
    alignas(64) std::uint8_t from[64] = {};
    std::uint64_t taken = 0;

    void take(int source, int target) {
        from[target] = static_cast<std::uint8_t>(source);
        taken |= std::uint64_t{1} << target;
    }
    PERMUTING Register apply(Register v, Register packed) const {
        return _mm512_mask_permutexvar_epi8(packed, taken, _mm512_load_si512(from), v);
    }
};

using HalfRegister = __m256i;
inline HalfRegister load_half(const std::uint8_t* p, int n) {
    return _mm256_maskz_loadu_epi8(n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1, p);
}
inline Register signed_shorts(HalfRegister v) { return _mm512_cvtepi8_epi16(v); }
inline Register unsigned_shorts(HalfRegister v) { return _mm512_cvtepu8_epi16(v); }
