// What every attention needs, however wide its heads are.
#include "device.cuh"

namespace {

/// The sum over a head's width of output times gradient, for every query: [batch, heads, queries].
template <class T> struct Dots {
    const T *output;
    const T *grad;
    wide<T> *dots;
    int64_t batch, heads, queries, width;

    DEVICE void operator()() const {
        const int64_t i = global_index();
        if (i >= batch * heads * queries) return;
        const int64_t query = i % queries, head = i / queries % heads, image = i / (queries * heads);
        const int64_t first = ((image * queries + query) * heads + head) * width;
        wide<T> sum = 0;
        for (int64_t c = first; c < first + width; c += 1) sum += widen(output[c]) * widen(grad[c]);
        dots[i] = sum;
    }
};

} // namespace

KERNEL(attention_dots, Dots)
