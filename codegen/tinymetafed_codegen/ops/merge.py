"""The base of ops that read two tensors: a residual connection, the end of a branch, a gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from .layer import LayerSpec
from .op import Op, OpError, Shape, shape_of


def _names(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names):
        raise ValueError("expected the name of a layer, or a list of names")
    return tuple(names)


class MergeSpec(LayerSpec):
    """The keys of a layer that also reads the layers named in ``with``, one or a list."""

    with_: Annotated[tuple[str, ...], Field(alias="with", strict=False), BeforeValidator(_names)]


@dataclass(frozen=True)
class Derivative:
    """How the gradient of one input of a merge follows from dy, the gradient of its output.

    ``op``: computes it from dy; None where it is dy itself. ``reads``: what the op reads beside dy: an input of the merge, the
    mask that its forward pass saves, or nothing.
    """

    op: Op | None = None
    reads: Literal["x", "other", "mask", ""] = ""


@dataclass(frozen=True)
class Merge(Op):
    """y follows from x and the output of layer ``other``. A layer that names several others is several ops in a row."""

    other: str = ""

    spec: ClassVar[type[LayerSpec]] = MergeSpec
    template: ClassVar[str] = "merge.hpp.j2"

    @classmethod
    def of(cls, spec: Any, name: str, input_shape: Shape, other: str, other_shape: Shape) -> Self:
        """Makes the op that reads ``other``. Raises OpError where the two shapes do not fit together."""
        if other_shape != input_shape:
            shapes = f"{list(input_shape)} and {list(other_shape)} of '{other}'"
            raise OpError(f"{spec.op} expects two equal shapes, not {shapes}")
        return cls(name, input_shape, input_shape, other=other)

    @classmethod
    def layer(cls, spec: MergeSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """Makes one op for each name in ``with``, from the first to the last. Raises OpError."""
        made: list[Op] = []
        shape = input_shape
        for number, other in enumerate(spec.with_, start=1):
            part = name if number == len(spec.with_) else f"{name}_part{number}"
            made.append(cls.of(spec, part, shape, other, shape_of("with", other, below)))
            shape = made[-1].output_shape
        return made

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """How the gradients of x and of the other input follow from dy."""
        raise NotImplementedError(f"{type(self).__name__} defines no derivatives()")
