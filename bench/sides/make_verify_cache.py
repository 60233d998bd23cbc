"""Makes caches in the files layout, as seed 002 has them, by PyTorch and safetensors: `python make_verify_cache.py FOLDER IMAGES`.

`files` has two teachers that share seeds, noise and text; `unknown` is the same with noise of a generator that no verifier makes
anew. Beside them lies `images`, files with the names of the images, of which names and seeds are made.
"""

import hashlib
import sys
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

TEACHERS = ("teacher_v8", "teacher_chaos")
BASE_SEED = 42
# With SD1.5's text a file has 317 KB.
WIDTH, HEIGHT, TOKENS, TEXT_WIDTH = 896, 888, 77, 768
SHAPE = (4, HEIGHT // 8, WIDTH // 8)

out, count = Path(sys.argv[1]), int(sys.argv[2])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torch_noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=generator(seed))


def unknown_noise(seed: int) -> torch.Tensor:
    return torch.from_numpy(numpy.random.default_rng(seed).standard_normal(SHAPE, dtype=numpy.float32))


(out / "images").mkdir(parents=True, exist_ok=True)
for image in range(count):
    image_id = f"{image:06d}"
    (out / "images" / f"{image_id}.png").touch()
    seed = int.from_bytes(hashlib.sha256(f"{image_id}|{BASE_SEED}".encode()).digest()[:4], "big")
    timestep = torch.randint(0, 1000, (1,), generator=generator(seed))
    states = torch.randn((TOKENS, TEXT_WIDTH), generator=generator(image)).half()
    # The least-squares guess of the share r2 of the noise.
    r2 = 0.35 + 0.64 * (timestep.item() / 1000) ** 0.3
    name = hashlib.sha1(f"{image_id}|{WIDTH}x{HEIGHT}|1".encode()).hexdigest()
    for variant, draw in (("files", torch_noise), ("unknown", unknown_noise)):
        noise = draw(seed)
        for index, teacher in enumerate(TEACHERS):
            folder = out / variant / teacher
            folder.mkdir(parents=True, exist_ok=True)
            error = torch.randn(SHAPE, generator=generator(2 * image + index + 10**9))
            tensors = {
                "teacher_pred": (r2 * noise + (r2 - r2 * r2) ** 0.5 * error).half(),
                "noise": noise.half(),
                "timestep": timestep,
                "seed": torch.tensor([seed], dtype=torch.int64),
                "resolution": torch.tensor([WIDTH, HEIGHT], dtype=torch.int32),
                "encoder_hidden_states": states,
            }
            save_file(tensors, folder / f"{name}_{WIDTH}x{HEIGHT}.safetensors")
