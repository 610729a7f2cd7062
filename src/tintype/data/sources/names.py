"""Captions from the names of files and folders, and whether such names say anything."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

from tintype.config import CAPTION_FROM, DataConfig
from tintype.data.sources.captions import EMPTY, NO_CAPTION, clean_caption
from tintype.data.sources.pairs import Problem
from tintype.data.sources.repeats import ARCHIVES, repeating_folders, repeats_and_words
from tintype.printable import printable

NO_WORDS = "its name has no words for a caption"
UNUSED = "not used: captions are taken from names (--caption-from)"
MANY = 0.5  # share of names with words from which taking captions from them is offered
_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z][\w-]*$")  # of a file; in "v1.2" there is none
_COUNTERS = re.compile(r"(?:\s*\(\d+\)|\s+\d+|\s+copy)+$", re.IGNORECASE)  # "red car 12", "red car (2)"
_LAST_DIGITS = re.compile(r"(?<=[^\W\d_]{3})\d+$")  # "poodle12"
_NUMBERED = re.compile(r"^(?:\d+\.\s*|0\d*\s+)(?=.*[^\W\d_])")  # "001.Albatross", "01 cats"
_WORD = re.compile(r"[^\W_]+")
# What cameras, telephones and programs begin names with, with the digits that may follow.
_DEVICES = re.compile(
    r"(?:img|imag|image|dsc[nf]?|dcim|pxl|mvimg|vid|mov|pict?|picture|photo|foto|screen|shot|screenshot|scan|frame|file|"
    r"untitled|copy|edit|edited|sam|gopr|gx|gh|mg|wa|capture|snap|whatsapp|signal|telegram|fb|received|download|at|am|"
    r"pm)s?\d*"
)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:[- _][0-9a-f]{4}){3}[- _][0-9a-f]{12}\b")
_HASH = re.compile(r"[0-9a-f]{8,}")


def says_nothing(text: str) -> bool:
    """Whether a caption has but numbers, dates, hashes, single letters and the names that cameras give."""
    if any(unicodedata.category(sign) == "So" for sign in text):  # an emoji
        return False
    return not any(map(_means_something, _WORD.findall(_UUID.sub("", text.lower()))))


def _means_something(word: str) -> bool:
    if word.isdigit() or _DEVICES.fullmatch(word) or (word.isascii() and len(word.rstrip("0123456789")) < 2):
        return False
    if not (word.isascii() and any(map(str.isdigit, word))):
        return True
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(word))
    return _HASH.fullmatch(word) is None and changes < 3


def name_text(name: str) -> str:
    """The name of a file or folder as a caption."""
    return clean_caption(name.replace("_", " ").replace("-", " "))


def substitute(options: DataConfig, key: str, reason: str) -> tuple[str, ...]:
    """Captions for a picture without one, by `options.no_caption`; () leaves the picture out."""
    if reason not in (NO_CAPTION, EMPTY, NO_WORDS) or options.no_caption == "skip":
        return ()
    if options.no_caption == "empty":
        return ("",)
    folders = repeating_folders(key) if options.repeats == "folder" else []
    if folders:  # where `name` in `10_name` is the caption
        return (name_text(repeats_and_words(PurePosixPath(folders[0]).name)[1]),)
    return (name_text(_SUFFIX.sub("", PurePosixPath(key).name)),)


def caption_by_name(source: str, key: str, data_name: str = "") -> str:
    """The caption of a picture from its "file" name, its "folder", or its "path", by `source`; "" if it has no words.

    Numbers at the end are dropped, and names that say nothing. key: path below the data; an archive in it is no
    folder. data_name: the folder or archive of the data, for pictures that lie in no other folder.
    """
    *parts, file = key.split("/")
    folders = [part for part in parts if not part.lower().endswith(ARCHIVES)]
    data_name = data_name or next((part for part in parts if part not in folders), "")
    words = [text for folder in folders if (text := _words(folder))]
    own = _words(_SUFFIX.sub("", file))
    if source == "file":
        return own
    if source == "folder":
        return words[-1] if words else _words(_without_archive(data_name))
    distinct = {text.casefold(): text for text in [*words, own] if text}
    return " ".join(distinct.values())


def offers(problems: Iterable[Problem]) -> str:
    """The options that caption the pictures without captions among problems, with examples; "" if there are none."""
    keys = [problem.path for problem in problems if problem.reason == NO_CAPTION]
    if not keys:
        return ""
    named = "the names of the folders without their numbers" if repeating_folders(keys[0]) else "the file names"
    found, shown = [f"--no-caption name takes {named} as captions"], set[str]()
    texts = ("the words in the file names", "the names of the folders", "the words in the paths")
    for source, text in zip(CAPTION_FROM, texts, strict=True):
        captions = [caption for key in keys if (caption := caption_by_name(source, key))]
        if len(captions) > MANY * len(keys) and captions[0] not in shown:
            shown.add(captions[0])
            found.append(f"--caption-from {source} {text} ('{printable(captions[0])}')")
    return ", ".join(found)


def _words(name: str) -> str:
    """The words in the name of a file without its suffix, or of a folder; "" if they say nothing."""
    text = _NUMBERED.sub("", name_text(repeats_and_words(name)[1]))
    text = _LAST_DIGITS.sub("", _COUNTERS.sub("", text)).strip()
    return "" if says_nothing(text) else text


def _without_archive(name: str) -> str:
    return posixpath.splitext(name)[0] if name.lower().endswith(ARCHIVES) else name
