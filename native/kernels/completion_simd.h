// Sums that a gate completes; part of simd.h.

typedef std::uint8_t Bytes __attribute__((vector_size(lanes)));

inline Bytes take_bytes(const std::uint8_t* p, int count) {
    Bytes v{};
    __builtin_memcpy(&v, p, static_cast<std::size_t>(count));
    return v;
}
inline Bytes take_bytes(const std::uint8_t* p, Whole) {
    Bytes v;
    __builtin_memcpy(&v, p, lanes);
    return v;
}

template <bool any_open, bool any_closed, typename Activation>
inline void complete_rows(const Completion& a, int positions, Activation activate) {
    for (int p = 0; p < positions; p++)
        sweep(a.width, [&](int c, auto count) {
            const Vector sum = take(a.sums[p] + c, count);
            Vector y;
            if (any_closed) y = sum * take(a.scale + c, count) + take(a.shift + c, count);
            if (any_open) {
                const Vector whole = (sum + take(a.rest + p * a.rest_stride + c, count)) * take(a.open_scale + c, count) +
                                     take(a.open_shift + c, count);
                if (any_closed)
                    y = __builtin_convertvector(take_bytes(a.open[p] + c, count), Integers) != 0 ? whole : y;
                else
                    y = whole;
            }
            if (a.addends) y += take(a.addends[p] + c, count);
            put(a.outputs[p] + c, activate(y), count);
        });
}

void complete(const Completion& a, int positions) {
    with(a.activation, [&](auto activate) {
        if (!a.rest) return complete_rows<false, true>(a, positions, activate);
        a.open ? complete_rows<true, true>(a, positions, activate) : complete_rows<true, false>(a, positions, activate);
    });
}
