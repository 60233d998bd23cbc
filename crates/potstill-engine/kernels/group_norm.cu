// Group normalisation of x [batch, positions, channels], with SiLU behind it.
#include "device.cuh"

namespace {

/// The sizes, and what all but the first kernel read.
template <class T> struct Group {
    const T *x;
    const wide<T> *w;
    const wide<T> *b;
    const wide<T> *stats; // mean and reciprocal deviation: [batch, groups, 2]
    int64_t batch, positions, channels, groups, silu;

    using W = wide<T>;

    DEVICE int64_t width() const { return channels / groups; }
    /// Where the statistics of an element begin.
    DEVICE int64_t place(int64_t image, int64_t c) const { return (image * groups + c / width()) * 2; }
    DEVICE W normalised(W v, int64_t at) const { return (v - stats[at]) * stats[at + 1]; }
    DEVICE W sigmoid(W u) const { return W(1) / (W(1) + exp(-u)); }
    /// The gradient by what goes into the activation, from that by what comes out.
    DEVICE W before_activation(W g, W normal, int64_t c) const {
        if (!silu) return g;
        const W u = normal * w[c] + b[c], p = sigmoid(u);
        return g * p * (u * (W(1) - p) + W(1));
    }
};

/// Mean and reciprocal deviation of every group. Grid: groups, batch.
template <class T> struct GroupStats {
    const T *x;
    wide<T> *stats;
    int64_t positions, channels, groups;
    double eps;

    DEVICE void operator()() const {
        SHARED(double, room, THREADS);
        const int64_t width = channels / groups, count = positions * width;
        const T *first = x + block_y() * positions * channels + block_x() * width;
        double sum = 0;
        for (int64_t i = thread_index(); i < count; i += THREADS) sum += widen(first[i / width * channels + i % width]);
        const double mean = block_sum(sum, room) / double(count);
        double squares = 0;
        for (int64_t i = thread_index(); i < count; i += THREADS) {
            const double away = double(widen(first[i / width * channels + i % width])) - mean;
            squares += away * away;
        }
        squares = block_sum(squares, room);
        if (thread_index() == 0) {
            wide<T> *to = stats + (block_y() * groups + block_x()) * 2;
            to[0] = wide<T>(mean);
            to[1] = wide<T>(1. / sqrt(squares / double(count) + eps));
        }
    }
};

template <class T> struct GroupApply {
    Group<T> group;
    T *y;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index(), image_size = group.positions * group.channels;
        if (i >= group.batch * image_size) return;
        const int64_t c = i % group.channels;
        const W u = group.normalised(widen(group.x[i]), group.place(i / image_size, c)) * group.w[c] + group.b[c];
        store(y + i, group.silu ? u * group.sigmoid(u) : u);
    }
};

/// Over tiles of `tile` positions, the sums of the gradients by the normalised values' shift and scale:
/// sums [batch, tiles, 2, channels].
template <class T> struct GroupSums {
    Group<T> group;
    const T *grad;
    double *sums;
    int64_t tile;

    DEVICE void operator()() const {
        const int64_t channels = group.channels, tiles = (group.positions + tile - 1) / tile, i = global_index();
        if (i >= group.batch * tiles * channels) return;
        const int64_t c = i % channels, at = i / channels % tiles, image = i / (channels * tiles);
        const int64_t first = at * tile, end = first + tile < group.positions ? first + tile : group.positions;
        const int64_t place = group.place(image, c);
        double shift = 0, scale = 0;
        for (int64_t position = first; position < end; position += 1) {
            const int64_t j = (image * group.positions + position) * channels + c;
            const wide<T> normal = group.normalised(widen(group.x[j]), place);
            const wide<T> g = group.before_activation(widen(grad[j]), normal, c);
            shift += g;
            scale += double(g) * normal;
        }
        sums[(i / channels * 2) * channels + c] = shift;
        sums[(i / channels * 2 + 1) * channels + c] = scale;
    }
};

/// Means over each group of the weighted gradient, and of it times the normalised value, from sums [batch, 2, channels]:
/// means [batch, groups, 2].
template <class T> struct GroupMeans {
    const wide<T> *w;
    const double *sums;
    double *means;
    int64_t batch, positions, channels, groups;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= batch * groups) return;
        const int64_t width = channels / groups, first = i % groups * width;
        const double *of = sums + i / groups * 2 * channels;
        double shift = 0, scale = 0;
        for (int64_t c = first; c < first + width; c += 1) {
            shift += w[c] * of[c];
            scale += w[c] * of[channels + c];
        }
        const double count = double(positions * width);
        means[2 * i] = shift / count;
        means[2 * i + 1] = scale / count;
    }
};

/// The gradient by x.
template <class T> struct GroupInput {
    Group<T> group;
    const T *grad;
    const double *means;
    T *dx;

    DEVICE void operator()() const {
        using W = wide<T>;
        const int64_t i = global_index(), image_size = group.positions * group.channels;
        if (i >= group.batch * image_size) return;
        const int64_t c = i % group.channels, at = group.place(i / image_size, c);
        const W normal = group.normalised(widen(group.x[i]), at);
        const W g = group.before_activation(widen(grad[i]), normal, c);
        store(dx + i, group.stats[at + 1] * (g * group.w[c] - W(means[at]) - normal * W(means[at + 1])));
    }
};

} // namespace

BARRIER_KERNEL(group_stats, GroupStats)
KERNEL(group_apply, GroupApply)
KERNEL(group_sums, GroupSums)
KERNEL(group_means, GroupMeans)
KERNEL(group_input, GroupInput)
