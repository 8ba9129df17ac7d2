// Vectors of floats with AVX-512, and some of one; included inside the namespaces of the files that use it.

constexpr int lanes = 16, VECTORS = 4;
typedef float Vector __attribute__((vector_size(64)));

inline __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
inline Vector load_some(const float* p, int n) { return reinterpret_cast<Vector>(_mm512_maskz_loadu_ps(first(n), p)); }
inline void store_some(float* p, Vector v, int n) { _mm512_mask_storeu_ps(p, first(n), reinterpret_cast<__m512>(v)); }

inline Vector packed_lanes(Vector v, unsigned kept) {
    return reinterpret_cast<Vector>(_mm512_maskz_compress_ps(static_cast<__mmask16>(kept), reinterpret_cast<__m512>(v)));
}
