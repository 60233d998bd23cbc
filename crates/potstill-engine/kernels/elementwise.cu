// Functions of one or two elements, and updates in place.
#include "device.cuh"

namespace {

/// As `Function` in src/cuda/elementwise.rs.
enum Function : int64_t { NEG, SQUARE, SQRT, LOG, ABS, EXP, AFFINE, CLAMP, SWISH, GELU };

constexpr double SQRT_HALF = 0.70710678118654752440;
/// 1/sqrt(2 pi)
constexpr double DENSITY_PEAK = 0.39894228040143267794;

template <class W> DEVICE W sigmoid(W x) { return W(1) / (W(1) + exp(-x)); }
template <class W> DEVICE W normal_cdf(W x) { return W(0.5) * (W(1) + erf(x * W(SQRT_HALF))); }
template <class W> DEVICE W normal_density(W x) { return W(DENSITY_PEAK) * exp(W(-0.5) * x * x); }
template <class W> DEVICE W gelu_slope(W x) { return normal_cdf(x) + x * normal_density(x); }

/// A function of every element, or with `grad` its derivative times that.
template <class T> struct Unary {
    const T *x;
    const T *grad;
    T *y;
    int64_t count, function;
    double a, b;

    using W = wide<T>;

    DEVICE W value(W v) const {
        switch (function) {
        case NEG: return -v;
        case SQUARE: return v * v;
        case SQRT: return sqrt(v);
        case LOG: return log(v);
        case ABS: return fabs(v);
        case EXP: return exp(v);
        case AFFINE: return v * W(a) + W(b);
        case CLAMP: return v < W(a) ? W(a) : v > W(b) ? W(b) : v;
        case SWISH: return v * sigmoid(v * W(a));
        default: return v * normal_cdf(v);
        }
    }

    DEVICE W gradient(W v, W g) const {
        switch (function) {
        case NEG: return -g;
        case SQUARE: return (v + v) * g;
        case SQRT: return g / (sqrt(v) * W(2));
        case LOG: return g / v;
        case ABS: return v > W(0) ? g : v < W(0) ? -g : W(0);
        case EXP: return g * exp(v);
        case AFFINE: return g * W(a);
        case CLAMP: return v < W(a) || v > W(b) ? W(0) : g;
        case SWISH: {
            const W scaled = v * W(a), p = sigmoid(scaled);
            return g * p * (scaled * (W(1) - p) + W(1));
        }
        default: return g * gelu_slope(v);
        }
    }

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count) return;
        const W v = widen(x[i]);
        store(y + i, grad ? gradient(v, widen(grad[i])) : value(v));
    }
};

/// As `Pairing` in src/cuda/elementwise.rs.
enum Pairing : int64_t { ADD, SUB, MUL, DIV, DIV_SLOPE };

/// A function of every pair of elements.
template <class T> struct Binary {
    const T *a;
    const T *b;
    T *y;
    int64_t count, pairing;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const W l = widen(a[i]), r = widen(b[i]);
        switch (pairing) {
        case ADD: store(y + i, l + r); break;
        case SUB: store(y + i, l - r); break;
        case MUL: store(y + i, l * r); break;
        case DIV: store(y + i, l / r); break;
        default: store(y + i, -(l / r) / r); break; // the slope of l/r by r
        }
    }
};

/// x [rows, 2 half] = [value, gate]; y [rows, half] = value * gelu(gate).
template <class T> struct Geglu {
    const T *x;
    T *y;
    int64_t rows, half;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= rows * half) return;
        const T *row = x + i / half * 2 * half;
        const int64_t c = i % half;
        const W gate = widen(row[half + c]);
        store(y + i, W(widen(row[c])) * (gate * normal_cdf(gate)));
    }
};

/// The gradient of Geglu by x.
template <class T> struct GegluBackward {
    const T *x;
    const T *grad;
    T *dx;
    int64_t rows, half;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= rows * half) return;
        const int64_t first = i / half * 2 * half + i % half;
        const W value = widen(x[first]), gate = widen(x[first + half]), g = widen(grad[i]);
        store(dx + first, g * (gate * normal_cdf(gate)));
        store(dx + first + half, g * value * gelu_slope(gate));
    }
};

/// y [count, 2 half]: sines and cosines of every value times every frequency, the ones beside the others. Angles are rounded
/// to f32.
template <class T> struct Sinusoids {
    const T *values;
    const T *frequencies;
    T *y;
    int64_t count, half, cosines_first;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count * half) return;
        const int64_t row = i / half, c = i % half;
        const T angle = values[row] * frequencies[c];
        T *to = y + row * 2 * half + c;
        to[cosines_first ? half : 0] = T(sin(double(angle)));
        to[cosines_first ? 0 : half] = T(cos(double(angle)));
    }
};

/// As `Change` in src/cuda/update.rs.
enum Change : int64_t { ACCUMULATE, COPY, MOVE };

/// Changes every element by another in place.
template <class T> struct Update {
    T *to;
    const T *from;
    int64_t count, change;
    double fraction;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const W old = widen(to[i]), other = widen(from[i]);
        switch (change) {
        case ACCUMULATE: store(to + i, old + other); break;
        case COPY: store(to + i, other); break;
        default: store(to + i, old - W(fraction) * (old - other)); break;
        }
    }
};

/// y = x, or scaled so that a norm is at most `most`, where its square is `squares[0]`. A norm that is not finite shows.
template <class T> struct Clip {
    const T *x;
    const double *squares;
    T *y;
    int64_t count;
    double most, eps;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const double factor = most / (sqrt(squares[0]) + eps);
        const W v = widen(x[i]);
        store(y + i, factor >= 1. ? v : v * W(factor));
    }
};

} // namespace

KERNEL(unary, Unary)
KERNEL(binary, Binary)
KERNEL(geglu, Geglu)
KERNEL(geglu_backward, GegluBackward)
INSTANCE(sinusoids, Sinusoids, float, f32)
KERNEL(update, Update)
KERNEL(clip, Clip)
