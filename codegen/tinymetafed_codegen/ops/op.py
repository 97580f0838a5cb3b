"""The base class of all ops: what the graph, the planner and the generated C++ need to know of a layer."""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from .layer import LayerSpec

Shape = tuple[int, ...]
NumberType = Literal["float32", "int8", "int32"]


class OpError(ValueError):
    """The layer does not fit its input; the text says which input was expected."""


def shape_of(key: str, name: str, below: Mapping[str, Shape]) -> Shape:
    """Finds the layer that a key of another layer names.

    Args:
        key: The key, for the error.
        name: The name that it holds.
        below: The output shapes of the layers above it in the file, and of the input, by name.

    Returns:
        The output shape of the layer.

    Raises:
        OpError: None has that name.
    """
    if name in below:
        return below[name]
    near = difflib.get_close_matches(name, below, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(below)}"
    raise OpError(f"{key} = '{name}': no layer above this line has that name; {hint}")


@dataclass(frozen=True)
class Parameter:
    """A tensor of weights.

    ``fan_in`` and ``fan_out`` scale a kernel's initial values (Glorot and Bengio 2010; He et al. 2015); biases start at 0.
    ``starts_at``: all initial values are this number instead, or these numbers, also those of a local layer. ``dtype``: of a
    frozen layer's constants; all weights that train are float32.
    """

    name: str
    shape: Shape
    fan_in: int
    fan_out: int
    starts_at: float | tuple[float, ...] | None = None
    dtype: NumberType = "float32"

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of flash that the constants of a frozen layer take."""
        return self.size * (1 if self.dtype == "int8" else 4)

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias."""
        return self.name == "bias"


@dataclass(frozen=True)
class Op:
    """One layer with known shapes.

    ``relu``: a ReLU is fused into the layer, which applies max(0, x) before it stores its output. ``local``: the parameters
    never leave the device. ``frozen``: the parameters are constants in flash.
    """

    name: str
    input_shape: Shape
    output_shape: Shape
    parameters: tuple[Parameter, ...] = ()
    local: bool = False
    frozen: bool = False
    relu: bool = False

    kind: ClassVar[str]  # name in tables and in the model's hash; with a number, the name of a layer without a name
    spec: ClassVar[type[LayerSpec]]  # the layer's keys in the experiment file
    header: ClassVar[str] = ""  # file of the C++ kernels: in firmware/core/kernels; for a user's op, beside its Python file
    template: ClassVar[str] = "weightless.hpp.j2"  # renders the calls of the kernels
    is_view: ClassVar[bool] = False  # no code: the output is the input's memory with another shape
    can_fuse_relu: ClassVar[bool] = False  # the forward kernel can apply max(0, x) to the output
    can_mask_input: ClassVar[bool] = False  # the backward can apply the derivative of a ReLU below: dx = 0 where x = 0
    tiled: ClassVar[bool] = False  # the kernels accumulate up to 8 outputs side by side; their code grows with the last axis
    fuses_backward: ClassVar[bool] = False  # one loop computes the input gradient and updates the weights
    # Bytes of code of forward, input gradient and update: measured on mps2 at -Os, tiled kernels with 8 sums side by side.
    flash_bytes: ClassVar[tuple[int, ...]] = ()
    flash_of_whole_runs: ClassVar[float] = (
        1.0  # share of them where the last axis is whole runs of four, without code for a rest
    )
    in_place: ClassVar[bool] = False  # y may overwrite x, and dx may overwrite dy
    observes: ClassVar[bool] = False  # the parameters follow the model's input and not a gradient; always local

    @classmethod
    def build(cls, spec: Any, name: str, input_shape: Shape) -> Self:
        """Makes the op of a layer.

        Args:
            spec: The layer's keys, of the class ``cls.spec``.
            name: The layer's name.
            input_shape: The shape of its input.

        Raises:
            OpError: The op cannot take an input of this shape.
        """
        raise NotImplementedError(f"{cls.__name__} defines no build()")

    @classmethod
    def layer(cls, spec: Any, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """Makes all ops of a layer; most layers have one.

        Args:
            spec: The layer's keys, of the class ``cls.spec``.
            name: The layer's name.
            input_shape: The shape of its input.
            below: The output shapes of the layers before it, by name.

        Raises:
            OpError: The layer does not fit its input.
        """
        return [cls.build(spec, name, input_shape)]

    def cpp_type(self) -> str:
        """The C++ type that holds the kernels, as seen from namespace tmf::model."""
        return ""

    def code_bytes(self) -> tuple[int, ...]:
        """Bytes of code of forward, input gradient and update: ``flash_bytes``, or what they are for this shape."""
        return self.flash_bytes

    def backward_reads(self) -> str:
        """The tensors of the forward pass that the backward reads: "x", "y", "xy" or ""."""
        return "x"

    def mask_floats(self, masks_input: bool) -> int:
        """Floats of the arena that hold the mask saved for backward, one bit per entry.

        ``masks_input``: the mask also holds the derivative of a ReLU below.
        """
        return 0

    @property
    def title(self) -> str:
        """A description of one line, for comments and tables."""
        part = "" if not self.parameters else f", {self.part}"
        return f"{self.kind}{', ReLU' if self.relu else ''}{part}: {list(self.input_shape)} -> {list(self.output_shape)}"

    @property
    def part(self) -> str:
        """Whether its parameters are "frozen", "local" or "global"."""
        return "frozen" if self.frozen else "local" if self.local else "global"


def tile(size: int) -> int:
    """How many of ``size`` outputs are accumulated side by side: 8 independent sums hide the latencies of a Cortex-M4F."""
    return min(size, 8)


def float_bits(value: float) -> str:
    """A float as a C++17 template argument: its bits as an integer, the number in a comment."""
    return f"{struct.unpack('<I', struct.pack('<f', value))[0]:#010x} /* {value!r} */"
