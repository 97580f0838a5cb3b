"""Ends the integer arithmetic of a quantised network: what trains behind it becomes float32."""

from __future__ import annotations

from ...runs.tensorflow import ModelFileError
from . import normal_form
from .network import INT8_OPS, INT8_WEIGHTED, Keys, Layer, Network
from .tflite_format import shortest


def end(network: Network, first_trained: Layer) -> None:
    """Makes ``first_trained`` and all layers behind it float32, and puts a dequantize layer before them.

    Raises:
        ModelFileError: More than one tensor crosses the border, or a layer before it has no integer arithmetic here.
    """
    cut = network.layers.index(first_trained)
    before, behind = network.layers[:cut], network.layers[cut:]
    if not any(layer.op in INT8_WEIGHTED for layer in before):
        before, behind = [], network.layers[:]
    for layer in before:
        if layer.op not in (*INT8_OPS, "reshape", "flatten"):
            raise ModelFileError(
                f"{layer.where}: in int8 it is supported behind all frozen layers only; freeze fewer layers with --freeze"
            )
    crossing = [layer for layer in before if any(layer in reader.inputs for reader in behind)]
    if len(crossing) > 1:
        raise ModelFileError(
            f"{crossing[-1].where}: two tensors go from frozen layers to layers that train, expected one; freeze more or fewer "
            "layers with --freeze"
        )
    if crossing and crossing[0].op != "dequantize":
        _dequantize(network, crossing[0], behind)
    for layer in behind:
        _train(network, layer)


def _dequantize(network: Network, last: Layer, behind: list[Layer]) -> None:
    """Puts a dequantize layer between the last one over int8 and those behind it."""
    keys: Keys = {"op": "dequantize", "scale": shortest(_scale(last))}
    layer = Layer(last.where, "dequantize", keys, [last], shape=last.shape)
    for reader in behind:
        reader.inputs = [layer if each is last else each for each in reader.inputs]
    network.layers.insert(network.layers.index(last) + 1, layer)


def _scale(layer: Layer) -> float:
    """The scale of a layer's output; a change of shape has that of its input."""
    while layer.scale is None and layer.inputs[0] is not None:
        layer = layer.inputs[0]
    assert layer.scale is not None  # every layer over int8 has one
    return layer.scale


def _train(network: Network, layer: Layer) -> None:
    """Makes a layer over int8 what it is in float32."""
    if layer.trained is None:
        return
    if not layer.trained:
        normal_form.bypass(network, layer)
        return
    first, *more = layer.trained
    layer.keys, layer.arrays, layer.with_zeros = first.keys, first.arrays, first.with_zeros
    last = layer
    for part in more:
        added = Layer(layer.where, f"{layer.name}_{part.keys['op']}", part.keys, [last], shape=layer.shape)
        for reader in network.readers(last):
            reader.inputs = [added if each is last else each for each in reader.inputs]
        network.layers.insert(network.layers.index(last) + 1, added)
        last = added
