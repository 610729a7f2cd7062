"""Exported pages in Chromium: their size, when they are ready, how long a picture takes, how near it is to Python's.

    python bench/page.py [shapes emoji] [--precision int8 | fp16] [--num 12]

Needs the extra `browser` and a Chromium. Each page is opened from the disk, without a network. A picture is drawn for
each caption, with another seed each, and compared with that of `Pipeline.generate`: the peak signal-to-noise ratio
(PSNR), the largest difference of a pixel in levels of 255, and how many pixels differ at all. The first picture, which
warms up, is not timed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tintype.evaluation.shapes_accuracy import caption_tasks
from tintype.export.forms import export_model
from tintype.pipeline.pipeline import Pipeline

CAPTIONS = {
    "emoji": [
        "a slice of pizza",
        "a smiling face with sunglasses",
        "a red heart",
        "a cat face",
        "a man in a wheelchair facing right",
        "a woman with dark skin",
        "a green apple",
        "a police car",
        "an umbrella",
        "a full moon",
        "a raised hand with light skin",
        "a birthday cake",
    ]
}


def captions_of(model: str, num: int) -> list[str]:
    """Captions for a shipped model; those of drawn shapes for any other."""
    tasks = [] if model in CAPTIONS else caption_tasks("held_out", num, ())
    return (CAPTIONS[model] if model in CAPTIONS else [task.caption for task in tasks])[:num]


def drawn(browser: Any, page: Path, captions: list[str], folder: Path) -> Iterator[tuple[float, Image.Image]]:
    """Seconds until the page is ready, with an empty picture; then those of each picture, with the picture."""
    context = browser.new_context(offline=True, accept_downloads=True)
    tab = context.new_page()
    start = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_selector("#go:enabled", timeout=300_000)
    yield time.perf_counter() - start, Image.new("RGB", (1, 1))
    # Chromium computes slower for a while after a download, so pictures are timed first and made again to be saved.
    seconds = [draw(tab, caption, seed) for seed, caption in enumerate(captions)]
    for seed, caption in enumerate(captions):
        draw(tab, caption, seed)
        with tab.expect_download() as download:
            tab.click("#save")
        file = folder / f"{seed}.png"
        download.value.save_as(file)
        yield seconds[seed], Image.open(file)
    context.close()


def draw(tab: Any, caption: str, seed: int) -> float:
    """Seconds from the click to the finished picture."""
    tab.fill("#caption", caption)
    tab.fill("#seed", str(seed))
    start = time.perf_counter()
    tab.click("#go")
    while not tab.is_visible("#actions"):  # waiting for a selector looks again after up to half a second
        time.sleep(0.01)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["shapes", "emoji"])
    parser.add_argument("--precision", default="int8", choices=["int8", "fp16", "fp32"])
    parser.add_argument("--num", type=int, default=12, help="pictures (12)")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(path for name in names if (path := shutil.which(name)) is not None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as name:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for model in args.models:
            page = export_model(model, Path(name) / f"{model}.html", to="page", precision=args.precision)
            captions = captions_of(model, args.num)
            pipeline = Pipeline.load(model, "cpu")
            (ready, _), *pictures = drawn(browser, page, captions, Path(name))
            ratios, largest, share = [], 0, []
            for seed, (caption, (_, picture)) in enumerate(zip(captions, pictures, strict=True)):
                expected = np.asarray(pipeline.generate(caption, seeds=seed)[0], float)
                difference = np.abs(np.asarray(picture, float) - expected)
                ratios.append(10 * math.log10(255**2 / max(float((difference**2).mean()), 1e-9)))
                largest = max(largest, round(difference.max()))
                share.append(float((difference.max(axis=2) > 0).mean()))
            seconds = [second for second, _ in pictures[1:]]
            size, median = page.stat().st_size / 1e6, statistics.median(seconds)
            print(
                f"{model}, {args.precision}: {size:.2f} MB, ready in {ready:.1f} s, a picture in {median:.2f} s "
                f"(fastest {min(seconds):.2f}); PSNR median {statistics.median(ratios):.0f}, worst "
                f"{min(ratios):.0f} dB, at most {largest} levels, {statistics.mean(share):.1%} of the pixels differ"
            )
        browser.close()


if __name__ == "__main__":
    main()
