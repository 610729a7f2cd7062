"""Comparison of graphs with the model they were made from, on noisy pictures of several sizes, levels and captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tintype.errors import ConfigError
from tintype.export.onnx.graphs import Graph
from tintype.model.denoiser import Denoiser

LARGEST = 1e-4  # difference of a number in float32; pictures have values from -1 to 1, a level of 255 is 0.008
# Root mean square of the differences with rounded weights, relative to that of the numbers. Single numbers say little:
# an attention head of a text encoder may turn to another token where a caption is mere noise.
ROUNDED = {"fp16": 0.02, "int8": 0.5}
HALF_STEP = 2.0**-10  # relative; an encoder's output is rounded to float16, to one side or the other
_CASES = ((1, 2, 2), (2, 1, 3), (3, 3, 2))  # batch, rows and columns of patches
_SIGMAS = (0.1, 1.0, 10.0)


def session_of(proto: Any) -> Any:
    """A graph (`onnx.ModelProto`) in ONNX Runtime, on the CPU and one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def require_same(graph: Graph, proto: Any, denoiser: Denoiser, precision: str) -> float:
    """How far a graph's outputs are from its module's: the largest difference with fp32, else relative (`ROUNDED`).

    Raises ConfigError if that is over the limit.
    """
    limit, measure = (LARGEST, _difference) if precision == "fp32" else (ROUNDED[precision], _relative)
    session, worst = session_of(proto), 0.0
    for number in range(len(_CASES)):
        inputs = _inputs(graph, denoiser, number)
        with torch.no_grad():
            result = graph.module(*inputs.values())
        expected = result if isinstance(result, tuple) else (result,)
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        worst = max([worst, *(measure(graph, ours, theirs) for ours, theirs in zip(expected, found, strict=True))])
    if not worst <= limit:
        raise ConfigError(
            f"the exported graph {graph.name} differs from the model by {worst:.2g}, which is more than "
            f"{limit:g}; nothing was exported"
        )
    return worst


def _difference(graph: Graph, ours: Tensor, theirs: Any) -> float:
    other = torch.from_numpy(theirs)
    if ours.dtype == torch.bool:
        return 0.0 if torch.equal(ours, other) else torch.inf
    if ours.shape != other.shape:
        return torch.inf
    difference = (ours - other).abs()
    if graph.name == "encoder":
        difference = (difference - HALF_STEP * ours.abs()).clamp(min=0)
    return float(difference.max())


def _relative(graph: Graph, ours: Tensor, theirs: Any) -> float:
    """The root mean square of the differences, relative to that of the numbers."""
    if ours.dtype == torch.bool:
        return _difference(graph, ours, theirs)
    error, size = ((values.double().square().mean().sqrt()) for values in (ours - torch.from_numpy(theirs), ours))
    return float(error / size.clamp(min=1e-3))


def _inputs(graph: Graph, denoiser: Denoiser, number: int) -> Mapping[str, Tensor]:
    """Inputs of a graph in another shape than it was traced with."""
    batch, rows, columns = _CASES[number]
    generator = torch.Generator().manual_seed(number)
    lengths = torch.arange(batch) * (number + 1)  # the first caption is empty
    mask = torch.arange(max(1, int(lengths.max()))) < lengths[:, None]
    example = next(iter(graph.examples.values()))
    if graph.name == "encoder":
        mask = mask | (torch.arange(mask.shape[1]) == 0)
    if graph.name != "net":
        return dict(zip(graph.inputs, (_text(example, mask, generator), mask), strict=True))
    size = denoiser.config.net.patch
    sigma = torch.tensor(_SIGMAS).roll(number)[:batch]
    noise = torch.randn(batch, denoiser.config.net.channels, rows * size, columns * size, generator=generator)
    text = graph.examples
    mask = torch.cat([torch.ones(batch, 1, dtype=torch.bool), mask], dim=1)
    shape = (text["keys"].shape[0], batch, mask.shape[1], *text["keys"].shape[3:])
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    pooled = torch.randn(batch, text["pooled_text"].shape[1], generator=generator)
    x = sigma.view(-1, 1, 1, 1) * noise
    return dict(zip(graph.inputs, (x, sigma, keys, values, mask, pooled), strict=True))


def _text(example: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    if example.dtype == torch.int64:
        return torch.randint(1, 200, mask.shape, generator=generator) * mask
    return torch.randn(*mask.shape, example.shape[-1], generator=generator) * mask[:, :, None]
