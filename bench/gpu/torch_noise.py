"""What torch's `randn` gives on this GPU: `python torch_noise.py OUT.json`.

The suite compares it with its emulation (`crates/potstill-noise/src/torch_cuda.rs`), by which a cache that Python built on a
GPU is recognised. Values depend on how many threads the GPU holds at once, so that number is recorded with them.
"""

import json
import sys

import torch

SEEDS = [0, 42, 2**32 + 1, 2**63 + 12_345]
# Latents of SD1.5, of SDXL, and tensors of more values than one wave of four per thread.
COUNTS = [4 * 64 * 64, 4 * 128 * 128, 3_000_001, 20_000_000]
WINDOW = 64

properties = torch.cuda.get_device_properties(0)
threads = properties.multi_processor_count * properties.max_threads_per_multi_processor


def windows(count):
    """Where to look: at the start, around the boundaries of components and waves, at the end."""
    boundaries = [threads, 2 * threads, 4 * threads, 5 * threads, 8 * threads]
    starts = [0, *(b - WINDOW // 2 for b in boundaries if b + WINDOW < count), count - WINDOW]
    return sorted(set(starts))


vectors = []
for seed in SEEDS:
    for count in COUNTS:
        generator = torch.Generator("cuda").manual_seed(seed)
        drawn = torch.randn(count, device="cuda", generator=generator)
        for first in windows(count):
            values = drawn[first : first + WINDOW].tolist()
            vectors.append({"seed": seed, "count": count, "first": first, "values": values})

with open(sys.argv[1], "w") as file:
    json.dump({"device": properties.name, "torch": torch.__version__, "threads": threads, "vectors": vectors}, file)
print(f"{len(vectors)} vectors of {properties.name}, {threads} threads")
