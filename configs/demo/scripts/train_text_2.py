"""Trains the second text encoder of the demo's SDXL-shaped model against the pictures that its captions name.

As train_text.py does the first, but of what SDXL takes from its second encoder: the second-last layer's states, without a norm,
for cross-attention, and the projected pooled output for the added conditioning. That output is the contrastive loss's embedding,
as CLIP's is. It learns from the pictures that are shipped alone.

    python train_text_2.py --images ../images --vae DIR --tokenizer DIR --out DIR
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

import emoji
from text_training import WIDTH, Heads, Tower, fit, latents_of, losses

TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, hidden_act="gelu",
            max_position_embeddings=77, projection_dim=WIDTH, attention_dropout=0.1)
SETS = {"nature": False, "people": False, "nature-held-out": True, "people-held-out": True}
PADDING = 0  # SDXL's second tokenizer pads with `!`, the first token of the vocabulary
TOKENS = 24
UPDATES = 600


def main():
    args = argparse.ArgumentParser()
    for name in ("images", "vae", "tokenizer", "out"):
        args.add_argument(f"--{name}", type=Path, required=True)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)

    rows = [(args.images / name, json.loads(line), held) for name, held in SETS.items()
            for line in (args.images / name / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    pixels = np.stack([emoji.to_pixels(folder / row["file"]) for folder, row, _ in rows])
    latents = latents_of(AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32), pixels)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    end = tokenizer.eos_token_id
    ids = torch.full((len(rows), TOKENS), PADDING)
    for at, (_, row, _) in enumerate(rows):
        own = tokenizer(row["caption"], truncation=True, max_length=TOKENS).input_ids
        ids[at, : len(own)] = torch.tensor(own)

    torch.manual_seed(2)
    text = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=len(tokenizer), bos_token_id=len(tokenizer) - 2,
                                                      pad_token_id=PADDING, eos_token_id=2, **TEXT))
    with torch.no_grad():  # words start far enough apart to be told from one another
        text.get_input_embeddings().weight.normal_(std=0.1)
    tower, heads = Tower(), Heads(WIDTH, TEXT["hidden_size"], len(tokenizer))

    def losses_of(ids, latents):
        out = text(ids, output_hidden_states=True)
        return losses(tower, heads, (out.text_embeds, out.text_embeds, out.hidden_states[-2]), ids, latents, end)

    def save(report):
        text.config.attention_dropout = 0.0
        text.save_pretrained(args.out / "text_encoder_2")
        (args.out / "text-encoder-2.json").write_text(json.dumps(report, indent=1) + "\n")

    args.out.mkdir(parents=True, exist_ok=True)
    fit(nn.ModuleList([text, tower, heads]), losses_of, ids, latents, end, torch.tensor([held for *_, held in rows]), UPDATES, save)


if __name__ == "__main__":
    main()
