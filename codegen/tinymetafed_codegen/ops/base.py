"""What every op tells the graph, the planner and the generated C++."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .layer import LayerSpec

Shape = tuple[int, ...]


class OpError(ValueError):
    """A layer that does not fit its input; the text names what was expected."""


@dataclass(frozen=True)
class Parameter:
    """A tensor of weights. ``fan_in`` and ``fan_out`` scale its initial values (Glorot, He); biases start at 0."""

    name: str
    shape: Shape
    fan_in: int
    fan_out: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias."""
        return self.name == "bias"


@dataclass(frozen=True)
class Op:
    """One layer with its shapes settled; ``relu`` says that its output passes through max(0, x) before it is stored."""

    name: str
    input_shape: Shape
    output_shape: Shape
    parameters: tuple[Parameter, ...] = ()
    local: bool = False
    frozen: bool = False
    relu: bool = False

    kind: ClassVar[str]  # its name in tables, in the model's hash and, with a number, of a layer without a name
    spec: ClassVar[type[LayerSpec]]  # the keys of a layer of it
    header: ClassVar[str] = ""  # its kernels: a file in firmware/core/kernels, of a user's op beside its Python file
    template: ClassVar[str] = "weightless.hpp.j2"  # how the generated code calls them
    is_view: ClassVar[bool] = False  # no code: its output is its input's memory, read with another shape
    can_fuse_relu: ClassVar[bool] = False
    masks_input: ClassVar[bool] = False  # its backward can zero the gradient where its input is 0, which is ReLU's
    tiled: ClassVar[bool] = False  # its kernels accumulate up to 8 outputs side by side, and grow with the last axis
    fuses_backward: ClassVar[bool] = False  # one loop makes the input's gradient and updates the weights
    # Of its forward, input gradient and update, measured on mps2 at -Os with 8 sums side by side where it is tiled.
    flash_bytes: ClassVar[tuple[int, ...]] = ()
    in_place: ClassVar[bool] = False  # what it reads and what it writes may be one place, forward and backward

    @classmethod
    def build(cls, spec: Any, name: str, input_shape: Shape) -> Self:
        """The op that a layer of these keys is on an input of this shape. Raises OpError where it takes no such input."""
        raise NotImplementedError(f"{cls.__name__} defines no build()")

    @classmethod
    def layer(cls, spec: Any, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """All ops of a layer: one, but for a few. ``below``: output shapes of the layers before it, by name. Raises OpError."""
        return [cls.build(spec, name, input_shape)]

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        return ""

    def backward_reads(self) -> str:
        """What of the forward pass its backward needs: "x", "y" or ""."""
        return "x"

    def kept_numbers(self, mask: bool) -> int:
        """Numbers of the arena in which its forward keeps, as bits, what its backward needs; ``mask`` folds a ReLU below."""
        return 0

    @property
    def title(self) -> str:
        """One line for comments and tables."""
        part = "" if not self.parameters else f", {self.part}"
        return f"{self.kind}{', ReLU' if self.relu else ''}{part}: {list(self.input_shape)} -> {list(self.output_shape)}"

    @property
    def part(self) -> str:
        """What becomes of its parameters."""
        return "frozen" if self.frozen else "local" if self.local else "global"


def tile(size: int) -> int:
    """How many outputs are accumulated side by side: 8 independent sums hide a Cortex-M4F's latencies."""
    return min(size, 8)


def float_bits(value: float) -> str:
    """A float as C++17 takes it for a template argument: the bits, with the number beside them."""
    return f"{struct.unpack('<I', struct.pack('<f', value))[0]:#010x} /* {value!r} */"
