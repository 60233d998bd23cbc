// What every kernel is written in. nvcc compiles the kernels for the card; a C++ compiler compiles the same files for the
// host (host.hpp), where tests compare them with the CPU's operations.
//
// A kernel is a struct of 8-byte fields (pointers, int64_t, double), which are its arguments in that order, with a call
// operator that does one thread's work. All kernels run in blocks of THREADS.
#pragma once

#ifdef __CUDACC__

#include <cstdint>
#include <cuda_bf16.h>

#define DEVICE __device__ __forceinline__
#define SHARED(type, name, count) __shared__ type name[count]

using bf16 = __nv_bfloat16;

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int64_t block_x() { return blockIdx.x; }
DEVICE int64_t block_y() { return blockIdx.y; }
DEVICE int64_t block_z() { return blockIdx.z; }
DEVICE void barrier() { __syncthreads(); }
DEVICE float widen(bf16 x) { return __bfloat162float(x); }
DEVICE bf16 narrow_to(float x, bf16) { return __float2bfloat16_rn(x); }

#define INSTANCE(name, Kernel, T, suffix)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) name##_##suffix(const Kernel<T> kernel) { kernel(); }
#define BARRIER_INSTANCE INSTANCE

#else
#include "host.hpp"
#endif

/// Threads of every block.
constexpr int THREADS = 256;

DEVICE float widen(float x) { return x; }
DEVICE double widen(double x) { return x; }
DEVICE float narrow_to(float x, float) { return x; }
DEVICE double narrow_to(double x, double) { return x; }

/// What sums and intermediate results of a type are kept in.
template <class T> struct Wide { using type = float; };
template <> struct Wide<double> { using type = double; };
template <class T> using wide = typename Wide<T>::type;

template <class T> DEVICE void store(T *to, wide<T> x) { *to = narrow_to(x, T()); }

/// This thread's number in a grid of one dimension.
DEVICE int64_t global_index() { return block_x() * THREADS + thread_index(); }

/// Where the value of a number lies in images [images, height, width, channels].
struct Place {
    int64_t channel, column, row, image;

    DEVICE Place(int64_t i, int64_t height, int64_t width, int64_t channels)
        : channel(i % channels), column(i / channels % width), row(i / (channels * width) % height),
          image(i / (channels * width * height)) {}
};

/// Declares a kernel without barriers for all types; `..._f32`, `..._f64` and `..._bf16`.
#define KERNEL(name, Kernel)                                                                                           \
    INSTANCE(name, Kernel, float, f32) INSTANCE(name, Kernel, double, f64) INSTANCE(name, Kernel, bf16, bf16)
/// The same for a kernel with barriers, which every thread of a block reaches.
#define BARRIER_KERNEL(name, Kernel)                                                                                   \
    BARRIER_INSTANCE(name, Kernel, float, f32)                                                                         \
    BARRIER_INSTANCE(name, Kernel, double, f64)                                                                        \
    BARRIER_INSTANCE(name, Kernel, bf16, bf16)

/// The sum over all threads of a block, for every thread, in an order that never changes. `room` is for THREADS values.
template <class W> DEVICE W block_sum(W value, W *room) {
    const int t = thread_index();
    barrier(); // the room may still be read from an earlier sum
    room[t] = value;
    barrier();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half) room[t] += room[t + half];
        barrier();
    }
    return room[0];
}
