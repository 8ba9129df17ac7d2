// The larger and the smaller of two in the compiler's own terms, as simd.h wants them; included before it.

inline Vector largest(Vector a, Vector b) { return b > a ? b : a; }
inline Vector smallest(Vector a, Vector b) { return b < a ? b : a; }
