// Sums in f64 and in an order that depends on the sizes alone: by tiles, then over the tiles by the same kernels.
#include "device.cuh"

namespace {

/// Sums of tiles of x [outer, length]: y [outer, tiles]. Grid: outer * tiles.
template <class T> struct SumTiles {
    const T *x;
    double *y;
    int64_t length, tile, squares;

    DEVICE void operator()() const {
        SHARED(double, room, THREADS);
        const int64_t tiles = (length + tile - 1) / tile, first = block_x() % tiles * tile;
        const int64_t end = first + tile < length ? first + tile : length;
        const T *row = x + block_x() / tiles * length;
        double sum = 0;
        for (int64_t i = first + thread_index(); i < end; i += THREADS) {
            const double v = widen(row[i]);
            sum += squares ? v * v : v;
        }
        sum = block_sum(sum, room);
        if (thread_index() == 0) y[block_x()] = sum;
    }
};

/// Sums of tiles of the middle dimension of x [outer, length, inner]: y [outer, tiles, inner].
template <class T> struct SumColumns {
    const T *x;
    double *y;
    int64_t count, length, inner, tile;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count) return;
        const int64_t tiles = (length + tile - 1) / tile;
        const int64_t c = i % inner, at = i / inner % tiles, block = i / (inner * tiles);
        const int64_t first = at * tile, end = first + tile < length ? first + tile : length;
        double sum = 0;
        for (int64_t row = first; row < end; row += 1) sum += widen(x[(block * length + row) * inner + c]);
        y[i] = sum;
    }
};

} // namespace

BARRIER_KERNEL(sum_tiles, SumTiles)
KERNEL(sum_columns, SumColumns)
