"""Global average pooling: the mean of each channel over all pixels; computed as one window of the image's size."""

from __future__ import annotations

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
    flash_bytes: ClassVar[tuple[int, ...]] = (640, 500)
    tiled: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: GlobalAvgPoolSpec, name: str, input_shape: Shape) -> Self:  # type: ignore[override]
        """Makes the op for [height, width, channels] or [length, channels]. Raises OpError for any other shape."""
        if len(input_shape) not in (2, 3):
            raise OpError(f"{cls.kind} expects [height, width, channels] or [length, channels], not {list(input_shape)}")
        whole = [Axis.build(extent, extent, extent, "valid") for extent in input_shape[:-1]]
        rows, columns = (SINGLE, *whole)[-2:]
        return cls(name, input_shape, input_shape[-1:], rows=rows, columns=columns)
