// Attention whose heads are at most 64 wide.
#include "attention.cuh"

namespace {

template <class T> using Forward64 = Forward<T, NARROW_TILE<T>, 64>;
template <class T> using BackwardQuery64 = BackwardQuery<T, NARROW_TILE<T>, 64>;
template <class T> using BackwardKey64 = BackwardKey<T, NARROW_TILE<T>, 64>;

} // namespace

BARRIER_KERNEL(attention_forward, Forward64)
BARRIER_KERNEL(attention_query, BackwardQuery64)
BARRIER_KERNEL(attention_key, BackwardKey64)
