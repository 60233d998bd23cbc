// Scaled dot-product attention, forward and backward, tile by tile: scores live in shared memory and are never written.
//
// q [batch, queries, heads * width], k and v [batch, keys, heads * width]. A block has 16 x 16 threads; thread (y, x) has
// the rows y * R ... of a tile and every 16th column from x on. After Dao, "FlashAttention-2", 2023, without its use of
// tensor cores. The kernels of each width of heads are a file of their own, for drivers compile files whole.
#pragma once
#include "device.cuh"

namespace {

constexpr int SIDE = 16;
/// Depth of the slices in which rows of q, k and v are multiplied.
constexpr int SLICE = 16;
/// Columns of the slices in which results are summed up.
constexpr int BAND = 64;

/// Rows of a tile: a head's part of tokens from `first` on, of `count` tokens in all.
template <class T> struct Rows {
    const T *data;
    int64_t stride, width, first, count;

    DEVICE wide<T> at(int64_t row, int64_t column) const {
        return first + row < count && column < width ? widen(data[(first + row) * stride + column]) : wide<T>(0);
    }
};

/// The sizes of an attention.
struct Sizes {
    int64_t heads, queries, keys, width, causal;
    double scale;

    DEVICE int64_t stride() const { return heads * width; }
    DEVICE int64_t head() const { return block_y() * width; }
    DEVICE int64_t query_rows() const { return block_z() * queries * stride() + head(); }
    DEVICE int64_t key_rows() const { return block_z() * keys * stride() + head(); }
    /// Where the statistics of this head's queries begin.
    DEVICE int64_t statistics() const { return (block_z() * heads + block_y()) * queries; }
    /// A tile of this head's queries (or of what is like them) from `first` on.
    template <class T> DEVICE Rows<T> tile_of_queries(const T *data, int64_t first) const {
        return Rows<T>{data + query_rows(), stride(), width, first, queries};
    }
    /// The same of keys and values.
    template <class T> DEVICE Rows<T> tile_of_keys(const T *data, int64_t first) const {
        return Rows<T>{data + key_rows(), stride(), width, first, keys};
    }
    DEVICE bool sees(int64_t query, int64_t key) const { return query < queries && key < keys && (!causal || key <= query); }
};

/// What a block shares: a tile of scores (or of their gradients), and slices of rows.
template <class W, int TILE> struct Shared {
    W tile[TILE * (TILE + 1)];
    W slices[TILE * (BAND + 1)];
    static_assert(BAND + 1 >= 2 * (SLICE + 1), "two slices fit");
};

template <int R, class W, int COLUMNS> DEVICE void clear(W (&sums)[R][COLUMNS]) {
    for (int i = 0; i < R; i += 1)
        for (int j = 0; j < COLUMNS; j += 1) sums[i][j] = 0;
}

/// products[i][j] = a's row y * R + i times b's row x + 16 j.
template <class T, int TILE, int R>
DEVICE void multiply(const Rows<T> &a, const Rows<T> &b, wide<T> *slices, wide<T> (&products)[R][R]) {
    const int x = thread_index() % SIDE, y = thread_index() / SIDE;
    wide<T> *left = slices, *right = slices + TILE * (SLICE + 1);
    clear(products);
    for (int64_t from = 0; from < a.width; from += SLICE) {
        barrier();
        for (int e = thread_index(); e < TILE * SLICE; e += THREADS) {
            const int row = e / SLICE, column = e % SLICE;
            left[row * (SLICE + 1) + column] = a.at(row, from + column);
            right[row * (SLICE + 1) + column] = b.at(row, from + column);
        }
        barrier();
        for (int c = 0; c < SLICE; c += 1)
            for (int i = 0; i < R; i += 1)
                for (int j = 0; j < R; j += 1)
                    products[i][j] += left[(y * R + i) * (SLICE + 1) + c] * right[(x + SIDE * j) * (SLICE + 1) + c];
    }
}

/// Where a score lies in a tile, whose rows are one longer: else a column would lie in one memory bank.
template <int TILE> DEVICE int place(int row, int column) { return row * (TILE + 1) + column; }

/// sums[i][x + 16 j] += the tile's row y * R + i times the rows; with TURNED its column instead of its row.
template <class T, int TILE, int R, int DEPTH, bool TURNED>
DEVICE void accumulate(const wide<T> *tile, const Rows<T> &rows, wide<T> *slices, wide<T> (&sums)[R][DEPTH / SIDE]) {
    const int x = thread_index() % SIDE, y = thread_index() / SIDE;
    constexpr int PER_BAND = BAND / SIDE;
#pragma unroll
    for (int band = 0; band < DEPTH / BAND; band += 1) {
        if (band * BAND >= rows.width) break;
        barrier();
        for (int e = thread_index(); e < TILE * BAND; e += THREADS)
            slices[e / BAND * (BAND + 1) + e % BAND] = rows.at(e / BAND, band * BAND + e % BAND);
        barrier();
        for (int row = 0; row < TILE; row += 1)
            for (int i = 0; i < R; i += 1) {
                const wide<T> factor = TURNED ? tile[place<TILE>(row, y * R + i)] : tile[place<TILE>(y * R + i, row)];
                for (int j = 0; j < PER_BAND; j += 1)
                    sums[i][band * PER_BAND + j] += factor * slices[row * (BAND + 1) + x + SIDE * j];
            }
    }
}

/// Calls f(i, j, row, column) for this thread's part of a tile of scores.
template <int R, class F> DEVICE void each(F f) {
    const int x = thread_index() % SIDE, y = thread_index() / SIDE;
    for (int i = 0; i < R; i += 1)
        for (int j = 0; j < R; j += 1) f(i, j, y * R + i, x + SIDE * j);
}

/// Writes a tile of results, times a factor per row.
template <class T, int R, int DEPTH, class Factor>
DEVICE void write(T *to, int64_t stride, int64_t width, int64_t first, int64_t count, const wide<T> (&sums)[R][DEPTH / SIDE],
                  Factor factor) {
    const int x = thread_index() % SIDE, y = thread_index() / SIDE;
#pragma unroll
    for (int i = 0; i < R; i += 1) {
        const int64_t row = first + y * R + i;
#pragma unroll
        for (int j = 0; j < DEPTH / SIDE; j += 1) {
            const int64_t column = x + SIDE * j;
            if (row < count && column < width) store(to + row * stride + column, sums[i][j] * factor(y * R + i));
        }
    }
}

/// y = softmax(scale q k^T) v, and the logarithms of the sums of exponentials. Grid: tiles of queries, heads, batch.
template <class T, int TILE, int DEPTH> struct Forward {
    const T *q;
    const T *k;
    const T *v;
    T *y;
    wide<T> *log_sums; // [batch, heads, queries]
    Sizes sizes;

    using W = wide<T>;
    static constexpr int R = TILE / SIDE;

    DEVICE void operator()() const {
        using Room = Shared<W, TILE>;
        SHARED(Room, room, 1);
        SHARED(W, greatest, TILE);
        SHARED(W, total, TILE);
        SHARED(W, shrink, TILE);
        const int t = thread_index(), line = t / SIDE;
        const int64_t first = block_x() * TILE;
        const Rows<T> queries = sizes.tile_of_queries(q, first);
        W sums[R][DEPTH / SIDE];
        clear(sums);
        if (t < TILE) {
            greatest[t] = -INFINITY;
            total[t] = 0;
        }
        const int64_t seen = sizes.causal && first + TILE < sizes.keys ? first + TILE : sizes.keys;
        for (int64_t key = 0; key < seen; key += TILE) {
            W scores[R][R];
            multiply<T, TILE, R>(queries, sizes.tile_of_keys(k, key), room->slices, scores);
            each<R>([&](int i, int j, int row, int column) {
                const bool sees = sizes.sees(first + row, key + column);
                room->tile[place<TILE>(row, column)] = sees ? scores[i][j] * W(sizes.scale) : W(-INFINITY);
            });
            barrier();
            if (t < TILE) {
                W *row = room->tile + t * (TILE + 1);
                W most = greatest[t];
                for (int j = 0; j < TILE; j += 1) most = row[j] > most ? row[j] : most;
                // A row that sees nothing so far has no exponentials.
                const W about = most == W(-INFINITY) ? W(0) : most;
                W sum = 0;
                for (int j = 0; j < TILE; j += 1) {
                    row[j] = exp(row[j] - about);
                    sum += row[j];
                }
                shrink[t] = exp(greatest[t] - about);
                total[t] = total[t] * shrink[t] + sum;
                greatest[t] = most;
            }
            barrier();
            for (int i = 0; i < R; i += 1)
                for (int j = 0; j < DEPTH / SIDE; j += 1) sums[i][j] *= shrink[line * R + i];
            accumulate<T, TILE, R, DEPTH, false>(room->tile, sizes.tile_of_keys(v, key), room->slices, sums);
        }
        barrier();
        if (t < TILE && first + t < sizes.queries)
            log_sums[sizes.statistics() + first + t] = greatest[t] + log(total[t]);
        write<T, R, DEPTH>(y + sizes.query_rows(), sizes.stride(), sizes.width, first, sizes.queries, sums,
                           [&](int row) { return W(1) / total[row]; });
    }
};

/// What the backward kernels read.
template <class T> struct Given {
    const T *q;
    const T *k;
    const T *v;
    const T *grad;
    const wide<T> *log_sums;
    const wide<T> *dots;
    Sizes sizes;

    using W = wide<T>;

    DEVICE W probability(W product, int64_t query, int64_t key) const {
        if (!sizes.sees(query, key)) return W(0);
        return exp(product * W(sizes.scale) - log_sums[sizes.statistics() + query]);
    }
    /// The gradient by a product of query and key.
    DEVICE W slope(W probability, W by_probability, int64_t query) const {
        if (query >= sizes.queries) return W(0);
        return probability * (by_probability - dots[sizes.statistics() + query]) * W(sizes.scale);
    }
};

/// The gradient by q. Grid: tiles of queries, heads, batch.
template <class T, int TILE, int DEPTH> struct BackwardQuery {
    Given<T> given;
    T *dq;

    using W = wide<T>;
    static constexpr int R = TILE / SIDE;

    DEVICE void operator()() const {
        using Room = Shared<W, TILE>;
        SHARED(Room, room, 1);
        const Sizes &sizes = given.sizes;
        const int64_t first = block_x() * TILE;
        W sums[R][DEPTH / SIDE];
        clear(sums);
        const int64_t seen = sizes.causal && first + TILE < sizes.keys ? first + TILE : sizes.keys;
        for (int64_t key = 0; key < seen; key += TILE) {
            W products[R][R], by_probability[R][R];
            multiply<T, TILE, R>(sizes.tile_of_queries(given.q, first), sizes.tile_of_keys(given.k, key), room->slices, products);
            multiply<T, TILE, R>(sizes.tile_of_queries(given.grad, first), sizes.tile_of_keys(given.v, key), room->slices, by_probability);
            each<R>([&](int i, int j, int row, int column) {
                const W probability = given.probability(products[i][j], first + row, key + column);
                room->tile[place<TILE>(row, column)] = given.slope(probability, by_probability[i][j], first + row);
            });
            accumulate<T, TILE, R, DEPTH, false>(room->tile, sizes.tile_of_keys(given.k, key), room->slices, sums);
        }
        write<T, R, DEPTH>(dq + sizes.query_rows(), sizes.stride(), sizes.width, first, sizes.queries, sums,
                           [](int) { return W(1); });
    }
};

/// The gradients by k and v. Grid: tiles of keys, heads, batch.
template <class T, int TILE, int DEPTH> struct BackwardKey {
    Given<T> given;
    T *dk;
    T *dv;

    using W = wide<T>;
    static constexpr int R = TILE / SIDE;

    DEVICE void operator()() const {
        using Room = Shared<W, TILE>;
        SHARED(Room, room, 1);
        const Sizes &sizes = given.sizes;
        const int64_t first = block_x() * TILE;
        W by_key[R][DEPTH / SIDE], by_value[R][DEPTH / SIDE];
        clear(by_key);
        clear(by_value);
        // Queries before the tile's first key see none of it.
        for (int64_t query = sizes.causal ? first : 0; query < sizes.queries; query += TILE) {
            W products[R][R], by_probability[R][R];
            multiply<T, TILE, R>(sizes.tile_of_queries(given.q, query), sizes.tile_of_keys(given.k, first), room->slices, products);
            each<R>([&](int i, int j, int row, int column) {
                products[i][j] = given.probability(products[i][j], query + row, first + column);
                room->tile[place<TILE>(row, column)] = products[i][j];
            });
            accumulate<T, TILE, R, DEPTH, true>(room->tile, sizes.tile_of_queries(given.grad, query), room->slices, by_value);
            multiply<T, TILE, R>(sizes.tile_of_queries(given.grad, query), sizes.tile_of_keys(given.v, first), room->slices, by_probability);
            each<R>([&](int i, int j, int row, int column) {
                room->tile[place<TILE>(row, column)] =
                    given.slope(products[i][j], by_probability[i][j], query + row);
            });
            accumulate<T, TILE, R, DEPTH, true>(room->tile, sizes.tile_of_queries(given.q, query), room->slices, by_key);
        }
        const auto one = [](int) { return W(1); };
        write<T, R, DEPTH>(dk + sizes.key_rows(), sizes.stride(), sizes.width, first, sizes.keys, by_key, one);
        write<T, R, DEPTH>(dv + sizes.key_rows(), sizes.stride(), sizes.width, first, sizes.keys, by_value, one);
    }
};

/// Tiles are as large as 48 KiB of shared memory and the registers allow; as `tile` in src/cuda/attention.rs.
template <class T> constexpr int NARROW_TILE = 64;
template <> constexpr int NARROW_TILE<double> = 32;
constexpr int WIDE_TILE = 32;

} // namespace
