// Every kernel, written once over a vector type: what all of them use, then the files of each kind. An instruction set's
// file defines, before it includes this one, in an anonymous namespace (each file is compiled with its own flags, so
// nothing may be shared by name):
//   Vector        a GCC/Clang vector of floats          lanes         its length
//   load_some(p, n), store_some(p, v, n)                the first n <= lanes floats; the others read 0
//   sums(v[4], out[4])                                  horizontal sums of four vectors
//   largest(a, b), smallest(a, b)                       a where one is not a number: NaN stays NaN
//   VECTORS                                             the widest block of output channels, in vectors
// and gets the functions that fill a Kernels table.

typedef float Loose __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(lanes * sizeof(float))));

inline Vector load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Loose*>(p) = v; }
inline Vector all(float x) { return x - Vector{}; }  // not x + 0, which is not x for -0, and so would be computed

// exp(x) = 2^n * (q + 1) for |x| <= 87, r = x - n ln 2, q a polynomial for |r| <= ln(2) / 2 (Cephes' coefficients).
struct Power {
    Vector q, scale;
};
inline Power power(Vector x) {
    x = smallest(largest(x, all(-87.0f)), all(87.0f));
    const Vector scaled = x * 1.44269504f;
    const Integers n = __builtin_convertvector(scaled + (scaled > Vector{} ? all(0.5f) : all(-0.5f)), Integers);
    const Vector whole = __builtin_convertvector(n, Vector);
    const Vector r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Integers bits = (n + 127) << 23;
    return {p * r * r + r, reinterpret_cast<Vector>(bits)};
}
inline Vector exponential(Vector x) {
    const Power p = power(x);
    return (p.q + 1.0f) * p.scale;
}

template <Activation activation>
inline Vector activated(Vector x) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return largest(x, Vector{});
        case Activation::relu6: return smallest(largest(x, Vector{}), all(6));
        case Activation::hardswish: return x * smallest(largest(x + 3, Vector{}), all(6)) * (1.0f / 6);
        case Activation::silu: return x / (exponential(-x) + 1);
        case Activation::sigmoid: return 1 / (exponential(-x) + 1);
        case Activation::hardsigmoid: return smallest(largest(x + 3, Vector{}), all(6)) * (1.0f / 6);
        default: return x;
    }
}

template <Activation activation>
struct Activate {
    Vector operator()(Vector x) const { return activated<activation>(x); }
};

#include "functions.h"

// f(the activation as a type): the choice is made once per call, not once per vector.
template <typename Function>
inline void with(Activation activation, Function f) {
    switch (activation) {
        case Activation::none: return f(Activate<Activation::none>());
        case Activation::relu: return f(Activate<Activation::relu>());
        case Activation::relu6: return f(Activate<Activation::relu6>());
        case Activation::hardswish: return f(Activate<Activation::hardswish>());
        case Activation::silu: return f(Activate<Activation::silu>());
        case Activation::sigmoid: return f(Activate<Activation::sigmoid>());
        case Activation::hardsigmoid: return f(Activate<Activation::hardsigmoid>());
        default: return f(Activate<Activation::none>());
    }
}

inline void add_product(Vector& sum, Vector a, Vector b) { sum += a * b; }

#include "channels_simd.h"
#include "fetching.h"
#include "product_simd.h"
#include "columns_simd.h"
#include "dot_simd.h"
#include "completion_simd.h"
#include "rows_simd.h"
