"""Writes an imported network as an experiment file and an npz file of weights; decides what is folded, frozen and local."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.ops import LOSSES
from tinymetafed_codegen.section import TomlTable

from ...runs.tensorflow import ModelFileError, quiet
from .network import AFFINE, WEIGHTED, Array, Keys, Layer, Network

_INLINE = {"relu": {}, "relu6": {}, "leaky_relu": {"slope": 0.2}, "sigmoid": {}, "tanh": {}, "softmax": {}}
_LOSS_OF = {"softmax": "softmax_cross_entropy", "sigmoid": "binary_crossentropy"}
_NAME_LENGTH = 36  # names in an experiment have at most 40 characters, and a number may be appended
_TASK_KEYS = {"folder": 'path = "data"  # a CSV or NPZ file per client'}


def read(file: Path) -> Network:
    """Reads a network.

    Args:
        file: A .keras, .h5 or float .tflite file, or a SavedModel's folder.

    Returns:
        The network.

    Raises:
        ModelFileError: It cannot be read or is not supported.
    """
    from . import keras_file, tflite_file

    if (file / "saved_model.pb").is_file():
        with quiet():
            return tflite_file.read_saved_model(file)
    readers = {".keras": keras_file.read, ".h5": keras_file.read, ".tflite": tflite_file.read}
    if file.suffix not in readers:
        raise ModelFileError(f"{file}: unknown format; expected FILE.keras, FILE.h5, FILE.tflite or a SavedModel's folder")
    if not file.is_file():
        raise ModelFileError(f"{file}: no such file")
    with quiet():
        return readers[file.suffix](file)


def write(
    network: Network, output: Path, task: str, loss: str | None = None, freeze: str | None = None, local: Sequence[str] = ()
) -> list[str]:
    """Writes an experiment and, in the same folder, its weights as .npz.

    Args:
        network: The network.
        output: The experiment file to write.
        task: The experiment's task.
        loss: Its loss; None for that of the model file.
        freeze: How many of the first layers with weights to freeze, or the name of the last one; None for the first layers
            that are not trainable in the model file.
        local: Names of the local layers; empty for the last layer that trains.

    Returns:
        Notes on the decisions.

    Raises:
        ModelFileError: The network is not supported, an option is invalid, or a file exists already.
        OSError: A file cannot be written.
    """
    weights = output.with_suffix(".npz")
    if output.suffix != ".toml":
        raise ModelFileError(f"{output}: expected an experiment file to write, for instance experiment.toml")
    for path in (output, weights):
        if path.exists():
            raise ModelFileError(f"{path}: there is one already, perhaps edited; name another, or remove it first")
    notes = list(network.notes)
    _freeze(network, freeze)
    for layer in [each for each in network.layers if each.op == AFFINE]:
        notes.append(_fold(network, layer))
    loss = _choose_loss(network, loss, notes)
    _order(network)
    _fuse(network)
    _name(network)
    _choose_local(network, local, notes)
    arrays = {f"{layer.keys['name']}{name}": array for layer in network.layers for name, array in layer.arrays.items()}
    _check(network, loss)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array.astype(np.float32) for name, array in arrays.items()})  # type: ignore[arg-type]
    replace(weights, buffer.getvalue())
    replace(output, _toml(network, loss, weights.name, task).encode())
    return notes


def _weighted(network: Network) -> list[Layer]:
    return [layer for layer in network.layers if layer.op in WEIGHTED]


def _identifier(name: str) -> str:
    """A layer's name in a form that experiments allow: ``Conv2D_1`` becomes conv2d1."""
    parts = re.findall(r"[a-z0-9]+", name.lower())
    text = "".join(part if part[0].isdigit() else f"_{part}" for part in parts).strip("_")
    return re.sub(r"^(?=\d|$)", "layer", text)[:_NAME_LENGTH].rstrip("_")


def _freeze(network: Network, freeze: str | None) -> None:
    """Marks the layers to freeze: the first ones with weights."""
    weighted = _weighted(network)
    if freeze is None:
        count = next((i for i, layer in enumerate(weighted) if layer.trainable), len(weighted))
    elif freeze.isdigit():
        count = int(freeze)
    else:
        named = [i for i, layer in enumerate(weighted) if freeze in (layer.name, _identifier(layer.name))]
        if not named:
            raise ModelFileError(f"{network.file}: --freeze {freeze}: no such layer with weights; it has {_names(weighted)}")
        count = named[-1] + 1
    if count >= len(weighted):
        raise ModelFileError(
            f"{network.file}: all {len(weighted)} layers with weights would be frozen and nothing would train; say how many of "
            "the first ones with --freeze N"
        )
    for layer in weighted[:count]:
        layer.keys["frozen"] = True


