"""What the trainings of the demo's text encoders have in common: the picture's tower, the losses, and the loop."""

import json
import math

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 64  # of embeddings
BATCH, LEARNING_RATE, WARMUP, DECAY = 128, 1e-3, 100, 0.998
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
    """What is asked of a caption: coarse latents of a summary of it, the tokens themselves of their states [B,T,width]."""

    def __init__(self, summary, width, vocabulary):
        super().__init__()
        self.draw = nn.Sequential(nn.Linear(summary, 256), nn.SiLU(), nn.Dropout(0.3), nn.Linear(256, 64))
        self.name = nn.Linear(width, vocabulary)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


def words_of(ids, end):
    """Which tokens of captions [B,T] are words of them: [B,T]."""
    at = (ids == end).int().argmax(1)
    place = torch.arange(ids.shape[1])[None]
    return (place > 0) & (place < at[:, None])


@torch.no_grad()
def latents_of(vae, pixels):
    """Scaled latents (mean of the posterior) of uint8 pictures [N,128,128,3] and of their mirror images: [N,2,4,16,16]."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    both = [torch.cat([vae.encode(part).latent_dist.mode() for part in side.split(16)]) for side in (x, x.flip(3))]
    return torch.stack(both, 1) * vae.config.scaling_factor


def losses(tower, heads, caption, ids, latents, end):
    """Contrastive, drawing and naming losses of a batch of captions [B,T] and latents [B,4,16,16].

    `caption` is (embedding [B,64], summary [B,N] to draw from, states [B,T,width]) of the captions.
    """
    embedding, summary, states = caption
    a = F.normalize(embedding, dim=1)
    b = F.normalize(tower(latents), dim=1)
    score = heads.scale.clamp(max=math.log(HIGHEST_SCALE)).exp() * a @ b.T
    label = torch.arange(len(ids))
    contrastive = (F.cross_entropy(score, label) + F.cross_entropy(score.T, label)) / 2
    coarse = F.avg_pool2d(latents, 4).flatten(1)
    draw = F.mse_loss(heads.draw(summary), coarse)
    seen = words_of(ids, end)
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


def fit(modules, losses_of, ids, latents, end, held, updates, save):
    """Trains modules on captions [N,T] and the latents [N,2,4,16,16] of their pictures.

    losses_of(ids, latents) gives the three losses; save(report) is called at the end, with averaged weights in place.
    """
    train, rest = (~held).nonzero().flatten(), held.nonzero().flatten()
    mean = [p.detach().clone() for p in modules.parameters()]
    optimizer = torch.optim.AdamW(modules.parameters(), lr=LEARNING_RATE, weight_decay=0.3)
    generator = torch.Generator().manual_seed(1)

    def swap():
        for a, b in zip(modules.parameters(), mean):
            a.data, b.data = b.data, a.data

    @torch.no_grad()
    def validate(which):
        modules.eval()
        values = [x.item() for x in losses_of(ids[which], latents[which, 0])]
        modules.train()
        return dict(zip(("contrastive", "draw", "name"), (round(v, 4) for v in values)))

    for step in range(1, updates + 1):
        lr = LEARNING_RATE * min(1, step / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / updates)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        pick = train[torch.randperm(len(train), generator=generator)[:BATCH]]
        mirrored = torch.randint(0, 2, (BATCH,), generator=generator)
        x = latents[pick, mirrored]
        x = x + NOISE * torch.randn(x.shape, generator=generator)
        contrastive, draw, name = losses_of(thinned(ids[pick], end, generator), x)
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
            if step == updates:
                save(report)
            swap()
            print(json.dumps(report), flush=True)
