"""Training from Python: a generator of step reports, driven by the loop that `tintype train` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from tintype.config import Config
from tintype.data.sources.objects import CaptionedImages
from tintype.diffusion.loss import LossWeight
from tintype.diffusion.parameterization import Prediction
from tintype.training.core.components import Components, NoiseLevelSampler
from tintype.training.core.custom_optimizer import OptimizerFactory
from tintype.training.core.trainer import StepReport
from tintype.training.run import training_steps
from tintype.training.setup.request import TrainRequest
from tintype.training.signals import Interruption


def train(
    data: str | Path | CaptionedImages,
    out: str | Path,
    config: Config | None = None,
    *,
    minutes: float | None = None,
    images: int | None = None,
    steps: int | None = None,
    preset: str | None = None,
    resolution: int | Literal["auto"] | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    text: str | None = None,
    from_model: str | Path | None = None,
    resume: str | Path = "auto",
    device: str | None = None,
    threads: int | None = None,
    deterministic: bool = False,
    save_minutes: float | None = None,
    sample_minutes: float | None = None,
    keep_last: int | None = None,
    keep_every: int | None = None,
    exclude: str | Path | None = None,
    cache: str | Path | None = None,
    stream: bool = False,
    compile: bool | None = None,
    shard: bool = False,
    tensorboard: bool = False,
    stop_early: bool | None = None,
    regularize: bool = False,
    net: nn.Module | Callable[[Config], nn.Module] | None = None,
    prediction: Prediction | None = None,
    noise_levels: NoiseLevelSampler | None = None,
    loss_weight: LossWeight | None = None,
    optimizer: OptimizerFactory | None = None,
    verbose: bool | Console = False,
) -> Iterator[StepReport]:
    """Train a model and report every step; nothing happens before the first report is asked for.

        losses = []
        for report in tintype.train("photos", "run", minutes=30):
            losses.append(report.loss)
            if report.validation:  # every `sample_minutes`, and with the last report
                print(report.images_seen, report.validation.noise_error)
        pipeline = tintype.Pipeline.load("run")

    When the loop ends, `out` is a model folder, as `tintype train` leaves it. Leaving the loop early (`break`, an
    error, Ctrl-C, closing the generator) saves a checkpoint, and the same call again continues bit for bit where it
    stopped. While a step is computed, the first Ctrl-C or SIGTERM waits for its end.

    Args:
        data: a folder, a .tar, .zip or .parquet file, `hf:NAME`, a list of these, or an object: see `CaptionedImages`.
        out: the run folder; it must be empty, new, or hold the run to continue.
        config: all settings that have no argument here, instead of a preset: see `Config.from_preset`.
        minutes: length of the run as wall-clock time. Give at most one of minutes, images and steps; None of them:
            `config.train.images`.
        images: length of the run in pictures shown, repeats counted.
        steps: length of the run in batches.
        preset: "nano", "small", "base" or "large"; None chooses by device and time.
        resolution: pixels, the side of a square picture; "auto": the largest that pictures and time allow.
        batch_size: pictures in a step.
        micro_batch: the most pictures computed at once.
        lr: highest learning rate.
        seed: of weights, order and noise.
        text: "minilm", "learned" or "hf:NAME", where text embeddings come from; "auto" (of a preset): minilm if it can
            tell the captions apart, else learned.
        from_model: a model folder, run folder or shipped name whose weights the run starts from.
        resume: "auto", "never", or the path of a checkpoint or run folder.
        device: "cpu", "cuda", "cuda:1", "mps"; None chooses.
        threads: of a CPU; None: all, and fewer while other programs use the machine, which changes the last bits.
        deterministic: take kernels that give the same bits each time, slower on a GPU, and keep the number of threads.
        save_minutes: between checkpoints.
        sample_minutes: between validations with samples.
        keep_last: the number of newest checkpoints to keep.
        keep_every: images of each of which one checkpoint is kept for good.
        exclude: a file of keys or sha256 never to train on.
        cache: folder for the dataset cache; None: in the run folder.
        stream: decode pictures whenever they are shown, without a cache.
        compile: the network with `torch.compile`; None: on a GPU, if the run is long enough to repay it.
        shard: under torchrun, shard the model over all processes.
        stop_early: end once the run would only learn its pictures by heart; None: the config decides, and presets do.
        tensorboard: also write curves to `out`/tensorboard.
        regularize: choose dropout and augmentation from how often each picture is shown; not with a `config`.
        net: the network, a module (which is copied) or a function of the config: see `Network`.
        prediction: the prediction type: see `Prediction`.
        noise_levels: of training: see `NoiseLevelSampler`.
        loss_weight: see `LossWeight`.
        optimizer: see `OptimizerFactory`.
        verbose: print what the command prints; a rich Console says where.

    Objects are recorded in the run folder by name: resuming needs the same ones, and a model with its own `net` or
    `prediction` needs them in `Pipeline.load`.

    Raises ConfigError, DataError, CheckpointError or TrainingError (all TintypeError), and KeyboardInterrupt after
    Ctrl-C once the checkpoint is saved.
    """
    request = TrainRequest(
        data=data,
        out=Path(out),
        minutes=minutes,
        images=images,
        steps=steps,
        preset=preset,
        resolution=None if resolution == "auto" else resolution,
        auto_resolution=resolution == "auto",
        batch_size=batch_size,
        micro_batch=micro_batch,
        lr=lr,
        seed=seed,
        text=text,
        from_model=None if from_model is None else str(from_model),
        resume=str(resume),
        device=device,
        threads=threads,
        deterministic=deterministic,
        save_minutes=save_minutes,
        sample_minutes=sample_minutes,
        keep_last=keep_last,
        keep_every=keep_every,
        exclude=None if exclude is None else Path(exclude),
        cache=None if cache is None else Path(cache),
        stream=stream,
        compile=compile,
        shard=shard,
        tensorboard=tensorboard,
        stop_early=stop_early,
        regularize=regularize,
        config=config,
        components=Components(
            net=net, prediction=prediction, noise_levels=noise_levels, loss_weight=loss_weight, optimizer=optimizer
        ),
    )
    console = verbose if isinstance(verbose, Console) else Console(quiet=not verbose)
    return training_steps(request, console, Interruption(release=True))
