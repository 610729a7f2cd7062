"""The collection of emoji with captions as people type them: "a slice of pizza", "a picture of a puppy".

    npm pack cldr-annotations-full && tar xzf cldr-annotations-full-*.tgz package/annotations/en/annotations.json
    python bench/emoji_captions.py DATA package/annotations/en/annotations.json OUT

DATA has one caption a picture, its name in Unicode CLDR ("man firefighter dark skin tone"). OUT is the same pictures in
an ordinary data folder, with several captions each: the name, the name in sentences, and with CLDR's keywords for it
(Unicode License 3.0), of which those that few pictures have are captions by themselves. The name stays the first, so
that `bench/emoji.py` reads OUT as it reads DATA, and the keys stay the same.
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

KINDS = ("{}", "a picture of {}", "an emoji of {}", "a drawing of {}", "{} emoji")
WITH_KEYWORD = 3  # captions "a slice of pizza"
ALONE = 3  # captions "puppy"
FEW = 3  # subjects that a keyword may name and still be a caption by itself
LISTED = 4  # keywords behind the name
WORD = re.compile(r"[^\W\d_][^\d_]{2,}")  # of three letters or more
PLURAL = re.compile(r"[^su’']s$")


def with_article(name: str) -> str:
    """ "pizza" -> "a pizza"; names of many things and names with a capital or a digit stay as they are."""
    if not name[0].islower() or PLURAL.search(name):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def told(one: Emoji, subject: str) -> str:
    """A way to say the subject with the tones of an emoji: "firefighter" -> "firefighter with dark skin tone"."""
    return f"{subject} with {' and '.join(one.tones)}" if one.tones else subject


def keywords_of(annotations: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """By name: what else CLDR says of it, without words that the name has."""
    found = {}
    for entry in annotations.values():
        name = " ".join(TONE.sub(" ", entry["tts"][0]).replace(":", " ").replace(",", " ").split())
        own = set(name.lower().split())
        found[name] = [word for word in entry.get("default", ()) if not own >= set(word.lower().split())]
    return found


def captions(one: Emoji, keywords: Sequence[str], uses: Mapping[str, int]) -> list[str]:
    """The captions of a picture, its name first.

    keywords: of its subject; uses: how many subjects have each.
    """
    words = [word for word in keywords if WORD.fullmatch(word)]
    keywords = sorted(words, key=lambda word: uses[word])  # the rarest say most
    noun = with_article(told(one, one.subject))
    said = [one.caption, *(kind.format(noun) for kind in KINDS)]
    said += [f"{with_article(word)} of {told(one, one.subject)}" for word in keywords[:WITH_KEYWORD]]
    said += [told(one, word) for word in keywords if uses[word] <= FEW][:ALONE]
    if keywords:
        said.append(", ".join([told(one, one.subject), *keywords[:LISTED]]))
    return list(dict.fromkeys(said))


def main() -> None:
    parser = argparse.ArgumentParser(description="Emoji with captions as people type them.")
    parser.add_argument("data", type=Path)
    parser.add_argument("annotations", type=Path, help="CLDR's annotations/en/annotations.json")
    parser.add_argument("out", type=Path, help="a new folder")
    options = parser.parse_args()

    known = json.loads(options.annotations.read_text(encoding="utf-8"))["annotations"]["annotations"]
    keywords = keywords_of(known)
    everything = collection(options.data)
    subjects = {one.subject for one in everything}
    uses = Counter(word for subject in subjects for word in set(keywords.get(subject, ())))
    options.out.mkdir(parents=True)
    lines = []
    for one in everything:
        file = options.out / one.pair.key
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.data / one.pair.key, file)
        row = {"file_name": one.pair.key, "text": captions(one, keywords.get(one.subject, ()), uses)}
        lines.append(json.dumps(row, ensure_ascii=False))
    (options.out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    num = sum(len(json.loads(line)["text"]) for line in lines)
    without = len(subjects - set(keywords))
    print(f"{options.out}: {len(lines):,} pictures, {num:,} captions; {without} subjects have no keywords")


if __name__ == "__main__":
    main()
