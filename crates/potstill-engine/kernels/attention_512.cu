// Attention whose heads are at most 512 wide.
#include "attention.cuh"

namespace {

template <class T> using Forward512 = Forward<T, WIDE_TILE, 512>;
template <class T> using BackwardQuery512 = BackwardQuery<T, WIDE_TILE, 512>;
template <class T> using BackwardKey512 = BackwardKey<T, WIDE_TILE, 512>;

} // namespace

BARRIER_KERNEL(attention_forward, Forward512)
BARRIER_KERNEL(attention_query, BackwardQuery512)
BARRIER_KERNEL(attention_key, BackwardKey512)
