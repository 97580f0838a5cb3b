"""Reads Keras files (.keras, .h5): their layers in order of execution, nested models included."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runs.tensorflow import ModelFileError, require
from . import model_archive
from .keras_custom import CUSTOM, REMEDY, custom_layer
from .keras_layers import LAYERS, activation_keys, concatenation, operation_keys, refuse
from .keras_training import file_loss, keras_version, optimizer_notes, training_config
from .network import AFFINE, MERGES, WITH_KERNEL, Layer, Network, Part, Shape, finite, reshape, same_values

_IGNORED = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization",
)  # fmt: skip
# Layers that change images while a model trains, beside those named Random...; some of them change images always.
_AUGMENTING = ("RandAugment", "AugMix", "MixUp", "CutMix", "Solarization", "AutoContrast", "Equalization")
_OF_A_SIZE = ("Resizing", "CenterCrop")  # change nothing where images have that size
_AS_PIXELS = 255
# Operations of keras.ops: of two tensors, and of a tensor and a number.
_MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_WITH_NUMBER = ("Add", "Subtract", "Multiply", "TrueDivide", "Divide")
# Keras 2 wrote groups = 1 for these layers, which Keras 3 does not read.
_WITHOUT_GROUPS = ("DepthwiseConv2D", "DepthwiseConv1D", "SeparableConv2D", "SeparableConv1D")


def read(file: Path) -> Network:
    """Reads the network of a Sequential or Functional model. Raises ModelFileError."""
    keras = require("keras", str(file))
    model_archive.require_bounded(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(file, custom_objects=_older_layers(keras), compile=False, safe_mode=True)
        config, version = training_config(file), keras_version(file)
    except Exception as error:  # Keras may raise any exception
        if (custom := custom_layer(file)) is not None:
            raise ModelFileError(f"{file}: {custom}") from None
        reason = str(error).strip().partition("\n")[0]
        raise ModelFileError(f"{file}: Keras cannot load it: {reason}; save it again with model.save()") from None
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_nodes_by_depth"):
        raise ModelFileError(
            f"{file}: {type(model).__name__} is neither Sequential nor Functional; save it with model.export(FOLDER), and "
            "import the folder"
        )
    if not getattr(model, "inputs", None):
        raise ModelFileError(f"{file}: the model has no input shape; begin it with keras.Input(shape=(28, 28, 1))")
    for what, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise ModelFileError(f"{file}: the model has {len(tensors)} {what}, expected one; save a part of it that has one")
    shape = tuple(model.inputs[0].shape[1:])
    if not shape or None in shape:
        raise ModelFileError(
            f"{file}: layer '{model.layers[0].name}': input shape {list(shape)}, but sizes must be known; "
            "build the model again with keras.Input(shape=(28, 28, 1)) or the like"
        )
    network = Network(
        str(file),
        shape,
        [],
        file_loss(config),
        optimizer_notes(config),
        file_input=shape,
        evaluate=lambda samples: keras.ops.convert_to_numpy(model(samples, training=False)),
        input_type=str(model.inputs[0].dtype),
    )
    (last,) = _Reader(keras, network, version).walk(model, [None])
    if last is None:
        raise ModelFileError(f"{file}: the output of the model is its input; add a layer with weights")
    network.layers = [layer for layer in network.layers if layer is not last] + [last]
    return network


def _older_layers(keras: Any) -> dict[str, Any]:
    """Layers that also read the configurations of Keras 2, by name."""

    def reader(kind: str) -> Any:
        def from_config(cls: Any, config: dict[str, Any]) -> Any:
            given = dict(config)
            if given.get("groups") == 1:
                del given["groups"]
            return cls(**given)

        return type(kind, (getattr(keras.layers, kind),), {"from_config": classmethod(from_config)})

    return {kind: reader(kind) for kind in _WITHOUT_GROUPS}


class _Reader:
    """Collects a model's layers, those of nested models included."""

    def __init__(self, keras: Any, network: Network, version: str) -> None:
        self.keras, self.network, self.version = keras, network, version
        self.seen: set[int] = set()
        self.position = 0

    def walk(self, model: Any, sources: Sequence[Layer | None]) -> list[Layer | None]:
        """Reads a model whose inputs are the outputs of ``sources``; returns the layers of its outputs."""
        functional = model._functional if isinstance(model, self.keras.Sequential) else model
        if functional is None:
            raise ModelFileError(
                f"{self.network.file}: the model '{model.name}' has no input shape; begin it with keras.Input()"
            )
        made: dict[int, Layer | None] = {id(t): source for t, source in zip(functional.inputs, sources, strict=True)}
        for _, nodes in sorted(functional._nodes_by_depth.items(), reverse=True):
            for node in nodes:
                if node.arguments.keras_tensors:
                    read = self.read(node, made)
                    made |= {id(t): layer for t, layer in zip(node.outputs, read, strict=True)}
        return [made[id(tensor)] for tensor in functional.outputs]

    def read(self, node: Any, made: dict[int, Layer | None]) -> list[Layer | None]:
        """Reads one call of a layer; returns the layers of its outputs."""
        layer = node.operation
        inputs = [made[id(tensor)] for tensor in node.arguments.keras_tensors]
        kind = type(layer).__name__
        self.position += 1
        where = f"{self.network.file}: layer {self.position}, '{layer.name}' ({kind})"
        if not isinstance(layer, self.keras.layers.Layer):
            return [self.operation(node, inputs, where)]
        if id(layer) in self.seen and layer.weights:
            raise ModelFileError(f"{where}: used more than once; give each use a layer of its own")
        self.seen.add(id(layer))
        if kind.startswith("Random") or kind in (*_AUGMENTING, *_OF_A_SIZE):
            if not self.is_identity(layer, node):
                raise refuse(kind, where)
            self.network.notes.append(
                f"layer {self.position}, '{layer.name}' ({kind}): left out, it changes nothing in inference"
            )
            return inputs[:1]
        if node.arguments.kwargs.get("training"):
            raise ModelFileError(f"{where}: called with training=True, so it never stops training; build it without")
        if isinstance(layer, self.keras.Sequential) or hasattr(layer, "_nodes_by_depth"):
            return self.walk(layer, self.in_order(layer, node, made, where))
        if kind in _IGNORED:
            self.network.notes.append(f"layer {self.position}, '{layer.name}' ({kind}): left out, it acts in training only")
            return inputs[:1]
        if kind == "Identity":
            return inputs[:1]
        shape = tuple(node.outputs[0].shape[1:])
        if kind == "Reshape":
            return [self.view(layer.name, inputs[0], shape, where)]
        if kind not in LAYERS and not hasattr(self.keras.layers, kind):
            raise ModelFileError(f"{where}: {CUSTOM}; {REMEDY}")
        if kind not in LAYERS:
            raise refuse(kind, where)
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise ModelFileError(f"{where}: data_format = '{layer.data_format}'; build it with 'channels_last'")
        if getattr(layer, "quantization_mode", None):
            raise ModelFileError(f"{where}: quantised ({layer.quantization_mode}); save the model before model.quantize()")
        return [self.layer(layer, inputs, shape, where)]

    def is_identity(self, layer: Any, node: Any) -> bool:
        """Whether a layer gives its input in inference: random values as small as weights and as large as pixels."""
        given, made = (tensors[0].shape[1:] for tensors in (node.arguments.keras_tensors, node.outputs))
        if tuple(given) != tuple(made):
            return False
        samples = np.random.default_rng(1).normal(0, 1, (4, *given)).astype(np.float32)
        samples[2:] *= _AS_PIXELS
        try:
            outputs = self.keras.ops.convert_to_numpy(layer(samples, training=False))
        except Exception:  # Keras may raise any exception; such a layer is refused
            return False
        return np.allclose(outputs, samples, rtol=1e-2)  # a layer of a model in mixed precision rounds to bfloat16

    def layer(self, layer: Any, inputs: list[Layer | None], shape: Shape, where: str) -> Layer | None:
        """Adds the layers of one Keras layer and its activation; returns the last one."""
        current = inputs[0]
        for part in LAYERS[type(layer).__name__](layer, self.network.shape_of(current), where):
            current = self.add(part, inputs if part.keys["op"] in MERGES else [current], layer, where)
        for keys in activation_keys(getattr(layer, "activation", None), where):
            if keys["op"] == "hard_sigmoid" and self.version[:2] in ("1.", "2."):
                raise ModelFileError(
                    f"{where}: hard_sigmoid was x / 5 + 1/2 in Keras {self.version}, which wrote the file, and is x / 6 + 1/2 "
                    "now; train it again, with a sigmoid for instance"
                )
            current = self.add(Part(keys), [current], layer, where)
        if not same_values(self.network.shape_of(current), shape):
            found = list(self.network.shape_of(current))
            raise ModelFileError(f"{where}: gives {list(shape)} in the file and {found} here; build it in another way")
        return self.view(layer.name, current, shape, where)

    def operation(self, node: Any, inputs: list[Layer | None], where: str) -> Layer | None:
        """Reads a call of keras.ops: a reshape, a merge of layers, an activation, or arithmetic with a number."""
        kind, shape = type(node.operation).__name__, tuple(node.outputs[0].shape)
        name = node.operation.name
        if kind == "Reshape" and shape[0] is None and None not in shape[1:]:
            return self.view(name, inputs[0], shape[1:], where)
        if kind == "Concatenate":
            return self.network.add(Layer(where, name, concatenation(node.operation.axis, len(shape) - 1, where), inputs))
        # keras.ops aligns tensors of different numbers of axes at the last axis, Keras' merging layers at the first.
        if kind in _MERGES and len(inputs) == 2 and len({len(self.network.shape_of(each)) for each in inputs}) == 1:
            return self.network.add(Layer(where, name, {"op": kind.lower()}, inputs))
        if (activations := operation_keys(node.operation)) is not None and len(inputs) == 1:
            current = inputs[0]
            for keys in activations:
                current = self.network.add(Layer(where, name, keys, [current]))
            return current
        if kind in _WITH_NUMBER and len(inputs) == 1 and (affine := _with_number(kind, node.arguments.args)) is not None:
            arrays = {key: finite(value, where) for key, value in affine.items()}
            return self.network.add(Layer(where, name, {"op": AFFINE}, inputs, arrays, trainable=False))
        raise ModelFileError(
            f"{where}: the operation {kind} of keras.ops is not supported here; use a layer of keras.layers in its place"
        )

    def add(self, part: Part, inputs: list[Layer | None], layer: Any, where: str) -> Layer:
        """Adds a layer to the network."""
        arrays = {name: finite(array, where) for name, array in part.arrays.items()}
        trains = bool(layer.trainable_weights)
        added = Layer(where, layer.name, dict(part.keys), inputs, arrays, trains, with_zeros=part.with_zeros)
        if added.op in WITH_KERNEL:
            added.has_bias, added.left_out = bool(layer.use_bias), _left_out(layer)
        return self.network.add(added)

    def view(self, name: str, source: Layer | None, shape: Shape, where: str) -> Layer | None:
        """The output of ``source`` in the shape that the file gives it."""
        if self.network.shape_of(source) == shape:
            return source
        return self.network.add(Layer(where, name, reshape(shape), [source]))

    def in_order(self, model: Any, node: Any, made: dict[int, Layer | None], where: str) -> list[Layer | None]:
        """The inputs of a call of a nested model, in the order of the model's inputs."""
        given = node.arguments.args[0] if node.arguments.args else None
        own = model._functional if isinstance(model, self.keras.Sequential) else model
        tensors = list(node.arguments.keras_tensors)
        if isinstance(given, dict) and not isinstance(own._inputs_struct, dict):
            names = [tensor.name for tensor in own.inputs]
            if not set(names) <= set(given):
                raise ModelFileError(f"{where}: called with the inputs {', '.join(given)}, its own are {', '.join(names)}")
            tensors = [given[name] for name in names]
        if len(tensors) != len(own.inputs) or (isinstance(given, list | tuple) and isinstance(own._inputs_struct, dict)):
            raise ModelFileError(f"{where}: called with other inputs than its own; call it with its {len(own.inputs)} inputs")
        return [made[id(tensor)] for tensor in tensors]


