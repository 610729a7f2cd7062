"""Emoji captions as people type them: "a slice of pizza", "a picture of a puppy".

    npm pack cldr-annotations-full && tar xzf cldr-annotations-full-*.tgz package/annotations/en/annotations.json
    python bench/emoji_captions.py DATA package/annotations/en/annotations.json OUT

DATA has one caption a picture, its name in Unicode CLDR ("man firefighter dark skin tone"). OUT has the same pictures
in an ordinary data folder, with several captions each: the name, the name in sentences, and the name with keywords of
CLDR (Unicode License 3.0). Rare keywords are captions by themselves. The name stays the first caption, so that
`bench/emoji.py` reads OUT as it reads DATA, and the keys stay the same.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from emoji import TONE, Emoji, collection

TEMPLATES = ("{}", "a picture of {}", "an emoji of {}", "a drawing of {}", "{} emoji")
WITH_KEYWORD = 3  # captions "a slice of pizza"
ALONE = 3  # captions "puppy"
FEW = 3  # subjects: a keyword of more than these is no caption by itself
LISTED = 4  # keywords after the name
WORD = re.compile(r"[^\W\d_][^\d_]{2,}")  # three letters or more
PLURAL = re.compile(r"[^su’']s$")


def with_article(name: str) -> str:
    """ "pizza" -> "a pizza"; plurals and names that begin with a capital or a digit stay as they are."""
    if not name[0].islower() or PLURAL.search(name):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def with_tones(item: Emoji, subject: str) -> str:
    """The subject with the skin tones of an emoji: "firefighter" -> "firefighter with dark skin tone"."""
    return f"{subject} with {' and '.join(item.tones)}" if item.tones else subject


def keywords_of(annotations: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """CLDR's keywords of each name, without words of the name itself."""
    keywords = {}
    for entry in annotations.values():
        name = " ".join(TONE.sub(" ", entry["tts"][0]).replace(":", " ").replace(",", " ").split())
        words = set(name.lower().split())
        keywords[name] = [word for word in entry.get("default", ()) if not words >= set(word.lower().split())]
    return keywords


def captions(item: Emoji, keywords: Sequence[str], uses: Mapping[str, int]) -> list[str]:
    """The captions of a picture, its name first.

    keywords: those of its subject; uses: number of subjects of each keyword.
    """
    words = [word for word in keywords if WORD.fullmatch(word)]
    keywords = sorted(words, key=lambda word: uses[word])  # rare ones are the most specific
    subject = with_tones(item, item.subject)
    texts = [item.caption, *(template.format(with_article(subject)) for template in TEMPLATES)]
    texts += [f"{with_article(word)} of {subject}" for word in keywords[:WITH_KEYWORD]]
    texts += [with_tones(item, word) for word in keywords if uses[word] <= FEW][:ALONE]
    if keywords:
        texts.append(", ".join([subject, *keywords[:LISTED]]))
    return list(dict.fromkeys(texts))


def main() -> None:
    parser = argparse.ArgumentParser(description="Emoji with captions as people type them.")
    parser.add_argument("data", type=Path)
    parser.add_argument("annotations", type=Path, help="CLDR's annotations/en/annotations.json")
    parser.add_argument("out", type=Path, help="a new folder")
    options = parser.parse_args()

    annotations = json.loads(options.annotations.read_text(encoding="utf-8"))["annotations"]["annotations"]
    keywords = keywords_of(annotations)
    items = collection(options.data)
    subjects = {item.subject for item in items}
    uses = Counter(word for subject in subjects for word in set(keywords.get(subject, ())))
    options.out.mkdir(parents=True)
    lines = []
    for item in items:
        file = options.out / item.pair.key
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.data / item.pair.key, file)
        row = {"file_name": item.pair.key, "text": captions(item, keywords.get(item.subject, ()), uses)}
        lines.append(json.dumps(row, ensure_ascii=False))
    (options.out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    num = sum(len(json.loads(line)["text"]) for line in lines)
    without = len(subjects - set(keywords))
    print(f"{options.out}: {len(lines):,} pictures, {num:,} captions; {without} subjects have no keywords")


if __name__ == "__main__":
    main()
