"""Writes folders of the demo's pictures at the size that its models draw: SDXL's added conditioning tells a UNet how large a
picture was before it was scaled, and one that learned from small files alone would have to be asked for small ones.

    python enlarge_images.py --images ../images --out ../../../runs/demo-images-128
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image

import emoji


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--images", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    for captions in sorted(args.images.glob("*/captions.jsonl")):
        folder = args.out / captions.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(captions.parent.glob("*.png")):
            Image.fromarray(emoji.to_pixels(path)).save(folder / path.name)
        shutil.copyfile(captions, folder / captions.name)


if __name__ == "__main__":
    main()
