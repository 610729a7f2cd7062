"""The training copy of a data folder: pictures decoded once, captions encoded once, memory-mapped.

A pack is a folder `pack-STAMP` of pictures.npy (uint8 [N, 3, R, R]), states.npy (text states of all captions, end to
end), and pack.json (everything else). STAMP is a hash of what can be known without reading the pictures: names, sizes,
times and captions, the resolution and the text encoder. A pack of another stamp is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.data.check import Report, summary
from tintype.data.files import shown
from tintype.data.growing import GrowingArray
from tintype.data.order import is_held_out, name_hash
from tintype.data.parallel import in_order
from tintype.data.pictures import examine
from tintype.data.sources import Pair, Problem
from tintype.errors import DataError

FORMAT = 1
CAPTION_BATCH = 256
FEW = 20  # with fewer pictures than this, none need be held out
_DAY = 86_400


class StatesEncoder(Protocol):
    """What a pack needs of a text encoder."""

    @property
    def identity(self) -> str: ...

    def states(self, captions: Sequence[str]) -> list[Tensor]: ...


class Progress(NamedTuple):
    """How far the packing is."""

    stage: str  # "pictures" or "captions"
    done: int
    total: int


class Pack:
    """A finished training copy, opened."""

    def __init__(self, folder: Path, problems: Sequence[Problem] = ()) -> None:
        """Open the pack in `folder`; `problems` were found before packing. Raises DataError if it is damaged."""
        self.folder = folder
        about = _read_about(folder)
        self.fingerprint: str = about["fingerprint"]  # sha256 of what went in, by content
        self.resolution: int = about["resolution"]
        self.keys: list[str] = about["keys"]
        self.sha256: list[str] = about["sha256"]  # of each picture file
        unique: list[str] = about["captions"]
        self._choices: list[list[int]] = about["choices"]  # for each picture, indices into the unique captions
        self.captions: list[tuple[str, ...]] = [tuple(unique[i] for i in choices) for choices in self._choices]
        self.problems: list[Problem] = [*problems, *(Problem(path, reason) for path, reason in about["problems"])]
        self.notes: dict[str, int] = about["notes"]  # what was done to how many pictures
        self._pictures = _open_array(folder, "pictures.npy", about["sizes"])
        self._states = _open_array(folder, "states.npy", about["sizes"])
        self._offsets = np.cumsum([0, *about["lengths"]])

    @property
    def num_samples(self) -> int:
        return len(self.keys)

    def pictures(self, indices: Tensor) -> Tensor:
        """Look up pictures by their indices [B]: uint8 [B, 3, R, R]."""
        return torch.from_numpy(self._pictures[indices.cpu().numpy()])

    def states(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        """Look up text states: for each picture in `indices` [B], those of its caption number `choice` [B].

        `choice` is taken modulo the number of captions. Returns [L_i, D] as the encoder gave them, float16, or
        token ids [L_i] int64. Raises DataError if they are damaged.
        """
        return [
            self._caption(choices[number % len(choices)])
            for index, number in zip(indices.tolist(), choice.tolist(), strict=True)
            for choices in (self._choices[index],)
        ]

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        """Part the pictures into those to train on and those held out: indices, int64 each, ascending.

        Which is which follows from the content of each file alone, so that it does not change when others join, and
        exact copies never lie on both sides. At least one picture is trained on; of 20 and more, one is held out.
        """
        held = [is_held_out(sha256, share) for sha256 in self.sha256]
        if all(held) or (share > 0 and not any(held) and self.num_samples >= FEW):
            lowest = min(self.sha256, key=name_hash)
            held = [sha256 == lowest and self.num_samples >= FEW for sha256 in self.sha256]
            held = [False] * self.num_samples if all(held) else held
        mask = torch.tensor(held, dtype=torch.bool)
        return (~mask).nonzero()[:, 0], mask.nonzero()[:, 0]

    def report(self, data: Path) -> Report:
        """Tell what a check of the folder `data`, from which this was packed, would tell."""
        same: dict[str, list[str]] = {}
        for key, sha256 in zip(self.keys, self.sha256, strict=True):
            same.setdefault(sha256, []).append(key)
        copies = tuple(tuple(keys) for keys in same.values() if len(keys) > 1)
        pairs = tuple(Pair(key, data / key, texts) for key, texts in zip(self.keys, self.captions, strict=True))
        notes = summary(pairs, self.problems, Counter(self.notes), copies)
        return Report(data, pairs, tuple(self.problems), tuple(notes), copies)

    def data_json(self) -> dict[str, Any]:
        """Tell what went in, with hashes, and what was left out, with reasons: the content of a run's data.json."""
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "resolution": self.resolution,
            "num_samples": self.num_samples,
            "samples": [
                {"key": key, "sha256": sha256, "captions": list(captions)}
                for key, sha256, captions in zip(self.keys, self.sha256, self.captions, strict=True)
            ],
            "left_out": [{"path": p.path, "reason": p.reason} for p in self.problems if p.left_out],
            "warnings": [{"path": p.path, "reason": p.reason} for p in self.problems if not p.left_out],
        }

    def _caption(self, index: int) -> Tensor:
        states = np.array(self._states[self._offsets[index] : self._offsets[index + 1]])
        if states.dtype == np.int32:
            return torch.from_numpy(states.astype(np.int64))
        if not np.isfinite(states).all():
            raise DataError(f"the training copy is damaged: delete {shown(str(self.folder))} and start again")
        return torch.from_numpy(states)


