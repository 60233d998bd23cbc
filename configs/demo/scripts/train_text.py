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
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import emoji
from text_training import WIDTH, Heads, Tower, fit, latents_of, losses, words_of

TEXT = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, hidden_act="quick_gelu",
            max_position_embeddings=77, projection_dim=64, attention_dropout=0.1)
# Captions have at most 13 tokens; causal attention makes the states of the first tokens the same with 77.
TOKENS = 24
UPDATES = 1200


class Pool(nn.Module):
    """A caption's states [B,T,64] to an embedding [B,64], and the summary that it is made of."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, states, ids, end):
        """The summary is the end token's state beside the mean of the words' states: [B,128]."""
        at = (ids == end).int().argmax(1)
        words = words_of(ids, end).float()[..., None]
        mean = (states * words).sum(1) / words.sum(1).clamp(min=1)
        summary = torch.cat([states[torch.arange(len(ids)), at], mean], 1)
        return self.embed(summary), summary


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

    torch.manual_seed(0)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), bos_token_id=len(tokenizer) - 2, pad_token_id=len(tokenizer) - 1,
                                        eos_token_id=2, **TEXT))
    with torch.no_grad():  # words start far enough apart to be told from one another
        text.get_input_embeddings().weight.normal_(std=0.1)
    tower, pool, heads = Tower(), Pool(), Heads(2 * WIDTH, TEXT["hidden_size"], len(tokenizer))

    def losses_of(ids, latents):
        states = text(ids).last_hidden_state
        return losses(tower, heads, (*pool(states, ids, end), states), ids, latents, end)

    def save(report):
        text.config.attention_dropout = 0.0
        text.save_pretrained(args.out / "text_encoder")
        (args.out / "text-encoder.json").write_text(json.dumps(report, indent=1) + "\n")

    fit(nn.ModuleList([text, tower, pool, heads]), losses_of, ids, latents, end, held, UPDATES, save)


if __name__ == "__main__":
    main()
