"""The teacher of a distillation: finding it, checking that it is unchanged, and the settings of its student."""

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

STEPS = 4  # default number of network evaluations of the student
MAX_STEPS = 16  # with more, samplers of higher order do as well without distillation
IMAGES_SCALE = 0.1  # images, relative to a run from scratch
LR_SCALE = 0.3  # learning rate, relative to such a run
DECAY = 0.5  # share of the run over which the learning rate decays


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model to learn from; its weights are not loaded yet."""

    model: store.Model
    config: Config
    sha256: str  # of its weights

    def load(self) -> Denoiser:
        """Load the model. Raises CheckpointError."""
        return store.load_denoiser(self.model)


def find_teacher(request: TrainRequest, run: Path, stored: Stored | None) -> Teacher | None:
    """The teacher of a run; None for ordinary training.

    Raises ConfigError for a model that cannot be a teacher, CheckpointError if the run was started with another one.
    """
    previous = stored.config.distill if stored is not None else None
    if request.distill is None:
        if previous is not None and previous.steps:
            raise CheckpointError(
                f"{run} is distilled from {previous.teacher}; resume with tintype distill, or choose another --out "
                "(with --from and this run to start from its weights)"
            )
        return None
    if previous is not None and not previous.steps:
        raise CheckpointError(f"{run} is a run of tintype train; choose another --out")
    model = store.find(request.from_model or "")
    config = store.read_config(model)
    if config.distill.steps:
        raise ConfigError(
            f"{model.name} is itself distilled, from {config.distill.teacher}; distill that model with another --steps"
        )
    teacher = Teacher(model, config, store.weights_hash(model))
    if previous is not None and previous.teacher_hash != teacher.sha256:
        raise CheckpointError(
            f"{run} is distilled from {previous.teacher} with sha256 {previous.teacher_hash[:10]}..., but {model.name} "
            f"has {teacher.sha256[:10]}... (a run that still trains changes); give that model, or choose another --out"
        )
    return teacher


def distilled(config: Config, request: TrainRequest, teacher: Teacher) -> Config:
    """The configuration of a student: `config`, with the settings of the request and of the teacher."""
    options = request.distill
    assert options is not None  # there is a teacher only with these
    previous, defaults = config.distill, teacher.config.sample
    if not previous.steps:  # a new run
        previous = DistillConfig(
            steps=STEPS,
            guidance=defaults.guidance,
            guidance_min=defaults.guidance_min,
            guidance_max=defaults.guidance_max,
        )
        config = _fine_tuning(config, request)
    steps = previous.steps if options.steps is None else options.steps
    if not 1 <= steps <= MAX_STEPS:
        raise ConfigError(f"--steps must be from 1 to {MAX_STEPS}, not {steps}")
    distill = replace(
        previous,
        teacher=teacher.model.name,
        teacher_hash=teacher.sha256,
        steps=steps,
        teacher_steps=-(-defaults.steps // steps),
        guidance=previous.guidance if options.guidance is None else options.guidance,
    )
    # The student was trained to take straight steps between its levels; guidance is built in.
    sample = replace(config.sample, sampler="euler", steps=steps, guidance=1.0)
    return replace(config, distill=distill, sample=sample)


def _fine_tuning(config: Config, request: TrainRequest) -> Config:
    """The configuration of a short run with a low learning rate, where the request leaves these open."""
    train = config.train
    if request.lr is None:
        train = replace(train, lr=LR_SCALE * train.lr)
    train = replace(train, decay_fraction=DECAY)
    has_length = request.images is not None or request.steps is not None
    images = train.images if has_length else max(1, int(IMAGES_SCALE * train.images))
    return with_images(replace(config, train=train), images)
