"""The verify command: a certificate against the model, the pictures and the report that it names."""

from __future__ import annotations

import hashlib
import json
import tempfile
from argparse import Namespace
from pathlib import Path

from tintype.cli import options
from tintype.cli.progress import ProgressDisplay
from tintype.cli.run.save import report
from tintype.data.sources.files import FileError
from tintype.data.sources.find import find_pairs
from tintype.evaluation.certificate import (
    CERTIFICATE,
    Certificate,
    Check,
    check_count,
    check_hash,
    check_report,
    check_samples,
    pictures_hash,
    read_certificate,
)
from tintype.evaluation.copies import choose_calibration, find_copies
from tintype.evaluation.eval_data import open_eval_data, recorded_pictures, training_pictures
from tintype.evaluation.measure import sample_training_captions
from tintype.evaluation.results import EvalSettings
from tintype.evaluation.samples import estimate_seconds
from tintype.model import store
from tintype.pipeline.pipeline import Pipeline
from tintype.printable import print_line
from tintype.training.console import duration


def run(args: Namespace) -> int:
    """Check everything that the certificate claims, and print each. Returns the exit code."""
    model = store.find(args.model)
    path = args.certificate or (model.run or model.folder) / CERTIFICATE
    certificate = read_certificate(path)
    checks = [
        check_count(certificate),
        check_hash("model", f"the weights of {model.name}", certificate.model_sha256, store.weights_hash(model)),
        *_check_data(model, certificate, args.data),
        check_report(certificate, path.parent),
    ]
    if args.draw:
        checks.append(_draw(args, model, certificate))
    holds = all(check.holds for check in checks)
    if args.json:
        rows = [check._asdict() for check in checks]
        print(json.dumps({"holds": holds, "claim": certificate.claim, "checks": rows}, indent=1))
        return 0 if holds else 1
    for check in checks:
        print_line(f"{'ok  ' if check.holds else 'NOT '} {check.name:8s}{check.text}")
    if not args.draw and holds:
        print_line("the samples were not drawn again; --draw does that")
    return 0 if holds else 1


def _check_data(model: store.Model, certificate: Certificate, data: str | None) -> list[Check]:
    """The training pictures in DATA, read anew; without DATA, those that data.json lists, if it is there."""
    config = store.read_config(model)
    if data is None:
        recorded = recorded_pictures(model)
        if recorded is None:
            report("note: the training pictures were not checked; give DATA")
            return []
        found = pictures_hash(training_pictures(recorded, model, config))
        what = "the training pictures that data.json lists"
        return [check_hash("data", what, certificate.data_sha256, found)]
    pairs, _ = find_pairs(data, config.data)
    hashes = []
    with ProgressDisplay("reading pictures") as display:
        for number, pair in enumerate(pairs):
            display.update("reading pictures", number, len(pairs))
            try:
                hashes.append(hashlib.sha256(pair.source.read()).hexdigest())
            except FileError:  # training leaves it out, too
                continue
    found = pictures_hash(training_pictures(hashes, model, config))
    return [check_hash("data", f"the training pictures in {data}", certificate.data_sha256, found)]


def _draw(args: Namespace, model: store.Model, certificate: Certificate) -> Check:
    """Draw the samples of the certificate again and count the copies."""
    pipeline = Pipeline.load(args.model, args.device)
    pipeline.batch_invariant = False  # as in an evaluation
    settings = EvalSettings(copies=certificate.num, seed=certificate.seed, calibrated=certificate.calibrated)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tintype-") as scratch, ProgressDisplay("loading") as display:
        cache = options.cache_folder(args) or Path(scratch)
        data = display.follow(open_eval_data(model, pipeline.config, pipeline.denoiser.encoder, args.data, cache))
        seconds = estimate_seconds(pipeline, data.captions(data.seen[:1])[0], certificate.num)
        report(f"drawing {certificate.num:,} samples takes about {duration(seconds)}")
        drawn = sample_training_captions(pipeline, data, settings, certificate.steps, certificate.guidance)
        captions, images = display.follow(drawn)
        calibration = choose_calibration(data, settings, notes)
        copies, _ = display.follow(find_copies(data, captions, images, calibration, settings, notes))
    if copies is None:
        return Check("samples", False, "; ".join(notes))
    return check_samples(certificate, copies.num_alarmed)
