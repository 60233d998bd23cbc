"""The demo's tokenizer: CLIP's byte-pair merges, restricted to those that the words of a corpus need, in their order.

A word of the corpus is cut exactly as by the whole vocabulary (each merge applied is kept, and the one of lowest rank among
those present is the same); other words fall into shorter pieces. The vocabulary is laid out as CLIP's: 256 byte characters,
the same with `</w>`, the merges, `<|startoftext|>`, `<|endoftext|>`.

    python make_tokenizer.py --package DIR --bpe bpe_simple_vocab_16e6.txt.gz --out DIR

The merges file is inside the wheel of open_clip_torch 3.2.0 (MIT).
"""

import argparse
import gzip
import json
import re
from pathlib import Path

CLIP_MERGES = 49152 - 256 - 2  # lines of the merges file that CLIP uses, after its first
# Flags and symbols are mostly names of countries and signs: words that the demo has no picture for.
LEFT_OUT = ("Flags", "Symbols")
# Words that people put around a subject; the rest of the corpus is the other names in emoji.json.
EXTRA = """
a an the of and in on with at by for from to is are no not without behind front under over big small little tiny large huge
one two three four five six seven eight nine ten many single pair red orange yellow green blue purple pink brown black white
grey gray golden silver dark light bright pale colourful colorful round square flat simple cute funny happy sad angry sleepy
smiling laughing crying winking surprised tired sick cool hot cold sweet fresh wild baby old young eating drinking playing
running flying swimming sleeping dancing picture photo image drawing icon emoji sticker clipart vector cartoon painting
illustration sketch digital art style background close up portrait best quality high low detailed blurry ugly bad
animal bird fish insect flower plant fruit vegetable food drink dish dessert meal sport game ball medal ticket face heart
potstill copper still distilled teacher student model
"""


def bytes_to_unicode():
    """GPT-2's printable stand-ins for the 256 byte values, in CLIP's order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {b: chr(b) for b in kept}
    for n, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + n)
    return table


def read_merges(path):
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    return [tuple(line.split()) for line in lines[1 : CLIP_MERGES + 1]]


def merges_of(word, rank):
    """The merges that turn one word (stand-in characters) into its tokens."""
    parts, used = [*word[:-1], word[-1] + "</w>"], set()
    while len(parts) > 1:
        best = min(zip(parts, parts[1:]), key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        used.add(best)
        joined, i = [], 0
        while i < len(parts):
            if tuple(parts[i : i + 2]) == best:
                joined.append(parts[i] + parts[i + 1])
                i += 2
            else:
                joined.append(parts[i])
                i += 1
        parts = joined
    return used


def write_tokenizer(out, merges):
    """vocab.json, merges.txt and the two small files that transformers wants beside them."""
    characters = list(bytes_to_unicode().values())
    tokens = characters + [c + "</w>" for c in characters] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(tokens)) == len(tokens)
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps(
        dict(special, tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True, errors="replace"), indent=1) + "\n")
    return tokens


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--package", type=Path, required=True)
    args.add_argument("--bpe", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    merges = read_merges(args.bpe)
    rank = {m: i for i, m in enumerate(merges)}
    table = json.loads((args.package / "emoji.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in table if row["category"] not in LEFT_OUT]
    words = {w for text in [*names, EXTRA] for w in re.findall(r"[^\W\d_]+|\d|[^\s\w]+|_+", text.lower())}
    words |= {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}
    stand_in = bytes_to_unicode()
    used = set()
    for word in words:
        used |= merges_of("".join(stand_in[b] for b in word.encode()), rank)
    tokens = write_tokenizer(args.out, sorted(used, key=rank.get))
    print(f"{len(words)} words, {len(used)} merges, {len(tokens)} tokens")


if __name__ == "__main__":
    main()
