"""Weights stored in fewer bits: the graph widens them when it is loaded, and computes in float32 all the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_WEIGHTS = 512  # in a tensor; smaller ones stay float32
LEVELS = 127  # of an int8 weight, on each side of 0
MAX_HALF = 65504.0


def store_weights(proto: Any, precision: str) -> None:
    """Store the weights of a graph (`onnx.ModelProto`) as fp32, fp16 or int8, in place.

    int8: one scale for each output channel, the largest weight of which is 127. Convolutions, which are few and near
    the pixels, and what cannot be told apart are stored as fp16.
    """
    if precision == "fp32":
        return
    import onnx
    from onnx import numpy_helper

    graph = proto.graph
    readers = _readers(graph)
    nodes = []
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < MIN_WEIGHTS:
            continue
        weights, name = numpy_helper.to_array(tensor), tensor.name
        axis = _axis(readers.get(name, []), weights.ndim) if precision == "int8" else None
        if axis is None and np.abs(weights).max() > MAX_HALF:
            continue
        graph.initializer.remove(tensor)
        if axis is None:
            graph.initializer.append(numpy_helper.from_array(weights.astype(np.float16), f"{name}.stored"))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}.stored"], [name], to=onnx.TensorProto.FLOAT))
            continue
        levels, scales = quantized(weights, axis)
        graph.initializer.append(numpy_helper.from_array(levels, f"{name}.stored"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        inputs = [f"{name}.stored", f"{name}.scales"]
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def quantized(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as int8, and the scale of each channel along `axis`: weights = levels * scale, to half a scale."""
    others = tuple(other for other in range(weights.ndim) if other != axis % weights.ndim)
    largest = np.abs(weights).max(axis=others)
    scales = (np.maximum(largest, 1e-30) / LEVELS).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    levels: NDArray[np.int8] = np.clip(np.rint(weights / scales.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
    return levels, scales


def _readers(graph: Any) -> dict[str, list[tuple[Any, int]]]:
    """Which nodes read each value, and as which of their inputs."""
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    return readers


def _axis(readers: list[tuple[Any, int]], ndim: int) -> int | None:
    """The axis of a weight's output channels; None for one that is better stored as fp16."""
    if len(readers) != 1 or ndim != 2:
        return None
    node, position = readers[0]
    if node.op_type == "Gemm" and position == 1:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    if node.op_type == "Gather":
        return 0 if position == 0 else None
    return 1 if node.op_type == "MatMul" and position == 1 else None
