"""What an evaluation found, as data: written to JSON, shown in the report."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from tintype.evaluation.shapes_accuracy import Score
from tintype.metrics.intervals import Estimate

FORMAT = 1  # of results.json


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How much is measured. More pictures narrow the intervals."""

    num: int = 192  # pictures of each kind, seen and unseen
    samples: int = 192  # pictures made
    asked: int = 96  # captions of the drawn world, new and held out each
    calibrated: int = 1000  # unseen pictures that the alarm is calibrated on, at most
    seed: int = 0
    features: str = "scattering"
    choose: bool = False  # guidance and steps also where no program can check captions

    @property
    def compared(self) -> int:
        """Captions of the drawn world that guidance and steps are compared on, new and held out together."""
        return max(4, 2 * self.asked // 3)


@dataclass(frozen=True, kw_only=True)
class EvaluationInfo:
    """Which model was evaluated, on what."""

    name: str
    sha256: str
    images_seen: int
    preset: str
    num_weights: int
    resolution: int
    text: str
    data: str
    fingerprint: str
    num_seen: int
    num_unseen: int
    num_measured_seen: int
    num_measured_unseen: int
    steps: int
    guidance: float
    sampler: str
    plan: str  # of its training
    version: str
    time: str


@dataclass(frozen=True, kw_only=True)
class NoiseErrors:
    """Mean squared error of the predicted noise at each level; 1 is as wrong as predicting none."""

    unseen: list[Estimate]
    seen: list[Estimate]
    ideal: list[Estimate]  # of the best any model could do that knows the training set by heart, captions included
    ideal_blind: list[Estimate]  # the same without captions
    gauge: list[Estimate]
    gauge_overall: Estimate | None  # levels weighted as in training


@dataclass(frozen=True, kw_only=True)
class WordEffect:
    """What leaving out a word does to the error."""

    word: str
    effect: Estimate  # relative rise of the error
    num: int  # pictures


@dataclass(frozen=True, kw_only=True)
class CaptionUse:
    """The error under the right caption, one of another picture, and none."""

    on_unseen: bool  # otherwise measured on training pictures
    right: list[Estimate]
    other: list[Estimate]
    empty: list[Estimate]
    gain_over_other: list[Estimate]  # relative: 0.2 means a fifth less error under the right caption
    gain_over_empty: list[Estimate]
    words: list[WordEffect]
    word_sigmas: list[float]


@dataclass(frozen=True, kw_only=True)
class CopyCheck:
    """How near samples come to training pictures."""

    share: Estimate  # of samples that raise the alarm
    num_alarmed: int
    num: int
    honest: Estimate | None  # the same share of samples for unseen captions, as if their pictures were trained on
    rate: float  # of unseen pictures that raise it
    num_calibrated: int
    calibrated_on: str
    num_leaked: int  # unseen pictures that equal a training picture
    distance: float  # median over samples to the nearest training picture, in levels of 255
    distance_unseen: float  # the same of unseen pictures


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Samples as a whole against real pictures, in a space of features."""

    features: str
    frechet: Estimate  # samples against training pictures
    frechet_real: Estimate  # unseen pictures against training pictures: what a perfect model would score
    precision: Estimate
    recall: Estimate
    precision_real: Estimate
    recall_real: Estimate
    num: int


@dataclass(frozen=True, kw_only=True)
class SamplingSetting:
    """How good pictures are under one setting."""

    steps: int
    guidance: float
    figure: Estimate
    all_right: Estimate | None  # share of the captions of which everything is right, where a program can tell
    evaluations: float  # of the network, a picture


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """Settings compared on the same captions and noise, and the one to take."""

    criterion: str  # what `figure` is
    num: int  # captions
    settings: list[SamplingSetting]
    chosen: SamplingSetting


@dataclass(frozen=True, kw_only=True)
class CaptionAccuracy:
    """How often pictures show what captions say, judged by a program."""

    scores: dict[str, dict[str, Score]]  # "new", "held out" and "chance" -> attribute
    by_distance: dict[int, Score]  # everything right, by how many combinations are new


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """All of it; parts that could not be measured are None, and `notes` say why."""

    about: EvaluationInfo
    settings: EvalSettings
    sigmas: list[float]
    noise: NoiseErrors
    captions: CaptionUse | None = None
    copies: CopyCheck | None = None
    quality: Quality | None = None
    accuracy: CaptionAccuracy | None = None
    choice: TuningResult | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SampleNeighbors:
    """A sample beside the training pictures nearest to it."""

    caption: str
    sample: Image.Image
    by_pixels: Image.Image
    by_features: Image.Image
    distance: float  # in levels of 255
    alarmed: bool


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Pictures for the report, and what two models are compared by."""

    samples: list[tuple[str, Image.Image]]
    neighbors: list[SampleNeighbors]
    developing: bytes | None
    measured: list[str]  # sha256 of the unseen pictures, in order
    unseen_errors: Tensor  # [N, K]
    log: list[dict[str, Any]] = field(default_factory=list)  # rows of the run's log that have a noise error


def to_json(result: EvalResult | TuningResult) -> str:
    """A result, or a choice alone, as JSON; what is not a finite number becomes null."""
    return json.dumps({"format": FORMAT, **_plain(result)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return _plain(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
