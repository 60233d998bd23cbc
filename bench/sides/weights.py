"""The weights and inputs of a benchmark: those of `ts/bench`, by the rule of `test/fixtures/seeded.py`."""

import base64
import math
import sys
import time
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[2] / "test" / "fixtures"))
from seeded import names_in_order, randn  # noqa: E402

__all__ = ["gemm_peak", "packed", "randn", "seed_parameters", "seed_weights"]

# A product of matrices that is large enough for a library to be at its best.
GEMM_SIDE = 2048
GEMM_RUNS = 12


@torch.no_grad()
def seed_parameters(pairs, base):
    """As `seeded.seed_weights` for (name, parameter) in their order, without the digest of gigabytes."""
    for i, (name, p) in enumerate(pairs):
        x = randn(base + i, tuple(p.shape))
        if p.dim() >= 2:
            p.copy_(x.mul_(1 / math.sqrt(math.prod(p.shape[1:]))))
        elif "norm" in name and name.endswith(".weight"):
            p.copy_(1 + 0.1 * x)
        else:
            p.copy_(0.1 * x)


def seed_weights(model, base):
    """Fills a model."""
    seed_parameters(names_in_order(model), base)


def packed(tensor):
    """A tensor's values as base64 of little-endian f32."""
    return base64.b64encode(tensor.detach().float().contiguous().numpy().tobytes()).decode("ascii")


def gemm_peak(dtype=torch.float32):
    """Floating-point operations a second of the fastest of some large products."""
    a, b = torch.randn(GEMM_SIDE, GEMM_SIDE, dtype=dtype), torch.randn(GEMM_SIDE, GEMM_SIDE, dtype=dtype)
    fastest = math.inf
    for _ in range(GEMM_RUNS):
        begun = time.perf_counter()
        torch.mm(a, b)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * GEMM_SIDE**3 / fastest
