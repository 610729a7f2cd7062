"""The certificate: how many samples of a model are copies of its training pictures, and what that was measured on.

`certificate.json` names the weights, the training pictures and the report by their sha256, so that a change of any of
them shows; the interval follows from the counts; and the samples can be drawn again. It is no signature: who can write
the file can write another one, but not one that stands when the samples are drawn again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tintype.errors import CheckpointError
from tintype.evaluation.results import EvalResult
from tintype.evaluation.verdict import count_text
from tintype.metrics.intervals import Estimate, exact_proportion
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text

CERTIFICATE, FORMAT = "certificate.json", 1
TOLERANCE = 1e-9  # of an interval that is computed again


class Check(NamedTuple):
    """One thing that a certificate claims, and whether it is so."""

    name: str  # model, data, report, count or samples
    holds: bool
    text: str


class Certificate(NamedTuple):
    """What `certificate.json` says."""

    claim: str
    model_sha256: str
    images_seen: int
    data_sha256: str  # of the training pictures: see `pictures_hash`
    num_training: int
    report: str  # path of the report, relative to the certificate
    report_sha256: str
    num_copies: int
    num: int
    low: float  # of the exact interval, 95 %
    high: float
    seed: int
    calibrated: int  # most pictures that the alarm is calibrated on
    steps: int
    guidance: float
    sampler: str
    alarm: Mapping[str, Any]  # how the alarm was set: for people

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self._asdict()}, indent=1, ensure_ascii=False) + "\n"


def make_certificate(result: EvalResult, data_sha256: str, report: str, content: bytes) -> Certificate:
    """The certificate of an evaluation that searched for copies.

    data_sha256: of `pictures_hash`. report: path of the report, relative to the certificate; content: its bytes.
    """
    copies, about, settings = result.copies, result.about, result.settings
    assert copies is not None
    return Certificate(
        claim=count_text(copies.num_alarmed, copies.num),
        model_sha256=about.sha256,
        images_seen=about.images_seen,
        data_sha256=data_sha256,
        num_training=about.num_seen,
        report=report,
        report_sha256=hashlib.sha256(content).hexdigest(),
        num_copies=copies.num_alarmed,
        num=copies.num,
        low=copies.share.low,
        high=copies.share.high,
        seed=settings.seed,
        calibrated=settings.calibrated,
        steps=about.steps,
        guidance=about.guidance,
        sampler=about.sampler,
        alarm={
            "limit": copies.limit,
            "calibrated_on": f"{copies.num_calibrated} {copies.calibrated_on}",
            "false_alarms": copies.rate,
            "twins_left_out": copies.num_twins,
            "planted_copies": copies.num_planted,
            "planted_copies_found": copies.found,
        },
    )


def read_certificate(path: Path) -> Certificate:
    """Read a certificate. Raises CheckpointError if it is missing, damaged or of another version."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: tintype evaluate writes it")
    try:
        values = json.loads(read_text(path, MAX_CONFIG_BYTES))
        if values.pop("format") != FORMAT:
            raise CheckpointError(f"{path} is of another format: it needs another version of Tintype")
        certificate = Certificate(**values)
        counts = (certificate.num_copies, certificate.num, certificate.seed, certificate.steps, certificate.calibrated)
        numbers = (certificate.low, certificate.high, certificate.guidance)
        texts = (certificate.claim, certificate.report, certificate.sampler, certificate.data_sha256)
        is_usual = (
            all(type(count) is int and count >= 0 for count in counts)
            and certificate.num_copies <= certificate.num
            and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
            and all(isinstance(text, str) for text in texts)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_usual = False
    if not is_usual:
        raise CheckpointError(f"{path} is damaged or was changed by hand; tintype evaluate writes it anew")
    return certificate


def pictures_hash(sha256: Iterable[str]) -> str:
    """One hash of all training pictures, from the sha256 of each, in any order; copies of a file count once."""
    return hashlib.sha256("\n".join(sorted(set(sha256))).encode()).hexdigest()


def check_count(certificate: Certificate) -> Check:
    """Whether the interval and the sentence follow from the counts."""
    share = exact_proportion(certificate.num_copies, certificate.num)
    given = Estimate(share.value, certificate.low, certificate.high)
    claim = count_text(certificate.num_copies, certificate.num)
    if max(abs(share.low - given.low), abs(share.high - given.high)) > TOLERANCE:
        return Check("count", False, f"{certificate.num_copies} of {certificate.num} has another interval")
    if certificate.claim != claim:
        return Check("count", False, "the sentence says something else than the counts")
    return Check("count", True, claim)


def check_hash(name: str, what: str, expected: str, found: str | None) -> Check:
    """Whether a thing is the one that the certificate is of; found None: there is no such thing."""
    if found is None:
        return Check(name, False, f"{what}: missing")
    if found != expected:
        text = f"{what}: not what the certificate is of (sha256 {found[:10]}..., not {expected[:10]}...)"
        return Check(name, False, text)
    return Check(name, True, f"{what}: as certified (sha256 {expected[:10]}...)")


def check_report(certificate: Certificate, folder: Path) -> Check:
    """Whether the report beside the certificate is as it was written."""
    path = folder / certificate.report
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return check_hash("report", f"the report {certificate.report}", certificate.report_sha256, found)


def check_samples(certificate: Certificate, num_copies: int) -> Check:
    """Whether samples that were drawn again have as many copies, but for the rounding of another machine."""
    again = f"drawn again, {num_copies:,} of {certificate.num:,} samples are copies"
    if num_copies == certificate.num_copies:
        return Check("samples", True, f"{again}, as certified")
    share = num_copies / max(1, certificate.num)
    if certificate.low <= share <= certificate.high:
        return Check("samples", True, f"{again}, not {certificate.num_copies:,}, but within the interval")
    return Check("samples", False, f"{again}, not {certificate.num_copies:,}")
