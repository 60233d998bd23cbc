"""The demo's pictures: which ones, their captions, and the split into trained and held-out.

The npm package emoji-datasource-google 16.0.0 holds 64x64 PNGs of Noto Emoji (`img/google/64/`) and `emoji.json` with a
name and a category for each. Everything here is a pure function of those two, so the set can be made again anywhere.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128  # pixels per side after enlarging: at 64 the fourth UNet level would be 1x1

# The two teachers' subjects. The base model learns both.
SUBJECTS = {
    "nature": ("Animals & Nature", "Food & Drink"),
    "people": ("Smileys & Emotion", "Activities"),
}
# Pictures that the VAE sees besides: they make it a better coder.
VAE_ALSO = ("Objects", "Travel & Places")
# Pictures that the base's UNet sees besides, so that it draws instead of knowing its pictures by heart. They are not shipped:
# export_images.py makes their folder.
BASE_ALSO = ("Objects", "Travel & Places", "People & Body")
HELD_OUT = 0.1  # of each category


def load_entries(package: Path, also=VAE_ALSO):
    """Named entries of the package as dicts {file, caption, category, subject, held_out}, sorted by file name.

    `subject` is None for the pictures of the categories in `also`.
    """
    table = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    subject_of = {category: subject for subject, names in SUBJECTS.items() for category in names}
    entries = []
    for row in table:
        category = row["category"]
        if not row["has_img_google"] or (category not in subject_of and category not in also):
            continue
        entries.append({"file": row["image"], "caption": row["name"].lower(), "category": category,
                        "subject": subject_of.get(category), "held_out": False})
    entries.sort(key=lambda e: e["file"])
    for category in {e["category"] for e in entries}:
        members = [e for e in entries if e["category"] == category]
        members.sort(key=lambda e: hashlib.sha256(e["file"].encode()).hexdigest())
        for e in members[: round(len(members) * HELD_OUT)]:
            e["held_out"] = True
    return entries


def to_pixels(path: Path, size: int = SIZE) -> np.ndarray:
    """One picture as potstill reads it: alpha over white, scaled to cover with Lanczos, centre crop; uint8 [size,size,3]."""
    picture = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    picture = Image.alpha_composite(white, picture).convert("RGB")
    scale = max(size / picture.width, size / picture.height)
    wide, high = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize((wide, high), Image.Resampling.LANCZOS)
    left, top = (wide - size) // 2, (high - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def load_pixels(package: Path, entries) -> np.ndarray:
    """All pictures as uint8 [N,size,size,3]."""
    return np.stack([to_pixels(package / "img/google/64" / e["file"]) for e in entries])
