"""A network as read from a model file of any format: its layers with their shapes, inputs and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from tinymetafed_codegen import ops
from tinymetafed_codegen.loss import LossName
from tinymetafed_codegen.section import TomlTable, TomlValue
from tinymetafed_codegen.spec.mistakes import explain

from ...runs.tensorflow import ModelFileError

Array = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]  # a layer's weights by the suffix of their names in an npz file
Shape = tuple[int, ...]
Keys = TomlTable  # of a layer, as an experiment's file writes them
Evaluate = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

WITH_KERNEL = ("dense", "conv2d", "depthwise_conv2d", "separable_conv2d", "conv1d", "affine")  # and a bias
WEIGHTED = (*WITH_KERNEL, "prelu")
INT8_WEIGHTED = ("dense_int8", "conv2d_int8", "depthwise_conv2d_int8")
INT8_OPS = tuple(kind for kind, op in ops.LAYERS.items() if issubclass(op, ops.Int8Op))
ELEMENTWISE = tuple(kind for kind in ops.ACTIVATIONS if kind != "softmax")
VIEWS = ("reshape", "flatten")
MERGES = tuple(kind for kind, op in ops.LAYERS.items() if issubclass(op, ops.Merge))  # ops that read several layers
COMMUTATIVE = tuple(kind for kind in MERGES if kind not in ("subtract", "concatenate", "add_int8"))
# Not ops: an experiment cannot have them, so they become part of other layers, or a layer "affine".
AFFINE = "scale and offset"  # y = scale x + offset, per channel
PAD = "pad"  # zeros around an image or a sequence; the key margins has [before, after] for each axis but the channels


@dataclass(frozen=True)
class Part:
    """One layer that an operator of a file becomes; the fields are as in Layer."""

    keys: Keys
    arrays: Arrays = field(default_factory=dict)
    with_zeros: str = ""


@dataclass(eq=False)
class Layer:
    """One layer.

    ``keys``: its keys in an experiment. ``inputs``: the layers that it reads, None for the model's input. ``arrays``: float64
    weights by the suffix of their names in an npz file, for instance ".kernel", or integers of a layer over int8; an AFFINE has
    ``scale`` and ``offset``, of shape () or (channels,). ``shape``: of its output, for one sample. ``with_zeros``: the setting
    because of which its kernel has zeros that must stay zeros, so that it may not train; or "". ``has_bias``: whether the file
    has a bias, of a layer with weights. ``left_out``: what the file says of its training that an import leaves out. ``where``:
    file and layer, for errors. ``trained``: what a layer over int8 becomes where it trains, in float32; None for other layers.
    ``scale``: that of its int8 output.
    """

    where: str
    name: str
    keys: Keys
    inputs: list[Layer | None]
    arrays: Arrays = field(default_factory=dict)
    trainable: bool = True
    shape: Shape = ()
    with_zeros: str = ""
    has_bias: bool = True
    left_out: tuple[str, ...] = ()
    trained: list[Part] | None = None
    scale: float | None = None

    @property
    def op(self) -> str:
        """Name of its op."""
        return str(self.keys["op"])


@dataclass(frozen=True)
class FileLoss:
    """The loss that a model file was compiled with.

    ``name``: ours, None if we lack it. ``title``: its name in the file, with its options. ``takes``: the activation whose
    outputs it takes, "logits" if it applies an activation itself, or "" if it takes any outputs. ``remedy``: why it cannot be
    carried over, and what to do.
    """

    name: LossName | None
    title: str
    takes: str = ""
    huber_delta: float = 1.0
    remedy: str = ""


@dataclass
class Network:
    """Layers in order of execution; the last one gives the output.

    ``loss``: None if the file does not have one. ``evaluate``: the file's own outputs, [batch, ...] for inputs
    [batch, *file_input]; None if nothing can compute them. ``input_type``: that of the file's input, as NumPy names it.
    ``overflows``: whether the file computes something that overflows for large inputs, which nothing here does.
    """

    file: str
    input: Shape
    layers: list[Layer]
    loss: FileLoss | None = None
    notes: list[str] = field(default_factory=list)
    file_input: Shape = ()
    evaluate: Evaluate | None = None
    input_type: str = "float32"
    overflows: bool = False

    def readers(self, layer: Layer | None) -> list[Layer]:
        """The layers that read ``layer``."""
        return [each for each in self.layers if layer in each.inputs]

    def shape_of(self, layer: Layer | None) -> Shape:
        """The shape of a layer's output, or of the model's input."""
        return self.input if layer is None else layer.shape

    def add(self, layer: Layer) -> Layer:
        """Adds a layer behind the others and computes its shape. Raises ModelFileError if it does not fit its inputs."""
        self.layers.append(layer)
        self.infer(layer)
        return layer

    def infer(self, layer: Layer) -> None:
        """Computes the shape of a layer from those of its inputs. Raises ModelFileError if it does not fit them."""
        layer.shape = _output_shape(layer, [self.shape_of(each) for each in layer.inputs])


def _output_shape(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    given = inputs[0]
    if layer.op == AFFINE:
        for values in layer.arrays.values():
            if values.ndim and values.shape != given[-1:]:
                raise ModelFileError(f"{layer.where}: {values.size} values for {given[-1]} channels; use one value per channel")
        return given
    if layer.op == PAD:
        margins = margins_of(layer)
        return (*(sum(pair) + size for pair, size in zip(margins, given, strict=False)), given[-1])
    if layer.op in VIEWS:  # of any number of axes, as it may be joined with the next one
        wanted = layer.keys.get("shape", [math.prod(given)])
        shape = tuple(int(size) for size in np.atleast_1d(wanted))  # type: ignore[arg-type]
        if math.prod(shape) != math.prod(given):
            raise ModelFileError(f"{layer.where}: from {list(given)} to {list(shape)}, which has another number of values")
        return shape
    op = ops.LAYERS[layer.op]
    others = {f"input {number}": shape for number, shape in enumerate(inputs[1:], start=2)}
    keys = layer.keys | ({"with": list(others)} if layer.op in MERGES else {})
    try:
        return ops.build(op.spec.model_validate(keys), "layer", given, others)[-1].output_shape
    except pydantic.ValidationError as error:
        raise ModelFileError(f"{layer.where}: {explain(error, op.spec)}") from None
    except ops.OpError as error:
        reason = _of_a_merge(layer, str(error)) if layer.op in MERGES else str(error)
        raise ModelFileError(f"{layer.where}: {reason}") from None


def _of_a_merge(layer: Layer, reason: str) -> str:
    """An error of a merge with the names of the layers that it reads, and what to do."""
    names = ["the model's input" if each is None else f"'{each.name}'" for each in layer.inputs]
    for number, name in enumerate(names[1:], start=2):
        reason = reason.replace(f"'input {number}'", name)
    factor = "" if layer.op == "multiply" else ", or use Multiply, which takes one factor per channel or per pixel"
    return f"{reason} (its first input is {names[0]}); build the model so that their shapes fit{factor}"


def margins_of(pad: Layer) -> list[tuple[int, int]]:
    """The zeros before and behind each axis of a layer of zeros."""
    return [(int(before), int(after)) for before, after in np.asarray(pad.keys["margins"])]


def same_values(first: Shape, second: Shape) -> bool:
    """Whether the shapes differ by axes of size 1 only."""
    return [size for size in first if size != 1] == [size for size in second if size != 1]


def reshape(shape: Shape) -> Keys:
    """The keys of a change of shape."""
    return {"op": "flatten"} if len(shape) == 1 else {"op": "reshape", "shape": list(shape)}


def leaky_relu(slope: float) -> list[Keys]:
    """The keys of a LeakyReLU; none for a slope of 1, which changes nothing."""
    if slope == 1:
        return []
    return [{"op": "relu"} if slope == 0 else {"op": "leaky_relu", "slope": slope}]


def elu(alpha: float) -> Keys:
    """The keys of an ELU."""
    return {"op": "elu"} if alpha == 1 else {"op": "elu", "alpha": alpha}


def gelu(approximate: bool) -> Keys:
    """The keys of a GELU."""
    return {"op": "gelu", "approximate": True} if approximate else {"op": "gelu"}


@dataclass(frozen=True)
class PRelu:
    """A PReLU of an experiment, which has one slope per channel.

    ``shape``: of its input in the file. ``view``: that input with the axes joined so that each channel has one slope.
    ``slopes``: by channel of the view.
    """

    shape: Shape
    view: Shape
    slopes: Array

    @classmethod
    def of(cls, slopes: Array, shape: Shape, where: str) -> PRelu:
        """Reads the slopes of a file.

        Args:
            slopes: One for each value of the input; axes of size 1 share them: [1, 1, channels] has one slope per channel.
            shape: Of the input, for one sample.
            where: File and layer, for errors.

        Returns:
            The PReLU.

        Raises:
            ModelFileError: An axis shares its slopes, and one before it does not.
        """
        padded = (1,) * (len(shape) - slopes.ndim) + slopes.shape
        shared = next((axis for axis, size in enumerate(padded) if size != 1), len(shape))
        if padded[shared:] != shape[shared:]:
            raise ModelFileError(
                f"{where}: slopes of shape {list(slopes.shape)}; share those of the first axes, as (1, 2) of an image"
            )
        size = math.prod(shape[shared:])
        view = shape if size == shape[-1] else (size,) if size == math.prod(shape) else (math.prod(shape) // size, size)
        return cls(shape, view, slopes.ravel())

    @property
    def parts(self) -> list[Part]:
        """Its layers: the PReLU, between two changes of shape where it needs them."""
        layer = Part({"op": "prelu"}, {".slope": self.slopes})
        return [layer] if self.view == self.shape else [Part(reshape(self.view)), layer, Part(reshape(self.shape))]


def finite(values: npt.ArrayLike, where: str) -> Array:
    """Converts weights to float64. Raises ModelFileError if one is NaN, infinite or beyond float32."""
    array = np.asarray(values, np.float64)
    if not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise ModelFileError(f"{where}: its weights hold a NaN or an infinity; train it again, or repair the file")
    return array


def unsupported(where: str, given: str, known: Collection[str], nearest: Mapping[str, str]) -> ModelFileError:
    """The error for a layer that is not supported; its text names the supported one of the nearest meaning."""
    hint = nearest.get(given) or f"supported are {', '.join(known)}"
    return ModelFileError(f"{where}: {given} is not supported; {hint}")


def extents(values: Sequence[int]) -> TomlValue:
    """Sizes of both axes as in an experiment: one number if they are equal."""
    first, *more = (int(value) for value in values)
    return first if all(value == first for value in more) else [first, *more]
