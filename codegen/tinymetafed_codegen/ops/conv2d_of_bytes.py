"""The first convolution of firmware whose inputs are bytes: the same products, of rows that are made float32 band by band."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

from .affine import Affine
from .conv2d import Conv2d

_LEAST_ROWS = 4  # of outputs in a band: rows of inputs that two bands share are converted twice
_LEAST_PIXELS = 96  # of outputs in a band, over which the update's sums are loaded and stored once


@dataclass(frozen=True)
class Conv2dOfBytes(Conv2d):
    """A 2-D convolution whose input is bytes times a scale.

    ``normalise``: a layer before it, which is computed with it. ``rounds``: the output of that layer is rounded to float16.
    """

    normalise: Affine | None = None
    rounds: bool = False

    header: ClassVar[str] = "conv2d_of_bytes.hpp"
    template: ClassVar[str] = "of_bytes.hpp.j2"
    flash_bytes: ClassVar[tuple[int, ...]] = (2_000, 0, 2_100)

    @classmethod
    def of(cls, conv: Conv2d, normalise: Affine | None, *, rounds: bool) -> Self:
        """The convolution ``conv``, which reads the input or the output of ``normalise``; arguments are as the fields."""
        fields = {field.name: getattr(conv, field.name) for field in dataclasses.fields(conv)}
        return cls(**fields, normalise=normalise, rounds=rounds)

    @property
    def band(self) -> int:
        """Rows of outputs that are computed from one band of inputs; an even number, as rows are computed in pairs."""
        columns = self.columns.outputs
        return max(_LEAST_ROWS, -(-_LEAST_PIXELS // columns // 2) * 2)

    @property
    def work_floats(self) -> int:
        """Floats of the values of all bytes, for each channel if they are normalised, and of a band of inputs."""
        tables = 1 if self.normalise is None else self.input_shape[-1]
        rows = min((self.band - 1) * self.rows.stride + self.rows.size, self.rows.length)
        return 256 * tables + rows * self.columns.length * self.input_shape[-1]

    @property
    def kernel_floats(self) -> int:
        """Floats of the kernel, whose gradient is summed band by band."""
        return self.parameters[0].size

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        normalised = f"{'Rounded' if self.rounds else 'Normalised'}Levels<{channels}>"
        values = "Levels" if self.normalise is None else normalised
        conv = self._kernels("GeneralConv2d", self.rows, self.columns)
        return (
            f"kernels::Conv2dOfBytes<{conv}, {self.rows.cpp_type()}, {self.columns.cpp_type()}, "
            f"/*channels=*/{channels}, /*kernel=*/{self.kernel_floats}, /*band=*/{self.band}, "
            f"kernels::{values}>"
        )
