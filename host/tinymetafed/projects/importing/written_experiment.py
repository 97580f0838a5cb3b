"""Writes an imported network as an experiment and its weights; decides what is folded, frozen and local."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen import layer_chain, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.ops import ACTIVATIONS, INPUT
from tinymetafed_codegen.spec.toml_values import inline
from tinymetafed_codegen.temporary import temporary_folder
from tinymetafed_codegen.whole_numbers import whole_number

from ...runs.tensorflow import ModelFileError, quiet
from . import folding, int8_prefix, normal_form
from .input_range import Bytes, expected_bytes
from .loss_choice import ChosenLoss, choose_loss
from .network import (
    AFFINE,
    COMMUTATIVE,
    INT8_OPS,
    INT8_WEIGHTED,
    MERGES,
    WEIGHTED,
    WITH_KERNEL,
    Keys,
    Layer,
    Network,
)
from .same_outputs import check_outputs

# The settings with which an op can be the activation of another layer.
_INLINE = {kind: {"slope": 0.2} if kind == "leaky_relu" else {} for kind in ACTIVATIONS}
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
            raise ModelFileError(
                f"{path}: exists already, perhaps with changes of yours; name another file, or remove it first"
            )
    notes: list[str] = []
    if network.input_type != "float32":
        notes.append(f"the input is {network.input_type} in the file; here samples are float32, with the same numbers")
    _freeze(network, freeze)
    normal_form.rewrite(network)
    in_bytes = expected_bytes(network)
    if in_bytes is not None:
        notes.append(in_bytes.note)
    folded = [folding.fold(network, layer) for layer in [each for each in network.layers if each.op == AFFINE]]
    normal_form.simplify_views(network)
    later: list[str] = []  # decisions on the loss and the last layer, which come behind those on the layers
    chosen = choose_loss(network, loss, later)
    if outputs is not None:
        later.append(_replace_last(network, outputs))
    _order(network)
    _fuse(network)
    _name(network)
    notes = [*network.notes, *notes, *folding.notes(network, folded), *_notes_on_training(network), *later]
    _choose_local(network, local, notes)
    downlink = _choose_downlink(network, notes)
    arrays = {
        f"{layer.keys['name']}{name}": array if layer.op in INT8_OPS else array.astype(np.float32)
        for layer in network.layers
        for name, array in layer.arrays.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    text = _toml(network, chosen, downlink, weights.name, task, in_bytes).encode()
    designed = _design(network, output.name, text, weights.name, buffer.getvalue())
    with quiet():
        check_outputs(network, designed.graph, arrays, chosen.removed)
    replace(weights, buffer.getvalue())
    replace(output, text)
    return notes


def _weighted(network: Network) -> list[Layer]:
    return [layer for layer in network.layers if layer.op in (*WEIGHTED, *INT8_WEIGHTED)]


def _is_frozen(layer: Layer) -> bool:
    return layer.op in INT8_OPS or bool(layer.keys.get("frozen"))


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
    elif (number := whole_number(freeze)) is not None:
        count = number
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
    if any(layer.op in INT8_OPS for layer in network.layers):
        int8_prefix.end(network, weighted[count])
    for layer in weighted[:count]:
        if layer.op not in INT8_OPS:
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


def _notes_on_training(network: Network) -> list[str]:
    """Notes on what trains otherwise than in the model file."""
    notes = []
    for layer in _weighted(network):
        if _is_frozen(layer):
            continue
        said = layer.where.removeprefix(network.file + ": ")
        if layer.keys["name"] != layer.name:
            said += f", here '{layer.keys['name']}'"
        if not layer.has_bias:
            notes.append(f"{said}: has no bias in the file; here it has one, which begins at 0 and trains")
        notes += [f"{said}: {each}" for each in layer.left_out]
    return notes


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
    taken = {*layer_chain.RESERVED_NAMES, layer_chain.NORMALISE, INPUT}
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
        name, frozen = training[0].keys["name"], len(_weighted(network)) > 1
        remedy = "freeze fewer layers" if frozen else "add a layer with weights to the model for one that stays on each device"
        notes.append(f"only '{name}' trains, so it is global and no layer is local; {remedy}")
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
    with temporary_folder("import") as folder:
        file = folder / name
        file.write_bytes(text)
        (folder / weights_name).write_bytes(weights)
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


def _toml(network: Network, loss: ChosenLoss, downlink: str, weights: str, task: str, expected: Bytes | None) -> str:
    """The experiment as TOML with comments."""
    return "\n".join([
        f"# Imported from {Path(network.file).name}; {weights} has its weights. You may change 'frozen' and 'local':",
        "# the first layers may be frozen; local ones never leave a device, which does not use their weights in the file.",
        "[task]",
        f"kind = {inline(task)}",
        *([_TASK_KEYS[task]] if task in _TASK_KEYS else []),
        "",
        "[data]",
        *(expected.comment if expected is not None else []),
        'normalise = "none"  # the network was trained on inputs as they are',
        "",
        *(["[strategy]", f"downlink = {inline(downlink)}", ""] if downlink else []),
        "[model]",
        f"input = {list(network.input)}",
        f'loss = "{loss.name}"',
        *([f"huber_delta = {loss.huber_delta}"] if loss.huber_delta != 1 else []),
        f"weights = {inline(weights)}",
        "layers = [",
        *(f"  {_inline(layer.keys)}," for layer in network.layers),
        "]",
        "",
    ])  # fmt: skip


def _inline(layer: Keys) -> str:
    first = ("op", "name", "from", "with")
    keys = [*(key for key in first if key in layer), *(key for key in layer if key not in first)]
    return inline({key: layer[key] for key in keys})
