"""A first layer with windows where inputs are bytes: the same numbers, of rows that are made float32 band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from .affine import Affine
from .avg_pool import AvgPool
from .conv2d import Conv2d
from .depthwise_conv2d import DepthwiseConv2d
from .max_pool import MaxPool
from .op import Op

_LEAST_ROWS = 4  # of outputs in a band: rows of inputs that two bands share are converted twice
_LEAST_PIXELS = 96  # of outputs in a band, over which the update's sums are loaded and stored once

WindowLayer = Conv2d | DepthwiseConv2d | MaxPool | AvgPool


@dataclass(frozen=True, kw_only=True)
class WindowsOfBytes(Op):
    """A convolution or a pool, ``windows``, whose input is bytes times a scale.

    ``normalise``: a layer before it, which is computed with it. ``rounds``: the output of that layer is rounded to float16.
    """

    windows: WindowLayer
    normalise: Affine | None
    rounds: bool

    header: ClassVar[str] = "windows_of_bytes.hpp"
    template: ClassVar[str] = "windows_of_bytes.hpp.j2"

    @classmethod
    def of(cls, layer: WindowLayer, normalise: Affine | None, *, rounds: bool) -> Self:
        """The layer ``layer``, which reads the input or the output of ``normalise``; arguments are as the fields."""
        return cls(
            layer.name,
            layer.input_shape,
            layer.output_shape,
            layer.parameters,
            layer.local,
            layer.frozen,
            layer.relu,
            windows=layer,
            normalise=normalise,
            rounds=rounds,
        )

    @property
    def title(self) -> str:
        """That of the layer."""
        return self.windows.title

    @property
    def tiled(self) -> bool:  # type: ignore[override]
        """Whether the layer's code grows with its filters."""
        return self.windows.tiled

    def code_bytes(self) -> tuple[int, ...]:
        """Bytes of code of forward and update; the input has no gradient."""
        match self.windows:
            case Conv2d():
                return 2_000, 0, 2_100
            case DepthwiseConv2d():  # forward its kernel does not stay in registers
                return self.windows.flash_bytes[0] + 300, 0, self.windows.code_bytes()[2] + 400
            case _:
                return (self.windows.code_bytes()[0] + 300,)

    @property
    def band(self) -> int:
        """Rows of outputs that are computed from one band of inputs: of a convolution even, as rows are computed in pairs."""
        rows, columns = self.windows.rows, self.windows.columns
        if not self.parameters:
            return 1 if rows.stride >= rows.size else _LEAST_ROWS
        return max(_LEAST_ROWS, -(-_LEAST_PIXELS // columns.outputs // 2) * 2)

    @property
    def work_floats(self) -> int:
        """Floats of the values of all bytes, for each channel if they are normalised, and of a band of inputs."""
        rows, columns, channels = self.windows.rows, self.windows.columns, self.input_shape[-1]
        tables = 1 if self.normalise is None else channels
        in_band = min((self.band - 1) * rows.stride + rows.size, rows.length)
        return 256 * tables + in_band * columns.length * channels

    @property
    def kernel_floats(self) -> int:
        """Floats of the kernel, whose gradient is summed band by band; 0 for a pool."""
        return self.parameters[0].size if self.parameters else 0

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        normalised = f"{'Rounded' if self.rounds else 'Normalised'}Levels<{channels}>"
        values = "Levels" if self.normalise is None else normalised
        return (
            f"kernels::WindowsOfBytes<{self.windows.banded_cpp_type()}, {self.windows.rows.cpp_type()}, "
            f"{self.windows.columns.cpp_type()}, /*channels=*/{channels}, /*kernel=*/{self.kernel_floats}, "
            f"/*band=*/{self.band}, kernels::{values}>"
        )