def pack(
    pairs: Sequence[Pair], resolution: int, folder: Path, encoder: StatesEncoder, problems: Sequence[Problem] = ()
) -> Pack:
    """Run `packing` to its end."""
    progress = packing(pairs, resolution, folder, encoder, problems)
    while True:
        try:
            next(progress)
        except StopIteration as end:
            done: Pack = end.value
            return done


def packing(
    pairs: Sequence[Pair], resolution: int, folder: Path, encoder: StatesEncoder, problems: Sequence[Problem] = ()
) -> Generator[Progress, None, Pack]:
    """Make the training copy of `pairs` in `folder`, or open the one that is there if nothing has changed.

    A file that cannot be used is left out and listed in `Pack.problems`, after the given `problems`. Closing the
    generator leaves nothing behind. Raises DataError if no picture is usable or the disk is full.
    """
    stamp = _stamp(pairs, resolution, encoder.identity)
    final = folder / f"pack-{stamp[:16]}"
    with suppress(DataError):
        return Pack(final, problems)
    work = folder / f".packing-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        work.mkdir()
        yield from _write(pairs, resolution, work, encoder)
        _move(work, final)
    except OSError as error:
        raise DataError(f"the training copy cannot be written to {shown(str(folder))}: {error.strerror}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Pack(final, problems)


def _write(pairs: Sequence[Pair], resolution: int, work: Path, encoder: StatesEncoder) -> Iterator[Progress]:
    used: list[Pair] = []
    about: dict[str, Any] = {"format": FORMAT, "resolution": resolution, "encoder": encoder.identity}
    hashes, problems, notes = [], [], dict[str, int]()
    with GrowingArray(work / "pictures.npy") as pictures:
        for pair, seen in zip(pairs, in_order(lambda pair: examine(pair.path, resolution), pairs), strict=True):
            if seen.pixels is None:
                problems.append((pair.key, seen.reason))
            else:
                pictures.append(seen.pixels[None])
                used.append(pair)
                hashes.append(seen.sha256)
            for note in seen.notes:
                notes[note] = notes.get(note, 0) + 1
            yield Progress("pictures", len(used) + len(problems), len(pairs))
    if not used:
        first = f": {shown(problems[0][0])}: {problems[0][1]}" if problems else ""
        raise DataError(f"none of the {len(pairs)} captioned pictures can be used{first}")
    unique = list(dict.fromkeys(caption for pair in used for caption in pair.captions))
    index = {caption: i for i, caption in enumerate(unique)}
    lengths: list[int] = []
    with GrowingArray(work / "states.npy") as states:
        for start in range(0, len(unique), CAPTION_BATCH):
            batch = unique[start : start + CAPTION_BATCH]
            for array in map(_storable, encoder.states(batch)):
                lengths.append(len(array))
                states.append(array)
            yield Progress("captions", start + len(batch), len(unique))
    about |= {
        "fingerprint": _fingerprint(used, hashes, resolution, encoder.identity),
        "keys": [pair.key for pair in used],
        "sha256": hashes,
        "captions": unique,
        "choices": [[index[caption] for caption in pair.captions] for pair in used],
        "lengths": lengths,
        "problems": problems,
        "notes": notes,
        "sizes": {name: (work / name).stat().st_size for name in ("pictures.npy", "states.npy")},
    }
    with open(work / "pack.json", "w", encoding="utf-8") as file:
        json.dump(about, file)
        file.flush()
        os.fsync(file.fileno())


def _storable(states: Tensor) -> NDArray[Any]:
    kept = torch.int32 if states.dtype == torch.int64 else torch.float16
    array: NDArray[Any] = states.detach().cpu().to(kept).numpy()
    if array.dtype == np.float16 and not np.isfinite(array).all():
        raise DataError("the text encoder gave states that are not finite numbers: its weights may be damaged")
    return array


def _stamp(pairs: Sequence[Pair], resolution: int, identity: str) -> str:
    """Hash what tells whether a pack is up to date, without reading a picture."""
    digest = hashlib.sha256(json.dumps([FORMAT, resolution, identity]).encode())
    for pair in pairs:
        try:
            info = os.stat(pair.path)
            state = [info.st_size, info.st_mtime_ns, info.st_ctime_ns]
        except OSError:
            state = []
        digest.update(json.dumps([pair.key, state, pair.captions]).encode())
    return digest.hexdigest()


def _fingerprint(pairs: Sequence[Pair], hashes: Sequence[str], resolution: int, identity: str) -> str:
    """Hash what is trained on, by content: the same on another machine and after a copy of the folder."""
    digest = hashlib.sha256(json.dumps([FORMAT, resolution, identity]).encode())
    for pair, sha256 in zip(pairs, hashes, strict=True):
        digest.update(json.dumps([pair.key, sha256, pair.captions]).encode())
    return digest.hexdigest()


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"there is no finished training copy in {shown(str(folder))}") from None
    if about.get("format") != FORMAT:
        raise DataError(f"the training copy in {shown(str(folder))} is of another version: delete it")
    return about


def _open_array(folder: Path, name: str, sizes: dict[str, int]) -> NDArray[Any]:
    path = folder / name
    try:
        if path.stat().st_size != sizes[name]:
            raise ValueError("its size has changed")
        array: NDArray[Any] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError):
        raise DataError(f"the training copy is damaged: delete {shown(str(folder))} and start again") from None
    return array


def _move(work: Path, final: Path) -> None:
    """Put a finished pack in its place; one that is there and opens was finished by another process meanwhile."""
    with suppress(DataError):
        Pack(final)
        return
    if final.exists():
        shutil.rmtree(final)
    os.rename(work, final)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left behind a day or more ago."""
    for old in folder.glob(".packing-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _DAY:
                shutil.rmtree(old, ignore_errors=True)
