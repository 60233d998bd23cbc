"""What the machine can do: `python torch_limits.py THREADS` prints one line of JSON.

`gemmFlopsPerSecond` is the rate of the fastest of some large products of matrices, `bytesPerSecond` that of the fastest of some
sums of two arrays that no cache holds, counting two reads and a write.
"""

import json
import math
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))

GEMM_SIDE = 2048
ADDED = 1 << 26
BYTES_OF_F32 = 4
RUNS = 12


def fastest(run):
    best = math.inf
    for _ in range(RUNS):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best


a, b, c = (torch.randn(GEMM_SIDE, GEMM_SIDE) for _ in range(3))
gemm = fastest(lambda: torch.mm(a, b, out=c))
x, y, z = (torch.randn(ADDED) for _ in range(3))
add = fastest(lambda: torch.add(x, y, out=z))
limits = {"gemmFlopsPerSecond": 2 * GEMM_SIDE**3 / gemm, "bytesPerSecond": 3 * ADDED * BYTES_OF_F32 / add}
print(json.dumps(limits))
