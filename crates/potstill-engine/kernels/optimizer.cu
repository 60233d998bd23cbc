// What optimizers do to parameters and to what they keep of them, in place.
#include "device.cuh"

namespace {

/// AdamW's averages [2, count]: the first by torch's lerp, the second by mul and addcmul.
template <class T> struct AdamAverage {
    T *averages;
    const T *grad;
    int64_t count;
    double beta1, beta2;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const W g = widen(grad[i]), m = widen(averages[i]), v = widen(averages[count + i]);
        const double weight = 1. - beta1;
        store(averages + i, weight < 0.5 ? m + W(weight) * (g - m) : g - (g - m) * W(1. - weight));
        store(averages + count + i, v * W(beta2) + W(1. - beta2) * g * g);
    }
};

/// AdamW's weights, by the averages.
template <class T> struct AdamApply {
    T *weights;
    const T *averages;
    int64_t count;
    double shrink, size, root, eps;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const W m = widen(averages[i]), v = widen(averages[count + i]);
        store(weights + i, W(widen(weights[i])) * W(shrink) - W(size) * (m / (sqrt(v) / W(root) + W(eps))));
    }
};

/// Lion: weights by the sign of an average, and the average.
template <class T> struct Lion {
    T *weights;
    T *average;
    const T *grad;
    int64_t count;
    double lr, shrink, beta1, beta2;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        const W g = widen(grad[i]), m = widen(average[i]);
        const W mixed = m * W(beta1) + g * W(1. - beta1), sign = W(mixed > W(0)) - W(mixed < W(0));
        store(weights + i, W(widen(weights[i])) * W(shrink) - sign * W(lr));
        store(average + i, m * W(beta2) + g * W(1. - beta2));
    }
};

/// What Prodigy knows of its step size; it never leaves the card. As `Estimate` in src/optim/prodigy.rs.
struct Estimate {
    double d, d_max, numerator, k;
    /// d with the correction of the averages: the step size is this times the learning rate.
    double pace;
    /// 1 where the last step had a gradient at all, else 0.
    double moved;
};

/// Prodigy's averages by the estimate so far. sums [2, tiles]: of gradient times way gone, and of |s|. Grid: tiles.
template <class T> struct ProdigyAverage {
    const T *weights;
    const T *grad;
    const T *start;
    T *s;
    T *first;
    T *second;
    const Estimate *estimate;
    double *sums;
    int64_t count, tile, tiles, safeguard_warmup;
    double lr, d0, beta1, beta2, beta3;

    DEVICE void operator()() const {
        using W = wide<T>;
        SHARED(double, room, THREADS);
        const double d = estimate->d, size = safeguard_warmup ? d : estimate->pace * lr;
        const int64_t from = block_x() * tile, to = from + tile < count ? from + tile : count;
        double progress = 0, length = 0;
        for (int64_t i = from + thread_index(); i < to; i += THREADS) {
            const W g = widen(grad[i]);
            progress += double(g) * double(W(widen(start[i])) - W(widen(weights[i])));
            store(first + i, W(widen(first[i])) * W(beta1) + g * W(d * (1. - beta1)));
            store(second + i, W(widen(second[i])) * W(beta2) + g * g * W(d * d * (1. - beta2)));
            store(s + i, W(widen(s[i])) * W(beta3) + g * W(d / d0 * size));
            length += fabs(double(widen(s[i])));
        }
        progress = block_sum(progress, room);
        length = block_sum(length, room);
        if (thread_index() == 0) {
            sums[block_x()] = progress;
            sums[tiles + block_x()] = length;
        }
    }
};

