"""Results of an evaluation: dataclasses, written to results.json and drawn in the report.

The names of fields are the keys in the file, except where the metadata name an older "key".
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from tintype.evaluation.shapes_accuracy import Score
from tintype.metrics.intervals import Estimate, relative_reduction
from tintype.model.read_file import read_text

FORMAT = 1  # of results.json
MAX_RESULT_BYTES = 16 * 2**20  # of an earlier evaluation; one takes about 20 kB


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """The extent of an evaluation. More pictures narrow the intervals."""

    num: int = 192  # seen pictures, and as many unseen ones
    samples: int = 192  # images sampled for captions of unseen pictures, and to compare settings
    copies: int = 1000  # images sampled for captions of training pictures, to search for copies
    captions: int = field(default=96, metadata={"key": "asked"})  # shapes captions: new ones, and as many held out
    calibrated: int = 1000  # unseen pictures that the alarm is calibrated on, at most
    seed: int = 0
    features: str = "scattering"
    tune: bool = field(default=False, metadata={"key": "choose"})  # also compare settings for other data

    @property
    def tuning_captions(self) -> int:
        """Shapes captions that guidance and steps are compared on, new and held out together."""
        return max(4, 2 * self.captions // 3)


@dataclass(frozen=True, kw_only=True)
class EvaluationInfo:
    """The evaluated model and the data."""

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
    plan: str  # of the training
    version: str
    time: str


@dataclass(frozen=True, kw_only=True)
class NoiseErrors:
    """Mean squared error of the predicted noise at each level; predicting zero has an error of 1."""

    unseen: list[Estimate]
    seen: list[Estimate]
    ideal: list[Estimate]  # of the ideal denoiser of the training set, conditioned on captions
    ideal_no_captions: list[Estimate] = field(metadata={"key": "ideal_blind"})
    gauge: list[Estimate]  # memorization ratio
    gauge_overall: Estimate | None  # levels weighted as in training


@dataclass(frozen=True, kw_only=True)
class WordEffect:
    """The effect of removing a word from the captions."""

    word: str
    effect: Estimate  # relative rise of the noise error
    num: int  # pictures


@dataclass(frozen=True, kw_only=True)
class CaptionUse:
    """The noise error under the right caption, another picture's caption and no caption."""

    on_unseen: bool  # measured on unseen pictures, not on training pictures
    right: list[Estimate]
    other: list[Estimate]
    empty: list[Estimate]
    gain_over_other: list[Estimate]  # relative: 0.2 is 20 % less error under the right caption
    gain_over_empty: list[Estimate]
    words: list[WordEffect]
    word_sigmas: list[float]


