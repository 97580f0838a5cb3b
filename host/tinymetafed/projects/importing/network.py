"""A network as a model file holds it, whichever the format: layers that name what they read, their weights, its notes."""

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
AFFINE = "affine"  # y = scale x + offset, per channel: no op of ours, so that a layer with weights must take it in


@dataclass(eq=False)
class Layer:
    """One layer: ``keys`` as an experiment writes them, ``inputs`` the layers that it reads, None being the model's input.

    ``arrays`` are float64 by what stands behind the layer's name in an npz file, ".kernel" for instance; an affine has
    ``scale`` and ``offset``, of shape () or (channels,). ``where`` names file and layer in errors.
    """

    where: str
    name: str
    keys: Keys
    inputs: list[Layer | None]
    arrays: dict[str, Array] = field(default_factory=dict)
    trainable: bool = True

    @property
    def op(self) -> str:
        """Its op."""
        return str(self.keys["op"])


@dataclass
class Network:
    """Layers in the order in which they run, the last of which gives the output; ``loss`` if the file tells it."""

    file: str
    input: Shape
    layers: list[Layer]
    loss: str | None = None
    notes: list[str] = field(default_factory=list)

    def readers(self, layer: Layer | None) -> list[Layer]:
        """The layers that read ``layer``."""
        return [each for each in self.layers if layer in each.inputs]


def finite(values: npt.ArrayLike, where: str) -> Array:
    """An array of the file as float64. Raises ModelFileError for a NaN or what is beyond float32."""
    array = np.asarray(values, np.float64)
    if not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise ModelFileError(f"{where}: its weights hold a NaN or an infinity; train it again, or repair the file")
    return array


def unsupported(where: str, given: str, known: Collection[str], nearest: Mapping[str, str]) -> ModelFileError:
    """What to raise for a layer that is none of ours, with the nearest one that is."""
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    hint = nearest.get(given) or (f"the nearest one is {close[0]}" if close else f"known are {', '.join(known)}")
    return ModelFileError(f"{where}: {given} is not supported; {hint}")


def extents(values: Sequence[int]) -> TomlValue:
    """Both axes as an experiment writes them: one number where they are equal."""
    first, *more = (int(value) for value in values)
    return first if all(value == first for value in more) else [first, *more]
