"""diffusers' UNet on torch: `python torch_unet.py THREADS WORKLOAD`, the workload as JSON. The protocol is `lib/peer.ts`'s.

Weights and inputs are those of `ts/bench/unet.ts`: torch's `randn` from given seeds (test/fixtures/seeded.py).
"""

import json
import math
import sys
import time
from pathlib import Path

import diffusers
import torch
from diffusers import UNet2DConditionModel
from serve import serve

sys.path.append(str(Path(__file__).parents[2] / "test" / "fixtures"))
from seeded import names_in_order, randn  # noqa: E402

TOKENS = 77
LATENT = 8
TIMESTEP = 500
# A product of matrices that is large enough for a library to be at its best.
GEMM_SIDE = 2048
GEMM_RUNS = 12

work = json.loads(sys.argv[2])
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)


@torch.no_grad()
def seed_weights(model, base):
    """As `seeded.seed_weights`, without the digest of gigabytes."""
    for i, (name, p) in enumerate(names_in_order(model)):
        x = randn(base + i, tuple(p.shape))
        if p.dim() >= 2:
            p.copy_(x.mul_(1 / math.sqrt(math.prod(p.shape[1:]))))
        elif "norm" in name and name.endswith(".weight"):
            p.copy_(1 + 0.1 * x)
        else:
            p.copy_(0.1 * x)


def gemm_peak():
    """Floating-point operations a second of the fastest of some large products."""
    a, b = torch.randn(GEMM_SIDE, GEMM_SIDE), torch.randn(GEMM_SIDE, GEMM_SIDE)
    fastest = math.inf
    for _ in range(GEMM_RUNS):
        begun = time.perf_counter()
        torch.mm(a, b)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * GEMM_SIDE**3 / fastest


unet = UNet2DConditionModel.from_config(work["config"])
seed_weights(unet, work["weightsSeed"])
full = work["mode"] == "full"
unet.train(full)
unet.requires_grad_(full)
if full and work["recompute"]:
    unet.enable_gradient_checkpointing()

batch, size, seeds = work["batch"], work["size"], work["inputSeeds"]
latents = (batch, unet.config.in_channels, size // LATENT, size // LATENT)
sample = randn(seeds["sample"], latents)
text = randn(seeds["text"], (batch, TOKENS, unet.config.cross_attention_dim))
target = randn(seeds["target"], latents)
added = None
if unet.config.addition_embed_type == "text_time":
    width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    ids = torch.tensor([[size, size, 0, 0, size, size]] * batch, dtype=torch.float32)
    added = {"text_embeds": randn(seeds["pooled"], (batch, width)), "time_ids": ids}
timestep = torch.tensor(TIMESTEP)


def predict():
    return unet(sample, timestep, text, added_cond_kwargs=added).sample


def forward():
    with torch.inference_mode():
        return predict()


def backward():
    unet.zero_grad(set_to_none=True)
    torch.nn.functional.mse_loss(predict(), target).backward()


introduction = {
    "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    "gemmFlopsPerSecond": gemm_peak(),
    "prediction": forward().flatten().tolist(),
}
if full:
    backward()
    parameters = dict(unet.named_parameters())
    introduction["gradientNorms"] = [parameters[name].grad.double().norm().item() for name in work["checked"]]
serve(introduction, backward if full else forward)
