"""diffusers' VAE on torch: `python torch_vae.py THREADS WORKLOAD`, the workload as JSON. The protocol is `lib/peer.ts`'s.

Weights and input are those of `ts/bench/vae.ts`.
"""

import json
import sys

import diffusers
import torch
from diffusers import AutoencoderKL
from serve import serve
from weights import gemm_peak, packed, randn, seed_weights

COLOURS = 3
LATENT = 8

work = json.loads(sys.argv[2])
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)

vae = AutoencoderKL.from_config(work["config"])
seed_weights(vae, work["weightsSeed"])
vae.eval().requires_grad_(False)

batch, size, factor = work["batch"], work["size"], vae.config.scaling_factor
if work["mode"] == "decode":
    given = randn(work["inputSeed"], (batch, vae.config.latent_channels, size // LATENT, size // LATENT))
else:
    given = randn(work["inputSeed"], (batch, COLOURS, size, size))


def run():
    with torch.inference_mode():
        if work["mode"] == "decode":
            return vae.decode(given / factor).sample
        return vae.encode(given).latent_dist.mode() * factor


introduction = {
    "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    "gemmFlopsPerSecond": gemm_peak(),
    "output": packed(run()),
}
serve(introduction, run)
