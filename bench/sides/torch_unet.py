"""diffusers' UNet on torch: `python torch_unet.py THREADS WORKLOAD`, the workload as JSON. The protocol is `lib/peer.ts`'s.

Weights and inputs are those of `ts/bench/unet.ts`.
"""

import json
import sys

import diffusers
import torch
from diffusers import UNet2DConditionModel
from lora import attach, norms
from serve import serve
from weights import gemm_peak, packed, randn, seed_parameters, seed_weights

TOKENS = 77
LATENT = 8
TIMESTEP = 500

work = json.loads(sys.argv[2])
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[work["dtype"]]

# Made in its dtype, as `from_pretrained(torch_dtype=…)` does: the f32 weights are never in memory together. On `meta`,
# because the weights that layers start with would be drawn for minutes and overwritten.
torch.set_default_dtype(dtype)
with torch.device("meta"):
    unet = UNet2DConditionModel.from_config(work["config"])
assert not list(unet.buffers()), "buffers would stay empty"
unet.to_empty(device="cpu")
seed_weights(unet, work["weightsSeed"])
trained = work["mode"] != "forward"
full = work["mode"] == "full"
unet.train(trained)
unet.requires_grad_(full)
if trained and work["recompute"]:
    unet.enable_gradient_checkpointing()
if work["mode"] == "lora":
    factors = attach(unet, work["lora"]["rank"])
    seed_parameters(factors, work["lora"]["seed"])
torch.set_default_dtype(torch.float32)

batch, size, seeds = work["batch"], work["size"], work["inputSeeds"]
latents = (batch, unet.config.in_channels, size // LATENT, size // LATENT)
sample = randn(seeds["sample"], latents).to(dtype)
text = randn(seeds["text"], (batch, TOKENS, unet.config.cross_attention_dim)).to(dtype)
target = randn(seeds["target"], latents)
added = None
if unet.config.addition_embed_type == "text_time":
    width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    ids = torch.tensor([[size, size, 0, 0, size, size]] * batch, dtype=torch.float32)
    added = {"text_embeds": randn(seeds["pooled"], (batch, width)).to(dtype), "time_ids": ids}
timestep = torch.tensor(TIMESTEP)


def predict():
    return unet(sample, timestep, text, added_cond_kwargs=added).sample


def forward():
    with torch.inference_mode():
        return predict()


def backward():
    unet.zero_grad(set_to_none=True)
    torch.nn.functional.mse_loss(predict().float(), target).backward()


introduction = {
    "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    "gemmFlopsPerSecond": gemm_peak(dtype),
    "prediction": packed(forward()),
}
if trained:
    backward()
    found = norms(factors) if work["mode"] == "lora" else None
    if full:
        parameters = dict(unet.named_parameters())
        found = norms([(name, parameters[name]) for name in work["checked"]])
    introduction["gradientNorms"] = found
serve(introduction, backward if trained else forward)
