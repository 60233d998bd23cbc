"""Puts the demo's models together as diffusers pipeline folders, weights in f16.

    python assemble.py --vae DIR --text DIR --unet DIR --out ../base
    python assemble.py --unet DIR --out ../teacher-nature        # a teacher: UNet and schedule; the base has the rest
    python assemble.py --vae DIR --text DIR --text-2 DIR --tokenizer ../base/tokenizer --unet DIR --out ../base-sdxl

The base's tokenizer is made in place by make_tokenizer.py.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SCHEDULER = dict(
    _class_name="DDIMScheduler", num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    steps_offset=1, clip_sample=False, set_alpha_to_one=False, prediction_type="epsilon", timestep_spacing="leading",
    trained_betas=None)
COMPONENTS = dict(
    scheduler=["diffusers", "DDIMScheduler"], text_encoder=["transformers", "CLIPTextModel"],
    tokenizer=["transformers", "CLIPTokenizer"], unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"])
SECOND = dict(text_encoder_2=["transformers", "CLIPTextModelWithProjection"], tokenizer_2=["transformers", "CLIPTokenizer"])


def copy_tokenizers(source, out):
    """SDXL's two tokenizers: the second pads with `!` instead of the end."""
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(source, out / name, dirs_exist_ok=True)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = out / "tokenizer_2" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "!"}, indent=1) + "\n")


def copy_component(source, target, weights):
    """config.json as it is (without private keys that name folders), weights rounded to f16."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config.pop("_name_or_path", None)
    if "dtype" in config:
        config["dtype"] = "float16"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = load_file(source / weights)
    if "text_config" in config or config.get("model_type") == "clip_text_model":
        # As Stable Diffusion's own files have it; newer transformers leave the prefix away.
        named = lambda k: k if k.startswith("text_projection.") else "text_model." + k.removeprefix("text_model.")
        tensors = {named(k): v for k, v in tensors.items() if not k.endswith("position_ids")}
    save_file({k: v.to(torch.float16).contiguous() for k, v in tensors.items()}, target / weights, metadata={"format": "pt"})
    (target / weights).chmod(0o644)


def main():
    args = argparse.ArgumentParser()
    for name in ("vae", "text", "text-2", "tokenizer", "unet"):
        args.add_argument(f"--{name}", type=Path)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    present = dict(COMPONENTS)
    if args.vae:
        copy_component(args.vae, args.out / "vae", "diffusion_pytorch_model.safetensors")
        copy_component(args.text, args.out / "text_encoder", "model.safetensors")
    else:
        present = {k: v for k, v in present.items() if k in ("scheduler", "unet")}
    if args.text_2:
        copy_component(args.text_2, args.out / "text_encoder_2", "model.safetensors")
        copy_tokenizers(args.tokenizer, args.out)
        present |= SECOND
    if args.unet:
        copy_component(args.unet, args.out / "unet", "diffusion_pytorch_model.safetensors")
    (args.out / "scheduler").mkdir(parents=True, exist_ok=True)
    (args.out / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2) + "\n")
    own = dict(force_zeros_for_empty_prompt=False) if args.text_2 else dict(requires_safety_checker=False, safety_checker=[None, None])
    index = dict(_class_name=f"StableDiffusion{'XL' if args.text_2 else ''}Pipeline", _diffusers_version="0.42.1",
                 feature_extractor=[None, None], image_encoder=[None, None], **own, **present)
    (args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    size = sum(f.stat().st_size for f in args.out.rglob("*.safetensors"))
    print(f"{args.out}: {size:,} bytes of weights")


if __name__ == "__main__":
    main()
