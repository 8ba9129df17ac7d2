// Vectors of floats with AVX2, and some of one; included inside the namespaces of the files that use it.

constexpr int lanes = 8, VECTORS = 2;
typedef float Vector __attribute__((vector_size(32)));

#include "avx2_some.h"

inline Vector load_some(const float* p, int n) { return reinterpret_cast<Vector>(_mm256_maskload_ps(p, first(n))); }
inline void store_some(float* p, Vector v, int n) { store_first(p, reinterpret_cast<__m256>(v), n); }
