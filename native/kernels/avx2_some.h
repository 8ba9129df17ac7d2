// The first n of eight elements of 32 bits, or of 16 bytes, with AVX2; included inside the namespaces of the files that use it.

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

// n <= 16, in pieces that overlap: a copy of any number of bytes is a call.
inline __m128i load_first_bytes(const void* from, int n) {
    const auto* const p = static_cast<const unsigned char*>(from);
    if (n >= 16) return _mm_loadu_si128(static_cast<const __m128i*>(from));
    std::uint64_t low = 0, high = 0;
    if (n >= 8) {
        __builtin_memcpy(&low, p, 8);
        __builtin_memcpy(&high, p + n - 8, 8);
        high = n > 8 ? high >> 8 * (16 - n) : 0;
    } else if (n >= 4) {
        std::uint32_t head, tail;
        __builtin_memcpy(&head, p, 4);
        __builtin_memcpy(&tail, p + n - 4, 4);
        low = head | std::uint64_t{tail} << 8 * (n - 4);
    } else if (n > 0) {
        low = p[0] | std::uint64_t{p[n / 2]} << 8 * (n / 2) | std::uint64_t{p[n - 1]} << 8 * (n - 1);
    }
    return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
}
inline void store_first_bytes(void* to, __m128i v, int n) {
    auto* const p = static_cast<unsigned char*>(to);
    if (n >= 16) return _mm_storeu_si128(static_cast<__m128i*>(to), v);
    const auto low = static_cast<std::uint64_t>(_mm_cvtsi128_si64(v));
    if (n >= 8) {
        const auto high = static_cast<std::uint64_t>(_mm_extract_epi64(v, 1)), tail = n > 8 ? low >> 8 * (n - 8) | high << 8 * (16 - n) : low;
        __builtin_memcpy(p, &low, 8);
        __builtin_memcpy(p + n - 8, &tail, 8);
    } else if (n >= 4) {
        const auto head = static_cast<std::uint32_t>(low), tail = static_cast<std::uint32_t>(low >> 8 * (n - 4));
        __builtin_memcpy(p, &head, 4);
        __builtin_memcpy(p + n - 4, &tail, 4);
    } else {
        for (int i = 0; i < n; i++) p[i] = static_cast<unsigned char>(low >> 8 * i);
    }
}
