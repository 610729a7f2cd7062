"""`tintype export --to onnx`: graphs that draw the pictures of the model, in other programs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tintype.cli.main import main
from tintype.config import Config, NetConfig, NoiseConfig, SampleConfig, TextConfig
from tintype.errors import ConfigError, MissingExtraError
from tintype.export.forms import export_model
from tintype.export.onnx.check import require_same
from tintype.export.onnx.graphs import graphs_of
from tintype.export.onnx.precision import quantized, store_weights
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import CaptionKV
from tintype.pipeline.pipeline import Pipeline

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_draw.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """examples/onnx_draw.py, which needs no Tintype."""
    spec = importlib.util.spec_from_file_location("onnx_draw", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def graph() -> Any:
    """A graph with a weight of each kind: embeddings, x @ w, a layer with its weights transposed, a convolution."""
    generator = np.random.default_rng(0)
    helper, kinds = onnx.helper, onnx.TensorProto
    weights = {"table": (40, 30), "product": (30, 25), "layer": (25, 25), "kernel": (25, 25, 1, 1), "bias": (25,)}
    tensors = [
        onnx.numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("MatMul", ["words", "product"], ["mixed"]),
        helper.make_node("Gemm", ["mixed", "layer", "bias"], ["turned"], transB=1),
        helper.make_node("Unsqueeze", ["turned", "axes"], ["picture"]),
        helper.make_node("Conv", ["picture", "kernel"], ["out"]),
    ]
    tensors.append(onnx.numpy_helper.from_array(np.array([2, 3]), "axes"))
    inputs = [helper.make_tensor_value_info("ids", kinds.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("out", kinds.FLOAT, ["n", 25, 1, 1])]
    onnx_graph = helper.make_graph(nodes, "kinds", inputs, outputs, tensors)
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def computed(model: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"ids": np.arange(40)})
    return np.asarray(out)


def stored(model: Any) -> dict[str, Any]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_weights(change: Callable[[str, np.ndarray], np.ndarray]) -> Any:
    """The graph with other weights, as float32."""
    model = graph()
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            weights = change(tensor.name, onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float32), tensor.name))
    return model


def test_halves_are_widened_when_they_are_loaded() -> None:
    model = graph()
    store_weights(model, "fp16")
    kept = stored(model)
    assert {name for name, weights in kept.items() if weights.dtype == np.float32} == {"bias"}
    rounded = with_weights(lambda name, weights: weights if name == "bias" else weights.astype(np.float16))
    assert np.array_equal(computed(model), computed(rounded))


def test_each_output_channel_of_int8_has_a_scale_of_its_own() -> None:
    model = graph()
    store_weights(model, "int8")
    kept = stored(model)
    assert {name: kept[f"{name}.scales"].shape for name in ("table", "product", "layer")} == {
        "table": (40,),
        "product": (25,),
        "layer": (25,),
    }
    assert kept["kernel.stored"].dtype == np.float16
    axes = {"table": 0, "product": 1, "layer": 0}

    def rounded(name: str, weights: np.ndarray) -> np.ndarray:
        if name not in axes:
            return weights.astype(np.float16) if name == "kernel" else weights
        levels, scales = quantized(weights, axes[name])
        return np.moveaxis(np.moveaxis(levels.astype(np.float32), axes[name], -1) * scales, -1, axes[name])

    np.testing.assert_allclose(computed(model), computed(with_weights(rounded)), rtol=1e-5, atol=1e-3)
    assert np.abs(computed(model) - computed(graph())).max() > 0.01


def test_int8_is_right_to_half_a_step() -> None:
    weights = np.random.default_rng(1).standard_normal((5, 300)).astype(np.float32)
    weights[3] = 0
    levels, scales = quantized(weights, 0)
    assert np.abs(levels.astype(np.float32) * scales[:, None] - weights).max(axis=1) == pytest.approx(
        scales / 2, rel=0.1
    )
    assert np.abs(levels).max(axis=1).tolist() == [127, 127, 127, 0, 127]


def test_a_number_too_large_for_a_half_stays() -> None:
    model = with_weights(lambda name, weights: 1e6 * weights if name == "layer" else weights)
    store_weights(model, "fp16")
    assert stored(model)["layer"].dtype == np.float32


def test_a_graph_that_computes_something_else_is_not_exported(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def session(proto: Any) -> SimpleNamespace:
        def run(names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            with torch.no_grad():
                kv = denoiser.caption_kv(denoiser.text.refine(*map(torch.from_numpy, inputs.values())))
            found = (torch.stack(kv.keys), torch.stack(kv.values) + 2e-4, kv.mask, kv.pooled_text)
            return [tensor.numpy() for tensor in found]

        return SimpleNamespace(run=run)

    denoiser = Pipeline.load(tiny_model, "cpu").denoiser
    monkeypatch.setattr("tintype.export.onnx.write.trace", lambda graph: None)
    monkeypatch.setattr("tintype.export.onnx.check.session_of", session)
    with pytest.raises(
        ConfigError, match=r"the exported graph text differs from the model by 0\.0002, which is more than"
    ):
        export_model(tiny_model, tmp_path / "out", to="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("precision", "rounding"), [("fp16", 1e-3), ("int8", 0.2)])
def test_rounded_weights_may_change_numbers_as_much_as_rounding_does(
    precision: str, rounding: float, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = Pipeline.load(tiny_model, "cpu").denoiser
    text, _ = graphs_of(denoiser)

    def session(proto: float) -> SimpleNamespace:
        def run(names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            with torch.no_grad():
                *found, mask, pooled = text.module(*map(torch.from_numpy, inputs.values()))
            return [mask.numpy() if part is mask else part.numpy() * (1 + proto) for part in (*found, mask, pooled)]

        return SimpleNamespace(run=run)

    monkeypatch.setattr("tintype.export.onnx.check.session_of", session)
    assert require_same(text, rounding, denoiser, precision) == pytest.approx(rounding, rel=1e-3)
    with pytest.raises(ConfigError, match="the exported graph text differs from the model by"):
        require_same(text, 50 * rounding, denoiser, precision)


def test_without_a_package_the_extra_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"needs the package onnxscript: pip install 'tintype\[onnx\]'"):
        export_model(tiny_model, tmp_path / "out", to="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    return export_model(tiny_model, folder, to="onnx", license="MIT")


@pytest.mark.slow
@pytest.mark.parametrize(("caption", "seed"), [("a RED circle", 0), ("東京 ein Haus " * 9, 2**63 + 5)])
def test_the_example_draws_the_picture_of_the_pipeline(
    caption: str, seed: int, exported: Path, tiny_model: Path, example: ModuleType
) -> None:
    (expected,) = Pipeline.load(tiny_model, "cpu").generate(caption, seeds=[seed % 2**63])
    found = example.Model(exported).draw(caption, seed % 2**63)
    assert np.abs(np.asarray(expected).astype(int) - found).max() <= 1


@pytest.mark.slow
def test_graphs_take_any_number_size_and_length(exported: Path, tiny_model: Path) -> None:
    denoiser = Pipeline.load(tiny_model, "cpu").denoiser
    about = json.loads((exported / "tintype.json").read_text(encoding="utf-8"))
    assert about["graphs"]["net"]["inputs"]["x"] == ["batch", 3, "4*rows", "4*columns"]
    assert about["graphs"]["net"]["largest_difference"] <= 1e-4
    text, net = (onnxruntime.InferenceSession(exported / f"{name}.onnx") for name in ("text", "net"))
    for captions, height, width in ((["a"], 4, 4), (["a red circle", "", "東京"], 28, 8)):
        ids = denoiser.encoder.text_embeddings(captions)
        longest = max(map(len, ids))
        tokens = np.array([[*row.tolist(), *[0] * (longest - len(row))] for row in ids])
        mask = np.arange(longest) < np.array([[len(row)] for row in ids])
        keys, values, key_mask, pooled = text.run(None, {"text": tokens, "token_mask": mask})
        x = np.random.default_rng(0).standard_normal((len(captions), 3, height, width)).astype(np.float32)
        sigma = np.linspace(0.5, 2, len(captions), dtype=np.float32)
        inputs = {"x": x, "sigma": sigma, "keys": keys, "values": values, "mask": key_mask, "pooled_text": pooled}
        (found,) = net.run(None, inputs)
        with torch.no_grad():
            kv: CaptionKV = denoiser.caption_kv(denoiser.encode(captions))
            expected = denoiser.denoise(torch.from_numpy(x), torch.from_numpy(sigma), kv)
        assert np.abs(found - expected.numpy()).max() <= 1e-4


@pytest.mark.slow
def test_what_is_exported_is_told(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {file.name for file in exported.iterdir()} == {
        *("README.md", "net.onnx", "text.onnx", "tintype.json", "tokenizer.json")
    }
    assert main(["info", str(exported)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "exported as onnx name tiny license MIT" in output
    assert main(["generate", "a", "--model", str(exported)]) == 1
    assert "is not a model" in capsys.readouterr().err


@pytest.mark.slow
def test_another_network_with_a_frozen_encoder_is_exported_too(tmp_path: Path, example: ModuleType) -> None:
    net = NetConfig(resolution=16, patch=8, width=32, depth=1, heads=1, stem_width=8, stem_levels=2, text_depth=0)
    net = replace(net, stem_factor=4, head_width=8, write_kernel=1)
    config = Config(
        net=net,
        text=TextConfig(encoder="minilm", max_tokens=8),
        noise=NoiseConfig(prediction="velocity"),
        sample=SampleConfig(sampler="dpmpp_2m", steps=4, guidance=2.0),
    )
    (tmp_path / "model").mkdir()
    torch.manual_seed(0)
    weights = {name: weight + 0.1 * torch.randn_like(weight) for name, weight in Denoiser(config).state_dict().items()}
    save_file(weights, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text(config.to_json())
    folder = export_model(tmp_path / "model", tmp_path / "out", to="onnx", precision="fp32")
    caption = "a slice of pizza that is longer than eight tokens"
    (expected,) = Pipeline.load(tmp_path / "model", "cpu").generate(caption, seeds=[3])
    assert np.abs(np.asarray(expected).astype(int) - example.Model(folder).draw(caption, 3)).max() <= 1
