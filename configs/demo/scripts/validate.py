"""Noise-prediction losses of the demo's UNets: per subject, on trained and held-out pictures, with the right captions, with
shuffled ones, and with the empty one, on fixed noise and timesteps. A model that reads its captions loses more with shuffled ones.

    python validate.py --package DIR --models .. --out ../metrics/validation.json
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import emoji
from train_text import SCHEDULE, denoising_loss, latents_of, tokenize

DRAWS, SEED, TRAINED = 8, 7, 48  # draws per picture, and how many of a subject's trained pictures are measured


def main():
    args = argparse.ArgumentParser()
    for name in ("package", "models", "out"):
        args.add_argument(f"--{name}", type=Path, required=True)
    args = args.parse_args()
    torch.set_num_threads(2)
    entries = [e for e in emoji.load_entries(args.package) if e["subject"]]
    groups = {}
    for subject in emoji.SUBJECTS:
        groups[f"{subject}, trained"] = [e for e in entries if e["subject"] == subject and not e["held_out"]][::4][:TRAINED]
        groups[f"{subject}, held out"] = [e for e in entries if e["subject"] == subject and e["held_out"]]
    base = args.models / "base"
    f32 = dict(torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(base / "vae", **f32)
    text = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
    report = {}
    with torch.no_grad():
        empty = text(tokenize(tokenizer, [""])).last_hidden_state
        for group, members in groups.items():
            latents = latents_of(vae, emoji.load_pixels(args.package, members))[:, 0]
            right = text(tokenize(tokenizer, [e["caption"] for e in members])).last_hidden_state
            contexts = dict(right=right, shuffled=right.roll(1, 0), empty=empty.expand(len(members), -1, -1))
            for model in ("base", "teacher-nature", "teacher-people"):
                unet = UNet2DConditionModel.from_pretrained(args.models / model / "unet", **f32)
                for label, context in contexts.items():
                    generator = torch.Generator().manual_seed(SEED)
                    losses = [denoising_loss(unet, latents, context, alphas, generator).item() for _ in range(DRAWS)]
                    report.setdefault(model, {}).setdefault(group, {})[label] = round(sum(losses) / DRAWS, 5)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
