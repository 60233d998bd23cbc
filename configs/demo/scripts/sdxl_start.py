"""Makes what the SDXL-shaped model's training starts from out of the SD1.5-shaped base: its UNet and its first text encoder.

The UNet has SDXL's three levels, the first without attention, and more than one transformer block at the lowest. What the base
has at the same place is taken over; what it lacks begins as nothing (the last layer of each residual branch is zero) and is
learned. SDXL reads the second-last states of its encoders without the final norm, so the first encoder is the base's with a last
layer that nothing reads, and the base's norm is put into the weights of cross-attention, as far as it is linear.

    python sdxl_start.py --base ../base --out ../../../runs/demo-sdxl-start
"""

import argparse
import json
import re
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SEED = 3
WIDTH = 64  # of every level, and of each text encoder
UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=16, block_out_channels=[WIDTH] * 3,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    transformer_layers_per_block=[1, 1, 2], attention_head_dim=4, use_linear_projection=True, cross_attention_dim=2 * WIDTH,
    addition_embed_type="text_time", addition_time_embed_dim=16, projection_class_embeddings_input_dim=WIDTH + 6 * 16)
# The base has a fourth level below: its way up begins one block later.
FROM_BASE = {f"up_blocks.{own}.": f"up_blocks.{own + 1}." for own in range(3)}
# Last layers of residual branches.
LAST = re.compile(r"(mid_block\.resnets\.\d\.conv2|mid_block\.attentions\.0\.proj_out|add_embedding\.linear_2"
                  r"|transformer_blocks\.1\.(attn[12]\.to_out\.0|ff\.net\.2))\.(weight|bias)$")


def norm_of(text, ids):
    """The final norm of a text encoder on the words of captions: its factors, its shift, and the mean deviation before it."""
    with torch.no_grad():
        out = text(ids, output_hidden_states=True)
    norm = text.get_submodule("text_model.final_layer_norm" if hasattr(text, "text_model") else "final_layer_norm")
    return norm.weight, norm.bias, out.hidden_states[-1].std(2, correction=0).mean()


def without_norm(weight, norm):
    """A matrix for normed states [out,64] as one for states without the norm, and what the norm's shift adds: [out]."""
    factors, shift, deviation = norm
    scaled = weight * factors / deviation
    return scaled - scaled.mean(1, keepdim=True), weight @ shift


@torch.no_grad()
def take_over(unet, base, norm):
    """Fills a UNet with the base's weights; the other text encoder's half of cross-attention stays random."""
    shifts = {}
    for name, own in unet.named_parameters():
        place = next((theirs + name.removeprefix(mine) for mine, theirs in FROM_BASE.items() if name.startswith(mine)), name)
        theirs = base.get(place)
        if LAST.search(name):
            own.zero_()
        elif theirs is None or name.startswith("mid_block."):
            continue
        elif re.search(r"attn2\.to_[kv]\.weight$", name):
            first, shift = without_norm(theirs, norm)
            own[:, :WIDTH] = first
            own[:, WIDTH:] *= 0.1
            shifts[name] = shift
        elif own.shape == theirs.shape:
            own.copy_(theirs)
        elif own.numel() == theirs.numel():  # proj_in and proj_out, which are convolutions there
            own.copy_(theirs.reshape(own.shape))
        else:  # the first layers after the middle: of their inputs the last 64 come from the way down in both
            *_, skipped = own.split([own.shape[-1 if own.dim() == 1 else 1] - WIDTH, WIDTH], dim=0 if own.dim() == 1 else 1)
            skipped.copy_(theirs[-WIDTH:] if own.dim() == 1 else theirs[:, -WIDTH:])
    # The shift is the same for every token: of values attention lets it through whole, of keys it changes nothing.
    for name, shift in shifts.items():
        if name.endswith("to_v.weight"):
            out = unet.get_submodule(name.replace("to_v.weight", "to_out.0"))
            out.bias += out.weight @ shift


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--base", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    torch.manual_seed(SEED)

    text = CLIPTextModel.from_pretrained(args.base / "text_encoder", torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(args.base / "tokenizer")
    images = args.base.parent / "images"
    captions = [json.loads(line)["caption"] for folder in ("nature", "people")
                for line in (images / folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    ids = tokenizer(captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    norm = norm_of(text, ids)

    config = CLIPTextConfig(**{**text.config.to_dict(), "num_hidden_layers": text.config.num_hidden_layers + 1})
    first = CLIPTextModel(config)
    missing = first.load_state_dict(text.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(".layers.4." in key for key in missing.missing_keys), missing
    first.save_pretrained(args.out / "text_encoder")

    unet = UNet2DConditionModel(**UNET)
    base = load_file(args.base / "unet/diffusion_pytorch_model.safetensors")
    take_over(unet, {name: tensor.float() for name, tensor in base.items()}, norm)
    unet.save_pretrained(args.out / "unet")
    print(f"{sum(p.numel() for p in unet.parameters()):,} parameters")


if __name__ == "__main__":
    main()
