// AVX-512 in plain vectors, so that its kernels are tested on processors without it: SIMDe (Debian's libsimde-dev), and here what
// its version 0.7.4 lacks. Found by the files of AVX-512 alone, in place of the compiler's header, where CONVGATE_EMULATED is set.
#pragma once

#include <cstdint>
#include <cstring>

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

using __mmask16 = simde__mmask16;
using __mmask32 = simde__mmask32;
using __mmask64 = simde__mmask64;

namespace emulated {

template <typename V, typename T>
inline V load(std::uint64_t mask, const void* from, V otherwise = V{}) {
    T to[sizeof(V) / sizeof(T)];
    std::memcpy(to, &otherwise, sizeof(V));
    for (std::size_t i = 0; i < sizeof(V) / sizeof(T); i++)
        if (mask >> i & 1) std::memcpy(to + i, static_cast<const T*>(from) + i, sizeof(T));
    std::memcpy(&otherwise, to, sizeof(V));
    return otherwise;
}

template <typename V, typename T>
inline void store(void* to, std::uint64_t mask, V v) {
    T from[sizeof(V) / sizeof(T)];
    std::memcpy(from, &v, sizeof(V));
    for (std::size_t i = 0; i < sizeof(V) / sizeof(T); i++)
        if (mask >> i & 1) std::memcpy(static_cast<T*>(to) + i, from + i, sizeof(T));
}

// f(element) of each element of V, which are A, as those of To, which are B.
template <typename To, typename B, typename A, typename V, typename F>
inline To map(V v, F f) {
    constexpr std::size_t n = sizeof(V) / sizeof(A);
    static_assert(sizeof(To) == n * sizeof(B));
    A a[n];
    B b[n];
    std::memcpy(a, &v, sizeof(V));
    for (std::size_t i = 0; i < n; i++) b[i] = f(a[i]);
    To to;
    std::memcpy(&to, b, sizeof(To));
    return to;
}
template <typename B, typename A, typename To, typename V>
inline To converted(V v) {
    return map<To, B, A>(v, [](A x) { return static_cast<B>(x); });
}

// As `vcvtneps2bf16`: to nearest, halves to even; denormals are zeros.
inline simde__m256bh rounded(simde__m512 v) {
    return map<simde__m256bh, std::uint16_t, std::uint32_t>(v, [](std::uint32_t bits) {
        if ((bits & 0x7f800000) == 0) bits &= 0x80000000;
        if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
        return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    });
}

template <typename V>
inline V shuffle_quarters(V a, V b, int order) {
    char from[2][64], to[64];
    std::memcpy(from[0], &a, 64), std::memcpy(from[1], &b, 64);
    for (int q = 0; q < 4; q++) std::memcpy(to + 16 * q, from[q / 2] + 16 * (order >> 2 * q & 3), 16);
    std::memcpy(&a, to, 64);
    return a;
}

inline simde__m512i multiply_high(simde__m512i a, simde__m512i b) {
    std::uint16_t x[32], y[32];
    std::memcpy(x, &a, 64), std::memcpy(y, &b, 64);
    for (int i = 0; i < 32; i++) x[i] = static_cast<std::uint16_t>(static_cast<std::uint32_t>(x[i]) * y[i] >> 16);
    std::memcpy(&a, x, 64);
    return a;
}

inline simde__m512i shift_right(simde__m512i v, simde__m512i by) {
    std::int64_t x[8];
    std::uint64_t n[8];
    std::memcpy(x, &v, 64), std::memcpy(n, &by, 64);
    for (int i = 0; i < 8; i++) x[i] >>= n[i] < 63 ? n[i] : 63;
    std::memcpy(&v, x, 64);
    return v;
}

inline int sum(simde__m512i v) {
    std::uint32_t x[16], sum = 0;
    std::memcpy(x, &v, 64);
    for (const std::uint32_t one : x) sum += one;
    return static_cast<int>(sum);
}

inline simde__m256 half(simde__m512 v, int number) {
    simde__m256 to;
    std::memcpy(&to, reinterpret_cast<const char*>(&v) + 32 * number, 32);
    return to;
}

}  // namespace emulated

#undef _mm512_madd_epi16  // which 0.7.4 takes for one of four arguments
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#define _mm256_maskz_loadu_epi8(m, p) emulated::load<simde__m256i, std::uint8_t>(m, p)
#define _mm256_maskz_loadu_epi16(m, p) emulated::load<simde__m256i, std::uint16_t>(m, p)
#define _mm512_maskz_loadu_epi8(m, p) emulated::load<simde__m512i, std::uint8_t>(m, p)
#define _mm512_maskz_loadu_epi16(m, p) emulated::load<simde__m512i, std::uint16_t>(m, p)
#define _mm512_maskz_loadu_ps(m, p) emulated::load<simde__m512, float>(m, p)
#define _mm512_mask_loadu_epi32(o, m, p) emulated::load<simde__m512i, std::uint32_t>(m, p, o)
#define _mm256_mask_storeu_epi16(p, m, v) emulated::store<simde__m256i, std::uint16_t>(p, m, v)
#define _mm512_mask_storeu_epi8(p, m, v) emulated::store<simde__m512i, std::uint8_t>(p, m, v)
#define _mm512_mask_storeu_epi16(p, m, v) emulated::store<simde__m512i, std::uint16_t>(p, m, v)
#define _mm512_mask_storeu_epi32(p, m, v) emulated::store<simde__m512i, std::uint32_t>(p, m, v)
#define _mm512_mask_storeu_ps(p, m, v) emulated::store<simde__m512, float>(p, m, v)
#define _mm512_cvtepi32_epi16(v) emulated::converted<std::uint16_t, std::uint32_t, simde__m256i>(v)
#define _mm512_cvtepi32_ps(v) emulated::converted<float, std::int32_t, simde__m512>(v)
#define _mm512_cvtepu16_epi32(v) emulated::converted<std::uint32_t, std::uint16_t, simde__m512i>(v)
#define _mm512_cvtepu8_epi16(v) emulated::converted<std::uint16_t, std::uint8_t, simde__m512i>(v)
#define _mm512_cvtneps_pbh(v) emulated::rounded(v)
#define _mm512_extractf32x8_ps(v, n) emulated::half(v, n)
#define _mm512_mulhi_epu16(a, b) emulated::multiply_high(a, b)
#define _mm512_reduce_add_epi32(v) emulated::sum(v)
#define _mm512_shuffle_f32x4(a, b, order) emulated::shuffle_quarters(a, b, order)
#define _mm512_srav_epi64(v, by) emulated::shift_right(v, by)
