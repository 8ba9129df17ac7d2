// Loads and stores of bfloat16 that AVX-512 has with and without its instructions for it; included like simd.h.

#include "avx512_floats.h"

inline Vector load(const float* p) { return reinterpret_cast<Vector>(_mm512_loadu_ps(p)); }
inline void store(float* p, Vector v) { _mm512_storeu_ps(p, reinterpret_cast<__m512>(v)); }

inline Vector widened(__m256i halves) { return reinterpret_cast<Vector>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)); }
inline Vector load(const Bf16* p) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vector load_some(const Bf16* p, int n) { return widened(_mm256_maskz_loadu_epi16(first(n), p)); }
inline __m256i rounded(Vector v);
inline void store(Bf16* p, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(v)); }
inline void store_some(Bf16* p, Vector v, int n) { _mm256_mask_storeu_epi16(p, first(n), rounded(v)); }
