"""WebDataset: tar files in which the members of one sample share a name up to its first dot, or up to its last.

`00017.jpg` is captioned by `00017.txt`, `00017.caption`, or by text, caption or prompt in `00017.json`. Listing reads
only headers and captions; each picture is then read by its offset, on this machine or at a URL.
"""

from __future__ import annotations

import json
import posixpath
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tintype.config import DataConfig
from tintype.data.sources.captions import NO_CAPTION, decode_text, parse_captions, row_captions
from tintype.data.sources.file_types import CAPTION_SUFFIXES, PICTURE_SUFFIXES, unsupported
from tintype.data.sources.files import FileError, ImageSource, SourceRoot
from tintype.data.sources.names import NO_WORDS, UNUSED, caption_by_name, substitute
from tintype.data.sources.pairs import NEITHER, Listing, Pair
from tintype.data.sources.remote import Archive
from tintype.data.sources.repeats import repeating_folders
from tintype.data.sources.tar_members import JSON, TEXTS, Part, TarMembers

_FURTHER = "a further member of its sample, which is not used"


@dataclass(frozen=True, slots=True)
class Member:
    """A picture inside a tar file."""

    archive: Archive
    offset: int  # bytes
    size: int

    @property
    def fingerprint(self) -> bytes:
        return self.archive.fingerprint + struct.pack("<2q", self.offset, self.size)

    @property
    def archive_path(self) -> str:
        return self.archive.path

    @property
    def fork_safe(self) -> bool:
        return self.archive.file_system is None  # a local file, opened for each read

    def read(self) -> bytes:
        return self.archive.read(self.offset, self.size)

    def serialize(self) -> tuple[SourceRoot, list[Any]]:
        return _TarRoot(self.archive), [self.offset, self.size]


class _TarRoot(NamedTuple):
    archive: Archive

    def deserialize(self, values: list[Any]) -> ImageSource:
        return Member(self.archive, values[0], values[1])


@dataclass(slots=True)
class _Sample:
    parts: dict[str, Part] = field(default_factory=dict)  # by suffix, with its dot

    @property
    def pictures(self) -> list[Part]:
        return [part for part in self.parts.values() if part.is_picture]

    @property
    def captions(self) -> list[Part]:
        """Members with captions, the one to use first."""
        return [self.parts[suffix] for suffix in TEXTS if suffix in self.parts]

    @property
    def unused(self) -> list[Part]:
        """Members other than pictures and the captions in use."""
        return [part for part in self.parts.values() if not part.is_picture and part not in self.captions[:1]]


def list_tar(archive: Archive, name: str, options: DataConfig) -> Listing:
    """List the captioned pictures of one tar file, in its order; their keys begin with `name`."""
    members = TarMembers(archive)
    samples = _samples(members)
    report, remarks = members.report, members.remarks
    pairs = []
    num_pictures = 0
    for path, sample in samples.items():
        picture = next(iter(sample.pictures), None)
        if not (picture and sample.captions) and _further_of(path, samples):
            report(next(iter(sample.parts.values())).name, _FURTHER, False)
            continue
        if picture is None:
            part = next(iter(sample.parts.values()))
            other = next((suffix for suffix in sample.parts if unsupported(suffix)), "")
            if other:
                report(sample.parts[other].name, unsupported(other))
            elif any(suffix in sample.parts for suffix in CAPTION_SUFFIXES):
                report(part.name, "no picture has this name", False)
            else:
                remarks.add(NEITHER, part.name)
            continue
        num_pictures += 1
        if picture.reason:
            report(picture.name, picture.reason)
            continue
        if len(sample.pictures) > 1:
            report(picture.name, "its sample has several pictures: this one is used", False)
        for part in sample.unused:
            remarks.add(_FURTHER, part.name)
        if options.caption_from:
            captions, where, reason = _named(f"{name}/{picture.name}", options), picture.name, NO_WORDS
            for part in sample.captions[:1]:
                remarks.add(UNUSED, part.name)
        else:
            captions, where, reason = _captions(sample, picture.name, name, options)
        if not captions:
            report(where, reason)
        else:
            source = Member(archive, picture.offset, picture.size)
            pairs.append(Pair(f"{name}/{picture.name}", source, captions))
    problems = [*members.problems, *remarks.problems()]
    folders = {f"{name}/{posixpath.dirname(part.name)}/" for part in members.parts if part.is_picture}
    return Listing(
        tuple(pairs),
        tuple(replace(problem, path=f"{name}/{problem.path}".rstrip("/")) for problem in problems),
        num_pictures,
        frozenset(folder for key in folders for folder in repeating_folders(key)),
    )


def _named(key: str, options: DataConfig) -> tuple[str, ...]:
    """Captions of a picture by its name."""
    caption = caption_by_name(options.caption_from, key)
    return (caption,) if caption else substitute(options, key, NO_WORDS)


def _captions(sample: _Sample, picture: str, archive: str, options: DataConfig) -> tuple[tuple[str, ...], str, str]:
    """Return the captions of a sample, "" and ""; or (), the member at fault and the reason."""
    where, reason = picture, NO_CAPTION
    try:
        for part in sample.captions[:1]:
            where = part.name
            if part.reason:
                raise FileError(part.reason)
            text = decode_text(part.content, options.caption_encoding)
            if not part.name.lower().endswith(JSON):
                return parse_captions(text), "", ""
            captions, reason = _json_captions(text)
            if captions:
                return captions, "", ""
    except FileError as error:
        reason = str(error)
    substitutes = substitute(options, f"{archive}/{picture}", reason)
    return (substitutes, "", "") if substitutes else ((), where, reason)


def _json_captions(text: str) -> tuple[tuple[str, ...], str]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise FileError("it is not JSON") from None
    if not isinstance(values, dict):
        raise FileError("it is not a JSON object")
    return row_captions(values)


def _samples(members: TarMembers) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for part in members.parts:
        folder, base = posixpath.split(part.name)
        stem, _, suffix = base.partition(".")
        if not _is_known(f".{suffix.lower()}"):  # a stem with dots in it, or a further member such as 00017.seg.png
            stem, suffix = posixpath.splitext(base)[0], posixpath.splitext(base)[1].removeprefix(".")
        sample = samples.setdefault(posixpath.join(folder, stem), _Sample())
        if sample.parts.setdefault(f".{suffix.lower()}", part) is not part:
            members.report(part.name, "a second member of the same name: the first is used")
    return samples


def _is_known(suffix: str) -> bool:
    """Whether a member of this suffix is a picture, a caption or a table of one sample."""
    return suffix in PICTURE_SUFFIXES or suffix in TEXTS


def _further_of(path: str, samples: Mapping[str, _Sample]) -> bool:
    """Whether the sample at `path`, whose name has dots, is a further member of one that has a picture."""
    folder, base = posixpath.split(path)
    sample = samples.get(posixpath.join(folder, base.partition(".")[0]))
    return "." in base and sample is not None and bool(sample.pictures)
