"""torch's noise: `python torch_noise.py THREADS SHAPE SEED`. The protocol is `lib/peer.ts`'s."""

import sys

import torch
from serve import serve

CHECKED = 1000

threads, shape, seed = int(sys.argv[1]), [int(size) for size in sys.argv[2].split(",")], int(sys.argv[3])
torch.set_num_threads(threads)


def draw() -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


first = draw().flatten()[:CHECKED].tolist()
serve({"versions": {"torch": torch.__version__}, "first": first}, draw)
