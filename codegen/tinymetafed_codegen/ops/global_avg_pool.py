"""Global average pooling: the mean of each channel over all pixels; computed as one window over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .avg_pool import AvgPool
from .layer import LayerSpec
from .op import OpError, Shape
from .window import SINGLE, Axis


class GlobalAvgPoolSpec(LayerSpec):
    """The mean of each channel over all pixels."""


@dataclass(frozen=True)
class GlobalAvgPool(AvgPool):
    """[height, width, channels] or [length, channels] to [channels]."""

    kind: ClassVar[str] = "global_avg_pool"
    spec: ClassVar[type[LayerSpec]] = GlobalAvgPoolSpec
    flash_bytes: ClassVar[tuple[int, ...]] = (740, 660)

    @classmethod
    def build(cls, spec: GlobalAvgPoolSpec, name: str, input_shape: Shape) -> Self:  # type: ignore[override]
        """Makes the op for [height, width, channels] or [length, channels]. Raises OpError for any other shape."""
        if len(input_shape) not in (2, 3):
            raise OpError(f"{cls.kind} expects [height, width, channels] or [length, channels], not {list(input_shape)}")
        pixels = math.prod(input_shape[:-1])  # rows lie one after the other, so that all of them are one row
        columns = Axis.build(pixels, pixels, pixels, "valid")
        return cls(name, input_shape, input_shape[-1:], rows=SINGLE, columns=columns)
