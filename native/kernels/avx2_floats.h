// Vectors of floats with AVX2, and some of one; included inside the namespaces of the files that use it.

constexpr int lanes = 8, VECTORS = 2;
typedef float Vector __attribute__((vector_size(32)));

#include "avx2_some.h"

inline Vector load_some(const float* p, int n) { return reinterpret_cast<Vector>(_mm256_maskload_ps(p, first(n))); }
inline void store_some(float* p, Vector v, int n) { store_first(p, reinterpret_cast<__m256>(v), n); }

// Which lanes to take for each set of kept ones, as bits: theirs in order, then whatever.
struct LanesByMask {
    alignas(8) std::uint8_t of[256][8] = {};
    constexpr LanesByMask() {
        for (int mask = 0; mask < 256; mask++)
            for (int lane = 0, n = 0; lane < 8; lane++)
                if (mask >> lane & 1) of[mask][n++] = static_cast<std::uint8_t>(lane);
    }
};

// The lanes of a vector whose bits are set, in its first ones.
inline Vector packed_lanes(Vector v, unsigned kept) {
    static constexpr LanesByMask lanes_by_mask;
    const __m128i of = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes_by_mask.of[kept]));
    return reinterpret_cast<Vector>(_mm256_permutevar8x32_ps(reinterpret_cast<__m256>(v), _mm256_cvtepu8_epi32(of)));
}
