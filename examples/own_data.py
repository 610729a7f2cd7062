"""Data of one's own: any object with a length whose items are (picture, caption).

python examples/own_data.py [IMAGES]               default: 4000, a minute or two; 160 for a first look

Pictures are drawn, computed, or read from a database when they are asked for; training keeps them in its own copy.
"""

import sys

from PIL import Image, ImageDraw

import tintype

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
COLORS = {"red": (220, 40, 40), "green": (40, 160, 70), "blue": (50, 80, 220), "yellow": (240, 200, 40)}
HEIGHTS = {"short": 10, "tall": 26}


class Bars:
    """A colored bar on gray, short or tall, at one of twelve places. The same index is always the same picture."""

    def __len__(self) -> int:
        return len(COLORS) * len(HEIGHTS) * 12

    def __getitem__(self, index: int) -> tuple[Image.Image, list[str]]:
        position, index = index % 12, index // 12
        color, height = list(COLORS)[index % len(COLORS)], list(HEIGHTS)[index // len(COLORS)]
        image = Image.new("RGB", (32, 32), (128, 128, 128))
        ImageDraw.Draw(image).rectangle((2 * position, 32 - HEIGHTS[height], 2 * position + 7, 31), COLORS[color])
        return image, [f"a {height} {color} bar", f"{color}, {height}"]  # of several captions, one is shown at a time


# What training will see: pictures at its resolution, captions cleaned, problems found.
dataset = tintype.load_dataset(Bars(), resolution=32)
print("\n".join(dataset.check().lines()))
print(f"first of {len(dataset)}: {dataset[0]}")

config = tintype.Config.from_preset("nano", resolution=32)
for report in tintype.train(Bars(), "bars-run", config, images=IMAGES, text="learned"):
    if report.images_seen % 800 == 0:
        print(f"{report.images_seen:,} images: loss {report.loss:.4f}")

pipeline = tintype.Pipeline.load("bars-run")
for caption in ("a tall red bar", "a short blue bar"):
    picture = pipeline.generate(caption)[0]
    name = f"{caption.replace(' ', '-')}.png"
    picture.resize((256, 256)).save(name)
    print(f"{name}: mean color {tuple(round(value) for value in picture.resize((1, 1)).getpixel((0, 0)))}")