/// Prodigy's next estimate from the sums over all parameters. One thread.
template <class T> struct ProdigyEstimate {
    const Estimate *before;
    const double *sums;
    Estimate *after;
    int64_t bias_correction;
    double lr, d0, d_coef, growth_rate, beta1, beta2, beta3;

    DEVICE void operator()() const {
        if (global_index() != 0) return;
        Estimate e = *before;
        e.moved = sums[1] != 0.;
        if (e.moved != 0.) {
            e.numerator = e.numerator * beta3 + e.d / d0 * (e.pace * lr) * sums[0];
            const double found = d_coef * e.numerator / sums[1];
            if (e.d == d0 && found > e.d) e.d = found;
            if (found > e.d_max) e.d_max = found;
            const double most = e.d * growth_rate;
            e.d = e.d_max < most ? e.d_max : most;
            e.k += 1.;
            const double step = e.k + 1.;
            e.pace = bias_correction ? e.d * sqrt(1. - pow(beta2, step)) / (1. - pow(beta1, step)) : e.d;
        }
        *after = e;
    }
};

/// Prodigy's weights: a step of the size before, by averages and the estimate after.
template <class T> struct ProdigyApply {
    T *weights;
    const T *first;
    const T *second;
    const Estimate *before;
    const Estimate *after;
    int64_t count;
    double lr, eps, weight_decay;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count || after->moved == 0.) return;
        const double size = before->pace * lr;
        const W update = W(widen(first[i])) / (sqrt(W(widen(second[i]))) + W(after->d * eps));
        store(weights + i, W(widen(weights[i])) * W(1. - weight_decay * size) - update * W(size));
    }
};

/// Adafactor's averages [outer, inner, length] of squares, whose sums are [outer, length, inner].
template <class T> struct AdafactorAverage {
    T *average;
    const double *sums;
    int64_t outer, length, inner;
    double scale, eps, keep;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= outer * length * inner) return;
        const int64_t at = (i / (length * inner) * inner + i % inner) * length + i / inner % length;
        store(average + at, W(widen(average[at])) * W(keep) + W(sums[i] * scale + eps) * W(1. - keep));
    }
};

/// The gradient [outer, rows, columns, inner] over the roots of averages by row and column; without rows, by element.
template <class T> struct AdafactorUpdate {
    const T *grad;
    const T *row;
    const T *column;
    const double *row_sums;
    T *update;
    int64_t outer, rows, columns, inner;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= outer * rows * columns * inner) return;
        const int64_t c = i / inner % columns, r = i / (inner * columns) % rows;
        const int64_t matrix = i / (inner * columns * rows) * inner + i % inner;
        W factor = W(1) / sqrt(W(widen(column[matrix * columns + c])));
        if (row) {
            const W mean = W(row_sums[matrix] / double(rows));
            factor *= W(1) / sqrt(W(widen(row[matrix * rows + r])) / mean);
        }
        store(update + i, factor * W(widen(grad[i])));
    }
};

/// Adafactor's weights, from the sums of squares of the update and, where the step goes by them, of the weights.
template <class T> struct AdafactorApply {
    T *weights;
    const T *update;
    const double *update_squares;
    const double *weight_squares;
    int64_t count;
    double lr, least, clip_threshold, weight_decay;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index();
        if (i >= count) return;
        double rate = lr;
        if (weight_squares) {
            const double size = sqrt(weight_squares[0] / double(count));
            rate *= size > least ? size : least;
        }
        const double clip = sqrt(update_squares[0] / double(count)) / clip_threshold;
        const W step = W(clip > 1. ? rate / clip : rate);
        store(weights + i, W(widen(weights[i])) * W(1. - weight_decay * rate) - W(widen(update[i])) * step);
    }
};

} // namespace

KERNEL(adam_average, AdamAverage)
KERNEL(adam_apply, AdamApply)
KERNEL(lion, Lion)
BARRIER_KERNEL(prodigy_average, ProdigyAverage)
INSTANCE(prodigy_estimate, ProdigyEstimate, double, f64)
KERNEL(prodigy_apply, ProdigyApply)
KERNEL(adafactor_average, AdafactorAverage)
KERNEL(adafactor_update, AdafactorUpdate)
KERNEL(adafactor_apply, AdafactorApply)
