"""Epochs, for `bench/data.py`: from the cache against decoding in every epoch; reading against training."""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tintype.config import DataConfig, TextConfig, small
from tintype.data.cache.dataset_cache import DatasetCache
from tintype.data.cache.open_or_build import build_cache
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.find import find_pairs
from tintype.data.sources.pairs import Pair
from tintype.data.thread_pool import finished
from tintype.model.denoiser import Denoiser
from tintype.model.nets.text import make_encoder
from tintype.model.nets.tokens import learn_tokenizer
from tintype.training.core.batches import Reader
from tintype.training.core.trainer import Trainer

OPTIONS = DataConfig(crop="none")
BATCH = 64
LATER = 10  # epochs read from the cache and measured together, since one is too short


class Lengths:
    """A text encoder that costs nothing: each word becomes its length."""

    identity = "lengths"

    def text_embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        words = [caption.split() for caption in captions]
        embeddings = torch.tensor([len(word) for caption in words for word in caption], dtype=torch.float16)
        return list(embeddings[:, None].split([len(caption) for caption in words]))


class DecodedEachTime(Dataset[Tensor]):
    """Pictures as torchvision's ImageFolder gives them after Resize(side), CenterCrop(side) and ToTensor.

    transform: torchvision's own transforms; None: the same arithmetic, without the overhead of torchvision.
    over_white: draw transparent pictures on white, as training needs them; ImageFolder drops the alpha channel.
    """

    def __init__(self, pairs: Sequence[Pair], side: int, transform: object = None, over_white: bool = False) -> None:
        self.pairs, self.side, self.transform, self.over_white = pairs, side, transform, over_white

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        picture = self._opened(io.BytesIO(self.pairs[index].source.read()))
        if callable(self.transform):
            transformed: Tensor = self.transform(picture)
            return transformed
        width, height = picture.size
        scale = self.side / min(width, height)
        if scale != 1:
            picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
        crop_left, crop_top = (picture.width - self.side) // 2, (picture.height - self.side) // 2
        picture = picture.crop((crop_left, crop_top, crop_left + self.side, crop_top + self.side))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)

    def _opened(self, content: io.BytesIO) -> Image.Image:
        picture = Image.open(content)
        if not self.over_white:
            return picture.convert("RGB")
        drawn = picture.convert("RGBA")
        canvas = Image.new("RGB", drawn.size, "white")
        canvas.paste(drawn, mask=drawn)
        return canvas


class Lap(NamedTuple):
    """Seconds: CPU time of all cores together, and wall time."""

    cpu: float
    wall: float


class Watch:
    """A stopwatch with laps."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> Lap:
        last, self._last = self._last, self._now()
        return Lap(self._last.cpu - last.cpu, self._last.wall - last.wall)

    def _now(self) -> Lap:
        times = os.times()  # of this process and of its finished children
        return Lap(times.user + times.system + times.children_user + times.children_system, time.perf_counter())


def epochs(args: argparse.Namespace) -> None:
    """Compare the cache with decoding in every epoch: the same number of worker processes and of cores for both."""
    pin(max(1, args.workers))
    pairs = list(find_pairs(args.data, OPTIONS)[0])
    preprocess = preprocess_for(args.resolution, replace(OPTIONS, crop="square"))
    dataset = DecodedEachTime(pairs, args.resolution, torchvision_transform(args), args.over_white)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=args.workers)
    decoding, first, later = [], [], []
    for round_ in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            watch = Watch()
            for batch in loader:
                assert batch.shape[-1] == args.resolution
            decoding.append(watch.lap())
            cache = finished(build_cache(pairs, preprocess, Path(folder), Lengths()))
            read_epoch(cache, 0)
            first.append(watch.lap())
            for epoch in range(LATER):
                read_epoch(cache, epoch + 1)
            lap = watch.lap()
            later.append(Lap(lap.cpu / LATER, lap.wall / LATER))
        for name, (cpu, wall) in (("decoding", decoding[-1]), ("cache build", first[-1]), ("later", later[-1])):
            print(f"round {round_ + 1}: {name}: {cpu:.3f} s CPU time, {wall:.3f} s wall time", flush=True)
    for title, index in (("CPU time", 0), ("wall time", 1)):
        decode, build, cached = (min(lap[index] for lap in laps) for laps in (decoding, first, later))
        print(f"by {title}, fastest rounds: first epoch {decode / build:.2f} times as fast (target 1)", end=", ")
        print(f"later epochs {decode / cached:.1f} times (target 10)")


def pin(cores: int) -> None:
    """Use only `cores` cores: the cache build takes as many processes, and torch as many threads."""
    torch.set_num_threads(cores)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0), reverse=True)[:cores])


def torchvision_transform(args: argparse.Namespace) -> object:
    if not args.torchvision:
        return None
    from torchvision import transforms

    side = args.resolution
    return transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()])


def read_epoch(cache: DatasetCache, epoch: int) -> None:
    """Read one epoch in order, as floats, in batches."""
    samples = torch.arange(cache.num_samples)
    order = cache.order(0, samples)
    for batch in (samples + epoch * cache.num_samples).split(BATCH):
        indices = order.at(batch)
        for positions in cache.by_shape(indices):
            cache.pictures(indices[positions]).float().div_(255)
            cache.text_embeddings(indices[positions], torch.zeros(len(positions), dtype=torch.int64))


def reading(args: argparse.Namespace) -> None:
    """Images per second: training of `small` on two cores, and reading from the cache on one core."""
    pairs, _ = find_pairs(args.data, OPTIONS)
    tokenizer, vocabulary = learn_tokenizer([caption for pair in pairs for caption in pair.captions])
    config = small(args.resolution)
    config = replace(
        config,
        text=TextConfig(encoder="learned", vocabulary=vocabulary),
        train=replace(config.train, batch_size=args.batch_size),
    )
    encoder = make_encoder(config.text, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        cache = finished(
            build_cache(pairs, preprocess_for(args.resolution, config.data, config.net.patch), Path(folder), encoder)
        )
        trainer = Trainer(Denoiser(config, tokenizer), cache, config, torch.device("cpu"))
        steps = trainer.steps(10**9)
        next(steps)
        start, seen = time.process_time(), trainer.images_seen
        while time.process_time() - start < args.seconds:
            next(steps)
        trained = 2 * (trainer.images_seen - seen) / (time.process_time() - start)
        reader = Reader(cache, cache.split(config.train.held_out)[0], config.train, 0)
        start, read = time.process_time(), 0
        while time.process_time() - start < args.seconds / 4:
            reader(torch.arange(read, read + BATCH), BATCH)
            read += BATCH
        rate = read / (time.process_time() - start)
    share = trained / rate
    print(f"training small at {args.resolution} px, two cores: {trained:.1f} images/s; reading: {rate:.0f} images/s")
    print(f"{rate / trained:.0f} times (target 20); training needs {100 * share:.2f} % of one core (target 5)")
