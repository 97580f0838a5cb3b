"""Writes an imported network as an experiment and its weights; decides what is folded, frozen and local."""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from tinymetafed_codegen import boards, graph, spec
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.loss import LossName
from tinymetafed_codegen.ops import ACTIVATIONS, INPUT, LOSSES

from ...runs.tensorflow import ModelFileError, quiet
from . import int8_prefix, normal_form
from .network import (
    AFFINE,
    COMMUTATIVE,
    INT8,
    INT8_WEIGHTED,
    MERGES,
    VIEWS,
    WEIGHTED,
    WITH_KERNEL,
    Array,
    Keys,
    Layer,
    Network,
)
from .same_outputs import check_outputs

# The settings with which an op can be the activation of another layer.
_INLINE = {kind: {"slope": 0.2} if kind == "leaky_relu" else {} for kind in ACTIVATIONS}
_LOSS_OF: dict[str, LossName] = {"softmax": "softmax_cross_entropy", "sigmoid": "binary_crossentropy"}
_NAME_LENGTH = 36  # names in an experiment have at most 40 characters, and a number may be appended
_TASK_KEYS = {"folder": 'path = "data"  # a CSV or NPZ file per client'}
_MOST_FLOAT_BYTES = 64_000  # of a sample in one message, beside its targets and the message's fields


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
    network: Network,
    output: Path,
    task: str,
    loss: str | None = None,
    freeze: str | None = None,
    local: Sequence[str] = (),
    outputs: int | None = None,
) -> list[str]:
    """Writes an experiment and, in the same folder, its weights as .npz.

    Args:
        network: The network.
        output: The experiment file to write.
        task: The experiment's task.
        loss: Its loss; None for that of the model file.
        freeze: How many of the first layers with weights to freeze, or the name of the last one; None for the first layers
            that are not trainable in the model file; of a quantised file, for all but the last.
        local: Names of the local layers; empty for the last layer that trains.
        outputs: Outputs of a new last layer, which begins with random weights; None for that of the model file.

    Returns:
        Notes on the decisions.

    Raises:
        ModelFileError: The network is not supported, its experiment would be refused, its outputs would differ from the
            file's, an option is invalid, or a file exists already.
        OSError: A file cannot be written.
    """
    weights = output.with_suffix(".npz")
    if output.suffix != ".toml":
        raise ModelFileError(f"{output}: expected an experiment file to write, for instance experiment.toml")
    for path in (output, weights):
        if path.exists():
            raise ModelFileError(f"{path}: there is one already, perhaps edited; name another, or remove it first")
    notes = list(network.notes)
    if network.input_type != "float32":
        notes.append(f"the input is {network.input_type} in the file; here samples are float32, with the same numbers")
    _freeze(network, freeze)
    normal_form.rewrite(network)
    for layer in [each for each in network.layers if each.op == AFFINE]:
        notes.append(_fold(network, layer))
    normal_form.simplify_views(network)
    notes += _notes_on_training(network)
    chosen = _choose_loss(network, loss, notes)
    if outputs is not None:
        notes.append(_replace_last(network, outputs))
    _order(network)
    _fuse(network)
    _name(network)
    _choose_local(network, local, notes)
    downlink = _choose_downlink(network, notes)
    arrays = {
        f"{layer.keys['name']}{name}": array if layer.op in INT8 else array.astype(np.float32)
        for layer in network.layers
        for name, array in layer.arrays.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    text = _toml(network, chosen, downlink, weights.name, task).encode()
    designed = _design(network, output.name, text, weights.name, buffer.getvalue())
    with quiet():
        check_outputs(network, designed.graph, arrays, chosen.removed)
    replace(weights, buffer.getvalue())
    replace(output, text)
    return notes


def _weighted(network: Network) -> list[Layer]:
    return [layer for layer in network.layers if layer.op in (*WEIGHTED, *INT8_WEIGHTED)]


def _is_frozen(layer: Layer) -> bool:
    return layer.op in INT8 or bool(layer.keys.get("frozen"))


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
    if any(layer.op in INT8 for layer in network.layers):
        int8_prefix.end(network, weighted[count])
    for layer in weighted[:count]:
        if layer.op not in INT8:
            layer.keys["frozen"] = True
    for layer in weighted[count:]:
        if layer.with_zeros:
            raise ModelFileError(
                f"{layer.where}: {layer.with_zeros} is supported in frozen layers only, where the zeros between its weights "
                f"stay zeros; freeze the layers up to it with --freeze, or build it without{_hint(layer)}"
            )


def _hint(layer: Layer) -> str:
    """When a dilated sequence may train."""
    kernel = layer.keys.get("kernel")
    if "dilation" not in layer.with_zeros or not (layer.op == "conv1d" or (isinstance(kernel, list) and kernel[0] == 1)):
        return ""
    return ", or give it a length that is a multiple of its dilation, and an odd kernel or padding='causal'"


def _names(layers: Sequence[Layer]) -> str:
    return ", ".join(layer.name for layer in layers)


def _channel_axis(array: Array, suffix: str, layer: Layer, *, inputs: bool) -> int:
    """The axis of a kernel's input or output channels; depthwise kernels, and those of an affine, have one axis for both."""
    depthwise = layer.op == "depthwise_conv2d" or suffix == "_depthwise.kernel"
    return array.ndim - 2 if (inputs or depthwise) and array.ndim > 1 else array.ndim - 1


def _along(values: Array, array: Array, axis: int) -> Array:
    """One value per channel, or a single value, reshaped so that it broadcasts along ``axis`` of ``array``."""
    return values.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _fold(network: Network, affine: Layer) -> str:
    """Folds an affine into the layer with weights before it or a frozen one after it, or makes it a layer; returns a note."""
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
    return f"{affine.where.removeprefix(network.file + ': ')}: folded into '{target.name}'{remark}"


def _other_summand(network: Network, add: Layer | None, affine: Layer) -> Layer | None:
    """The layer with one bias that is added to an offset, None if there is none that only this sum reads."""
    if add is None or add.op != "add" or (affine.arrays["scale"] != 1).any():
        return None
    others = [each for each in add.inputs if each is not affine]
    if len(others) != 1 or others[0] is None or others[0].op not in WITH_KERNEL or len(network.readers(others[0])) != 1:
        return None
    return others[0] if ".bias" in others[0].arrays else None


def _only_reader(network: Network, affine: Layer) -> Layer | None:
    """The only layer that reads an affine, past changes of shape that keep the channels; None if there are more."""
    layer = affine
    while len(readers := network.readers(layer)) == 1:
        if readers[0].op not in VIEWS or not normal_form.keeps_channels(readers[0], layer.shape, affine):
            return readers[0]
        layer = readers[0]
    return None


def _notes_on_training(network: Network) -> list[str]:
    """Notes on what trains otherwise than in the model file."""
    notes = []
    for layer in _weighted(network):
        if _is_frozen(layer):
            continue
        said = layer.where.removeprefix(network.file + ": ")
        if not layer.has_bias:
            notes.append(f"{said}: has no bias in the file; here it has one, which begins at 0 and trains")
        notes += [f"{said}: {each}" for each in layer.left_out]
    return notes


def _as_layer(network: Network, affine: Layer) -> str:
    """Makes an affine a layer of its own; returns a note about it."""
    at = network.layers.index(affine)
    above = network.layers[at:]
    frozen = any(each.keys.get("frozen") for each in above) or not (
        affine.trainable or any(each.op in WEIGHTED and not each.keys.get("frozen") for each in network.layers[:at])
    )
    ones = np.ones(affine.shape[-1])
    affine.keys = {"op": "affine", "frozen": True} if frozen else {"op": "affine"}
    affine.arrays = {".kernel": ones * affine.arrays["scale"], ".bias": ones * affine.arrays["offset"]}
    remark = "frozen" if frozen else "which trains"
    return f"{affine.where.removeprefix(network.file + ': ')}: becomes a layer 'affine', {remark}"


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


@dataclass(frozen=True)
class _ChosenLoss:
    """The experiment's loss, and the last activation that was removed because the loss applies it, or ""."""

    name: LossName
    huber_delta: float
    removed: str


def _choose_loss(network: Network, loss: str | None, notes: list[str]) -> _ChosenLoss:
    """Chooses the loss; removes a last activation that the loss applies itself."""
    last = _last_activation(network)
    delta = 1.0
    if loss is not None:
        names = {str(name): name for name in get_args(LossName)}
        if loss not in names:
            raise ModelFileError(f"--loss {loss}: expected one of {', '.join(LOSSES)}")
        chosen = names[loss]
    elif network.loss is not None:
        chosen, delta = _file_loss(network, last), network.loss.huber_delta
    elif last.op in _LOSS_OF:
        chosen = _LOSS_OF[last.op]
        notes.append(f"the file does not say its loss: {chosen}, because its last layer is a {last.op}")
    else:
        raise ModelFileError(f"{network.file}: does not say its loss; give one with --loss {'|'.join(LOSSES)}")
    activation = LOSSES[chosen].takes_logits_of
    if activation and last.op in _LOSS_OF and last.op != activation:
        raise ModelFileError(
            f"{last.where}: a last {last.op} does not go with {chosen}, which applies a {activation} itself; build it with a "
            f"{activation}, or give another loss with --loss"
        )
    if not activation or last.op != activation:
        return _ChosenLoss(chosen, delta, "")
    normal_form.bypass(network, last)
    notes.append(f"the last {last.op} is left out, {chosen} applies it itself: the model's outputs are logits")
    return _ChosenLoss(chosen, delta, activation)


def _last_activation(network: Network) -> Layer:
    """The last layer, or the softmax or sigmoid before a last change of shape that leaves each sample's outputs as they are."""
    last = network.layers[-1]
    below = last.inputs[0]
    if last.op not in VIEWS or below is None or len(network.readers(below)) != 1:
        return last
    is_whole = below.op == "sigmoid" or (below.op == "softmax" and below.shape[-1:] == (math.prod(below.shape),))
    return below if is_whole else last


def _file_loss(network: Network, last: Layer) -> LossName:
    """Our name of the file's loss. Raises ModelFileError if it would train to something else here."""
    given = network.loss
    assert given is not None
    if given.name is None:
        raise ModelFileError(f"{network.file}: its loss is {given.title}: {given.remedy}")
    if given.takes == "logits" and last.op in _LOSS_OF:
        raise ModelFileError(
            f"{last.where}: {given.title} takes logits, the last layer is a {last.op}: both would be applied; remove the "
            f"{last.op}, or choose what to train with --loss"
        )
    if given.takes not in ("", "logits", last.op):
        raise ModelFileError(
            f"{last.where}: {given.title} takes the outputs of a {given.takes}, the last layer is a {last.op}; no loss here "
            "trains it as Keras does: choose one with --loss"
        )
    return given.name


def _choose_downlink(network: Network, notes: list[str]) -> str:
    """The type in which the global weights travel down: float16, the default, if they fit."""
    travelling = [layer for layer in _weighted(network) if not (_is_frozen(layer) or layer.keys.get("local"))]
    largest = max((float(np.abs(array).max()) for layer in travelling for array in layer.arrays.values()), default=0.0)
    if largest <= np.finfo(np.float16).max:
        return ""
    notes.append(f"weights of up to {largest:g} do not fit float16: they travel as float32 (strategy.downlink)")
    return "f32"


def _order(network: Network) -> None:
    """Lets a merge of two layers read the layer before it first, where their order does not matter."""
    before: Layer | None = None
    for layer in network.layers:
        if layer.op in COMMUTATIVE and len(layer.inputs) == 2 and layer.inputs[1] is before:
            layer.inputs.reverse()
        before = layer


def _replace_last(network: Network, outputs: int) -> str:
    """Gives the last layer with weights, a dense one, another number of units and no weights; returns a note."""
    last = _weighted(network)[-1]
    behind = network.layers[network.layers.index(last) + 1 :]
    if last.op != "dense" or last.keys.get("frozen") or any(layer.op not in _INLINE for layer in behind):
        raise ModelFileError(f"{last.where}: --outputs replaces a last dense layer that trains, not a {last.op}; leave it out")
    last.keys["units"], last.arrays = outputs, {}
    for layer in (last, *behind):
        layer.shape = (outputs,)
    network.evaluate = None
    return f"{last.where.removeprefix(network.file + ': ')}: replaced by a layer of {outputs} units with random weights"


def _fuse(network: Network) -> None:
    """Makes an activation part of the layer with weights before it, if no other layer reads that one."""
    for layer in list(network.layers):
        below = layer.inputs[0]
        settings = {key: value for key, value in layer.keys.items() if key != "op"}
        if below is None or below.op not in WITH_KERNEL or "activation" in below.keys or _INLINE.get(layer.op) != settings:
            continue
        if len(network.readers(below)) == 1:
            below.keys["activation"] = layer.op
            for reader in network.readers(layer):
                reader.inputs = [below if each is layer else each for each in reader.inputs]
            network.layers.remove(layer)


def _name(network: Network) -> None:
    """Names the layers with weights and those that a layer reads by name."""
    taken = {*graph.RESERVED_NAMES, INPUT}
    befores = [None, *network.layers]
    by_name = [
        source
        for layer, before in zip(network.layers, befores, strict=False)
        for source in (*layer.inputs[1:], *([] if layer.inputs[0] is before else layer.inputs[:1]))
    ]
    named = [layer for layer in network.layers if layer.op in (*WEIGHTED, *INT8_WEIGHTED) or layer in by_name]
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
    for layer, before in zip(network.layers, befores, strict=False):
        names = [INPUT if source is None else source.keys.get("name", "") for source in layer.inputs]
        if layer.inputs[0] is not before:
            layer.keys["from"] = names[0]
        if layer.op in MERGES:
            layer.keys["with"] = names[1] if len(names) == 2 else list(names[1:])


def _choose_local(network: Network, local: Sequence[str], notes: list[str]) -> None:
    """Marks the local layers."""
    training = [layer for layer in _weighted(network) if not _is_frozen(layer)]
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


def _design(network: Network, name: str, text: bytes, weights_name: str, weights: bytes) -> Design:
    """Designs the experiment as every command does; an error names the layer of the model file instead of the experiment's."""
    with tempfile.TemporaryDirectory(prefix="tinymetafed-import-") as folder:
        file = Path(folder) / name
        file.write_bytes(text)
        (Path(folder) / weights_name).write_bytes(weights)
        try:
            experiment = spec.load(file)
            return design(experiment, boards.load("native"), str(file))
        except UsageError as error:
            reason = str(error).replace(str(file), network.file)
            at = re.search(r"model\.layers\[(\d+)\]", reason)
            if at is not None and int(at[1]) < len(network.layers):
                reason = reason.replace(f"{network.file}: {at[0]}", network.layers[int(at[1])].where)
            if "device can address" in reason:
                reason += "; freeze more of the first layers with --freeze"
            raise ModelFileError(reason) from None


def _toml(network: Network, loss: _ChosenLoss, downlink: str, weights: str, task: str) -> str:
    """The experiment as TOML with comments."""
    kind = json.dumps(task)
    in_bytes = task == "folder" and 4 * math.prod(network.input) > _MOST_FLOAT_BYTES
    return "\n".join([
        f"# Imported from {Path(network.file).name}; {weights} has its weights. You may change 'frozen' and 'local':",
        "# the first layers may be frozen; local ones never leave a device, which does not use their weights in the file.",
        "[task]",
        f"kind = {kind}",
        *([_TASK_KEYS[task]] if task in _TASK_KEYS else []),
        *(['dtype = "uint8"  # for pixels; as floats a sample would not fit one message'] if in_bytes else []),
        "",
        "[data]",
        'normalise = "none"  # the network was trained on inputs as they are',
        "",
        *(["[strategy]", f"downlink = {json.dumps(downlink)}", ""] if downlink else []),
        "[model]",
        f"input = {list(network.input)}",
        f'loss = "{loss.name}"',
        *([f"huber_delta = {loss.huber_delta}"] if loss.huber_delta != 1 else []),
        f"weights = {json.dumps(weights)}",
        "layers = [",
        *(f"  {_inline(layer.keys)}," for layer in network.layers),
        "]",
        "",
    ])  # fmt: skip


def _inline(layer: Keys) -> str:
    first = ("op", "name", "from", "with")
    keys = [*(key for key in first if key in layer), *(key for key in layer if key not in first)]
    return "{ " + ", ".join(f"{key} = {json.dumps(layer[key])}" for key in keys) + " }"
