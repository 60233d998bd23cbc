"""torch's side of noise.ts: `python noise.py THREADS SHAPE`."""

import json
import sys
import time

import torch

SEED = 42
CHECKED = 1000

torch.set_num_threads(int(sys.argv[1]))
shape = [int(size) for size in sys.argv[2].split(",")]


def draw() -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


print(json.dumps({"versions": {"torch": torch.__version__}, "first": draw().flatten()[:CHECKED].tolist()}), flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    draw()
    print(time.perf_counter() - begun, flush=True)
