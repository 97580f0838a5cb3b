"""Average: the mean of the layer before and named earlier layers, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .add import Add
from .layer import LayerSpec
from .merge import Merge, MergeSpec
from .op import Op, Shape
from .scale import Scale


class AverageSpec(MergeSpec):
    """The mean of the layer before this one and the layers named in ``with``."""


class Average(Merge):
    """Stands for sums and a scaling by 1 / (number of inputs); there is never an instance of this class."""

    kind: ClassVar[str] = "average"
    spec: ClassVar[type[LayerSpec]] = AverageSpec

    @classmethod
    def layer(cls, spec: MergeSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """The ops that add, then the one that scales. Raises OpError."""
        sums = Add.layer(spec, f"{name}_sum", input_shape, below)
        return [*sums, Scale(name, input_shape, input_shape, factor=1 / (len(spec.with_) + 1))]
