"""The graphs of a model: captions -> keys and values once a caption, noisy pictures -> denoised pictures once a step.

The network and its prediction are one graph, so that a program which samples needs to know nothing but sigma.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tintype.errors import ConfigError, MissingExtraError
from tintype.model.denoiser import Denoiser
from tintype.model.nets.conditioning import CaptionKV
from tintype.model.nets.text import FrozenEncoder

OPSET = 18
EXTRA = "tintype[onnx]"
_MANY = 4096  # more than anybody asks for at once; the exporter wants a bound
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")

Axes = dict[int, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """A module to export, with tensors to trace it with and the names and free axes of each."""

    name: str
    module: nn.Module
    inputs: dict[str, tuple[Tensor, Axes]]
    outputs: tuple[str, ...]

    @property
    def examples(self) -> dict[str, Tensor]:
        return {name: tensor for name, (tensor, _) in self.inputs.items()}


class Text(nn.Module):
    """Text embeddings or token ids, padded, with their mask -> keys, values, mask and pooled text of the network."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, text: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kv = self.denoiser.caption_kv(self.denoiser.text.refine(text, token_mask))
        return torch.stack(kv.keys), torch.stack(kv.values), kv.mask, kv.pooled_text


class Net(nn.Module):
    """`Denoiser.denoise`, with the keys and values of all blocks in one tensor each."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Tensor, keys: Tensor, values: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        return self.denoiser.denoise(x, sigma, CaptionKV(tuple(keys.unbind()), tuple(values.unbind()), mask, pooled))


class Encoder(nn.Module):
    """A frozen text encoder: token ids and their mask -> text embeddings, rounded to float16 as in training."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=token_ids, attention_mask=token_mask.long()).last_hidden_state
        return hidden.half().float()


def graphs_of(denoiser: Denoiser) -> list[Graph]:
    """The graphs `encoder` (of a frozen text encoder), `text` and `net` of a model. Raises ConfigError."""
    dim = torch.export.Dim
    batch, tokens, rows, columns = (dim(name, min=1, max=_MANY) for name in ("batch", "tokens", "rows", "columns"))
    length = dim("length", min=1, max=_MANY)
    config, encoder = denoiser.config, denoiser.encoder
    graphs = []
    mask = torch.tensor([[True] * 3, [True, True, False]])
    ids = torch.ones(2, 3, dtype=torch.int64)
    if isinstance(encoder, FrozenEncoder):
        inputs = {"token_ids": (ids, {0: batch, 1: tokens}), "token_mask": (mask, {0: batch, 1: tokens})}
        graphs.append(Graph("encoder", Encoder(encoder.module), inputs, ("text",)))
    embeddings = torch.randn(2, 3, encoder.embedding_dim) if encoder.embedding_dim else ids
    text = Text(denoiser)
    inputs = {"text": (embeddings, {0: batch, 1: tokens}), "token_mask": (mask, {0: batch, 1: tokens})}
    outputs = ("keys", "values", "mask", "pooled_text")
    graphs.append(Graph("text", text, inputs, outputs))
    with torch.no_grad():
        keys, values, text_mask, pooled = text(embeddings, mask)
    patch = config.net.patch
    x = torch.randn(2, config.net.channels, 2 * patch, 3 * patch)
    net_inputs: dict[str, tuple[Tensor, Axes]] = {
        "x": (x, {0: batch, 2: patch * rows, 3: patch * columns}),
        "sigma": (torch.tensor([0.5, 2.0]), {0: batch}),
        "keys": (keys, {1: batch, 2: length}),
        "values": (values, {1: batch, 2: length}),
        "mask": (text_mask, {0: batch, 1: length}),
        "pooled_text": (pooled, {0: batch}),
    }
    graphs.append(Graph("net", Net(denoiser), net_inputs, ("denoised",)))
    return graphs


def trace(graph: Graph) -> Any:
    """A graph as an `onnx.ModelProto`. Raises MissingExtraError without the extra, ConfigError if tracing fails."""
    require_packages()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(graph.examples.values()),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=tuple(axes for _, axes in graph.inputs.values()),
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"the graph {graph.name} of this model cannot be exported with this PyTorch: {reason}"
        ) from None
    assert program is not None
    return program.model_proto


def require_packages() -> None:
    """Raise MissingExtraError unless everything that the form needs is installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, EXTRA)


@contextmanager
def _quiet(loggers: Sequence[str] = _LOGGERS) -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed and on names of axes."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