def _names(layers: Sequence[Layer]) -> str:
    return ", ".join(layer.name for layer in layers)


def _channel_axis(array: Array, suffix: str, layer: Layer, *, inputs: bool) -> int:
    """The axis of a kernel's input or output channels; depthwise kernels have one axis for both."""
    depthwise = layer.op == "depthwise_conv2d" or suffix == "_depthwise.kernel"
    return array.ndim - 2 if inputs or depthwise else array.ndim - 1


def _along(values: Array, array: Array, axis: int) -> Array:
    """One value per channel, or a single value, reshaped so that it broadcasts along ``axis`` of ``array``."""
    return values.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _fold(network: Network, affine: Layer) -> str:
    """Folds an affine into the layer with weights before it, or after it if the result is exact; returns a note about it."""
    scale, offset = affine.arrays["scale"], affine.arrays["offset"]
    below, readers = affine.inputs[0], network.readers(affine)
    if len(readers) == 1 and readers[0].op == AFFINE:
        above = readers[0].arrays
        above["scale"], above["offset"] = scale * above["scale"], offset * above["scale"] + above["offset"]
        target, remark = readers[0], ""
    elif below is not None and below.op in WEIGHTED and len(network.readers(below)) == 1:
        suffix = "_pointwise" if below.op == "separable_conv2d" else ""
        kernel, bias = below.arrays[f"{suffix}.kernel"], below.arrays[f"{suffix}.bias"]
        axis = _channel_axis(kernel, f"{suffix}.kernel", below, inputs=False)
        below.arrays[f"{suffix}.kernel"] = kernel * _along(scale, kernel, axis)
        below.arrays[f"{suffix}.bias"] = bias * scale + offset
        target, remark = below, "" if below.keys.get("frozen") else ", which trains from there without normalisation"
    elif len(readers) == 1 and readers[0].op in WEIGHTED and readers[0].keys.get("frozen"):
        target, remark = readers[0], ""
        _fold_into_input(affine, target)
    else:
        raise ModelFileError(
            f"{affine.where}: can only be folded into a layer with weights directly before it, or into a frozen one directly "
            "after it; remove it and scale the data instead, or freeze that layer (--freeze)"
        )
    for reader in readers:
        reader.inputs = [below if each is affine else each for each in reader.inputs]
    network.layers.remove(affine)
    return f"{affine.where.removeprefix(network.file + ': ')}: folded into '{target.name}'{remark}"


def _fold_into_input(affine: Layer, target: Layer) -> None:
    """Folds an affine into the weights of the layer that reads it."""
    scale, offset = affine.arrays["scale"], affine.arrays["offset"]
    if offset.any() and target.keys.get("padding") == "same":
        raise ModelFileError(
            f"{affine.where}: its offset cannot be folded into '{target.name}', which pads with zeros; remove it and shift the "
            "data instead"
        )
    suffix = "_depthwise" if target.op == "separable_conv2d" else ""
    kernel = target.arrays[f"{suffix}.kernel"]
    axis = _channel_axis(kernel, f"{suffix}.kernel", target, inputs=True)
    shifts = kernel * _along(offset, kernel, axis)
    outputs = _channel_axis(kernel, f"{suffix}.kernel", target, inputs=False)
    target.arrays[f"{suffix}.bias"] = target.arrays[f"{suffix}.bias"] + shifts.sum(
        tuple(i for i in range(kernel.ndim) if i != outputs)
    )
    target.arrays[f"{suffix}.kernel"] = kernel * _along(scale, kernel, axis)


def _choose_loss(network: Network, loss: str | None, notes: list[str]) -> str:
    """Chooses the loss; removes a last activation that the loss applies itself."""
    last = network.layers[-1]
    chosen = loss or network.loss or _LOSS_OF.get(last.op)
    if chosen is None:
        raise ModelFileError(f"{network.file}: does not say its loss; give one with --loss {'|'.join(LOSSES)}")
    if chosen not in LOSSES:
        raise ModelFileError(f"--loss {chosen}: expected one of {', '.join(LOSSES)}")
    if LOSSES[chosen].takes_logits_of == last.op:
        network.layers.pop()
        notes.append(f"the last {last.op} is left out, {chosen} applies it itself: the model's outputs are logits")
    return chosen


