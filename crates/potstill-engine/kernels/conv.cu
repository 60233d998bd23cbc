// Convolutions of x [batch, h, w, channels] as matrix products: the rows that the products take.
#include "device.cuh"

namespace {

/// The window of every output pixel from `first` on: columns [rows, kernel_h, kernel_w, channels].
template <class T> struct Windows {
    const T *x;
    T *columns;
    int64_t first, rows, h, w, channels, out_h, out_w, kernel_h, kernel_w, stride, top, left;

    DEVICE void operator()() const {
        const int64_t i = global_index(), depth = kernel_h * kernel_w * channels;
        if (i >= rows * depth) return;
        const int64_t c = i % channels, tap = i % depth / channels;
        const Place at(first + i / depth, out_h, out_w, 1);
        const int64_t column = at.column * stride - left + tap % kernel_w;
        const int64_t row = at.row * stride - top + tap / kernel_w;
        const bool inside = row >= 0 && row < h && column >= 0 && column < w;
        columns[i] = inside ? x[((at.image * h + row) * w + column) * channels + c] : narrow_to(wide<T>(0), T());
    }
};

/// For every input pixel from `first` on, the output pixels whose windows it lies in, by its place there:
/// columns [rows, kernel_h, kernel_w, outputs] of grad [batch, out_h, out_w, outputs].
template <class T> struct Readers {
    const T *grad;
    T *columns;
    int64_t first, rows, h, w, outputs, out_h, out_w, kernel_h, kernel_w, stride, top, left;

    DEVICE void operator()() const {
        const int64_t i = global_index(), depth = kernel_h * kernel_w * outputs;
        if (i >= rows * depth) return;
        const int64_t c = i % outputs, tap = i % depth / outputs;
        const Place at(first + i / depth, h, w, 1);
        const int64_t across = at.column + left - tap % kernel_w, down = at.row + top - tap / kernel_w;
        const bool reads = across >= 0 && down >= 0 && across % stride == 0 && down % stride == 0 &&
                           across / stride < out_w && down / stride < out_h;
        columns[i] = reads ? grad[((at.image * out_h + down / stride) * out_w + across / stride) * outputs + c]
                           : narrow_to(wide<T>(0), T());
    }
};

} // namespace

KERNEL(windows, Windows)
KERNEL(readers, Readers)
