"""The builder of one cache: it appends rows to files, keeps a journal of them, and renames the folder at the end."""

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
from tintype.data.cache.journal import BuildState, Journal
from tintype.data.images.decode import Preprocess
from tintype.data.images.facts import FACTS, hex_digests
from tintype.data.process_pool import can_fork, map_processes
from tintype.data.sources.exclude import REASON, Exclusions
from tintype.data.sources.pairs import Pair
from tintype.data.thread_pool import map_threads, num_threads
from tintype.errors import DataError
from tintype.model.atomic_write import replace_file
from tintype.printable import printable

CAPTION_BATCH = 256
MANY_CAPTIONS = 2048  # from here on they are encoded MANY_BATCH at once, which encoders sort by length
MANY_BATCH = 1024
COMMIT_SECONDS = 2.0  # the most work that a kill may lose
MIN_BLOCK, MAX_BLOCK = 16, 64  # pictures in a block, the unit of work of one process
BLOCK_PIXELS = 2**18  # pixels of a block at their final size, within these bounds
MIN_FORK = 256  # with fewer pictures, processes take longer to start than they save
_PROBED = 32  # captions whose embeddings are measured to estimate the disk space


class CaptionEncoder(Protocol):
    """The methods of a text encoder that a cache uses."""

    @property
    def identity(self) -> str: ...

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]: ...


class Progress(NamedTuple):
    """The progress of a build."""

    stage: str  # "pictures", "captions", or "waiting" while another process builds the same cache
    done: int
    total: int


