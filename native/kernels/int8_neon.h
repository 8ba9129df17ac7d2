// What int8_quads.h asks for, with NEON, but for how quads are multiplied; included before it. There is one stretch of 128 bits,
// so what is unpacked stays in order.

using Register = uint8x16_t;
typedef std::int32_t Numbers __attribute__((vector_size(16)));

constexpr int lanes = 4, at_once = 4;
constexpr int tile_of(int vectors) { return vectors <= 2 ? 12 : vectors == 3 ? 8 : 6; }

inline int32x4_t as_numbers(Register v) { return vreinterpretq_s32_u8(v); }
inline Register bits(int32x4_t v) { return vreinterpretq_u8_s32(v); }
inline int16x8_t as_shorts(Register v) { return vreinterpretq_s16_u8(v); }
inline Register bits(int16x8_t v) { return vreinterpretq_u8_s16(v); }
inline int8x16_t as_bytes(Register v) { return vreinterpretq_s8_u8(v); }
inline Register bits(int8x16_t v) { return vreinterpretq_u8_s8(v); }

inline Register load(const void* p) { return vld1q_u8(static_cast<const std::uint8_t*>(p)); }
inline Register load_bytes(const void* p, int n) {
    if (n >= 16) return load(p);
    std::uint8_t some[16] = {};
    std::memcpy(some, p, static_cast<std::size_t>(n));
    return load(some);
}
inline void store_bytes(void* p, Register v, int n) {
    if (n >= 16) return vst1q_u8(static_cast<std::uint8_t*>(p), v);
    std::uint8_t some[16];
    vst1q_u8(some, v);
    std::memcpy(p, some, static_cast<std::size_t>(n));
}
inline Register load_numbers(const std::int32_t* p, int n, int otherwise) {
    if (n >= lanes) return bits(vld1q_s32(p));
    std::int32_t some[lanes];
    for (int i = 0; i < lanes; i++) some[i] = i < n ? p[i] : otherwise;
    return bits(vld1q_s32(some));
}
inline void store_numbers(std::int32_t* p, Register v, int n) {
    if (n >= lanes) return vst1q_s32(p, as_numbers(v));
    std::int32_t some[lanes];
    vst1q_s32(some, as_numbers(v));
    for (int i = 0; i < n; i++) p[i] = some[i];
}
inline void store_scaled(float* p, Register v, const float* scale, int n) {
    const float32x4_t y = vcvtq_f32_s32(as_numbers(v));
    if (n >= lanes) return vst1q_f32(p, vmulq_f32(y, vld1q_f32(scale)));
    float some[lanes];
    vst1q_f32(some, y);
    for (int i = 0; i < n; i++) p[i] = some[i] * scale[i];
}

inline Register bytes_of(int x) { return vdupq_n_u8(static_cast<std::uint8_t>(x)); }
inline Register numbers_of(int x) { return bits(vdupq_n_s32(x)); }
inline bool any(Register v) { return vmaxvq_u8(v) != 0; }

inline Register low_bytes(Register a, Register b) { return vzip1q_u8(a, b); }
inline Register high_bytes(Register a, Register b) { return vzip2q_u8(a, b); }
inline Register low_shorts(Register a, Register b) { return bits(vzip1q_s16(as_shorts(a), as_shorts(b))); }
inline Register high_shorts(Register a, Register b) { return bits(vzip2q_s16(as_shorts(a), as_shorts(b))); }
inline Register to_shorts(Register a, Register b) { return bits(vqmovn_high_s32(vqmovn_s32(as_numbers(a)), as_numbers(b))); }
inline Register to_bytes(Register a, Register b) { return bits(vqmovn_high_s16(vqmovn_s16(as_shorts(a)), as_shorts(b))); }
inline Register to_unsigned_bytes(Register a, Register b) { return vqmovun_high_s16(vqmovun_s16(as_shorts(a)), as_shorts(b)); }
inline Register add_shorts(Register a, Register b) { return bits(vqaddq_s16(as_shorts(a), as_shorts(b))); }
inline Register signs_of_bytes(Register v) { return bits(vshrq_n_s8(as_bytes(v), 7)); }
inline Register signs_of_shorts(Register v) { return bits(vshrq_n_s16(as_shorts(v), 15)); }
inline Register smallest(Register a, Register b) { return bits(vminq_s8(as_bytes(a), as_bytes(b))); }
inline Register largest(Register a, Register b) { return bits(vmaxq_s8(as_bytes(a), as_bytes(b))); }
inline Register smallest_unsigned(Register a, Register b) { return vminq_u8(a, b); }
inline Register largest_unsigned(Register a, Register b) { return vmaxq_u8(a, b); }

inline Register add_pairs(Register sum, Register a, Register b) {
    const int32x4_t low = vmull_s16(vget_low_s16(as_shorts(a)), vget_low_s16(as_shorts(b))), high = vmull_high_s16(as_shorts(a), as_shorts(b));
    return bits(vaddq_s32(as_numbers(sum), vpaddq_s32(low, high)));
}
// Sixteen entries; what they hold at x, or 0 where x is no index of theirs.
inline Register sixteen_bytes(const void* p) { return load(p); }
inline Register of_sixteen(Register entries, Register x) { return vqtbl1q_u8(entries, x); }
inline Register less_sixteen(Register x) { return vsubq_u8(x, bytes_of(16)); }
inline Register multiply_high(Register a, Register b) {
    const uint16x8_t x = vreinterpretq_u16_u8(a), y = vreinterpretq_u16_u8(b);
    const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y)), high = vmull_high_u16(x, y);
    return vreinterpretq_u8_u16(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}

inline Register brought_in_64_bits(Register x, Register m, Register s) {
    const auto half = [](int32x2_t x, int32x2_t m, int32x2_t s) {
        const int64x2_t shift = vmovl_s32(s), one = vdupq_n_s64(1), most = vdupq_n_s64(1 << 29), least = vdupq_n_s64(-(1 << 29));
        const int64x2_t rounded = vaddq_s64(vmull_s32(x, m), vshlq_s64(one, vsubq_s64(shift, one)));
        const int64x2_t y = vshlq_s64(rounded, vnegq_s64(shift));
        const int64x2_t below = vbslq_s64(vcgtq_s64(y, most), most, y);
        return vmovn_s64(vbslq_s64(vcgtq_s64(least, below), least, below));
    };
    const int32x4_t a = as_numbers(x), b = as_numbers(m), c = as_numbers(s);
    return bits(vcombine_s32(half(vget_low_s32(a), vget_low_s32(b), vget_low_s32(c)), half(vget_high_s32(a), vget_high_s32(b), vget_high_s32(c))));
}

inline void to_quarters(Register (&)[4]) {}
inline void from_quarters(Register (&)[4]) {}
inline Register in_order(Register v) { return v; }
inline Register out_of_order(Register v) { return v; }

// An index of 16 and more takes nothing.
#define PERMUTING
inline bool permutes() { return true; }
struct Permutation {
    std::uint8_t from[16];

    Permutation() { std::memset(from, 0xff, sizeof(from)); }
    void take(int source, int target) { from[target] = static_cast<std::uint8_t>(source); }
    Register apply(Register v, Register packed) const { return vorrq_u8(packed, vqtbl1q_u8(v, vld1q_u8(from))); }
};
