"""Finds whether an imported network expects bytes, 0 to 255, as its input: image folders give 0 to 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .network import AFFINE, INT8_OPS, PAD, VIEWS, Array, Layer, Network

_LARGEST_BYTE = 255
_IMAGE_CHANNELS = (1, 3)
_USUAL = ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5))  # ranges of rescaled bytes
_LARGEST_RESCALED = 10.0  # far above what networks expect, far below what a rescaling of inputs of 0 to 1 makes of bytes
_MIDDLE = (64, 192)  # where the mean of pixels lies
# The norm of a filter's weights. Trained filters on inputs of 0 to 1 or -1 to 1 have 0.2 to 5; where a rescaling of bytes is
# folded into them, that is divided by 255 or 127.5.
_SMALLEST_FILTER = 0.06
_LISTED = 32  # channels of which the numbers are written one by one


@dataclass(frozen=True)
class Bytes:
    """An input of bytes. ``reason``: how the file says so, for messages. ``channels``: of the input."""

    reason: str
    channels: int

    @property
    def lines(self) -> list[str]:
        """The lines of [data] with which images of 0 to 1 become 0 to 255."""
        return ['normalise = "standard"', f"shift = {self._each(0)}", f"scale = {self._each(_LARGEST_BYTE)}"]

    @property
    def note(self) -> str:
        """What to do, in one line."""
        return (
            f"{self.reason}: it expects bytes, 0 to 255, and image folders give 0 to 1 (levels / 255); for image folders set "
            f"in [data] {', '.join(self.lines)}"
        )

    @property
    def comment(self) -> list[str]:
        """The same as lines of a TOML file."""
        return [
            f"# {self.reason[0].upper()}{self.reason[1:]}: it expects bytes, 0 to 255.",
            "# Image folders give 0 to 1 (levels / 255). For them, write in place of the line below:",
            *(f"# {line}" for line in self.lines),
        ]

    def _each(self, number: int) -> str:
        if self.channels <= _LISTED:
            return str([number] * self.channels)
        return f"[{number}, …] ({self.channels} numbers)"


def expected_bytes(network: Network) -> Bytes | None:
    """Reads the scale and offset with which a network begins, or finds them in the size of its first weights.

    Args:
        network: The network, before scales and offsets are folded.

    Returns:
        Its input if that is clearly bytes; None if it is not, or if nothing says so.
    """
    if any(layer.op in INT8_OPS for layer in network.layers):
        return None
    channels = network.input[-1]
    rescaling = _rescaling(network)
    if rescaling is None:
        if network.input_type == "uint8":
            return Bytes("the network's input is uint8 in the file, without a rescaling", channels)
        first = _first_weighted(network)
        if first is None or not _is_image(network) or not 0 < (norm := _largest_filter(first)) < _SMALLEST_FILTER:
            return None
        where = first.where.removeprefix(network.file + ": ")
        return Bytes(
            f"{where} has filters of a norm of {norm:.2g} or less, as where a rescaling of bytes is folded into them", channels
        )
    scale, offset = rescaling
    ends = np.stack([offset, offset + _LARGEST_BYTE * scale])
    low, high = float(ends.min()), float(ends.max())
    usual = any(math.isclose(low, a, abs_tol=0.02) and math.isclose(high, b, abs_tol=0.02) for a, b in _USUAL)
    if usual or network.input_type == "uint8" or (_is_image(network) and _is_of_bytes(scale, offset)):
        return Bytes(f"the network's own rescaling makes {low:.3g} to {high:.3g} of 0 to 255", channels)
    return None


def _is_image(network: Network) -> bool:
    shape = network.file_input or network.input
    return len(shape) == 3 and shape[-1] in _IMAGE_CHANNELS


def _first_weighted(network: Network) -> Layer | None:
    """The layer with weights that reads the input, itself or its zeros and changes of shape; None if there is not one alone."""
    layer: Layer | None = None
    while len(readers := network.readers(layer)) == 1:
        layer = readers[0]
        if layer.op not in (*VIEWS, PAD):
            return layer if layer.op in ("conv2d", "dense") and ".kernel" in layer.arrays else None
    return None


def _largest_filter(layer: Layer) -> float:
    """The largest Euclidean norm of the weights of one output."""
    kernel = layer.arrays[".kernel"]
    return float(np.sqrt((kernel.reshape(-1, kernel.shape[-1]) ** 2).sum(axis=0)).max())


def _is_of_bytes(scale: Array, offset: Array) -> bool:
    """Whether bytes become small numbers, or a byte in the middle becomes 0."""
    ends = np.abs(np.stack([offset, offset + _LARGEST_BYTE * scale]))
    zero = -offset / np.where(scale == 0, 1, scale)
    return bool((ends <= _LARGEST_RESCALED).all() or ((_MIDDLE[0] <= zero) & (zero <= _MIDDLE[1])).all())


def _rescaling(network: Network) -> tuple[Array, Array] | None:
    """Scale and offset of all that a network does first with its input; None if it begins with something else."""
    scale, offset = np.ones(()), np.zeros(())
    found = False
    layer: Layer | None = None
    while len(readers := network.readers(layer)) == 1:
        layer = readers[0]
        if layer.op == AFFINE:
            found = True
            scale, offset = scale * layer.arrays["scale"], offset * layer.arrays["scale"] + layer.arrays["offset"]
        elif layer.op not in VIEWS or scale.size > 1 or offset.size > 1:
            break
    return (*np.broadcast_arrays(scale, offset),) if found else None  # type: ignore[return-value]
