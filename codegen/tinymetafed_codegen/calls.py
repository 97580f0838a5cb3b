"""The tensors of a model, and the calls of its ops, forward and backward."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .ops import Op, Shape
from .protocol import Variant


@dataclass(frozen=True)
class Tensor:
    """A buffer in the arena: an activation, a gradient, a mask saved for backward, or the sample's targets."""

    name: str
    shape: Shape
    note: str
    int8: bool = False
    half: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def floats(self) -> int:
        """Floats of the arena that it takes; four int8 values share one, or two float16 values."""
        return -(-self.size // (4 if self.int8 else 2 if self.half else 1))


@dataclass(frozen=True)
class Call:
    """One op run forward: reads ``x``, for a merge also ``other``; writes ``y`` and the mask saved for backward, if any.

    The gradient of an input of a merge is such a call as well: ``x`` is dy, ``other`` what the call reads beside dy.

    ``masks_input``: x is the output of a ReLU, whose derivative the mask saved for backward includes. ``again``: in a backward
    pass, the call makes an activation a second time.
    """

    op: Op
    x: Tensor
    y: Tensor
    other: Tensor | None = None
    saved_mask: Tensor | None = None
    masks_input: bool = False
    again: bool = False

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The tensors that it reads."""
        return (self.x,) if self.other is None else (self.x, self.other)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The tensors that it writes, its result first."""
        return (self.y,) if self.saved_mask is None else (self.y, self.saved_mask)

    @property
    def reusable(self) -> tuple[Tensor, ...]:
        """The tensors among those read whose place in the arena the result may take."""
        return tuple(tensor for tensor in self.reads if tensor.size == self.y.size) if self.op.in_place else ()


@dataclass(frozen=True)
class BackwardCall:
    """One op run backward: reads ``dy``, writes ``dx`` where a layer below trains, updates the op's parameters if ``update``.

    ``masks_input``: x is the output of a ReLU, whose derivative the op applies to dx.
    """

    op: Op
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    update: bool
    masks_input: bool
    saved_mask: Tensor | None = None  # written by the op's forward

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The tensors that it reads."""
        needed = self.op.backward_reads()
        forward = [tensor for name, tensor in (("x", self.x), ("y", self.y)) if name in needed]
        return (*forward, *(() if self.saved_mask is None else (self.saved_mask,)), self.dy)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The tensors that it writes."""
        return () if self.dx is None else (self.dx,)

    @property
    def reusable(self) -> tuple[Tensor, ...]:
        """The tensors among those read whose place in the arena the result may take."""
        return (self.dy,) if self.op.in_place else ()


def mask_name(y: Tensor) -> str:
    """The name of the mask that an op with the output ``y`` saves for its backward."""
    return f"{y.name}_mask"


def mask(op: Op, y: Tensor, masks_input: bool = False) -> Tensor | None:
    """The mask that an op with the output ``y`` saves for its backward; None if it needs none."""
    size = op.mask_floats(masks_input)
    return Tensor(mask_name(y), (size,), f"mask saved for the backward of {op.name}") if size else None


def trains(op: Op, variant: Variant) -> bool:
    """Whether this variant of the training step updates the op's parameters along their gradient."""
    if not op.parameters or op.frozen or op.observes:
        return False
    return variant in (Variant.FULL, Variant.GRADIENT) or op.local == (variant is Variant.LOCAL)


def observes(op: Op, variant: Variant) -> bool:
    """Whether this variant of the training step takes the sample into the op's statistics: wherever local weights train."""
    return op.observes and variant is not Variant.GLOBAL