@dataclass(frozen=True, kw_only=True)
class CopyCheck:
    """Copies of training pictures among samples: the verdict on memorization."""

    share: Estimate  # of samples that raise the alarm, with an exact interval (Clopper and Pearson 1934)
    num_alarmed: int
    num: int
    control: Estimate | None = field(metadata={"key": "honest"})  # share of control samples
    rate: float  # share of calibration pictures that raise it
    num_calibrated: int
    calibrated_on: str
    num_twins: int = field(metadata={"key": "num_leaked"})  # pictures left out: as near as one that was saved again
    limit: float  # relative distance to the nearest training picture at or below which a sample is a copy
    found: float  # share of planted copies that raise the alarm
    num_planted: int
    distance: float  # median RMS distance of samples to the nearest training picture, in levels of 255
    distance_unseen: float  # the same for unseen pictures


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The distribution of samples compared with that of real pictures, in a feature space."""

    features: str
    frechet: Estimate  # samples against training pictures
    frechet_real: Estimate  # unseen pictures against training pictures: the score of a perfect model
    precision: Estimate
    recall: Estimate
    precision_real: Estimate
    recall_real: Estimate
    num: int


@dataclass(frozen=True, kw_only=True)
class SamplingSetting:
    """The quality of samples for one setting of steps and guidance."""

    steps: int
    guidance: float
    score: Estimate = field(metadata={"key": "figure"})
    all_right: Estimate | None  # share of captions drawn completely right; only for shapes
    evaluations: float  # of the network per image


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """Settings compared on the same captions and noise, and the best one."""

    criterion: str  # the name of the scores
    num: int  # captions
    settings: list[SamplingSetting]
    best: SamplingSetting = field(metadata={"key": "chosen"})


@dataclass(frozen=True, kw_only=True)
class CaptionAccuracy:
    """How often images match their captions, judged by a program (`shapes.judge`)."""

    scores: dict[str, dict[str, Score]]  # "new", "held out" and "chance" -> attribute
    by_distance: dict[int, Score]  # all attributes right, by the number of new combinations


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """All results; parts that could not be measured are None, and `notes` says why."""

    about: EvaluationInfo
    settings: EvalSettings
    sigmas: list[float]
    noise: NoiseErrors
    caption_use: CaptionUse | None = field(default=None, metadata={"key": "captions"})
    copies: CopyCheck | None = None
    quality: Quality | None = None
    accuracy: CaptionAccuracy | None = None
    tuning: TuningResult | None = field(default=None, metadata={"key": "choice"})
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SampleNeighbors:
    """A sample and its nearest training picture."""

    caption: str
    index: int  # of the sample, which its noise is drawn from
    sample: Image.Image
    nearest: Image.Image
    key: str  # of the nearest training picture
    distance: float  # relative, as the limit of the alarm
    alarmed: bool


class OnTheWay(NamedTuple):
    """A training picture on the way of a sample."""

    picture: Image.Image
    key: str
    share: float  # mean weight in the ideal denoiser along the way


@dataclass(frozen=True, kw_only=True)
class SampleOrigins:
    """A sample and the training pictures with the largest weights in the ideal denoiser along its way."""

    caption: str
    sample: Image.Image
    pictures: list[OnTheWay]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Images for the report, and the errors that two models are compared by."""

    samples: list[tuple[str, Image.Image]]
    neighbors: list[SampleNeighbors]
    origins: list[SampleOrigins] = field(default_factory=list)  # of the first of them
    denoising: bytes | None  # PNG of one image at every sampling step
    measured: list[str]  # sha256 of the unseen pictures, in the order of `unseen_errors`
    unseen_errors: Tensor  # [N, K]
    training: list[str] = field(default_factory=list)  # sha256 of the training pictures
    log: list[dict[str, Any]] = field(default_factory=list)  # rows of the run's log with a noise error


def compare_results(
    first: tuple[EvalResult, ReportData], second: tuple[EvalResult, ReportData]
) -> dict[str, Any] | None:
    """Relative reduction of the noise error on unseen pictures from the first model to the second, at each level.

    None unless both were measured on the same pictures, resolution and levels, so that the errors are paired.
    """
    (result, report), (other_result, other_report) = first, second
    if report.measured != other_report.measured or not report.measured or result.sigmas != other_result.sigmas:
        return None
    if result.about.resolution != other_result.about.resolution:
        return None
    columns = zip(report.unseen_errors.unbind(1), other_report.unseen_errors.unbind(1), strict=True)
    gains = [relative_reduction(lower, higher)._asdict() for higher, lower in columns]
    return {"num": len(report.measured), "sigmas": result.sigmas, "gains": gains}


class PreviousResult(NamedTuple):
    """What the report shows of an earlier evaluation."""

    fingerprint: str  # of the data
    images_seen: int
    sigmas: list[float]
    unseen: list[float]  # noise errors at these levels; NaN where unknown


def read_previous(path: Path) -> PreviousResult | None:
    """An earlier evaluation from its JSON; None if it is damaged."""
    try:
        content = json.loads(read_text(path, MAX_RESULT_BYTES))
        fingerprint, images_seen = content["about"]["fingerprint"], content["about"]["images_seen"]
        sigmas = [float(sigma) for sigma in content["sigmas"]]
        values = [row["value"] for row in content["noise"]["unseen"]]
        unseen = [math.nan if value is None else float(value) for value in values]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if type(images_seen) is not int or not isinstance(fingerprint, str) or len(unseen) != len(sigmas):
        return None
    return PreviousResult(fingerprint, images_seen, sigmas, unseen)


def to_json(result: EvalResult | TuningResult) -> str:
    """Results as JSON; NaN and infinity become null."""
    return json.dumps({"format": FORMAT, **_plain(result)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return _plain(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            entry.metadata.get("key", entry.name): _plain(getattr(value, entry.name))
            for entry in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
