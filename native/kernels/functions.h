// The activations that have a pass of their own, over a vector type; part of simd.h. NaN stays NaN.

// exp(x) - 1
inline Vector exponential_less_one(Vector x) {
    const Power p = power(x);
    return p.q * p.scale + (p.scale - 1.0f);
}

// log(x) for normal x > 0: exponent and mantissa, a polynomial for the mantissa (Cephes' coefficients).
inline Vector logarithm(Vector x) {
    const Integers bits = reinterpret_cast<Integers>(x);
    // A mantissa from sqrt(1/2) to sqrt(2).
    const Integers shifted = bits - 0x3f3504f3;
    const Integers n = shifted >> 23;
    const Integers mantissa = (shifted & 0x7fffff) + 0x3f3504f3;
    const Vector m = reinterpret_cast<Vector>(mantissa) - 1.0f, whole = __builtin_convertvector(n, Vector);
    Vector p = all(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const Vector square = m * m;
    return whole * 0.693359375f + (m + (p * m * square - square * 0.5f - whole * 2.12194440e-4f));
}

// log(1 + x) for x >= 0, also where 1 + x is 1 (Kahan).
inline Vector logarithm_of_one_more(Vector x) {
    const Vector sum = x + 1.0f, part = sum - 1.0f;
    return part == Vector{} ? x : logarithm(sum) * x / part;
}

// tanh(x): a polynomial for |x| < 0.625 (Cephes'), else by the exponential.
inline Vector hyperbolic_tangent(Vector x) {
    const Vector square = x * x;
    Vector p = all(-5.70498872745e-3f);
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const Vector magnitude = x < Vector{} ? -x : x;
    const Vector far = 1.0f - 2.0f / (exponential(magnitude + magnitude) + 1.0f);
    return magnitude < all(0.625f) ? p * square * x + x : (x < Vector{} ? -far : far);
}

// erfc(z) for z >= 0 with a relative error of about 1e-7 z^2 (Numerical Recipes, second edition, section 6.2).
inline Vector complementary_error(Vector z, Vector square) {
    const Vector t = 1.0f / (1.0f + 0.5f * z);
    Vector p = all(0.17087277f);
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    return t * exponential(p - square);
}

inline Vector gaussian_error_unit(Vector x) {
    const Vector magnitude = x < Vector{} ? -x : x;
    const Vector rest = complementary_error(magnitude * 0.70710678f, x * x * 0.5f);
    return 0.5f * x * (x < Vector{} ? rest : 2.0f - rest);
}

// f(the function of a vector): the choice is made once per call.
template <typename Use>
inline void with_function(const Function& f, Use use) {
    const Vector a = all(f.a), b = all(f.b), c = all(f.c);
    switch (f.kind) {
        case Activation::leaky_relu: return use([=](Vector x) { return x > Vector{} ? x : x * a; });
        case Activation::elu:
            return use([=](Vector x) { return x > Vector{} ? x * b : exponential_less_one(x * c) * a * b; });
        case Activation::gelu: return use([](Vector x) { return gaussian_error_unit(x); });
        case Activation::gelu_tanh:  // 1 + tanh(u) = 2 / (1 + exp(-2 u))
            return use([](Vector x) { return x / (exponential(-1.5957691f * (x + 0.044715f * x * x * x)) + 1.0f); });
        case Activation::mish:  // tanh(log(w)) with w = 1 + exp(x)
            return use([](Vector x) {
                const Vector e = exponential(smallest(x, all(30.0f))), w = e * (e + 2.0f);
                return x * (w / (w + 2.0f));
            });
        case Activation::tanh: return use([](Vector x) { return hyperbolic_tangent(x); });
        case Activation::softplus:
            return use([=](Vector x) {
                const Vector scaled = x * a;
                return scaled > b ? x : logarithm_of_one_more(exponential(scaled)) / a;
            });
        case Activation::clamp: return use([=](Vector x) { return smallest(largest(x, a), b); });
        case Activation::none: return use(Activate<Activation::none>());
        case Activation::relu: return use(Activate<Activation::relu>());
        case Activation::relu6: return use(Activate<Activation::relu6>());
        case Activation::hardswish: return use(Activate<Activation::hardswish>());
        case Activation::silu: return use(Activate<Activation::silu>());
        case Activation::sigmoid: return use(Activate<Activation::sigmoid>());
        case Activation::hardsigmoid: return use(Activate<Activation::hardsigmoid>());
    }
}
