"""Copies the demo's pictures and captions out of the npm package: one folder per subject and split, 64x64 PNGs as they are.

    python export_images.py --package DIR --out ../images --more ../../../runs/demo-images

`--more` gets one folder, `more`, of the pictures that only the base learns besides. Each folder gets a `captions.jsonl`: one line of {"file", "caption"} per picture.
"""

import argparse
import json
import shutil
from pathlib import Path

import emoji


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--package", type=Path, required=True)
    args.add_argument("--out", type=Path, required=True)
    args.add_argument("--more", type=Path)
    args = args.parse_args()
    lines = {}
    for e in emoji.load_entries(args.package, emoji.BASE_ALSO):
        if e["subject"]:
            folder = args.out / (e["subject"] + ("-held-out" if e["held_out"] else ""))
        elif args.more and not e["held_out"]:
            folder = args.more / "more"
        else:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(args.package / "img/google/64" / e["file"], folder / e["file"])
        lines.setdefault(folder, []).append(json.dumps(dict(file=e["file"], caption=e["caption"]), ensure_ascii=False))
    for folder, rows in lines.items():
        (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        print(folder, len(rows))


if __name__ == "__main__":
    main()