class Builder:
    """Builds one cache in a work folder."""

    def __init__(
        self,
        cache_type: type[DatasetIndex],
        work: Path,
        pairs: Sequence[Pair],
        preprocess: Preprocess,
        encoder: CaptionEncoder,
        exclusions: Exclusions,
    ) -> None:
        self._cache_type = cache_type
        self._stored = issubclass(cache_type, DatasetCache)  # whether pixels and embeddings are written
        self._work = work
        self._journal_path = work.with_name(f"{work.name}.jsonl")
        self._pairs = pairs
        self._preprocess = preprocess
        self._encoder = encoder
        self._exclusions = exclusions
        self._committed = time.monotonic()  # time of the last commit
        try:
            self._open()
        except (ValueError, OSError, KeyError):  # the unfinished cache is damaged, after a power failure perhaps
            self._remove()
            work.mkdir()
            self._open()

    def _open(self) -> None:
        self._journal = Journal(self._journal_path)
        state = self._journal.state
        with ExitStack() as stack:
            stack.callback(self._journal.close)
            self._facts = stack.enter_context(GrowingArray(self._work / FACTS_FILE, len(state.used)))
            self._states = stack.enter_context(GrowingArray(self._work / STATES_FILE, sum(state.lengths)))
            self._pictures: dict[int, GrowingArray] = {}
            for number in sorted(set(state.shape_of)) if self._stored else ():
                path = self._work / pictures_file(self._preprocess.shapes[number])
                keep = state.shape_of.count(number)
                self._pictures[number] = stack.enter_context(GrowingArray(path, keep))
            self._files = stack.pop_all()

    def build(self, folder: Path, fingerprint: str) -> Iterator[Progress]:
        """Build the rest of the cache and move it into `folder`; `fingerprint` names its data there."""
        state = self._journal.state
        with self._files:
            if self._stored and state.done < len(self._pairs):
                _require_room(folder, self._work, self._pairs, self._preprocess, self._encoder)
            try:
                yield from self._read_pictures()
                if self._stored:
                    yield from self._encode_captions()
            except BaseException:  # keep the work for the next process
                with suppress(OSError):
                    self._commit()
                raise
        if not state.used:
            self._remove()
            first = f": {printable(state.problems[0][0])}: {state.problems[0][1]}" if state.problems else ""
            raise DataError(f"none of the {len(self._pairs)} captioned pictures can be used{first}")
        content = self._write_about(state)
        digest = hashlib.sha256(json.dumps([FORMAT, content]).encode()).hexdigest()
        name = f"{self._cache_type.PREFIX}-{digest[:16]}"
        row = {"pack": name, "problems": state.problems}
        replace_file(folder / f"stamp-{fingerprint}.json", json.dumps(row).encode())
        _move(self._cache_type, self._work, folder / name)
        self._journal_path.unlink()

    def _remove(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        self._journal_path.unlink(missing_ok=True)

    def _read_pictures(self) -> Iterator[Progress]:
        state, pairs = self._journal.state, self._pairs
        known_hashes = set(hex_digests(self._stored_facts()["sha256"]))
        size = min(MAX_BLOCK, max(MIN_BLOCK, BLOCK_PIXELS // self._preprocess.resolution**2))
        parts = [range(start, min(start + size, len(pairs))) for start in range(state.done, len(pairs), size)]
        for numbers, block in zip(parts, self._blocks(parts), strict=True):
            self._append(numbers, block, known_hashes)
            state.done = numbers.stop
            self._commit_if_due()
            yield Progress("pictures", state.done, len(pairs))

    def _blocks(self, parts: Sequence[range]) -> Iterator[Block]:
        """Examine the pictures of each part, in as many processes, or else threads, as there are cores."""

        def examined(numbers: range) -> Block:
            return examine_block([self._pairs[i].source for i in numbers], self._preprocess, self._stored)

        processes, rest = num_threads(), self._pairs[self._journal.state.done :]
        if processes > 1 and len(rest) >= MIN_FORK and can_fork() and all(pair.source.fork_safe for pair in rest):
            return map_processes(examined, parts, processes)
        return map_threads(examined, parts)

    def _append(self, numbers: range, block: Block, known_hashes: set[str]) -> None:
        state = self._journal.state
        keep = np.ones(len(numbers), dtype=np.bool_)
        may_reject = any(block.reasons) or self._preprocess.options.dedupe or self._exclusions.sha256
        for row, (number, sha256) in enumerate(zip(numbers, block.sha256, strict=True)) if may_reject else ():
            reason = block.reasons[row]
            if sha256 in self._exclusions.sha256:
                reason = REASON
            elif self._preprocess.options.dedupe and sha256 in known_hashes:
                reason = "an exact copy of another picture"
            if reason:
                state.problems.append((self._pairs[number].key, reason))
                keep[row] = False
            elif self._preprocess.options.dedupe:
                known_hashes.add(sha256)
        if not keep.any():
            return
        for shape, pixels in sorted(block.pixels.items()):
            rows = keep[block.shapes == shape]
            if rows.any():
                self._pictures_of(shape).append(pixels[rows])
        self._facts.append(block.facts[keep])
        state.used += np.asarray(numbers)[keep].tolist()
        state.shape_of += block.shapes[keep].tolist()
        state.notes.update(note for row in np.flatnonzero(keep).tolist() for note in block.notes[row])

    def _pictures_of(self, shape: int) -> GrowingArray:
        if shape not in self._pictures:
            path = self._work / pictures_file(self._preprocess.shapes[shape])
            self._pictures[shape] = self._files.enter_context(GrowingArray(path))
        return self._pictures[shape]

    def _encode_captions(self) -> Iterator[Progress]:
        state = self._journal.state
        unique = self._unique_captions()
        size = CAPTION_BATCH if len(unique) < MANY_CAPTIONS else MANY_BATCH
        for start in range(len(state.lengths), len(unique), size):
            batch = unique[start : start + size]
            embeddings = self._encoder.text_embeddings(batch)
            self._states.append(_storable(torch.cat(embeddings)))
            state.lengths += map(len, embeddings)
            self._commit_if_due()
            yield Progress("captions", start + len(batch), len(unique))

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        for array in (self._facts, self._states, *self._pictures.values()):
            array.sync()
        self._journal.commit()
        self._committed = time.monotonic()

    def _stored_facts(self) -> NDArray[Any]:
        """The facts of the pictures already in the cache; none unless exact copies are to be left out."""
        if not self._preprocess.options.dedupe or not self._journal.state.used:
            return np.zeros(0, dtype=FACTS)
        rows = np.fromfile(self._work / FACTS_FILE, dtype=np.uint8)
        return rows[-len(self._journal.state.used) * FACTS.itemsize :].view(FACTS)

    def _unique_captions(self) -> list[str]:
        used = (self._pairs[number] for number in self._journal.state.used)
        return list(dict.fromkeys(caption for pair in used for caption in pair.captions))

    def _write_about(self, state: BuildState) -> str:
        """Write pack.json. Returns the content fingerprint."""
        used = [self._pairs[number] for number in state.used]
        hashes = hex_digests(np.load(self._work / FACTS_FILE, mmap_mode="r")["sha256"])
        shapes = sorted(set(state.shape_of))
        weights = [pair.weight for pair in used]
        even = all(weight == weights[0] for weight in weights)
        unique = self._unique_captions()
        index = {caption: i for i, caption in enumerate(unique)}
        pictures = [pictures_file(self._preprocess.shapes[shape]) for shape in shapes]
        names = [FACTS_FILE, STATES_FILE, *pictures] if self._stored else [FACTS_FILE]
        about: dict[str, Any] = {
            "format": FORMAT,
            "resolution": self._preprocess.resolution,
            "encoder": self._encoder.identity,
            "fingerprint": content_fingerprint(used, hashes, self._preprocess, shapes, self._encoder.identity, even),
            "shapes": [self._preprocess.shapes[shape] for shape in shapes],
            "shape_of": [shapes.index(shape) for shape in state.shape_of],
            "weights": None if even else weights,
            "keys": [pair.key for pair in used],
            "captions": unique,
            "choices": [[index[caption] for caption in pair.captions] for pair in used],
            "lengths": state.lengths,
            "notes": dict(sorted(state.notes.items())),
            "sizes": {name: (self._work / name).stat().st_size for name in names},
        }
        replace_file(self._work / ABOUT, json.dumps(about).encode())
        return str(about["fingerprint"])


def _require_room(
    folder: Path, work: Path, pairs: Sequence[Pair], preprocess: Preprocess, encoder: CaptionEncoder
) -> None:
    """Raise DataError, before any picture is read, if the cache will not fit on the disk."""
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


def _move(cache_type: type[DatasetIndex], work: Path, final: Path) -> None:
    """Rename a finished cache to `final`, unless a cache made from a copy of the data is already there."""
    with suppress(DataError):
        cache_type(final)
        shutil.rmtree(work, ignore_errors=True)
        return
    if final.exists():
        shutil.rmtree(final)
    os.rename(work, final)
