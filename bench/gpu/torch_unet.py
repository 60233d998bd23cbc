"""diffusers' UNet on torch: `python torch_unet.py ARCH SIZE MODE DTYPE RUNS [DEVICE]`; one JSON object on stdout.

Weights and inputs are those of the suite's timings (`crates/potstill-gpu-suite/src/timing.rs`): torch's CPU `randn` from the
seeds of `test/fixtures/seeded.py`, so that both predictions must agree. In bf16, weights that are not
trained are bf16; those that are trained stay f32 under autocast. TF32 is off, as it is in the suite.
"""

import json
import math
import sys
import time
from pathlib import Path

import diffusers
import torch
from diffusers import UNet2DConditionModel

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
sys.path.append(str(FIXTURES))
from seeded import names_in_order, randn  # noqa: E402

TOKENS, LATENT, TIMESTEP, WARM_UP, RANK, PROBES = 77, 8, 500, 2, 16, 256
CONFIGS = {
    "sd15": dict(cross_attention_dim=768, attention_head_dim=8),
    "sdxl": dict(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    ),
}

arch, size, mode, dtype_name, runs = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
device = torch.device(sys.argv[6] if len(sys.argv) > 6 else "cuda")
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype_name]
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@torch.no_grad()
def seed_weights(model):
    for i, (name, p) in enumerate(names_in_order(model)):
        x = randn(i, tuple(p.shape))
        if p.dim() >= 2:
            x.mul_(1 / math.sqrt(math.prod(p.shape[1:])))
        elif "norm" in name and name.endswith(".weight"):
            x = 1 + 0.1 * x
        else:
            x.mul_(0.1)
        p.copy_(x)


def config_of(arch):
    """Of full size, or that of a fixture: `tiny-sd15`."""
    if arch in CONFIGS:
        return CONFIGS[arch]
    stored = json.loads((FIXTURES / f"unet_{arch.removeprefix('tiny-')}_tiny" / "config.json").read_text())
    return {key: value for key, value in stored.items() if not key.startswith("_") and key != "sample_size"}


def synchronize():
    if device.type == "cuda":
        torch.cuda.synchronize(device)


unet = UNet2DConditionModel(sample_size=size // LATENT, **config_of(arch))
seed_weights(unet)
full = mode == "full"
unet.requires_grad_(full)
unet.to(device, torch.float32 if full else dtype)
if mode == "lora":
    from peft import LoraConfig

    attention = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=attention))
unet.train(mode != "forward")

given = torch.float32 if full else dtype
latents = (1, 4, size // LATENT, size // LATENT)
on = lambda seed, shape: randn(seed, shape).to(device, given)
sample, text, gradient = on(1, latents), on(2, (1, TOKENS, unet.config.cross_attention_dim)), on(4, latents)
added = None
if unet.config.addition_embed_type == "text_time":
    ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=given, device=device)
    pooled = unet.config.projection_class_embeddings_input_dim - ids.shape[1] * unet.config.addition_time_embed_dim
    added = {"text_embeds": on(3, (1, pooled)), "time_ids": ids}
timestep = torch.tensor(TIMESTEP, device=device)
trained = [p for p in unet.parameters() if p.requires_grad]


def run():
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32 and mode != "forward"):
        if mode == "forward":
            with torch.inference_mode():
                return unet(sample, timestep, text, added_cond_kwargs=added).sample
        prediction = unet(sample, timestep, text, added_cond_kwargs=added).sample
    for p in trained:
        p.grad = None
    prediction.backward(gradient.to(prediction.dtype))
    return prediction.detach()


seconds, rms, probes = [], None, []
for i in range(WARM_UP + runs):
    synchronize()
    begun = time.perf_counter()
    prediction = run()
    synchronize()
    if i >= WARM_UP:
        seconds.append(time.perf_counter() - begun)
    if i == 0:
        values = prediction.double().flatten().cpu()
        rms = values.square().mean().sqrt().item()
        probes = [values[i * (len(values) - 1) // (PROBES - 1)].item() for i in range(PROBES)]
print(
    json.dumps(
        {
            "name": f"{arch} {size} {mode}",
            "dtype": dtype_name,
            "seconds": seconds,
            "rms": rms,
            "probes": probes,
            "allocatedBytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
            "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        }
    )
)
