"""Makes pictures by night of a folder of the demo's: lightness turned over, hues kept, and the dark made blue.

    python make_style.py --images ../images/nature --out DIR
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

NIGHT = np.array([24.0, 32.0, 96.0])  # what white becomes, in sRGB


def by_night(pixels):
    """uint8 [H,W,3] over white -> the same by night: white becomes NIGHT, black a pale blue, strong colours stay."""
    x = pixels.astype(np.float64) / 255
    turned = x + (1 - x.max(2, keepdims=True) - x.min(2, keepdims=True))
    return np.clip(NIGHT + turned * (255 - NIGHT), 0, 255).round().astype(np.uint8)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--images", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for line in (args.images / "captions.jsonl").read_text(encoding="utf-8").splitlines():
        name = json.loads(line)["file"]
        picture = Image.open(args.images / name).convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        pixels = np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
        Image.fromarray(by_night(pixels)).save(args.out / name)
    shutil.copyfile(args.images / "captions.jsonl", args.out / "captions.jsonl")


if __name__ == "__main__":
    main()
