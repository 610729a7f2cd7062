"""The form `onnx`: graphs, tokenizer, and `tintype.json`, which says all that a stranger needs to draw with them.

text.onnx  net.onnx  encoder.onnx (of a frozen text encoder)  tokenizer.json  tintype.json  README.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tintype.errors import CheckpointError, ConfigError
from tintype.export.card import front_matter
from tintype.export.onnx.check import require_same
from tintype.export.onnx.graphs import OPSET, Graph, graphs_of, require_packages, trace
from tintype.export.onnx.precision import store_weights
from tintype.export.options import ExportOptions
from tintype.export.record import write_record
from tintype.export.sampling import sampling_plan
from tintype.model import checkpoint, file_names, store
from tintype.model.denoiser import Denoiser
from tintype.model.nets.text import FrozenEncoder
from tintype.model.nets.tokens import read_tokenizer
from tintype.printable import one_line


def write_onnx(model: store.Model, out: Path, options: ExportOptions) -> None:
    """Write the form `onnx` of a model at `out`, where nothing is.

    Raises MissingExtraError without the extra, ConfigError for a model that cannot be exported or whose graphs compute
    something else, CheckpointError, OSError.
    """
    require_packages()
    denoiser = store.load_denoiser(model).eval().requires_grad_(False)
    config = denoiser.config
    if config.net.codec != "pixels":
        raise ConfigError(f"only models of pixels can be exported to onnx, not with the codec {config.net.codec}")
    description = describe(denoiser, options, store.weights_hash(model))
    out.mkdir()
    graphs = graphs_of(denoiser)
    description["graphs"] = {graph.name: _write_graph(graph, out, denoiser, options.precision) for graph in graphs}
    checkpoint.write_text(out / file_names.TOKENIZER, _tokenizer(denoiser))
    card = options.card or _card(options, description)
    checkpoint.write_text(out / file_names.CARD, front_matter(options, {}) + "\n" + card)
    write_record(out, "onnx", options, description)


def describe(denoiser: Denoiser, options: ExportOptions, sha256: str) -> dict[str, Any]:
    """All that sampling needs beside the graphs, as JSON. Raises ConfigError."""
    config, learned = denoiser.config, denoiser.config.text.encoder == "learned"
    width, height = config.default_size
    return {
        "precision": options.precision,
        "opset": OPSET,
        "model_sha256": sha256,
        "picture": {
            "width": width,
            "height": height,
            "multiple": config.net.multiple,  # of which width and height are multiples
            "shape": [config.net.channels, height, width],
            "range": [-1, 1],
        },
        "tokenizer": {
            "file": file_names.TOKENIZER,
            "lowercase": learned,  # the caption before it is split into tokens
            "special_tokens": not learned,
            "max_tokens": config.text.max_tokens,  # special tokens included
        },
        "sampling": sampling_plan(config),
        "examples": list(options.examples),
    }


def _write_graph(graph: Graph, out: Path, denoiser: Denoiser, precision: str) -> dict[str, Any]:
    """Trace a graph, compare it with the model, write it, and describe its file. Raises ConfigError."""
    proto = trace(graph)
    differences = {"largest_difference": require_same(graph, proto, denoiser, "fp32")}
    if precision != "fp32":
        store_weights(proto, precision)
        differences["relative_difference_as_stored"] = require_same(graph, proto, denoiser, precision)
    name = f"{graph.name}.onnx"
    checkpoint.write_bytes(out / name, proto.SerializeToString())
    return {
        "file": name,
        "inputs": _shapes(proto.graph.input),
        "outputs": _shapes(proto.graph.output),
        **differences,
    }


def _shapes(values: Any) -> dict[str, list[int | str]]:
    """Name -> shape, with names for free axes."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def _tokenizer(denoiser: Denoiser) -> str:
    """The tokenizer as JSON that neither cuts nor pads. Raises CheckpointError."""
    if denoiser.tokenizer is not None and denoiser.config.text.encoder == "learned":
        return denoiser.tokenizer
    encoder = denoiser.encoder
    if not isinstance(encoder, FrozenEncoder):
        raise CheckpointError("this model has no tokenizer.json; copy the model again")
    text: str = read_tokenizer(encoder.folder).to_str()
    return text


def _card(options: ExportOptions, description: dict[str, Any]) -> str:
    picture = description["picture"]
    terms = f"Its license is {options.license}." if options.license else "Its author has given it no license."
    return f"""# {one_line(options.name)}

A text-to-image diffusion model made with Tintype, as ONNX graphs: captions to pictures of {picture["width"]} x
{picture["height"]} pixels, and of other sizes that are multiples of {picture["multiple"]}. {terms}

tintype.json describes the graphs and the steps of sampling. `examples/onnx_draw.py` of Tintype draws with onnxruntime,
numpy and tokenizers alone:

    python onnx_draw.py FOLDER "a caption" --seed 0 --out picture.png
"""
