// Layer normalisation of x [rows, channels].
#include "device.cuh"

namespace {

/// Grid: rows. Stats, mean and reciprocal deviation: [rows, 2].
template <class T> struct LayerForward {
    const T *x;
    const wide<T> *w;
    const wide<T> *b;
    T *y;
    wide<T> *stats;
    int64_t channels;
    double eps;

    DEVICE void operator()() const {
        using W = wide<T>;
        SHARED(W, room, THREADS);
        const T *row = x + block_x() * channels;
        W sum = 0;
        for (int64_t c = thread_index(); c < channels; c += THREADS) sum += widen(row[c]);
        const W mean = block_sum(sum, room) / W(channels);
        W squares = 0;
        for (int64_t c = thread_index(); c < channels; c += THREADS) {
            const W away = widen(row[c]) - mean;
            squares += away * away;
        }
        const W rstd = W(1) / sqrt(block_sum(squares, room) / W(channels) + W(eps));
        for (int64_t c = thread_index(); c < channels; c += THREADS)
            store(y + block_x() * channels + c, (widen(row[c]) - mean) * rstd * w[c] + b[c]);
        if (thread_index() == 0) {
            stats[2 * block_x()] = mean;
            stats[2 * block_x() + 1] = rstd;
        }
    }
};

/// The gradient by x. Grid: rows.
template <class T> struct LayerInput {
    const T *x;
    const wide<T> *w;
    const wide<T> *stats;
    const T *grad;
    T *dx;
    int64_t channels;

    DEVICE void operator()() const {
        using W = wide<T>;
        SHARED(W, room, THREADS);
        const int64_t first = block_x() * channels;
        const W mean = stats[2 * block_x()], rstd = stats[2 * block_x() + 1];
        W shift = 0, scale = 0;
        for (int64_t c = thread_index(); c < channels; c += THREADS) {
            const W g = widen(grad[first + c]) * w[c];
            shift += g;
            scale += g * (widen(x[first + c]) - mean) * rstd;
        }
        shift = block_sum(shift, room) / W(channels);
        scale = block_sum(scale, room) / W(channels);
        for (int64_t c = thread_index(); c < channels; c += THREADS) {
            const W normal = (widen(x[first + c]) - mean) * rstd;
            store(dx + first + c, rstd * (widen(grad[first + c]) * w[c] - shift - normal * scale));
        }
    }
};

/// Over tiles of `tile` rows, the sums of the gradients by shift and scale: sums [tiles, 2, channels].
template <class T> struct LayerSums {
    const T *x;
    const wide<T> *stats;
    const T *grad;
    double *sums;
    int64_t rows, channels, tile;

    DEVICE void operator()() const {
        const int64_t i = global_index(), tiles = (rows + tile - 1) / tile;
        if (i >= tiles * channels) return;
        const int64_t c = i % channels, at = i / channels;
        const int64_t first = at * tile, end = first + tile < rows ? first + tile : rows;
        double shift = 0, scale = 0;
        for (int64_t row = first; row < end; row += 1) {
            const wide<T> g = widen(grad[row * channels + c]);
            shift += g;
            scale += double(g) * ((widen(x[row * channels + c]) - stats[2 * row]) * stats[2 * row + 1]);
        }
        sums[at * 2 * channels + c] = shift;
        sums[(at * 2 + 1) * channels + c] = scale;
    }
};

} // namespace

BARRIER_KERNEL(layer_forward, LayerForward)
BARRIER_KERNEL(layer_input, LayerInput)
KERNEL(layer_sums, LayerSums)
