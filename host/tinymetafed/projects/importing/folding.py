"""Folds the scales and offsets of normalisation and rescaling into the weights beside them, or makes them a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import normal_form
from .network import AFFINE, VIEWS, WEIGHTED, WITH_KERNEL, Array, Layer, Network


@dataclass(frozen=True)
class Folded:
    """What became of a scale and an offset: part of ``target``, or a layer of its own. ``remark``: what follows from it."""

    affine: Layer
    target: Layer
    remark: str = ""


def notes(network: Network, folded: Sequence[Folded]) -> list[str]:
    """Notes on scales and offsets, by the names of the experiment's layers, which have their names by now."""
    target_of = {id(each.affine): each.target for each in folded}
    return [_note(network, each, target_of) for each in folded]


def _note(network: Network, folded: Folded, target_of: Mapping[int, Layer]) -> str:
    said = folded.affine.where.removeprefix(network.file + ": ")
    target = folded.target
    if target is folded.affine:
        return f"{said}: becomes a layer 'affine', {folded.remark}"
    while (behind := target_of.get(id(target), target)) is not target:
        target = behind  # a scale that was folded into the next one
    return f"{said}: folded into '{target.keys.get('name', target.name)}'{folded.remark}"


def fold(network: Network, affine: Layer) -> Folded:
    """Folds a scale and an offset into the layer with weights before it or a frozen one after it, or makes them a layer.

    Args:
        network: The network, which is changed.
        affine: The layer with ``scale`` and ``offset``.

    Returns:
        What became of it.
    """
    scale, offset = affine.arrays["scale"], affine.arrays["offset"]
    below, target = affine.inputs[0], _only_reader(network, affine)
    remark = ""
    if target is not None and target.op == AFFINE:
        above = target.arrays
        above["scale"], above["offset"] = scale * above["scale"], offset * above["scale"] + above["offset"]
    elif below is not None and below.op in WITH_KERNEL and len(network.readers(below)) == 1:
        suffix = "_pointwise" if below.op == "separable_conv2d" else ""
        kernel, bias = below.arrays[f"{suffix}.kernel"], below.arrays[f"{suffix}.bias"]
        axis = _channel_axis(kernel, f"{suffix}.kernel", below, inputs=False)
        below.arrays[f"{suffix}.kernel"] = kernel * _along(scale, kernel, axis)
        below.arrays[f"{suffix}.bias"] = bias * scale + offset
        below.has_bias = True
        normalised = (scale != 1).any() and not below.keys.get("frozen")
        target, remark = below, ", which trains from there without normalisation" if normalised else ""
    elif (other := _other_summand(network, target, affine)) is not None:
        other.arrays[".bias"] = other.arrays[".bias"] + offset
        other.has_bias = True
        target = other
    elif target is not None and target.op in WITH_KERNEL and target.keys.get("frozen") and _folds_into_input(affine, target):
        _fold_into_input(affine, target)
    else:
        return _as_layer(network, affine)
    normal_form.bypass(network, affine)
    return Folded(affine, target, remark)


def _only_reader(network: Network, affine: Layer) -> Layer | None:
    """The only layer that reads an affine, past changes of shape that keep the channels; None if there are more."""
    layer = affine
    while len(readers := network.readers(layer)) == 1:
        if readers[0].op not in VIEWS or not normal_form.keeps_channels(readers[0], layer.shape, affine):
            return readers[0]
        layer = readers[0]
    return None


def _other_summand(network: Network, add: Layer | None, affine: Layer) -> Layer | None:
    """The layer with one bias that is added to an offset, None if there is none that only this sum reads."""
    if add is None or add.op != "add" or (affine.arrays["scale"] != 1).any():
        return None
    others = [each for each in add.inputs if each is not affine]
    if len(others) != 1 or others[0] is None or others[0].op not in WITH_KERNEL or len(network.readers(others[0])) != 1:
        return None
    return others[0] if ".bias" in others[0].arrays else None


def _folds_into_input(affine: Layer, target: Layer) -> bool:
    """Whether the result is exact: zeros around the input would have to become the offset."""
    return not affine.arrays["offset"].any() or target.keys.get("padding", "valid") == "valid"


def _fold_into_input(affine: Layer, target: Layer) -> None:
    """Folds an affine into the weights of the layer that reads it."""
    scale, offset = affine.arrays["scale"], affine.arrays["offset"]
    suffix = "_depthwise" if target.op == "separable_conv2d" else ""
    kernel = target.arrays[f"{suffix}.kernel"]
    axis = _channel_axis(kernel, f"{suffix}.kernel", target, inputs=True)
    shifts = kernel * _along(offset, kernel, axis)
    outputs = _channel_axis(kernel, f"{suffix}.kernel", target, inputs=False)
    target.arrays[f"{suffix}.bias"] = target.arrays[f"{suffix}.bias"] + shifts.sum(
        tuple(i for i in range(kernel.ndim) if i != outputs)
    )
    target.arrays[f"{suffix}.kernel"] = kernel * _along(scale, kernel, axis)


def _as_layer(network: Network, affine: Layer) -> Folded:
    """Makes an affine a layer of its own."""
    at = network.layers.index(affine)
    above = network.layers[at:]
    frozen = any(each.keys.get("frozen") for each in above) or not (
        affine.trainable or any(each.op in WEIGHTED and not each.keys.get("frozen") for each in network.layers[:at])
    )
    ones = np.ones(affine.shape[-1])
    affine.keys = {"op": "affine", "frozen": True} if frozen else {"op": "affine"}
    affine.arrays = {".kernel": ones * affine.arrays["scale"], ".bias": ones * affine.arrays["offset"]}
    return Folded(affine, affine, "frozen" if frozen else "which trains")


def _channel_axis(array: Array, suffix: str, layer: Layer, *, inputs: bool) -> int:
    """The axis of a kernel's input or output channels; depthwise kernels, and those of an affine, have one axis for both."""
    depthwise = layer.op == "depthwise_conv2d" or suffix == "_depthwise.kernel"
    return array.ndim - 2 if (inputs or depthwise) and array.ndim > 1 else array.ndim - 1


def _along(values: Array, array: Array, axis: int) -> Array:
    """One value per channel, or a single value, reshaped so that it broadcasts along ``axis`` of ``array``."""
    return values.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