def _with_number(kind: str, operands: Sequence[Any]) -> dict[str, float] | None:
    """Scale and offset of a sum, difference, product or quotient of a tensor and a number; None for anything else."""
    first, second = (float(each) if isinstance(each, int | float) else None for each in operands)
    match kind, first, second:
        case "Add", None, float(number):
            return {"scale": 1, "offset": number}
        case "Add", float(number), None:
            return {"scale": 1, "offset": number}
        case "Subtract", None, float(number):
            return {"scale": 1, "offset": -number}
        case "Subtract", float(number), None:
            return {"scale": -1, "offset": number}
        case "Multiply", None, float(number):
            return {"scale": number, "offset": 0}
        case "Multiply", float(number), None:
            return {"scale": number, "offset": 0}
        case "TrueDivide" | "Divide", None, float(number) if number != 0:
            return {"scale": 1 / number, "offset": 0}
    return None


def _left_out(layer: Any) -> tuple[str, ...]:
    """What a layer was trained with in Keras but not on a device."""
    found = []
    for what, key in (("regulariser", "regularizer"), ("constraint", "constraint")):
        given = {type(value).__name__ for name, value in vars(layer).items() if name.endswith(key) and value is not None}
        if given:
            hint = "; model.weight_decay is the nearest" if key == "regularizer" else ""
            found.append(f"its {what} ({', '.join(sorted(given))}) is left out{hint}")
    return tuple(found)
