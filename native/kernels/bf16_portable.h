// Loads that widen and stores that round, in the compiler's own terms; included like simd.h.

typedef float Loose __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef std::uint16_t Halves __attribute__((vector_size(lanes * sizeof(std::uint16_t))));
typedef std::uint32_t Words __attribute__((vector_size(lanes * sizeof(std::uint32_t))));

inline Vector load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Loose*>(p) = v; }

inline Vector widened(Halves v) {
    const Words bits = __builtin_convertvector(v, Words) << 16;
    return reinterpret_cast<Vector>(bits);
}
inline Halves rounded(Vector v) {
    const Words bits = reinterpret_cast<Words>(v), nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector(v == v ? nearest : (bits >> 16) | 0x40, Halves);
}
inline Vector load(const Bf16* p) {
    Halves v;
    __builtin_memcpy(&v, p, sizeof(v));
    return widened(v);
}
inline Vector load_some(const Bf16* p, int n) {
    Halves v{};
    __builtin_memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(Bf16));
    return widened(v);
}
inline void store(Bf16* p, Vector v) {
    const Halves halves = rounded(v);
    __builtin_memcpy(p, &halves, sizeof(halves));
}
inline void store_some(Bf16* p, Vector v, int n) {
    const Halves halves = rounded(v);
    __builtin_memcpy(p, &halves, static_cast<std::size_t>(n) * sizeof(Bf16));
}
