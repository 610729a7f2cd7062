"""The teacher of a distillation: which model it is, whether it is still the same, what the student takes from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tintype.config import Config, DistillConfig
from tintype.errors import CheckpointError, ConfigError
from tintype.model import store
from tintype.model.denoiser import Denoiser
from tintype.training.checkpoints.run_folder import Stored
from tintype.training.setup.request import TrainRequest
from tintype.training.setup.resolve_config import with_images

STEPS = 4  # evaluations of the new model, unless asked otherwise
MAX_STEPS = 16  # beyond, samplers of higher order do as well without distillation
SHORTER = 0.1  # of the images of a run from scratch
SLOWER = 0.3  # of its learning rate
DECAY = 0.5  # share of the run over which the learning rate falls


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model to learn from, found but not yet read."""

    model: store.Model
    config: Config
    sha256: str  # of its weights

    def load(self) -> Denoiser:
        """The model itself. Raises CheckpointError."""
        return store.load_denoiser(self.model)


def find_teacher(request: TrainRequest, run: Path, stored: Stored | None) -> Teacher | None:
    """The teacher of a run; None where there is none.

    Raises ConfigError for a model that cannot be one, CheckpointError if it is not the one the run was started with.
    """
    begun = stored.config.distill if stored is not None else None
    if request.distill is None:
        if begun is not None and begun.steps:
            raise CheckpointError(
                f"{run} is distilled from {begun.teacher}; go on with tintype distill, or choose another --out (with "
                "--from and this run to start from its weights)"
            )
        return None
    if begun is not None and not begun.steps:
        raise CheckpointError(f"{run} is a run of tintype train; choose another --out")
    model = store.find(request.from_model or "")
    config = store.read_config(model)
    if config.distill.steps:
        raise ConfigError(
            f"{model.name} is itself distilled, from {config.distill.teacher}; distill that model with another --steps"
        )
    teacher = Teacher(model, config, store.weights_hash(model))
    if begun is not None and begun.teacher_hash != teacher.sha256:
        raise CheckpointError(
            f"{run} is distilled from {begun.teacher} with sha256 {begun.teacher_hash[:10]}..., but {model.name} has "
            f"{teacher.sha256[:10]}... (a run that still trains changes); give that model, or choose another --out"
        )
    return teacher


def distilled(config: Config, request: TrainRequest, teacher: Teacher) -> Config:
    """The configuration of a student: `config`, what is asked for, and what comes from the teacher."""
    asked = request.distill
    assert asked is not None  # a teacher is looked for only then
    begun, own = config.distill, teacher.config.sample
    if not begun.steps:  # a new run
        begun = DistillConfig(
            steps=STEPS, guidance=own.guidance, guidance_min=own.guidance_min, guidance_max=own.guidance_max
        )
        config = _shorter(config, request)
    steps = begun.steps if asked.steps is None else asked.steps
    if not 1 <= steps <= MAX_STEPS:
        raise ConfigError(f"--steps must be from 1 to {MAX_STEPS}, not {steps}")
    distill = replace(
        begun,
        teacher=teacher.model.name,
        teacher_hash=teacher.sha256,
        steps=steps,
        teacher_steps=-(-own.steps // steps),
        guidance=begun.guidance if asked.guidance is None else asked.guidance,
    )
    # Along straight steps between its levels is how the student was trained to go; guidance is built in.
    sample = replace(config.sample, sampler="euler", steps=steps, guidance=1.0)
    return replace(config, distill=distill, sample=sample)


def _shorter(config: Config, request: TrainRequest) -> Config:
    """Settings of a run that only tunes what is there, where nothing else was asked for."""
    train = config.train
    if request.lr is None:
        train = replace(train, lr=SLOWER * train.lr)
    train = replace(train, decay_fraction=DECAY)
    given = request.images is not None or request.steps is not None
    return with_images(replace(config, train=train), train.images if given else max(1, int(SHORTER * train.images)))