def _order(network: Network) -> None:
    """Checks that every layer reads the layer before it, and an add also an earlier one."""
    above: Layer | None = None
    for layer in network.layers:
        if layer.op == "add" and layer.inputs[0] is not above:
            layer.inputs.reverse()
        if layer.inputs[0] is not above:
            read = "the input" if layer.inputs[0] is None else f"'{layer.inputs[0].name}'"
            raise ModelFileError(
                f"{layer.where}: reads {read}, not the layer before it: branches are not supported, except for an Add of the "
                "layer before it and an earlier one"
            )
        if layer.op == "add" and (len(layer.inputs) != 2 or layer.inputs[1] is None):
            raise ModelFileError(f"{layer.where}: adds the model's input or a constant; an Add takes the outputs of two layers")
        above = layer


def _fuse(network: Network) -> None:
    """Makes an activation part of the layer with weights before it, if no other layer reads that one."""
    for layer in list(network.layers):
        below = layer.inputs[0]
        settings = {key: value for key, value in layer.keys.items() if key != "op"}
        if below is None or below.op not in WEIGHTED or "activation" in below.keys or _INLINE.get(layer.op) != settings:
            continue
        if len(network.readers(below)) == 1:
            below.keys["activation"] = layer.op
            for reader in network.readers(layer):
                reader.inputs = [below if each is layer else each for each in reader.inputs]
            network.layers.remove(layer)


def _name(network: Network) -> None:
    """Names the layers with weights and those that an add reads."""
    taken = set(graph.RESERVED_NAMES)
    added = [layer.inputs[1] for layer in network.layers if layer.op == "add"]
    named = [layer for layer in network.layers if layer.op in WEIGHTED or layer in added]
    for i, layer in enumerate(network.layers, start=1):
        if layer not in named:
            taken.add(f"{layer.op}{i}")  # its default name
    for layer in named:
        first = name = _identifier(layer.name)
        variants = ("", "_depthwise", "_pointwise", *(f"_{activation}" for activation in _INLINE))
        copy = 1
        while taken & {name + variant for variant in variants}:
            copy += 1
            name = f"{first}x{copy}"
        taken |= {name + variant for variant in variants}
        layer.keys["name"] = name
    for layer in network.layers:
        if layer.op == "add" and layer.inputs[1] is not None:
            layer.keys["with"] = layer.inputs[1].keys["name"]


def _choose_local(network: Network, local: Sequence[str], notes: list[str]) -> None:
    """Marks the local layers."""
    training = [layer for layer in _weighted(network) if "frozen" not in layer.keys]
    if not local and len(training) == 1:
        notes.append(f"only '{training[0].name}' trains, so it is global and no layer is local; freeze fewer layers")
    chosen = [] if local or len(training) == 1 else training[-1:]
    for name in local:
        named = [layer for layer in training if name in (layer.name, layer.keys["name"])]
        if not named:
            raise ModelFileError(f"{network.file}: --local {name}: no such layer that trains; there are {_names(training)}")
        chosen += named
    for layer in chosen:
        layer.keys["local"] = True


def _check(network: Network, loss: str) -> None:
    """Checks the model's shapes; an error names the layer of the model file instead of that of the experiment."""
    model: TomlTable = {"input": [*network.input], "loss": loss, "layers": [layer.keys for layer in network.layers]}
    raw: TomlTable = {"task": {"kind": "sine"}, "model": model}
    try:
        graph.build(spec.parse(raw, network.file).model, network.file)
    except spec.SpecError as error:
        at = re.search(r"model\.layers\[(\d+)\]", str(error))
        text = str(error)
        if at is not None:
            text = text.replace(f"{network.file}: {at[0]}", network.layers[int(at[1])].where)
        raise ModelFileError(text) from None


def _toml(network: Network, loss: str, weights: str, task: str) -> str:
    """The experiment as TOML with comments."""
    kind = json.dumps(task)
    return "\n".join([
        f"# Imported from {Path(network.file).name}; {weights} has its weights. You may change 'frozen' and 'local':",
        "# the first layers may be frozen; local ones never leave a device, which does not use their weights in the file.",
        "[task]",
        f"kind = {kind}",
        *([_TASK_KEYS[task]] if task in _TASK_KEYS else []),
        "",
        "[data]",
        'normalise = "none"  # the network was trained on inputs as they are',
        "",
        "[model]",
        f"input = {list(network.input)}",
        f'loss = "{loss}"',
        f"weights = {json.dumps(weights)}",
        "layers = [",
        *(f"  {_inline(layer.keys)}," for layer in network.layers),
        "]",
        "",
    ])  # fmt: skip


def _inline(layer: Keys) -> str:
    first = ("op", "name")
    keys = [*(key for key in first if key in layer), *(key for key in layer if key not in first)]
    return "{ " + ", ".join(f"{key} = {json.dumps(layer[key])}" for key in keys) + " }"
