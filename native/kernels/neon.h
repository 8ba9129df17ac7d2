// Some lanes of a vector of four floats; included like simd.h, before it.

inline Vector load_some(const float* p, int n) {
    Vector v{};
    switch (n) {
        case 1: v[0] = p[0]; return v;
        case 2: v[0] = p[0], v[1] = p[1]; return v;
        case 3: v[0] = p[0], v[1] = p[1], v[2] = p[2]; return v;
        default: return n <= 0 ? v : Vector(vld1q_f32(p));
    }
}
inline void store_some(float* p, Vector v, int n) {
    switch (n) {
        case 1: p[0] = v[0]; return;
        case 2: p[0] = v[0], p[1] = v[1]; return;
        case 3: p[0] = v[0], p[1] = v[1], p[2] = v[2]; return;
        default:
            if (n > 0) vst1q_f32(p, float32x4_t(v));
    }
}
