"""The builder of one cache: rows appended to files, a journal of what is on the disk, a move into place at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.data.cache.dataset_cache import STATES_FILE, DatasetCache, pictures_file
from tintype.data.cache.decode_block import Block, examine_block
from tintype.data.cache.fingerprints import content_fingerprint
from tintype.data.cache.growing_array import GrowingArray
from tintype.data.cache.index import ABOUT, FACTS_FILE, FORMAT, DatasetIndex
from tintype.data.cache.journal import Journal, Progressed
from tintype.data.images.decode import Preprocess
from tintype.data.images.facts import FACTS, hex_digests
from tintype.data.process_pool import can_fork, in_processes
from tintype.data.sources.exclude import REASON, Exclusions
from tintype.data.sources.pairs import Pair
from tintype.data.thread_pool import in_parts, num_threads
from tintype.errors import DataError
from tintype.model.atomic_write import replace_file
from tintype.printable import printable

CAPTION_BATCH = 256
COMMIT_SECONDS = 2.0  # of work that a kill may lose
FEWEST, TOGETHER = 16, 64  # pictures that are looked at in one go, and
PART_PIXELS = 2**18  # so many pixels of them at their final size, or fewer, where that leaves enough pictures
WORTH_FORKING = 256  # pictures from which on processes are worth their start
_PROBED = 32  # captions whose embeddings are measured to tell how much room they need


class CaptionEncoder(Protocol):
    """The methods of a text encoder that a cache uses."""

    @property
    def identity(self) -> str: ...

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]: ...


class Progress(NamedTuple):
    """How far the build is."""

    stage: str  # "pictures", "captions", or "waiting" for another process that builds the same cache
    done: int
    total: int


class Builder:
    """Builds one cache, in a folder of its own."""

    def __init__(
        self,
        kind: type[DatasetIndex],
        work: Path,
        pairs: Sequence[Pair],
        preprocess: Preprocess,
        encoder: CaptionEncoder,
        exclusions: Exclusions,
    ) -> None:
        self._kind = kind
        self._stored = issubclass(kind, DatasetCache)  # pixels and embeddings too
        self._work = work
        self._journal_path = work.with_name(f"{work.name}.jsonl")
        self._pairs = pairs
        self._preprocess = preprocess
        self._encoder = encoder
        self._exclusions = exclusions
        self._committed = time.monotonic()  # when what is done was last brought to the disk
        try:
            self._open()
        except (ValueError, OSError, KeyError):  # what is there is of no use, after a power failure perhaps
            self._remove()
            work.mkdir()
            self._open()

    def _open(self) -> None:
        self._journal = Journal(self._journal_path)
        so_far = self._journal.so_far
        with ExitStack() as stack:
            stack.callback(self._journal.close)
            self._facts = stack.enter_context(GrowingArray(self._work / FACTS_FILE, len(so_far.used)))
            self._states = stack.enter_context(GrowingArray(self._work / STATES_FILE, sum(so_far.lengths)))
            self._pictures: dict[int, GrowingArray] = {}
            for number in sorted(set(so_far.shape_of)) if self._stored else ():
                path = self._work / pictures_file(self._preprocess.shapes[number])
                keep = so_far.shape_of.count(number)
                self._pictures[number] = stack.enter_context(GrowingArray(path, keep))
            self._files = stack.pop_all()

    def build(self, folder: Path, stamp: str) -> Iterator[Progress]:
        """Do what is left to do, and move the cache into `folder`."""
        so_far = self._journal.so_far
        with self._files:
            if self._stored and so_far.done < len(self._pairs):
                _require_room(folder, self._work, self._pairs, self._preprocess, self._encoder)
            try:
                yield from self._read_pictures()
                if self._stored:
                    yield from self._encode_captions()
            except BaseException:  # stopped: at the end there is no more to go on with
                with suppress(OSError):
                    self._commit()
                raise
        if not so_far.used:
            self._remove()
            first = f": {printable(so_far.problems[0][0])}: {so_far.problems[0][1]}" if so_far.problems else ""
            raise DataError(f"none of the {len(self._pairs)} captioned pictures can be used{first}")
        fingerprint = self._write_about(so_far)
        digest = hashlib.sha256(json.dumps([FORMAT, fingerprint]).encode()).hexdigest()
        name = f"{self._kind.PREFIX}-{digest[:16]}"
        stamped = {"pack": name, "problems": so_far.problems}
        replace_file(folder / f"stamp-{stamp}.json", json.dumps(stamped).encode())
        _move(self._kind, self._work, folder / name)
        self._journal_path.unlink()

    def _remove(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        self._journal_path.unlink(missing_ok=True)

    def _read_pictures(self) -> Iterator[Progress]:
        so_far, pairs = self._journal.so_far, self._pairs
        seen_before = set(hex_digests(self._stored_facts()["sha256"]))
        size = min(TOGETHER, max(FEWEST, PART_PIXELS // self._preprocess.resolution**2))
        parts = [range(start, min(start + size, len(pairs))) for start in range(so_far.done, len(pairs), size)]
        for numbers, block in zip(parts, self._blocks(parts), strict=True):
            self._take(numbers, block, seen_before)
            so_far.done = numbers.stop
            self._commit_now_and_then()
            yield Progress("pictures", so_far.done, len(pairs))

    def _blocks(self, parts: Sequence[range]) -> Iterator[Block]:
        """What becomes of the pictures of each part: by as many processes, or else threads, as there are cores."""

        def examined(numbers: range) -> Block:
            return examine_block([self._pairs[i].source for i in numbers], self._preprocess, self._stored)

        processes, left = num_threads(), self._pairs[self._journal.so_far.done :]
        if processes > 1 and len(left) >= WORTH_FORKING and can_fork() and all(pair.source.fork_safe for pair in left):
            return in_processes(examined, parts, processes)
        return in_parts(examined, parts)

    def _take(self, numbers: range, block: Block, seen_before: set[str]) -> None:
        so_far = self._journal.so_far
        keep = np.ones(len(numbers), dtype=np.bool_)
        judged = any(block.reasons) or self._preprocess.options.dedupe or self._exclusions.sha256
        for place, (number, sha256) in enumerate(zip(numbers, block.sha256, strict=True)) if judged else ():
            reason = block.reasons[place]
            if sha256 in self._exclusions.sha256:
                reason = REASON
            elif self._preprocess.options.dedupe and sha256 in seen_before:
                reason = "an exact copy of another picture"
            if reason:
                so_far.problems.append((self._pairs[number].key, reason))
                keep[place] = False
            elif self._preprocess.options.dedupe:
                seen_before.add(sha256)
        if not keep.any():
            return
        for shape, pixels in sorted(block.pixels.items()):
            rows = keep[block.shapes == shape]
            if rows.any():
                self._pictures_of(shape).append(pixels[rows])
        self._facts.append(block.facts[keep])
        so_far.used += np.asarray(numbers)[keep].tolist()
        so_far.shape_of += block.shapes[keep].tolist()
        so_far.notes.update(note for place in np.flatnonzero(keep).tolist() for note in block.notes[place])

    def _pictures_of(self, shape: int) -> GrowingArray:
        if shape not in self._pictures:
            path = self._work / pictures_file(self._preprocess.shapes[shape])
            self._pictures[shape] = self._files.enter_context(GrowingArray(path))
        return self._pictures[shape]

    def _encode_captions(self) -> Iterator[Progress]:
        so_far = self._journal.so_far
        unique = self._unique()
        for start in range(len(so_far.lengths), len(unique), CAPTION_BATCH):
            batch = unique[start : start + CAPTION_BATCH]
            embeddings = self._encoder.text_embeddings(batch)
            self._states.append(_storable(torch.cat(embeddings)))
            so_far.lengths += map(len, embeddings)
            self._commit_now_and_then()
            yield Progress("captions", start + len(batch), len(unique))

    def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        for array in (self._facts, self._states, *self._pictures.values()):
            array.sync()
        self._journal.commit()
        self._committed = time.monotonic()

    def _stored_facts(self) -> NDArray[Any]:
        """Of the pictures that were taken before, if their hashes matter."""
        if not self._preprocess.options.dedupe or not self._journal.so_far.used:
            return np.zeros(0, dtype=FACTS)
        rows = np.fromfile(self._work / FACTS_FILE, dtype=np.uint8)
        return rows[-len(self._journal.so_far.used) * FACTS.itemsize :].view(FACTS)

    def _unique(self) -> list[str]:
        used = (self._pairs[number] for number in self._journal.so_far.used)
        return list(dict.fromkeys(caption for pair in used for caption in pair.captions))

    def _write_about(self, so_far: Progressed) -> str:
        """Write pack.json and return the fingerprint."""
        used = [self._pairs[number] for number in so_far.used]
        hashes = hex_digests(np.load(self._work / FACTS_FILE, mmap_mode="r")["sha256"])
        shapes = sorted(set(so_far.shape_of))
        weights = [pair.weight for pair in used]
        even = all(weight == weights[0] for weight in weights)
        unique = self._unique()
        index = {caption: i for i, caption in enumerate(unique)}
        pictures = [pictures_file(self._preprocess.shapes[shape]) for shape in shapes]
        names = [FACTS_FILE, STATES_FILE, *pictures] if self._stored else [FACTS_FILE]
        about: dict[str, Any] = {
            "format": FORMAT,
            "resolution": self._preprocess.resolution,
            "encoder": self._encoder.identity,
            "fingerprint": content_fingerprint(used, hashes, self._preprocess, shapes, self._encoder.identity, even),
            "shapes": [self._preprocess.shapes[shape] for shape in shapes],
            "shape_of": [shapes.index(shape) for shape in so_far.shape_of],
            "weights": None if even else weights,
            "keys": [pair.key for pair in used],
            "captions": unique,
            "choices": [[index[caption] for caption in pair.captions] for pair in used],
            "lengths": so_far.lengths,
            "notes": dict(sorted(so_far.notes.items())),
            "sizes": {name: (self._work / name).stat().st_size for name in names},
        }
        replace_file(self._work / ABOUT, json.dumps(about).encode())
        return str(about["fingerprint"])


def _require_room(
    folder: Path, work: Path, pairs: Sequence[Pair], preprocess: Preprocess, encoder: CaptionEncoder
) -> None:
    """Raise DataError, before anything is read, if the disk cannot hold what is about to be written."""
    unique = list(dict.fromkeys(caption for pair in pairs for caption in pair.captions))
    probed = unique[:: max(1, len(unique) // _PROBED)] if len(unique) > CAPTION_BATCH else []
    embeddings = _storable(torch.cat(encoder.text_embeddings(probed))).nbytes / len(probed) if probed else 0
    picture = 3 * max(rows * columns for rows, columns in preprocess.shapes) + FACTS.itemsize
    needed = round(len(pairs) * picture + len(unique) * embeddings)
    free = shutil.disk_usage(folder).free + sum(path.stat().st_size for path in work.iterdir())
    if needed > free:
        raise DataError(
            f"the cache needs about {_gigabytes(needed)} and {printable(str(folder))} has {_gigabytes(free)} "
            "free: make room, give --cache a folder on another disk, lower --resolution, or --stream without a copy"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


def _storable(embeddings: Tensor) -> NDArray[Any]:
    kept = torch.int32 if embeddings.dtype == torch.int64 else torch.float16
    array: NDArray[Any] = embeddings.detach().cpu().to(kept).numpy()
    if array.dtype == np.float16 and not np.isfinite(array).all():
        raise DataError("the text encoder gave embeddings that are not finite numbers: its weights may be damaged")
    return array


def _move(kind: type[DatasetIndex], work: Path, final: Path) -> None:
    """Put a finished cache in its place; one that is there and opens holds the same, made from a copy of the data."""
    with suppress(DataError):
        kind(final)
        shutil.rmtree(work, ignore_errors=True)
        return
    if final.exists():
        shutil.rmtree(final)
    os.rename(work, final)
