// The noise of potstill-noise, to the bit: what is computed here is written operation by operation as there. Compiled
// without contraction of a * b + c; where the generators fuse, fmaf says so.
#include "device.cuh"

namespace {

/// The same bits as another type.
template <class To, class From> DEVICE To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/// A polynomial in x, its highest coefficient first: every product rounded, then every sum.
template <class T> DEVICE T horner(T, T sum) { return sum; }
template <class T, class... Rest> DEVICE T horner(T x, T sum, T next, Rest... rest) {
    return horner(x, sum * x + next, rest...);
}

/// The same, each product and sum rounded once.
template <class T> DEVICE T fused_horner(T, T sum) { return sum; }
template <class T, class... Rest> DEVICE T fused_horner(T x, T sum, T next, Rest... rest) {
    return fused_horner(x, fmaf(sum, x, next), rest...);
}

/// As potstill-noise/src/elementary.rs.
DEVICE double natural_log(double x) {
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000, mantissa_mask = 0x000fffffffffffff;
    const uint64_t shifted = bits_as<uint64_t>(x) + (one - sqrt_half);
    const double exponent = double(shifted >> 52) - 1023.0;
    const double mantissa = bits_as<double>((shifted & mantissa_mask) + sqrt_half);
    const double f = mantissa - 1.0, s = f / (mantissa + 1.0), z = s * s;
    const double sum = horner(z, 0.14616585424888623, 0.15331710618210773, 0.18182889455674947, 0.22222211130259878, 0.2857142862600327, 0.39999999999899444, 0.666666666666667);
    const double tail = s * (z * sum) + exponent * bits_as<double>(0x3dea39ef35793c76);
    return exponent * bits_as<double>(0x3fe62e42fee00000) + (2.0 * s + tail);
}

/// Sine and cosine of 2 pi n / 2^32.
DEVICE void sin_cos_of_turn(uint32_t n, double &sin, double &cos) {
    const uint32_t quarter = (n + (1u << 29)) >> 30;
    const double f = double(int32_t(n - (quarter << 30))) * (1.0 / 1073741824.0), z = f * f;
    const double half_pi = 1.57079632679489661923;
    const double a = f * horner(z, 5.633933781537854e-08, -3.59864335298231e-06, 0.0001604411507421909, -0.004681754132340976, 0.07969262624604301, -0.6459640975062443, half_pi);
    const double b = 1.0 + z * horner(z, -6.329396344967424e-09, 4.710678405505227e-07, -2.5202039028029178e-05, 0.0009192602745468447, -0.020863480763340773, 0.2536695079010478, -1.2337005501361697);
    const bool odd = quarter & 1;
    sin = bits_as<double>(bits_as<uint64_t>(odd ? b : a) ^ uint64_t(quarter >> 1 & 1) << 63);
    cos = bits_as<double>(bits_as<uint64_t>(odd ? a : b) ^ uint64_t((quarter + 1) >> 1 & 1) << 63);
}

/// The normals of `stream` of a seed from block `first` on, four to a block. One thread per block.
template <class T> struct Philox {
    T *y;
    int64_t count, seed, stream, first;

    DEVICE void operator()() const {
        const int64_t at = global_index();
        if (4 * at >= count) return;
        const uint64_t block = uint64_t(first) + uint64_t(at);
        uint32_t w0 = uint32_t(block), w1 = uint32_t(block >> 32), w2 = uint32_t(stream), w3 = 0;
        uint32_t k0 = uint32_t(seed), k1 = uint32_t(uint64_t(seed) >> 32);
        for (int round = 0; round < 10; round += 1) {
            const uint64_t a = uint64_t(w0) * 0xd2511f53u, b = uint64_t(w2) * 0xcd9e8d57u;
            w0 = uint32_t(b >> 32) ^ w1 ^ k0;
            w1 = uint32_t(b);
            w2 = uint32_t(a >> 32) ^ w3 ^ k1;
            w3 = uint32_t(a);
            k0 += 0x9e3779b9u;
            k1 += 0xbb67ae85u;
        }
        pair(4 * at, w0, w1);
        pair(4 * at + 2, w2, w3);
    }

    DEVICE void pair(int64_t at, uint32_t radius_word, uint32_t angle_word) const {
        const double u = (double(radius_word) + 1.0) * (1.0 / 4294967296.0);
        const double radius = sqrt(-2.0 * natural_log(u));
        double sin, cos;
        sin_cos_of_turn(angle_word, sin, cos);
        if (at < count) y[at] = float(radius * cos);
        if (at + 1 < count) y[at + 1] = float(radius * sin);
    }
};

/// torch's uniforms in [0, 1): the Mersenne Twister of a seed. One block: a state is made from the one before.
template <class T> struct TorchUniforms {
    T *y;
    int64_t count, seed;

    static constexpr int N = 624, M = 397, LAG = N - M;

    DEVICE static uint32_t mix(uint32_t a, uint32_t b) {
        const uint32_t y = (a & 0x80000000u) | (b & 0x7fffffffu);
        return (y >> 1) ^ ((0u - (y & 1)) & 0x9908b0dfu);
    }
    DEVICE static uint32_t temper(uint32_t y) {
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        return y ^ (y >> 18);
    }

    DEVICE void operator()() const {
        SHARED(uint32_t, state, 2 * N);
        const int t = thread_index();
        if (t == 0) {
            state[0] = uint32_t(seed);
            for (int i = 1; i < N; i += 1) state[i] = (state[i - 1] ^ (state[i - 1] >> 30)) * 1812433253u + uint32_t(i);
        }
        barrier();
        uint32_t *old = state, *now = state + N;
        for (int64_t first = 0; first < count; first += N) {
            // Three parts, each from the old state and the part before.
            if (t < LAG) now[t] = old[t + M] ^ mix(old[t], old[t + 1]);
            barrier();
            if (t < LAG) now[LAG + t] = now[t] ^ mix(old[LAG + t], old[LAG + t + 1]);
            barrier();
            if (2 * LAG + t < N) {
                const uint32_t next = 2 * LAG + t + 1 < N ? old[2 * LAG + t + 1] : now[0];
                now[2 * LAG + t] = now[LAG + t] ^ mix(old[2 * LAG + t], next);
            }
            barrier();
            for (int i = t; i < N && first + i < count; i += THREADS)
                y[first + i] = float(int32_t(temper(now[i]) & 0x00ffffffu)) * (1.0f / 16777216.0f);
            uint32_t *const swap = old;
            old = now;
            now = swap;
            barrier();
        }
    }
};

/// torch's normals of the AVX2 class from uniforms: as potstill-noise/src/torch_normal.rs. Sixteen make a group, eight
/// radii and eight angles; when the count is no multiple of 16, sixteen more uniforms make the last sixteen anew.
template <class T> struct TorchNormals {
    const T *uniforms;
    T *y;
    int64_t count;

    DEVICE static float natural_log(float u) {
        const uint32_t bits = bits_as<uint32_t>(u);
        float exponent = float(int32_t(bits >> 23) - 126);
        const float mantissa = bits_as<float>((bits & 0x007fffffu) | 0x3f000000u);
        const bool small = mantissa < 0.70710678118654752440f;
        exponent -= small ? 1.0f : 0.0f;
        const float m = (mantissa - 1.0f) + (small ? mantissa : 0.0f), z = m * m;
        float y = fused_horner(m, 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f);
        y *= m;
        y = fmaf(y, z, exponent * -2.12194440e-4f);
        y = fmaf(-z, 0.5f, y);
        return fmaf(exponent, 0.693359375f, m + y);
    }

    DEVICE static void sin_cos(float angle, float &sin, float &cos) {
        const int32_t octant = (int32_t(angle * 1.27323954473516f) + 1) & ~1;
        const float y = float(octant);
        float x = fmaf(y, -0.78515625f, angle);
        x = fmaf(y, -2.4187564849853515625e-4f, x);
        x = fmaf(y, -3.77489497744594108e-8f, x);
        const float z = x * x;
        float a = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
        a = fmaf(a, z, 4.166664568298827e-2f) * z;
        a = fmaf(a, z, -(z * 0.5f)) + 1.0f;
        float b = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
        b = fmaf(b, z, -1.6666654611e-1f) * z;
        b = fmaf(b, x, x);
        const bool straight = (octant & 2) == 0;
        sin = bits_as<float>(bits_as<uint32_t>(straight ? b : a) ^ uint32_t(octant & 4) << 29);
        cos = bits_as<float>(bits_as<uint32_t>(straight ? a : b) ^ uint32_t(~(octant - 2) & 4) << 29);
    }

    DEVICE void operator()() const {
        const int64_t i = global_index(), whole = count / 16, groups = whole + (count % 16 != 0);
        if (i >= groups * 8) return;
        const int64_t group = i / 8, lane = i % 8;
        const bool anew = group == whole;
        const T *from = uniforms + (anew ? count : group * 16);
        const int64_t to = anew ? count - 16 : group * 16;
        const int64_t end = groups > whole && !anew ? count - 16 : count;
        const float radius = sqrtf(-2.0f * natural_log(1.0f - from[lane]));
        float sin, cos;
        sin_cos(6.28318530717958647692f * from[lane + 8], sin, cos);
        if (to + lane < end) y[to + lane] = radius * cos;
        if (to + lane + 8 < end) y[to + lane + 8] = radius * sin;
    }
};

} // namespace

INSTANCE(philox, Philox, float, f32)
BARRIER_INSTANCE(torch_uniforms, TorchUniforms, float, f32)
INSTANCE(torch_normals, TorchNormals, float, f32)
