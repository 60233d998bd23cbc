"""Trains the demo's VAE: 128x128 pictures to 4x16x16 latents and back.

Random 64x64 crops first (a quarter of the work each), then whole pictures; half-way the encoder is fixed, so that other models
can be trained on its latents while the decoder goes on. Loss: absolute and squared error, plus the absolute error of finite
differences (for outlines, where a perceptual network would be used if one were at hand) and of colours averaged over 8x8
pixels (hues come late without it), and a very small KL term. Weights are averaged; a checkpoint is written every few
minutes, so that it can be stopped and started again at will.

    python train_vae.py --package DIR --out DIR [--minutes 50]
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

import emoji

CONFIG = dict(
    in_channels=3, out_channels=3, latent_channels=4, sample_size=emoji.SIZE, layers_per_block=1, norm_num_groups=8,
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    block_out_channels=[32, 64, 64, 64], scaling_factor=1.0)
LEARNING_RATE, WARMUP = 2e-3, 100
KL_WEIGHT = 1e-6
ENCODER_SHARE, CROP_SHARE = 0.5, 0.6  # of the time: the encoder is fixed, then crops end
CROPS, WHOLES = 16, 8  # batch sizes


def batch_of(pictures, rng, count, crop):
    """Random pictures in -1..1 as [count,3,crop,crop]: flipped, shifted over white, crops of the whole when crop < 128."""
    size, shift = emoji.SIZE, 8
    out = np.empty((count, crop, crop, 3), np.uint8)
    for i, k in enumerate(rng.integers(len(pictures), size=count)):
        picture = pictures[k]
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        padded = np.pad(picture, ((shift, shift), (shift, shift), (0, 0)), constant_values=255)
        reach = size - crop + 2 * shift + 1
        # Crops keep off the empty corners: most of a picture is white there.
        top, left = ((rng.integers(reach) + rng.integers(reach)) // 2 for _ in range(2))
        out[i] = padded[top : top + crop, left : left + crop]
        if rng.random() < 0.3:
            out[i] = out[i][..., rng.permutation(3)]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def edges(x):
    return torch.cat([(x[..., 1:, :] - x[..., :-1, :]).flatten(1), (x[..., :, 1:] - x[..., :, :-1]).flatten(1)], 1)


def loss_of(vae, x, bf16):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
    y, mean, logvar = y.float(), posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
    l1, mse, edge = (y - x).abs().mean(), ((y - x) ** 2).mean(), (edges(y) - edges(x)).abs().mean()
    colour = (F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)).abs().mean()
    return l1 + mse + edge + colour + KL_WEIGHT * kl, l1


@torch.no_grad()
def measure(vae, x):
    """Mean absolute error and PSNR (dB, on the 0..1 scale) with the mean of the posterior; reconstructions."""
    y = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1) for part in x.split(16)])
    mse = (((y - x) / 2) ** 2).mean((1, 2, 3))
    return ((y - x) / 2).abs().mean().item(), (-10 * mse.log10()).mean().item(), y


def save_grid(path, *rows):
    rows = [torch.cat(list(r), 2) for r in rows]
    picture = torch.cat(rows, 1).permute(1, 2, 0)
    Image.fromarray(((picture + 1) * 127.5).round().clamp(0, 255).byte().numpy()).save(path)


@torch.no_grad()
def fix_encoder(vae, mean, pictures, out):
    """Gives both models the averaged encoder, stops its training, measures the scaling factor and saves the VAE."""
    for part in ("encoder", "quant_conv"):
        getattr(vae, part).load_state_dict(getattr(mean, part).state_dict())
        getattr(vae, part).requires_grad_(False)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = torch.cat([mean.encode(part).latent_dist.mode() for part in x.split(16)])
    mean.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    mean.save_pretrained(out / "vae")
    return latents


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--package", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args.add_argument("--minutes", type=float, default=50)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    entries = emoji.load_entries(args.package)
    pixels = emoji.load_pixels(args.package, entries)
    held = np.array([e["held_out"] for e in entries])
    train = pixels[~held]
    show = [i for i, e in enumerate(entries) if e["held_out"] and e["subject"]]
    check = torch.from_numpy(pixels[show]).permute(0, 3, 1, 2).float() / 127.5 - 1

    torch.manual_seed(0)
    vae, mean = AutoencoderKL(**CONFIG), AutoencoderKL(**CONFIG)
    mean.load_state_dict(vae.state_dict())
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    step, used = 0, 0.0
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file)
        vae.load_state_dict(state["vae"]), mean.load_state_dict(state["mean"]), optimizer.load_state_dict(state["optimizer"])
        step, used = state["step"], state["used"]
        print(f"resumed at step {step}, {used / 60:.1f} min", flush=True)
    rng = np.random.default_rng(step)
    budget, last, shown = args.minutes * 60, time.time(), 0.0
    since_save = used
    latents = None
    while used < budget:
        progress = used / budget
        if progress > ENCODER_SHARE and latents is None:
            latents = fix_encoder(vae, mean, train, args.out)
            print("encoder fixed", flush=True)
        crops = progress < CROP_SHARE
        lr = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        x = batch_of(train, rng, CROPS if crops else WHOLES, 64 if crops else emoji.SIZE)
        loss, l1 = loss_of(vae, x, bf16=progress < 0.95)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.995, (1 + step) / (10 + step))
        with torch.no_grad():
            for a, b in zip(mean.parameters(), vae.parameters()):
                a.lerp_(b, 1 - decay)
        now = time.time()
        used, last = used + now - last, now
        if step % 50 == 0:
            print(f"step {step} {used / 60:.1f} min lr {lr:.2e} loss {loss.item():.4f} l1 {l1.item():.4f}", flush=True)
        if used - since_save > 240 or used >= budget:
            since_save = used
            mae, psnr, y = measure(mean, check)
            print(f"step {step} {used / 60:.1f} min held-out mae {mae:.4f} psnr {psnr:.2f}", flush=True)
            save_grid(args.out / "held-out.png", check[:8], y[:8], check[8:16], y[8:16], check[24:32], y[24:32])
            torch.save({"vae": vae.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict(),
                        "step": step, "used": used}, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").rename(state_file)
            last = time.time()

    if latents is None:
        latents = fix_encoder(vae, mean, train, args.out)
    mean.save_pretrained(args.out / "vae")
    mae, psnr, _ = measure(mean, check)
    (args.out / "vae-metrics.json").write_text(json.dumps(dict(
        steps=step, minutes=round(used / 60, 1), held_out_mae=mae, held_out_psnr=psnr,
        scaling_factor=mean.config.scaling_factor, latent_mean=latents.mean((0, 2, 3)).tolist(),
        latent_std=latents.std((0, 2, 3)).tolist()), indent=1))


if __name__ == "__main__":
    main()
