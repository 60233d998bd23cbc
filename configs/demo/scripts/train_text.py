"""Trains the demo's text encoder against the pictures that its captions name.

Potstill does not train text encoders from nothing, so this is done once here, as CLIP does it (Radford et al., 2021,
https://arxiv.org/abs/2103.00020): a caption's embedding must lie nearer to its own picture's than to the others' of the batch.
Two more losses make the embeddings fit for cross-attention, which reads every token and not just the last: from a caption's
tokens a small network draws the picture's latents at a quarter of their resolution, and every token's state must still tell
which token it was. The picture's tower is thrown away.

Held-out names are mostly words that no trained caption has, so their contrastive loss stays at chance whatever is done; dropout,
words left out, noise on the pictures and weight decay keep the embeddings from learning each picture by heart.

    python train_text.py --package DIR --vae DIR --tokenizer DIR --out DIR
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import emoji

TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, hidden_act="quick_gelu",
            max_position_embeddings=77, projection_dim=64, attention_dropout=0.1)
WIDTH = 64
# Captions have at most 13 tokens; causal attention makes the states of the first tokens the same with 77.
TOKENS = 24
UPDATES, BATCH, LEARNING_RATE, WARMUP, DECAY = 1200, 128, 1e-3, 100, 0.998
DRAW, NAME = 4.0, 0.5  # weights of the drawing and the naming loss beside the contrastive one
HIGHEST_SCALE = 10  # of the cosines before the softmax; without a bound the loss goes on pushing known pictures apart
LEFT_OUT = 0.2  # of a caption's words
NOISE = 0.6  # standard deviation added to the scaled latents


class Tower(nn.Module):
    """A picture's scaled latents [B,4,16,16] to an embedding [B,64]."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 4
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, stride=1 if channels == 4 else 2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 16, WIDTH))

    def forward(self, x):
        return self.layers(x)


class Heads(nn.Module):
    """What is asked of a caption's states [B,T,64]: an embedding, coarse latents, and the tokens themselves."""

    def __init__(self, vocabulary):
        super().__init__()
        self.embed = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.draw = nn.Sequential(nn.Linear(2 * WIDTH, 256), nn.SiLU(), nn.Dropout(0.3), nn.Linear(256, 64))
        self.name = nn.Linear(WIDTH, vocabulary)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @staticmethod
    def pool(states, ids, end):
        """The end token's state beside the mean of the words' states: [B,128]."""
        at = (ids == end).int().argmax(1)
        place = torch.arange(ids.shape[1])[None]
        words = ((place > 0) & (place < at[:, None])).float()[..., None]
        return torch.cat([states[torch.arange(len(ids)), at], (states * words).sum(1) / words.sum(1).clamp(min=1)], 1), words


@torch.no_grad()
def latents_of(vae, pixels):
    """Scaled latents (mean of the posterior) of uint8 pictures [N,128,128,3] and of their mirror images: [N,2,4,16,16]."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    both = [torch.cat([vae.encode(part).latent_dist.mode() for part in side.split(16)]) for side in (x, x.flip(3))]
    return torch.stack(both, 1) * vae.config.scaling_factor


def losses(text, tower, heads, ids, latents, end):
    """Contrastive, drawing and naming losses of a batch of captions [B,T] and latents [B,4,16,16]."""
    states = text(ids).last_hidden_state
    pooled, words = heads.pool(states, ids, end)
    a = F.normalize(heads.embed(pooled), dim=1)
    b = F.normalize(tower(latents), dim=1)
    score = heads.scale.clamp(max=math.log(HIGHEST_SCALE)).exp() * a @ b.T
    label = torch.arange(len(ids))
    contrastive = (F.cross_entropy(score, label) + F.cross_entropy(score.T, label)) / 2
    coarse = F.avg_pool2d(latents, 4).flatten(1)
    draw = F.mse_loss(heads.draw(pooled), coarse)
    seen = words[..., 0].bool()
    name = F.cross_entropy(heads.name(states[seen]), ids[seen])
    return contrastive, draw, name


def thinned(ids, end, generator):
    """The captions [B,T] with words left out (but never the only one)."""
    rows = []
    for row in ids.tolist():
        at = row.index(end)
        keep = [i for i in range(1, at) if torch.rand((), generator=generator) > LEFT_OUT] or [at - 1]
        rows.append(row[:1] + [row[i] for i in keep] + row[at:] + row[-1:] * (at - 1 - len(keep)))
    return torch.tensor(rows)


def main():
    args = argparse.ArgumentParser()
    for name in ("package", "vae", "tokenizer", "out"):
        args.add_argument(f"--{name}", type=Path, required=True)
    args = args.parse_args()
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)

    entries = emoji.load_entries(args.package, emoji.BASE_ALSO)
    cache = args.out / "latents.pt"
    if not cache.exists():
        torch.save(latents_of(AutoencoderKL.from_pretrained(args.vae), emoji.load_pixels(args.package, entries)), cache)
    latents = torch.load(cache)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    end = tokenizer.eos_token_id
    ids = tokenizer([e["caption"] for e in entries], padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    print("longest caption", ((ids == end).int().argmax(1) + 1).max().item(), "tokens", flush=True)
    ids = ids[:, :TOKENS].contiguous()
    held = torch.tensor([e["held_out"] for e in entries])
    train, rest = (~held).nonzero().flatten(), held.nonzero().flatten()

    torch.manual_seed(0)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), bos_token_id=len(tokenizer) - 2, pad_token_id=len(tokenizer) - 1,
                                        eos_token_id=2, **TEXT))
    with torch.no_grad():  # words start far enough apart to be told from one another
        text.get_input_embeddings().weight.normal_(std=0.1)
    tower, heads = Tower(), Heads(len(tokenizer))
    modules = nn.ModuleList([text, tower, heads])
    mean = [p.detach().clone() for p in modules.parameters()]
    optimizer = torch.optim.AdamW(modules.parameters(), lr=LEARNING_RATE, weight_decay=0.3)
    generator = torch.Generator().manual_seed(1)

    def swap():
        for a, b in zip(modules.parameters(), mean):
            a.data, b.data = b.data, a.data

    @torch.no_grad()
    def validate(which):
        modules.eval()
        values = [x.item() for x in losses(text, tower, heads, ids[which], latents[which, 0], end)]
        modules.train()
        return dict(zip(("contrastive", "draw", "name"), (round(v, 4) for v in values)))

    for step in range(1, UPDATES + 1):
        lr = LEARNING_RATE * min(1, step / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / UPDATES)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        pick = train[torch.randperm(len(train), generator=generator)[:BATCH]]
        mirrored = torch.randint(0, 2, (BATCH,), generator=generator)
        x = latents[pick, mirrored]
        x = x + NOISE * torch.randn(x.shape, generator=generator)
        contrastive, draw, name = losses(text, tower, heads, thinned(ids[pick], end, generator), x, end)
        optimizer.zero_grad()
        (contrastive + DRAW * draw + NAME * name).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        decay = min(DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(mean, [p.detach() for p in modules.parameters()], 1 - decay)
        if step % 100 == 0:
            swap()
            report = {"update": step, "trained": validate(train[:: len(train) // len(rest)][: len(rest)]), "held_out": validate(rest)}
            if step == UPDATES:
                text.config.attention_dropout = 0.0
                text.save_pretrained(args.out / "text_encoder")
                (args.out / "text-encoder.json").write_text(json.dumps(report, indent=1) + "\n")
            swap()
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
