"""Training from Python: what the generator yields, how it is left and resumed, and the objects passed to it."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

import tintype
from tintype.config import Config, TextConfig, TrainConfig
from tintype.errors import CheckpointError, ConfigError, TrainingError
from tintype.model import checkpoint
from tintype.model.custom import qualified_name
from tintype.model.file_names import COMPONENTS
from tintype.training.core.trainer import StepReport
from tintype.training.run import TrainRequest
from tintype.training.run import train as run_command
from tintype.training.setup import plan, prepare
from tintype.training.setup.budget import Budget

BATCH, IMAGES = 4, 40
DATA = [(Image.new("RGB", (12, 10), (40 * index, 90, 255 - 40 * index)), f"shade number {index}") for index in range(6)]


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is not measured: every run takes its time."""
    monkeypatch.setattr(prepare, "bf16_is_faster", lambda device: False)


@pytest.fixture
def config(tiny: Config) -> Config:
    train = replace(tiny.train, images=IMAGES, batch_size=BATCH, save_minutes=1e9, sample_minutes=1e9)
    return replace(tiny, text=TextConfig(encoder="learned", max_tokens=8), train=train)


def log_uniform(positions: Tensor) -> Tensor:
    return torch.exp(torch.sin(positions.double() * 1.7)).float()


def halves(positions: Tensor) -> Tensor:
    return torch.full((len(positions),), 0.5)


def inverse_square(sigma: Tensor) -> Tensor:
    return 1 / sigma**2


def v_prediction(sigma: Tensor, sigma_data: float) -> tintype.Scalings:
    total = sigma**2 + 1
    return tintype.Scalings(1 / total, -sigma / total.sqrt(), total.rsqrt(), sigma.log() / 4)


def sgd(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)


