// Attention whose heads are at most 192 wide.
#include "attention.cuh"

namespace {

template <class T> using Forward192 = Forward<T, WIDE_TILE, 192>;
template <class T> using BackwardQuery192 = BackwardQuery<T, WIDE_TILE, 192>;
template <class T> using BackwardKey192 = BackwardKey<T, WIDE_TILE, 192>;

} // namespace

BARRIER_KERNEL(attention_forward, Forward192)
BARRIER_KERNEL(attention_query, BackwardQuery192)
BARRIER_KERNEL(attention_key, BackwardKey192)
