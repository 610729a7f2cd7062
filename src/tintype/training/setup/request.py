"""Training requests: the options of `tintype train` and `tintype distill`, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tintype.config import Config, DataOptions
from tintype.data.sources.objects import Data
from tintype.training.core.components import Components


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillRequest:
    """The options of `tintype distill` alone; None: not given."""

    steps: int | None = None  # network evaluations per picture of the new model
    guidance: float | None = None  # of the teacher, built into the new model


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """One call of `tintype train` or `tintype distill`. None: not given, so the preset or the stored run decides.

    At most one of `minutes`, `steps` and `images` sets the length of the run. Fields with the name of a setting in
    TrainConfig change that setting.
    """

    data: Data  # a folder, an archive, a list or a URL: see data.sources
    out: Path
    minutes: float | None = None  # --time: wall-clock time from the start of the command to the finished model
    steps: int | None = None  # of batch_size pictures each
    images: int | None = None  # trained on, repeats counted
    preset: str | None = None  # a name in config.PRESETS; None chooses by device
    resolution: int | None = None  # pixels
    auto_resolution: bool = False  # the largest that pictures and time allow, in place of `resolution`
    batch_size: int | None = None
    micro_batch: int | None = None  # pictures computed at once; the gradient is that of the whole batch
    lr: float | None = None
    seed: int | None = None
    from_model: str | None = None  # a model folder, run folder or shipped name whose weights the run starts from
    distill: DistillRequest | None = None  # distill `from_model` into fewer steps
    resume: str = "auto"  # "auto", "never" or the path of a checkpoint or run folder
    text: str | None = None  # "auto", "minilm", "learned" or "hf:NAME"
    threads: int | None = None  # of a CPU; None: all, and fewer while other programs use the machine
    device: str | None = None  # None chooses; "cpu", "cuda", "cuda:1", "mps"
    deterministic: bool = False  # only kernels, and on a CPU a number of threads, that give the same bits each time
    save_minutes: float | None = None  # --save-every: between checkpoints
    sample_minutes: float | None = None  # --sample-every: between validations, with samples and held-out errors
    keep_last: int | None = None  # --keep: newest checkpoints
    keep_every: int | None = None  # images between checkpoints that stay for good; 0: none
    stop_early: bool | None = None  # --stop, --no-stop: end once it would only learn its pictures by heart
    tensorboard: bool = False  # also write curves for TensorBoard
    dry_run: bool = False  # print the plan and stop
    plan: Path | None = None  # a file to write the plan to as well, as JSON
    compile: bool | None = None  # network and loss with torch.compile; None: on a GPU, where the run is long enough
    shard: bool = False  # shard the model over all processes
    data_options: DataOptions = field(default_factory=DataOptions)
    exclude: Path | None = None  # a file of keys and sha256 never to train on
    cache: Path | None = None  # folder for caches that runs share; None: the run folder
    regularize: bool = False  # choose settings against learning pictures by heart, from how often each is shown
    config: Config | None = None  # instead of a preset; the fields above change it
    components: Components = field(default_factory=Components)  # objects from Python
    stream: bool = False  # decode pictures at every use, without a cache
