"""How fast drawn shapes are learned from captions in Chinese, Arabic or emoji, compared with English.

    python bench/text_auto.py chinese [--text auto] [--images 24000] [--num 8000] [--seed 0]

Every caption of the drawn world is translated word by word with a table (articles have no translation; Chinese and
emoji have no spaces), so that all languages say the same of the same pictures. A run of the preset nano at 32 px
follows, then a program judges pictures of captions that were not trained on. Compare runs by images seen, not by time.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console

import tintype
from tintype.evaluation.shapes_accuracy import SPLITS, attribute_scores, caption_tasks, judge_pictures
from tintype.shapes.write import write_shapes

_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")
WORDS = {  # English: Chinese, Arabic, emoji
    "a": ("", "", ""), "an": ("", "", ""), "the": ("", "", ""), "of": ("的", "من", "🔗"), "to": ("到", "إلى", "🚩"),
    "red": ("红", "أحمر", "🔴"), "orange": ("橙", "برتقالي", "🟠"), "yellow": ("黄", "أصفر", "🟡"),
    "green": ("绿", "أخضر", "🟢"), "cyan": ("青", "سماوي", "🩵"), "blue": ("蓝", "أزرق", "🔵"),
    "purple": ("紫", "بنفسجي", "🟣"), "pink": ("粉红", "وردي", "🩷"), "white": ("白", "أبيض", "⚪"),
    "gray": ("灰", "رمادي", "🩶"), "black": ("黑", "أسود", "⚫"), "cream": ("奶油", "كريمي", "🍦"),
    "circle": ("圆", "دائرة", "⭕"), "circles": ("圆", "دوائر", "⭕"), "square": ("方", "مربع", "🔲"),
    "squares": ("方", "مربعات", "🔲"), "triangle": ("三角", "مثلث", "🔺"), "triangles": ("三角", "مثلثات", "🔺"),
    "star": ("星", "نجمة", "⭐"), "stars": ("星", "نجوم", "⭐"), "cross": ("十字", "صليب", "❌"),
    "crosses": ("十字", "صلبان", "❌"), "small": ("小", "صغير", "🐁"), "little": ("幼小", "ضئيل", "🐭"),
    "tiny": ("微小", "دقيق", "🐜"), "large": ("大", "كبير", "🐘"), "big": ("巨大", "ضخم", "🐋"),
    "two": ("两", "اثنان", "✌️"), "three": ("三", "ثلاثة", "🥉"), "2": ("二", "٢", "2️⃣"), "3": ("叁", "٣", "3️⃣"),
    "pair": ("一对", "زوج", "👯"), "group": ("一组", "مجموعة", "👪"), "left": ("左", "يسار", "⬅️"),
    "right": ("右", "يمين", "➡️"), "above": ("上", "فوق", "⬆️"), "over": ("之上", "أعلى", "☝️"),
    "below": ("下", "تحت", "⬇️"), "under": ("之下", "أسفل", "👇"), "beneath": ("底下", "دون", "🕳️"),
    "underneath": ("下面", "بأسفل", "🪜"), "top": ("顶", "قمة", "🎩"), "bottom": ("底", "قاع", "🦶"),
    "background": ("背景", "خلفية", "🏞️"), "against": ("衬", "مقابل", "🧱"), "on": ("在", "على", "🔛"),
    "at": ("于", "عند", "📍"), "and": ("和", "و", "➕"), "with": ("带", "مع", "🤝"), "picture": ("图", "صورة", "🖼️"),
    "drawing": ("画", "رسم", "✏️"), "image": ("像", "لوحة", "📷"), "there": ("那里", "هناك", "👉"),
    "is": ("是", "يوجد", "💡"), "are": ("有", "توجد", "🔆"), "it": ("它", "هو", "👆"), "its": ("其", "له", "🏷️"),
    ",": ("，", "،", "🔸"), ":": ("：", ":", "🔹"),
}  # fmt: skip
LANGUAGES = ("chinese", "arabic", "emoji")
JOIN = {"chinese": "", "arabic": " ", "emoji": ""}


def translated(caption: str, language: str) -> str:
    """A caption of the drawn world in another language, word by word."""
    if language == "english":
        return caption
    words = (WORDS[word][LANGUAGES.index(language)] for word in _WORD.findall(caption))
    return JOIN[language].join(filter(None, words))


def write_data(folder: Path, num: int, language: str) -> set[str]:
    """Write `num` drawn pictures with translated captions. Returns the English captions."""
    write_shapes(folder, num, size=32)
    path = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = (json.dumps({**row, "text": translated(row["text"], language)}) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return {row["text"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Drawn shapes from captions in other languages.")
    parser.add_argument("language", choices=("english", *LANGUAGES))
    parser.add_argument("--text", default="auto", help="text encoder (auto)")
    parser.add_argument("--images", type=int, default=24_000, help="images to train on, repeats counted")
    parser.add_argument("--num", type=int, default=8_000, help="drawn pictures")
    parser.add_argument("--judged", type=int, default=200, help="captions of each set to judge")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        data, run = Path(scratch, "data"), Path(scratch, "run")
        known = write_data(data, options.num, options.language)
        start = time.perf_counter()
        for report in tintype.train(
            data, run, preset="nano", resolution=32, images=options.images, text=options.text, seed=options.seed,
            sample_minutes=1000, stop_early=False, verbose=console,
        ):  # fmt: skip
            if report.validation is not None:
                for captions in ("true", "shuffled", "empty"):
                    errors = {level: round(error, 5) for level, error in report.validation.errors[captions].items()}
                    print(f"{report.images_seen:,} images: held-out errors, {captions} captions {errors}", flush=True)
        seconds = time.perf_counter() - start
        pipeline = tintype.Pipeline.load(run)
        print(f"{options.language}, text {pipeline.config.text.encoder}, {options.images:,} images, {seconds:.0f} s")
        for name, split in SPLITS.items():
            tasks = caption_tasks(split, options.judged, known)
            captions = [translated(task.caption, options.language) for task in tasks]
            pictures = [
                picture
                for first in range(0, len(tasks), 50)
                for picture in pipeline.generate(
                    captions[first : first + 50], seeds=list(range(first, first + 50)), steps=12, guidance=2
                )
            ]
            scores = attribute_scores(judge_pictures(pictures, tasks), [task.scene for task in tasks])
            print(f"{name}: " + ", ".join(f"{key} {score.right.value:.1%}" for key, score in scores.items()))


if __name__ == "__main__":
    main()
