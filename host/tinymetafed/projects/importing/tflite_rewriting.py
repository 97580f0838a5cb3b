"""Rewrites a decoded TensorFlow Lite model before it is read: casts of the input, and dilation that is written as batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tflite_format import FLOAT32, INT32, VIEW_OPERATORS

# Types of tensors that a CAST may turn into float32, by their number in the file, and their names in NumPy.
_CAST_FROM = {1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")

KindOf = Callable[[Any], str]


def drop_input_cast(graph: Any, kind_of: KindOf) -> str:
    """Makes the model's input float32 where the file only changes its shape and casts it to that.

    Args:
        graph: A subgraph, decoded; changed in place.
        kind_of: The name of an operator's kind.

    Returns:
        The type of the input in the file, as NumPy names it; "float32" where nothing was changed.
    """
    source = int(graph.inputs[0])
    was = _CAST_FROM.get(graph.tensors[source].type)
    tensors, casts = [source], list[Any]()
    for tensor in tensors:  # grows
        for reader in [each for each in graph.operators if tensor in each.inputs]:
            output = int(reader.outputs[0])
            if kind_of(reader) == "CAST" and graph.tensors[output].type == FLOAT32:
                casts.append(reader)
            elif kind_of(reader) in VIEW_OPERATORS:
                tensors.append(output)
            elif kind_of(reader) != "SHAPE":
                return "float32"
    if was is None or not casts:
        return "float32"
    for tensor in tensors:
        graph.tensors[tensor].type = FLOAT32
    for cast in casts:
        _remove(graph, cast)
    return was


def join_dilation(model: Any, schema: Any, kind_of: KindOf) -> None:
    """Writes each dilated convolution as one.

    The converter moves the pixels that a dilated kernel reads together into batches (SPACE_TO_BATCH_ND), convolves these
    without dilation, and moves them back (BATCH_TO_SPACE_ND). What is not of this form stays as it is.

    Args:
        model: The model, decoded; changed in place.
        schema: The schema's module, which has the classes of its parts.
        kind_of: The name of an operator's kind.
    """
    graph = model.subgraphs[0]
    for spread in [each for each in graph.operators if kind_of(each) == "SPACE_TO_BATCH_ND"]:
        between = _between(graph, spread, kind_of)
        if between is not None:
            _join(model, schema, spread, *between)


def _between(graph: Any, spread: Any, kind_of: KindOf) -> tuple[list[Any], Any] | None:
    """The operators from SPACE_TO_BATCH_ND to BATCH_TO_SPACE_ND, one convolution and views; and the last one itself."""
    found, current = list[Any](), spread
    while True:
        output = int(current.outputs[0])
        readers = [each for each in graph.operators if output in each.inputs]
        if len(readers) != 1 or output in graph.outputs:
            return None
        current = readers[0]
        kind = kind_of(current)
        if kind == "BATCH_TO_SPACE_ND":
            return (found, current) if sum(kind_of(each) in _CONVOLUTIONS for each in found) == 1 else None
        if kind not in (*_CONVOLUTIONS, *VIEW_OPERATORS):
            return None
        found.append(current)


def _join(model: Any, schema: Any, spread: Any, between: list[Any], gather: Any) -> None:
    """Makes SPACE_TO_BATCH_ND a PAD or nothing, gives the convolution its dilation, and removes BATCH_TO_SPACE_ND."""
    graph = model.subgraphs[0]
    constants = [_integers(model, graph.tensors[int(each)]) for each in (*spread.inputs[1:3], *gather.inputs[1:3])]
    if any(each is None for each in constants):
        return
    block, pads, block_behind, crops = constants
    margins = pads.reshape(-1, 2) - crops.reshape(-1, 2)  # the converter fills up the last block, and cuts that off again
    (convolution,) = [each for each in between if hasattr(each.builtinOptions, "dilationHFactor")]
    options, axes = convolution.builtinOptions, block.size
    plain = (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor) == (1, 1, 1, 1)
    same = options.padding == schema.Padding.SAME
    if not plain or same or axes not in (1, 2) or (block != block_behind).any() or (margins < 0).any():
        return
    options.dilationHFactor, options.dilationWFactor = (1, *block.tolist()) if axes == 1 else block.tolist()
    source, padded = int(spread.inputs[0]), int(spread.outputs[0])
    before = np.array(graph.tensors[source].shape)
    before[1 : 1 + axes] += margins.sum(axis=1)
    behind = np.array(graph.tensors[int(gather.outputs[0])].shape)
    graph.tensors[padded].shape = before
    at = between.index(convolution)
    for i, each in enumerate(between):
        tensor = graph.tensors[int(each.outputs[0])]
        shape = before if i < at else behind
        tensor.shape = np.insert(shape, 1, 1) if len(tensor.shape) == len(shape) + 1 else shape
    _remove(graph, gather)
    if margins.any():
        spread.opcodeIndex = _code(model, schema, schema.BuiltinOperator.PAD)
        spread.builtinOptions = None
        spread.inputs = [source, _constant(model, schema, [[0, 0], *margins.tolist(), [0, 0]])]
    else:
        _remove(graph, spread)


def _integers(model: Any, tensor: Any) -> Any:
    """The value of a constant int32 tensor; None for others."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != INT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(data), "<i4")


def _remove(graph: Any, operator: Any) -> None:
    """Removes an operator; its readers read its first input."""
    source, output = int(operator.inputs[0]), int(operator.outputs[0])
    graph.operators.remove(operator)
    for each in graph.operators:
        each.inputs = [source if int(tensor) == output else int(tensor) for tensor in each.inputs]
    graph.outputs = [source if int(tensor) == output else int(tensor) for tensor in graph.outputs]


def _code(model: Any, schema: Any, builtin: int) -> int:
    """The index of an operator's code, which is added."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _constant(model: Any, schema: Any, values: list[list[int]]) -> int:
    """The index of a constant int32 tensor, which is added."""
    array = np.array(values, "<i4")
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.type, tensor.shape, tensor.buffer = INT32, np.array(array.shape), len(model.buffers) - 1
    tensor.name = b"margins"
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1
