// The kernels' surroundings on a host: blocks run one after another, and a block's threads take turns between barriers.
//
// The order of turns can be reversed: results that depend on it betray a missing barrier. A barrier that some threads of
// a block do not reach is an error, as it is on a card.
#pragma once

#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ucontext.h>

#define DEVICE inline
// Static: the threads of a block share it, and one block runs at a time.
#define SHARED(type, name, count) static thread_local type name[count]

using std::cos;
using std::erf;
using std::exp;
using std::fabs;
using std::log;
using std::pow;
using std::sin;
using std::sqrt;

/// bfloat16, rounded to nearest, ties to even.
struct bf16 {
    uint16_t bits;
};

inline float widen(bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline bf16 narrow_to(float x, bf16) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return bf16{uint16_t((bits >> 16) | 0x40)};
    return bf16{uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

namespace host {

/// What a launch came to.
enum Outcome : int { DONE = 0, WRONG_ARGUMENTS = 1, DIVERGED = 2, BARRIER_IN_PLAIN_KERNEL = 3 };

constexpr int COUNT = 256;
constexpr size_t STACK = 128 * 1024;

/// A thread of the block that runs.
struct Thread {
    jmp_buf at;
    bool alive;
    bool waiting;
    std::unique_ptr<char[]> stack;
};

struct Block {
    int thread;
    int64_t x, y, z;
    bool barriers;
    bool misused;
    jmp_buf scheduler;
    const void *kernel;
    void (*run)(const void *);
    Thread threads[COUNT];
};

inline Block &block() {
    static thread_local Block block;
    return block;
}

/// Leaves one place of execution for another, until somebody comes back to it.
[[gnu::noinline]] inline void swap(jmp_buf &from, jmp_buf &to) {
    if (_setjmp(from) == 0) _longjmp(to, 1);
}

/// The same for a thread that has not begun.
[[gnu::noinline]] inline void begin(jmp_buf &from, const ucontext_t *to) {
    if (_setjmp(from) == 0) setcontext(to);
}

/// Lets the others have their turn.
inline void wait() {
    Block &b = block();
    if (!b.barriers) {
        b.misused = true;
        return;
    }
    Thread &self = b.threads[b.thread];
    self.waiting = true;
    swap(self.at, b.scheduler);
}

/// The body of every thread of a kernel with barriers; begins anew for each block.
inline void thread_main() {
    Block &b = block();
    Thread &self = b.threads[b.thread];
    swap(self.at, b.scheduler);
    for (;;) {
        b.run(b.kernel);
        self.alive = false;
        swap(self.at, b.scheduler);
    }
}

/// Gives every thread a stack, once.
inline void make_threads() {
    Block &b = block();
    if (b.threads[0].stack) return;
    for (b.thread = 0; b.thread < COUNT; b.thread += 1) {
        Thread &thread = b.threads[b.thread];
        thread.stack.reset(new char[STACK]);
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = thread.stack.get();
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, thread_main, 0);
        begin(b.scheduler, &context);
    }
}

/// Runs one block whose threads meet at barriers.
inline Outcome run_with_barriers(bool reversed) {
    Block &b = block();
    for (Thread &thread : b.threads) thread.alive = true;
    for (;;) {
        int waiting = 0, alive = 0;
        for (int turn = 0; turn < COUNT; turn += 1) {
            b.thread = reversed ? COUNT - 1 - turn : turn;
            if (!b.threads[b.thread].alive) continue;
            b.threads[b.thread].waiting = false;
            swap(b.scheduler, b.threads[b.thread].at);
        }
        for (const Thread &thread : b.threads) {
            alive += thread.alive;
            waiting += thread.alive && thread.waiting;
        }
        if (alive == 0) return DONE;
        if (waiting != COUNT) return DIVERGED;
    }
}

template <class Kernel> void run(const void *kernel) { (*static_cast<const Kernel *>(kernel))(); }

template <class Kernel>
int launch(bool barriers, const void *arguments, size_t bytes, const uint32_t *grid, int reversed) {
    if (bytes != sizeof(Kernel)) return WRONG_ARGUMENTS;
    Kernel kernel;
    std::memcpy(&kernel, arguments, bytes);
    if (barriers) make_threads();
    Block &b = block();
    b.barriers = barriers;
    b.misused = false;
    b.kernel = &kernel;
    b.run = run<Kernel>;
    for (b.z = 0; b.z < grid[2]; b.z += 1)
        for (b.y = 0; b.y < grid[1]; b.y += 1)
            for (b.x = 0; b.x < grid[0]; b.x += 1) {
                if (barriers) {
                    if (run_with_barriers(reversed) != DONE) {
                        b.threads[0].stack.reset(); // the next launch makes new threads
                        return DIVERGED;
                    }
                } else {
                    for (int turn = 0; turn < COUNT; turn += 1) {
                        b.thread = reversed ? COUNT - 1 - turn : turn;
                        kernel();
                    }
                }
            }
    return b.misused ? BARRIER_IN_PLAIN_KERNEL : DONE;
}

} // namespace host

inline int thread_index() { return host::block().thread; }
inline int64_t block_x() { return host::block().x; }
inline int64_t block_y() { return host::block().y; }
inline int64_t block_z() { return host::block().z; }
inline void barrier() { host::wait(); }

#define HOST_INSTANCE(name, Kernel, T, suffix, barriers)                                                               \
    extern "C" int name##_##suffix(const void *arguments, size_t bytes, const uint32_t *grid, int reversed) {          \
        return host::launch<Kernel<T>>(barriers, arguments, bytes, grid, reversed);                                    \
    }
#define INSTANCE(name, Kernel, T, suffix) HOST_INSTANCE(name, Kernel, T, suffix, false)
#define BARRIER_INSTANCE(name, Kernel, T, suffix) HOST_INSTANCE(name, Kernel, T, suffix, true)
