// Loads and stores of bfloat16 with AVX2; included like simd.h.

typedef float Loose __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef std::uint32_t Words __attribute__((vector_size(lanes * sizeof(std::uint32_t))));

inline Vector load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Loose*>(p) = v; }

// In eight halves of 32 bits, the upper ones zeros.
inline Words rounded(Vector v) {
    const Words bits = reinterpret_cast<Words>(v), nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return v == v ? nearest : (bits >> 16) | 0x40;
}
inline __m128i halves(Vector v) {
    const __m256i words = reinterpret_cast<__m256i>(rounded(v));
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
inline Vector widened(__m128i halves) { return reinterpret_cast<Vector>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16)); }

inline Vector load(const Bf16* p) { return widened(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vector load_some(const Bf16* p, int n) { return widened(load_first_bytes(p, 2 * n)); }
inline void store(Bf16* p, Vector v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves(v)); }
inline void store_some(Bf16* p, Vector v, int n) { store_first_bytes(p, halves(v), 2 * n); }
