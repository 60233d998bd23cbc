// Kernels that move rows of channels, or add to them. Rows are contiguous; `columns` is their length.
#include "device.cuh"

namespace {

/// x [batch, positions, columns] plus row [batch, columns].
template <class T> struct AddRows {
    const T *x;
    const T *row;
    T *y;
    int64_t count, positions, columns;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count) return;
        const int64_t image = i / (positions * columns);
        store(y + i, widen(x[i]) + widen(row[image * columns + i % columns]));
    }
};

/// Every row of y [rows, columns] is `row`.
template <class T> struct FillRows {
    const T *row;
    T *y;
    int64_t rows, columns;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i < rows * columns) y[i] = row[i % columns];
    }
};

/// `width` columns of x [rows, from_columns] from `from` into those of y [rows, to_columns] from `to`.
template <class T> struct CopyColumns {
    const T *x;
    T *y;
    int64_t rows, width, from_columns, from, to_columns, to;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= rows * width) return;
        const int64_t row = i / width, c = i % width;
        y[row * to_columns + to + c] = x[row * from_columns + from + c];
    }
};

/// x [batch, rows, columns] to y [batch, columns, rows], in tiles that are read and written along their rows.
/// Grid: tiles of a matrix, matrices.
template <class T> struct Transpose {
    const T *x;
    T *y;
    int64_t rows, columns;

    static constexpr int SIDE = 32;

    DEVICE void operator()() const {
        SHARED(T, tile, SIDE * (SIDE + 1)); // one column more: else a column would lie in one memory bank
        const int lane = thread_index() % SIDE, line = thread_index() / SIDE;
        const int64_t across = (columns + SIDE - 1) / SIDE;
        const int64_t first_column = block_x() % across * SIDE, first_row = block_x() / across * SIDE;
        const int64_t matrix = block_y() * rows * columns;
        for (int r = line; r < SIDE; r += THREADS / SIDE) {
            const int64_t row = first_row + r, column = first_column + lane;
            if (row < rows && column < columns) tile[r * (SIDE + 1) + lane] = x[matrix + row * columns + column];
        }
        barrier();
        for (int c = line; c < SIDE; c += THREADS / SIDE) {
            const int64_t row = first_row + lane, column = first_column + c;
            if (row < rows && column < columns) y[matrix + column * rows + row] = tile[lane * (SIDE + 1) + c];
        }
    }
};

/// Nearest neighbour: pixel i of the larger image reads pixel floor(i * from / to).
template <class T> struct Upsample {
    const T *x;
    T *y;
    int64_t count, h, w, to_h, to_w, columns;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count) return;
        const Place at(i, to_h, to_w, columns);
        y[i] = x[((at.image * h + at.row * h / to_h) * w + at.column * w / to_w) * columns + at.channel];
    }
};

DEVICE int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The gradient of Upsample by x: each pixel adds up those that read it, in order.
template <class T> struct UpsampleBackward {
    const T *grad;
    T *dx;
    int64_t count, h, w, to_h, to_w, columns;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= count) return;
        const Place at(i, h, w, columns);
        // Those that read pixel p: o with p * to <= o * from < (p + 1) * to.
        const int64_t top = ceiling(at.row * to_h, h), bottom = ceiling((at.row + 1) * to_h, h);
        const int64_t left = ceiling(at.column * to_w, w), right = ceiling((at.column + 1) * to_w, w);
        wide<T> sum = 0;
        for (int64_t y = top; y < bottom; y += 1)
            for (int64_t x = left; x < right; x += 1)
                sum += widen(grad[((at.image * to_h + y) * to_w + x) * columns + at.channel]);
        store(dx + i, sum);
    }
};

/// Rows `ids` of a table.
template <class T> struct GatherRows {
    const T *table;
    const uint32_t *ids;
    T *y;
    int64_t rows, columns;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= rows * columns) return;
        y[i] = table[int64_t(ids[i / columns]) * columns + i % columns];
    }
};

/// The gradient of GatherRows by the table, which is zero at first: one thread per column, in the order of the ids.
template <class T> struct ScatterRows {
    const T *grad;
    const uint32_t *ids;
    T *table;
    int64_t rows, columns;

    DEVICE void operator()() const {
        const int64_t c = global_index();
        if (c >= columns) return;
        for (int64_t row = 0; row < rows; row += 1) {
            T *to = table + int64_t(ids[row]) * columns + c;
            store(to, widen(*to) + widen(grad[row * columns + c]));
        }
    }
};

} // namespace

KERNEL(add_rows, AddRows)
KERNEL(fill_rows, FillRows)
KERNEL(copy_columns, CopyColumns)
BARRIER_KERNEL(transpose, Transpose)
KERNEL(upsample, Upsample)
KERNEL(upsample_backward, UpsampleBackward)
KERNEL(gather_rows, GatherRows)
KERNEL(scatter_rows, ScatterRows)
