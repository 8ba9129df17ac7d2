// Whole rows: depthwise convolutions, windows, and what is done element by element; part of simd.h.

void depthwise(const Depthwise& a, int positions) {
    with(a.activation, [&](auto activate) { depthwise_rows(a, positions, activate); });
}

inline void maxima(const Windows& a) {
    const float* from = a.from;
    float* to = a.to;
    for (int w = 0; w < a.windows; w++, from += a.from_step, to += a.to_step)
        sweep(a.channels, [&](int c, auto count) {
            Vector result = take(from + c, count);
            Integers unordered = result != result;  // a maximum forgets what is not a number
            for (int y = 0; y < a.count_y; y++)
                for (int x = y == 0; x < a.count_x; x++) {
                    const Vector value = take(from + y * a.step_y + x * a.step_x + c, count);
                    result = largest(value, result);
                    unordered |= value != value;
                }
            put(to + c, unordered ? all(__builtin_nanf("")) : result, count);
        });
}

void windows(const Windows& a) { a.maximum ? maxima(a) : means(a); }

// -- element by element --------------------------------------------------------------------------------------------

void activate(float* to, const float* a, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) { put(to + i, activate(take(a + i, count)), count); });
    });
}
void apply(float* to, const float* a, int n, const Function& f) {
    with_function(f, [&](auto function) {
        sweep(n, [&](int i, auto count) { put(to + i, function(take(a + i, count)), count); });
    });
}
template <typename Operator>
inline void combine(float* to, const float* a, int a_step, const float* b, int b_step, int n, Operator f) {
    sweep(n, [&](int i, auto count) {
        const Vector x = a_step ? take(a + i, count) : all(*a), y = b_step ? take(b + i, count) : all(*b);
        put(to + i, f(x, y), count);
    });
}
void arithmetic(float* to, const float* a, int a_step, const float* b, int b_step, int n, Arithmetic f) {
    const auto with_operator = [&](auto g) { combine(to, a, a_step, b, b_step, n, g); };
    switch (f) {
        case Arithmetic::divide: return with_operator([](Vector x, Vector y) { return x / y; });
        case Arithmetic::maximum: return with_operator([](Vector x, Vector y) { return y != y ? y : largest(x, y); });
        case Arithmetic::minimum: return with_operator([](Vector x, Vector y) { return y != y ? y : smallest(x, y); });
    }
}
void blend(float* to, const float* const* from, const float* weights, int n) {
    sweep(n, [&](int i, auto count) {
        put(to + i, take(from[0] + i, count) * weights[0] + take(from[1] + i, count) * weights[1] +
                        (take(from[2] + i, count) * weights[2] + take(from[3] + i, count) * weights[3]), count);
    });
}
void deviations(float* to, const float* a, const float* center, int n) {
    sweep(n, [&](int i, auto count) {
        const Vector difference = take(a + i, count) - take(center + i, count);
        put(to + i, take(to + i, count) + difference * difference, count);
    });
}

inline float sum_of_lanes(const Vector (&v)[vectors_of_sum]) {
    float sum = 0;
    for (const Vector& one : v)
        for (int i = 0; i < lanes; i++) sum += one[i];
    return sum;
}
// The lanes that count, or zeros.
inline Vector only(Vector v, Whole) { return v; }
inline Vector only(Vector v, int count) {
    for (int i = count; i < lanes; i++) v[i] = 0;
    return v;
}

void normalize(float* to, const float* a, const float* scale, const float* shift, int n, float epsilon) {
    Vector sum[vectors_of_sum] = {}, squares[vectors_of_sum] = {};
    sweep_sums(n, [&](int i, int h, auto count) { sum[h] += take(a + i, count); });
    const float mean = sum_of_lanes(sum) / static_cast<float>(n);
    sweep_sums(n, [&](int i, int h, auto count) {
        const Vector difference = only(take(a + i, count) - mean, count);
        squares[h] += difference * difference;
    });
    const float factor = 1.0f / __builtin_sqrtf(sum_of_lanes(squares) / static_cast<float>(n) + epsilon);
    sweep(n, [&](int i, auto count) {
        put(to + i, (take(a + i, count) - mean) * factor * take(scale + i, count) + take(shift + i, count), count);
    });
}

// NaN if any is.
float reduce(const float* a, int n, bool maximum) {
    if (!maximum) {
        Vector sum[vectors_of_sum] = {};
        sweep_sums(n, [&](int i, int h, auto count) { sum[h] += take(a + i, count); });
        return sum_of_lanes(sum) / static_cast<float>(n);
    }
    float most = a[0];
    for (int i = 1; i < n; i++)
        if (a[i] > most || a[i] != a[i]) most = a[i];
        else if (most != most) break;
    return most;
}

void softmax(float* to, const float* a, int n) {
    const float most = reduce(a, n, true);
    Vector sum[vectors_of_sum] = {};
    sweep_sums(n, [&](int i, int h, auto count) {
        const Vector e = only(exponential(take(a + i, count) - most), count);
        sum[h] += e;
        put(to + i, e, count);
    });
    const float factor = 1.0f / sum_of_lanes(sum);
    sweep(n, [&](int i, auto count) { put(to + i, take(to + i, count) * factor, count); });
}
void prelu(float* to, const float* a, const float* slope, int n) {
    sweep(n, [&](int i, auto count) {
        const Vector x = take(a + i, count);
        put(to + i, x > Vector{} ? x : x * take(slope + i, count), count);
    });
}
void add(float* to, const float* a, const float* b, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) { put(to + i, activate(take(a + i, count) + take(b + i, count)), count); });
    });
}
void multiply(float* to, const float* a, const float* b, int n) {
    sweep(n, [&](int i, auto count) { put(to + i, take(a + i, count) * take(b + i, count), count); });
}
void affine(float* to, const float* a, const float* scale, const float* shift, int n, Activation f) {
    with(f, [&](auto activate) {
        sweep(n, [&](int i, auto count) {
            put(to + i, activate(take(a + i, count) * take(scale + i, count) + take(shift + i, count)), count);
        });
    });
}
