// The first n of eight elements of 32 bits, with AVX2; included inside the namespaces of the files that use it.

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// In parts: measured on a Zen 3, a masked store takes 16 cycles, whatever it stores, and these take 2 to 7.
inline void store_first(void* to, __m256 v, int n) {
    if (n <= 0) return;
    float* p = static_cast<float*>(to);
    if (n >= 8) return _mm256_storeu_ps(p, v);
    __m128 rest = _mm256_castps256_ps128(v);
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1) {
        const float last = _mm_cvtss_f32(rest);
        __builtin_memcpy(p, &last, sizeof(last));
    }
}