def nadam(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:  # keeps steps and products of weights
    return torch.optim.NAdam(model.parameters(), lr=config.lr)


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def leave(steps: Iterator[StepReport], num: int) -> list[StepReport]:
    """The first `num` reports; then the generator is closed."""
    reports = [next(steps) for _ in range(num)]
    steps.close()  # type: ignore[attr-defined]
    return reports


class Convolution(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.text = nn.Linear(config.net.width, 16)
        self.read, self.write = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def caption_kv(self, cond: tintype.Conditioning) -> tintype.CaptionKV:
        mask = cond.mask[:, :, None].float()
        return tintype.CaptionKV((), (), cond.mask, self.text((cond.tokens * mask).sum(1)))

    def forward(self, x: Tensor, c_noise: Tensor, text: tintype.CaptionKV) -> Tensor:
        predicted: Tensor = self.write(torch.tanh(self.read(x) + text.pooled_text[:, :, None, None]))
        return predicted


COMPONENT_SETS: dict[str, dict[str, Any]] = {
    "none": {},
    "prediction": {"prediction": v_prediction},
    "noise_levels": {"noise_levels": log_uniform},
    "loss_weight": {"loss_weight": inverse_square},
    "net": {"net": Convolution},
    "sgd": {"optimizer": sgd},
    "nadam": {"optimizer": nadam},
    "all": {
        "prediction": v_prediction,
        "noise_levels": log_uniform,
        "loss_weight": inverse_square,
        "optimizer": sgd,
    },
}


@pytest.mark.parametrize(
    "name", [name if name == "all" else pytest.param(name, marks=pytest.mark.slow) for name in COMPONENT_SETS]
)
def test_a_run_that_is_left_and_called_again_is_bit_for_bit_the_run_without_a_stop(
    tmp_path: Path, config: Config, name: str
) -> None:
    given = COMPONENT_SETS[name]
    straight = list(tintype.train(DATA, tmp_path / "straight", config, device="cpu", **given))
    assert [report.images_seen for report in straight] == list(range(BATCH, IMAGES + 1, BATCH))
    run = tmp_path / "run"
    reports = leave(tintype.train(DATA, run, config, device="cpu", **given), 3)
    assert not (run / "model.safetensors").exists()
    reports += leave(tintype.train(DATA, run, config, device="cpu", **given), 2)
    reports += tintype.train(DATA, run, config, device="cpu", **given)
    assert reports == straight
    assert weights(run) == weights(tmp_path / "straight")
    pipeline = tintype.Pipeline.load(run, prediction=given.get("prediction"), net=given.get("net"))
    pipeline.generate(["shade", "a longer caption"], steps=2)


@pytest.mark.slow
def test_components_change_what_is_trained(tmp_path: Path, config: Config) -> None:
    short = replace(config, train=replace(config.train, images=2 * BATCH))
    losses = {
        name: [report.loss for report in tintype.train(DATA, tmp_path / name, short, device="cpu", **given)]
        for name, given in COMPONENT_SETS.items()
        if name != "nadam"
    }
    assert len({tuple(values) for values in losses.values()}) == len(losses)


def test_it_is_the_run_of_the_command(tmp_path: Path, config: Config, pictures: Path, tiny_nano: None) -> None:
    run_command(TrainRequest(data=pictures, out=tmp_path / "command", images=24, device="cpu"), Console(quiet=True))
    reports = list(tintype.train(pictures, tmp_path / "python", images=24, device="cpu"))
    assert len(reports) == 6
    assert weights(tmp_path / "python") == weights(tmp_path / "command")
    assert (tmp_path / "python/config.json").read_text() == (tmp_path / "command/config.json").read_text()
    assert not (tmp_path / "python" / COMPONENTS).exists()


def test_nothing_happens_before_the_first_report_is_asked_for(tmp_path: Path, config: Config) -> None:
    tintype.train(DATA, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_the_last_report_comes_with_its_validation_when_the_folder_is_a_model(tmp_path: Path, config: Config) -> None:
    data = [(Image.new("RGB", (12, 10), (9 * index, 90, 0)), f"shade number {index}") for index in range(24)]
    for report in tintype.train(data, tmp_path / "run", config, device="cpu"):
        assert (report.validation is not None) == (report.images_seen == IMAGES)
        if report.validation is not None:
            assert report.validation.images_seen == IMAGES
            assert set(report.validation.noise_error) == {0.1, 0.3, 1.0, 3.0, 10.0}
            assert tintype.Pipeline.load(tmp_path / "run").generate("shade", steps=1)


@pytest.mark.slow
def test_a_report_has_the_validation_after_its_step(tmp_path: Path, config: Config) -> None:
    often = replace(config, train=replace(config.train, sample_minutes=0.0))
    reports = list(tintype.train(DATA, tmp_path / "run", often, device="cpu"))
    assert [report.validation and report.validation.images_seen for report in reports] == [
        report.images_seen for report in reports
    ]


def test_an_error_in_the_loop_saves_a_checkpoint(tmp_path: Path, config: Config) -> None:
    def loop() -> None:
        for report in tintype.train(DATA, tmp_path / "run", config, device="cpu"):
            if report.images_seen == 2 * BATCH:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    assert newest.name == "step-00000002"


@pytest.mark.parametrize("where", ["body", "step"])
def test_ctrl_c_saves_a_checkpoint_wherever_it_comes(tmp_path: Path, config: Config, where: str) -> None:
    seen = 0

    def interrupting(sigma: Tensor) -> Tensor:
        if where == "step" and seen == 2 * BATCH:
            signal.raise_signal(signal.SIGINT)
        return 1 / sigma

    def loop() -> None:
        nonlocal seen
        for report in tintype.train(DATA, tmp_path / "run", config, device="cpu", loss_weight=interrupting):
            seen = report.images_seen
            if where == "body" and seen == 3 * BATCH:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop()
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    assert newest.name == "step-00000003"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_while_the_loop_body_runs_signals_are_the_callers(tmp_path: Path, config: Config) -> None:
    steps = tintype.train(DATA, tmp_path / "run", config, device="cpu")
    next(steps)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(TrainingError, match="another"):  # the folder is still in use
        next(tintype.train(DATA, tmp_path / "run", config, device="cpu"))
    steps.close()  # type: ignore[attr-defined]
    assert next(tintype.train(DATA, tmp_path / "run", config, device="cpu")).images_seen == 2 * BATCH


@pytest.mark.slow
def test_it_is_quiet_unless_told_otherwise(tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    list(tintype.train(DATA, tmp_path / "quiet", config, device="cpu"))
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    out = StringIO()
    list(tintype.train(DATA, tmp_path / "loud", config, device="cpu", verbose=Console(file=out)))
    assert "done: " in out.getvalue()


def test_a_run_resumes_only_with_the_objects_it_was_started_with(tmp_path: Path, config: Config) -> None:
    run = tmp_path / "run"
    leave(tintype.train(DATA, run, config, device="cpu", noise_levels=log_uniform), 1)
    with pytest.raises(CheckpointError, match=r"noise_levels=.*log_uniform; pass that object as noise_levels="):
        list(tintype.train(DATA, run, config, device="cpu"))
    with pytest.raises(CheckpointError, match=r"noise_levels=.*log_uniform, not .*halves"):
        list(tintype.train(DATA, run, config, device="cpu", noise_levels=halves))
    with pytest.raises(CheckpointError, match=r"without an object for optimizer; leave out optimizer="):
        list(tintype.train(DATA, run, config, device="cpu", noise_levels=log_uniform, optimizer=sgd))
    with pytest.raises(CheckpointError, match="noise_levels"):
        run_command(TrainRequest(data=tmp_path, out=run, device="cpu"), Console(quiet=True))


def test_a_model_with_its_own_prediction_loads_only_with_it(tmp_path: Path, config: Config) -> None:
    run = tmp_path / "run"
    leave(tintype.train(DATA, run, config, device="cpu", prediction=v_prediction), 1)  # a checkpoint
    for model in (run, checkpoint.latest(run)):
        assert model is not None
        with pytest.raises(CheckpointError, match=r"prediction=.*v_prediction; pass that object as prediction="):
            tintype.Pipeline.load(model)
    denoiser = tintype.Pipeline.load(run, prediction=v_prediction).denoiser
    assert denoiser.prediction is v_prediction
    with pytest.raises(CheckpointError, match="prediction"):
        list(tintype.train(DATA, tmp_path / "other", config, device="cpu", from_model=run))
    with pytest.raises(CheckpointError, match="without an object for prediction"):
        tintype.Pipeline.load("shapes", prediction=v_prediction)


def test_a_network_may_be_a_module_which_is_copied(tmp_path: Path, config: Config) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = Convolution(config)
    before = net.read.weight.clone()
    for name in ("one", "two"):
        list(tintype.train(DATA, tmp_path / name, config, device="cpu", net=net))
    assert torch.equal(net.read.weight, before)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    with pytest.raises(CheckpointError, match=r"trained with net=.*Convolution; pass that object as net="):
        tintype.Pipeline.load(tmp_path / "one")
    loaded = tintype.Pipeline.load(tmp_path / "one", net=Convolution)  # its class, or a module of it
    assert not torch.equal(loaded.denoiser.net.get_parameter("read.weight"), before)
    with pytest.raises(ConfigError, match="cannot be sharded"):
        list(tintype.train(DATA, tmp_path / "three", config, device="cpu", net=net, shard=True))


def test_an_unknown_architecture_is_refused(tmp_path: Path, config: Config) -> None:
    other = replace(config, net=replace(config.net, architecture="unet"))
    with pytest.raises(ConfigError, match="architecture must be one of dit, not 'unet'"):
        list(tintype.train(DATA, tmp_path / "run", other, device="cpu"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise_levels": lambda positions: torch.ones(1)}, "noise_levels must give one finite number"),
        ({"noise_levels": lambda positions: -torch.ones(len(positions))}, "noise_levels must give levels above 0"),
        ({"loss_weight": lambda sigma: sigma * torch.nan}, "loss_weight must give one finite number"),
        ({"loss_weight": lambda sigma: 1.0}, r"loss_weight must give .* not float"),
        ({"prediction": lambda sigma, sigma_data: (sigma, sigma, sigma, sigma[0])}, "prediction: c_noise must give"),
        ({"optimizer": lambda model, config: model}, "optimizer must make a torch.optim.Optimizer, not Denoiser"),
        (
            {"optimizer": lambda model, config: torch.optim.SGD([nn.Parameter(torch.ones(1))])},
            "optimizer steps a weight that is not in the model",
        ),
        ({"preset": "nano"}, "either a preset or a config"),
    ],
)
def test_objects_that_cannot_work_are_refused_before_the_first_step(
    tmp_path: Path, config: Config, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(tintype.train(DATA, tmp_path / "run", config, device="cpu", **given))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_stored_run_continues_with_its_config_or_without(tmp_path: Path, config: Config) -> None:
    run = tmp_path / "run"
    leave(tintype.train(DATA, run, config, device="cpu"), 1)
    leave(tintype.train(DATA, run, device="cpu"), 1)  # the stored one
    with pytest.raises(CheckpointError, match=r"train.lr"):
        list(tintype.train(DATA, run, config, device="cpu", lr=1e-4))
    other = replace(config, sample=replace(config.sample, steps=5))
    with pytest.raises(CheckpointError, match=r"sample.steps"):
        list(tintype.train(DATA, run, other, device="cpu"))
    assert list(tintype.train(DATA, run, config, device="cpu"))[-1].images_seen == IMAGES


def test_other_pictures_are_refused(tmp_path: Path, config: Config) -> None:
    leave(tintype.train(DATA, tmp_path / "run", config, device="cpu"), 1)
    with pytest.raises(CheckpointError, match=r"data \(list\) changed since"):
        list(tintype.train(DATA[1:], tmp_path / "run", config, device="cpu"))


class Callable:
    def __call__(self, sigma: Tensor) -> Tensor:
        return sigma


def test_objects_are_named_by_what_defines_them() -> None:
    assert qualified_name(sgd) == f"{__name__}.sgd"
    assert qualified_name(functools.partial(sgd)) == f"{__name__}.sgd"
    assert qualified_name(Callable()) == f"{__name__}.Callable"
    assert qualified_name(Callable) == f"{__name__}.Callable"


@pytest.mark.slow
def test_an_object_may_be_streamed(tmp_path: Path, config: Config) -> None:
    copied = list(tintype.train(DATA, tmp_path / "copied", config, device="cpu"))
    assert list(tintype.train(DATA, tmp_path / "streamed", config, device="cpu", stream=True)) == copied
    assert weights(tmp_path / "streamed") == weights(tmp_path / "copied")


@pytest.mark.slow
def test_a_config_continues_from_the_weights_of_another_run(tmp_path: Path, config: Config) -> None:
    list(tintype.train(DATA, tmp_path / "first", config, device="cpu"))
    slower = replace(config, train=replace(config.train, lr=1e-4, warmup_images=0))
    reports = list(tintype.train(DATA, tmp_path / "second", slower, device="cpu", from_model=tmp_path / "first"))
    assert reports[0].lr == 1e-4
    assert weights(tmp_path / "second") != weights(tmp_path / "first")


@pytest.mark.slow
def test_a_run_with_a_time_keeps_the_length_it_was_started_with(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(plan, "images_within", lambda seconds, speed, train: 5 * train.batch_size)  # however busy it is
    monkeypatch.setattr(Budget, "images", lambda self, images_seen, train: None)
    leave(tintype.train(DATA, run, config, device="cpu", minutes=0.05), 2)
    planned = Config.from_json((run / "config.json").read_text()).train.images
    last = list(tintype.train(DATA, run, config, device="cpu", minutes=0.05))[-1]
    assert last.images_seen == planned
