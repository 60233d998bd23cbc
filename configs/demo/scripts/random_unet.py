"""Makes the UNet that the base's training starts from: the demo's shape, PyTorch's and diffusers' own random weights.

    python random_unet.py --config ../base/unet/config.json --out DIR
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

SEED = 1


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--config", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args = args.parse_args()
    torch.manual_seed(SEED)
    unet = UNet2DConditionModel.from_config(json.loads(args.config.read_text()))
    unet.save_pretrained(args.out)
    print(f"{sum(p.numel() for p in unet.parameters()):,} parameters")


if __name__ == "__main__":
    main()
