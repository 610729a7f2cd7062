"""Limits and names of request options and picture files; light to import, for the command line."""

from __future__ import annotations

MAX_SIDE = 2048  # pixels
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1
MAX_INDEX = 2**32 - 1
MAX_CAPTION = 32_000  # characters; the OpenAI images API takes as many
MAX_SIGMA = 1e6
MIN_STRENGTH = 0.01
STRENGTH = 0.6  # default where an init_image is neither inverted nor outpainted
OLDER_NAMES = {
    "schedule": "grid",
    "guidance_interval": "interval",
    "negative_prompt": "negative",
    "source_caption": "invert",
    "mix_weights": "shares",
}
PICTURE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")  # of the encoders in image_file.py
