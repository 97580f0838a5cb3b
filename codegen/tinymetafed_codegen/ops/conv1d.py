"""1-D convolution over [length, channels], kernel [size, channels, filters]; computed as a 2-D convolution of one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .conv2d import Conv2d
from .layer import LayerSpec
from .op import OpError, Parameter, Shape
from .weighted import WeightedSpec
from .window import SINGLE, Axis, Extent, SequencePadding


class Conv1dSpec(WeightedSpec):
    """1-D convolution over [length, channels], with a kernel [size, channels, filters] and a bias."""

    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Extent
    stride: Extent = 1
    padding: SequencePadding = "same"


@dataclass(frozen=True)
class Conv1d(Conv2d):
    """1-D convolution."""

    kind: ClassVar[str] = "conv1d"
    spec: ClassVar[type[LayerSpec]] = Conv1dSpec

    @classmethod
    def build(cls, spec: Conv1dSpec, name: str, input_shape: Shape) -> Self:  # type: ignore[override]
        """Makes the op for an input of shape [length, channels]. Raises OpError for any other shape."""
        if len(input_shape) != 2:
            raise OpError(f"conv1d expects [length, channels], not {list(input_shape)}")
        length, channels = input_shape
        columns = Axis.build(length, spec.kernel, spec.stride, spec.padding)
        fan_in, fan_out = spec.kernel * channels, spec.kernel * spec.filters
        parameters = (
            Parameter("kernel", (spec.kernel, channels, spec.filters), fan_in, fan_out),
            Parameter("bias", (spec.filters,), fan_in, fan_out),
        )
        relu = spec.activation == "relu"
        shape = (columns.outputs, spec.filters)
        return cls(name, input_shape, shape, parameters, spec.local, spec.frozen, relu, SINGLE, columns)
