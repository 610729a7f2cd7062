"""`tintype export --to diffusers`: what is written and what is refused; nothing here needs diffusers."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.export.test_folder import SECRET, contents, run

from tintype.cli.main import main
from tintype.config import Config, NetConfig, SampleConfig
from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.errors import CheckpointError, ConfigError, MissingExtraError
from tintype.export.diffusers.layout import betas, noise_levels, write_layout
from tintype.export.forms import export_model
from tintype.pipeline.pipeline import Pipeline
from tintype.pipeline.request import make_request
from tintype.pipeline.start import request_sigmas

__all__ = ["run"]  # a fixture

ADDED = {"model_index.json", "pipeline.py", "denoiser/model.py", "scheduler/scheduler_config.json"}


def test_the_folder_is_a_model_folder_with_four_files_more(
    diffusers_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    plain = contents(export_model(tiny_model, tmp_path / "cats", license="MIT"))
    files = contents(diffusers_folder)
    assert set(files) == set(plain) | ADDED
    assert {name for name in plain if files[name] != plain[name]} == {"README.md", "tintype.json"}
    one, other = (Pipeline.load(folder, "cpu").generate("a red circle")[0] for folder in (diffusers_folder, tiny_model))
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_nothing_private_goes_along(run: Path, tmp_path: Path) -> None:
    files = contents(export_model(run, tmp_path / "out", to="diffusers"))
    for name, content in files.items():
        for secret in (SECRET, str(tmp_path), "private"):
            assert secret.encode() not in content, name


def test_the_code_in_the_folder_imports_a_class_and_does_nothing_else(diffusers_folder: Path) -> None:
    index = json.loads((diffusers_folder / "model_index.json").read_text())
    assert index["_class_name"][0] == "pipeline"
    assert index["denoiser"][0] == "model"
    for file, (_, name) in {"pipeline.py": index["_class_name"], "denoiser/model.py": index["denoiser"]}.items():
        _, imported, exports = ast.parse((diffusers_folder / file).read_text()).body
        assert isinstance(imported, ast.ImportFrom)
        assert [alias.name for alias in imported.names] == [name]
        assert isinstance(exports, ast.Assign)
        spec = find_spec(str(imported.module))
        assert spec is not None
        defined = ast.parse(Path(str(spec.origin)).read_text()).body
        assert name in {node.name for node in defined if isinstance(node, ast.ClassDef)}


def test_info_names_model_version_license_and_form(diffusers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(diffusers_folder)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert output.startswith(f"{diffusers_folder.name}: a text-to-image model")
    assert "license MIT exported by Tintype 0" in output
    assert "as 'cats', in the form diffusers" in output
    assert main(["info", str(diffusers_folder), "--verify"]) == 0


def test_the_card_says_how_to_load_it_and_what_runs(diffusers_folder: Path) -> None:
    card = (diffusers_folder / "README.md").read_text(encoding="utf-8")
    assert "- diffusers\n" in card.split("---\n")[1]
    assert "custom_pipeline=FOLDER, trust_remote_code=True" in card
    assert "pip install tintype diffusers" in card


def test_the_scheduler_is_told_what_every_other_one_reads_from_its_settings(diffusers_folder: Path) -> None:
    settings = json.loads((diffusers_folder / "scheduler" / "scheduler_config.json").read_text())
    assert settings["_class_name"] == json.loads((diffusers_folder / "model_index.json").read_text())["scheduler"][1]
    assert len(settings["trained_betas"]) == settings["num_train_timesteps"]
    assert (settings["prediction_type"], settings["clip_sample"]) == ("epsilon", False)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 12, 16, 37])
@pytest.mark.parametrize("center", [0.7, 2.0])
def test_the_table_has_the_levels_of_the_schedule_where_schedulers_look(
    schedule: str, steps: int, center: float
) -> None:
    sample = SampleConfig(steps=steps, schedule=schedule, schedule_center=center, schedule_spread=1.1)
    config = Config(net=NetConfig(resolution=32), sample=sample)
    levels = noise_levels(config)
    assert len(levels) == 1000
    assert np.all(np.diff(levels) > 0)
    assert levels[0] > 0.8 * config.noise.sigma_min
    timesteps = np.arange(1000, 0, -1000 / steps).round().astype(int) - 1  # "trailing" (arXiv 2305.08891, table 2)
    own = request_sigmas(make_request(config, "", {}), config.noise)[:-1].numpy()
    np.testing.assert_allclose(np.array(levels)[timesteps], own, rtol=1e-9)
    bars = np.cumprod(1 - np.array(betas(levels), dtype=np.float32))  # as schedulers compute them
    np.testing.assert_allclose(np.sqrt((1 - bars) / bars), levels, rtol=4e-3)
    assert np.all(np.diff(bars) < 0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_has_a_scheduler(sampler: str, tmp_path: Path) -> None:
    write_layout(tmp_path, Config(sample=SampleConfig(sampler=sampler)))
    assert json.loads((tmp_path / "model_index.json").read_text())["scheduler"][1].endswith("Scheduler")


def test_a_part_that_is_a_python_object_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "components.json").write_text(json.dumps({"prediction": "mine.prediction"}))
    with pytest.raises(ConfigError, match="a part that is a Python object"):
        export_model(folder, tmp_path / "out", to="diffusers")
    assert not (tmp_path / "out").exists()


def test_int8_is_refused(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(tiny_model), "--to", "diffusers", "--precision", "int8", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "has precision fp16 or fp32" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), SystemExit(143)])
def test_a_failed_export_leaves_nothing(
    error: BaseException, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tintype.export.diffusers.write.write_layout", fail)
    with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
        export_model(tiny_model, tmp_path / "out", to="diffusers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["pipeline", "denoiser", "clock"])
def test_without_diffusers_the_code_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("diffusers", "tintype.export.diffusers."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match="pip install 'diffusers'"):
        importlib.import_module(f"tintype.export.diffusers.{module}")
