"""A network as read from a model file of any format: its layers with their inputs and weights."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.section import TomlTable, TomlValue

from ...runs.tensorflow import ModelFileError

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]
Keys = TomlTable  # of a layer, as an experiment's file writes them

WEIGHTED = ("dense", "conv2d", "depthwise_conv2d", "separable_conv2d", "conv1d")
AFFINE = "affine"  # y = scale x + offset, per channel; not an op, so it must be folded into a layer with weights


@dataclass(eq=False)
class Layer:
    """One layer.

    ``keys``: its keys in an experiment. ``inputs``: the layers that it reads, None for the model's input. ``arrays``: float64
    weights by the suffix of their names in an npz file, for instance ".kernel"; an affine has ``scale`` and ``offset``, of
    shape () or (channels,). ``where``: file and layer, for errors.
    """

    where: str
    name: str
    keys: Keys
    inputs: list[Layer | None]
    arrays: dict[str, Array] = field(default_factory=dict)
    trainable: bool = True

    @property
    def op(self) -> str:
        """Name of its op."""
        return str(self.keys["op"])


@dataclass
class Network:
    """Layers in order of execution; the last one gives the output. ``loss``: None if the file does not have one."""

    file: str
    input: Shape
    layers: list[Layer]
    loss: str | None = None
    notes: list[str] = field(default_factory=list)

    def readers(self, layer: Layer | None) -> list[Layer]:
        """The layers that read ``layer``."""
        return [each for each in self.layers if layer in each.inputs]


def finite(values: npt.ArrayLike, where: str) -> Array:
    """Converts weights to float64. Raises ModelFileError if one is NaN, infinite or beyond float32."""
    array = np.asarray(values, np.float64)
    if not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise ModelFileError(f"{where}: its weights hold a NaN or an infinity; train it again, or repair the file")
    return array


def unsupported(where: str, given: str, known: Collection[str], nearest: Mapping[str, str]) -> ModelFileError:
    """The error for a layer that is not supported; its text names the nearest supported one."""
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    hint = nearest.get(given) or (f"the nearest one is {close[0]}" if close else f"known are {', '.join(known)}")
    return ModelFileError(f"{where}: {given} is not supported; {hint}")


def extents(values: Sequence[int]) -> TomlValue:
    """Sizes of both axes as in an experiment: one number if they are equal."""
    first, *more = (int(value) for value in values)
    return first if all(value == first for value in more) else [first, *more]
