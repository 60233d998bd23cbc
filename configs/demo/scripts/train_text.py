"""Trains the demo's text encoder, together with a UNet of the demo's shape that is thrown away afterwards.

The UNets that ship are trained by potstill (`configs/demo/recipes`); potstill does not train text encoders from nothing, so
this is done once here: noise prediction on the latents of the training pictures and their mirror images, one caption in ten
replaced by the empty one. Resumable; weights are averaged.

    python train_text.py --package DIR --vae DIR --tokenizer DIR --out DIR [--minutes 20]
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import emoji

UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=[64, 64, 64, 48],
    down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    attention_head_dim=4, cross_attention_dim=64, norm_num_groups=16)
TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, hidden_act="quick_gelu",
            max_position_embeddings=77, projection_dim=64)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                clip_sample=False, set_alpha_to_one=False)
BATCH, LEARNING_RATE, WARMUP, DROPOUT, DECAY = 16, 1e-3, 100, 0.1, 0.998


@torch.no_grad()
def latents_of(vae, pixels):
    """Scaled latents (mean of the posterior) of uint8 pictures [N,128,128,3] and of their mirror images: [N,2,4,16,16]."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    both = [torch.cat([vae.encode(part).latent_dist.mode() for part in side.split(16)]) for side in (x, x.flip(3))]
    return torch.stack(both, 1) * vae.config.scaling_factor


def tokenize(tokenizer, captions):
    return tokenizer(captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids


def denoising_loss(unet, latents, context, alphas, generator):
    """Mean squared error of the predicted noise at uniform timesteps."""
    t = torch.randint(0, 1000, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    a = alphas[t][:, None, None, None]
    return F.mse_loss(unet(a.sqrt() * latents + (1 - a).sqrt() * noise, t, context).sample.float(), noise)


def main():
    args = argparse.ArgumentParser()
    for name in ("package", "vae", "tokenizer", "out"):
        args.add_argument(f"--{name}", type=Path, required=True)
    args.add_argument("--minutes", type=float, default=20)
    args = args.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)

    entries = [e for e in emoji.load_entries(args.package) if e["subject"]]
    cache = args.out / "latents.pt"
    if not cache.exists():
        torch.save(latents_of(AutoencoderKL.from_pretrained(args.vae), emoji.load_pixels(args.package, entries)), cache)
    latents = torch.load(cache)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    ids, empty = tokenize(tokenizer, [e["caption"] for e in entries]), tokenize(tokenizer, [""])
    held = torch.tensor([e["held_out"] for e in entries])
    train = (~held).nonzero().flatten()

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNET)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), bos_token_id=len(tokenizer) - 2, pad_token_id=len(tokenizer) - 1,
                                        eos_token_id=2, **TEXT))
    modules = torch.nn.ModuleList([unet, text])
    mean = [p.detach().clone() for p in modules.parameters()]
    optimizer = torch.optim.AdamW(modules.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
    step, used = 0, 0.0
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file)
        modules.load_state_dict(state["modules"]), optimizer.load_state_dict(state["optimizer"])
        mean, step, used = state["mean"], state["step"], state["used"]
        print(f"resumed at step {step}, {used / 60:.1f} min", flush=True)
    generator = torch.Generator().manual_seed(step + 1)

    def embed(rows):
        return text(rows).last_hidden_state

    def swap():
        for a, b in zip(modules.parameters(), mean):
            a.data, b.data = b.data, a.data

    @torch.no_grad()
    def validate(which, shuffled=False):
        """Loss on fixed noise; with `shuffled` every picture has another's caption."""
        fixed, losses = torch.Generator().manual_seed(7), []
        for _ in range(2):
            context = embed(ids[which.roll(1) if shuffled else which])
            losses.append(denoising_loss(unet, latents[which, 0], context, alphas, fixed).item())
        return sum(losses) / len(losses)

    def save():
        torch.save(dict(modules=modules.state_dict(), optimizer=optimizer.state_dict(), mean=mean, step=step, used=used),
                   state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").rename(state_file)
        swap()
        few = train[torch.arange(0, len(train), 8)]
        report = {"step": step, "minutes": round(used / 60, 1), "trained": validate(few), "trained_shuffled": validate(few, True),
                  "held_out": validate(held.nonzero().flatten()), "held_out_shuffled": validate(held.nonzero().flatten(), True)}
        print(json.dumps(report), flush=True)
        text.save_pretrained(args.out / "text_encoder"), unet.save_pretrained(args.out / "unet")
        swap()
        (args.out / "text-metrics.json").write_text(json.dumps(report, indent=1) + "\n")

    budget, last, saved, running = args.minutes * 60, time.time(), used, 0.0
    while used < budget:
        lr = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * used / budget)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        pick = train[torch.randint(0, len(train), (BATCH,), generator=generator)]
        mirrored = torch.randint(0, 2, (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < DROPOUT
        rows = torch.where(dropped[:, None], empty, ids[pick])
        loss = denoising_loss(unet, latents[pick, mirrored], embed(rows), alphas, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(mean, [p.detach() for p in modules.parameters()], 1 - decay)
        running += (loss.item() - running) / min(step, 50)
        now = time.time()
        used, last = used + now - last, now
        if step % 50 == 0:
            print(f"step {step} {used / 60:.1f} min lr {lr:.2e} loss {running:.4f}", flush=True)
        if used - saved > 180 or used >= budget:
            save()
            saved, last = used, time.time()


if __name__ == "__main__":
    main()
