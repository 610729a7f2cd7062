"""What a user may ask of a training run: the options of `tintype train`, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tintype.config import Config
from tintype.data.sources.objects import Data
from tintype.training.core.components import Components


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """How pictures and captions are taken in, as in config.DataConfig. None means: not asked for."""

    crop: str | None = None
    alpha_color: str | None = None
    min_size: int | None = None
    max_aspect: float | None = None
    animations: str | None = None
    caption_encoding: str | None = None
    no_caption: str | None = None
    dedupe: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillRequest:
    """What `tintype distill` asks for besides. None means: not asked for."""

    steps: int | None = None  # evaluations that the new model takes for a picture
    guidance: float | None = None  # of the teacher, built into the new model


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """One call of `tintype train` or `tintype distill`. None: not asked for, so the preset or the stored run decides.

    At most one of `minutes`, `steps` and `images` sets the length of the run.
    """

    data: Data  # a folder, an archive, a list or a URL: see data.sources
    out: Path
    minutes: float | None = None  # wall-clock budget, from the start of the command to the finished model
    steps: int | None = None  # of batch_size pictures each
    images: int | None = None  # shown in training, repeats counted
    preset: str | None = None  # a name in config.PRESETS; None chooses by device
    resolution: int | None = None  # pixels
    batch_size: int | None = None
    micro_batch: int | None = None  # pictures that are computed at once; the gradient is that of the whole batch
    lr: float | None = None
    seed: int | None = None
    from_model: str | None = None  # a model folder, run folder or shipped name whose weights the run starts from
    distill: DistillRequest | None = None  # learn what `from_model` does, in fewer steps
    resume: str = "auto"  # "auto", "never" or the path of a checkpoint or run folder
    text: str | None = None  # "minilm", "learned" or "hf:NAME"
    device: str | None = None  # None chooses; "cpu", "cuda", "cuda:1", "mps"
    save_minutes: float | None = None  # between checkpoints
    sample_minutes: float | None = None  # between looks: samples and held-out errors
    keep_last: int | None = None  # checkpoints
    keep_every: int | None = None  # images, of each of which one checkpoint stays; 0: none
    tensorboard: bool = False  # also write curves for TensorBoard
    dry_run: bool = False  # print the plan and stop
    shard: bool = False  # have the processes that train together share the model out
    data_options: DataOptions = field(default_factory=DataOptions)
    exclude: Path | None = None  # a list of keys and hashes that must not be trained on
    cache: Path | None = None  # where training copies are kept, for several runs; None: in the run folder
    config: Config | None = None  # in place of a preset; what is asked for above is changed in it
    components: Components = field(default_factory=Components)  # objects from Python
    stream: bool = False  # decode pictures whenever they are shown, without a training copy
