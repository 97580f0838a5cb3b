"""Normalisation by running statistics: the first layer of a model whose board measures its inputs itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from .op import Op, Parameter, Shape, float_bits

LARGEST_INPUT = 1e18  # the square of a distance between two such inputs is finite in float32
LEAST_VARIANCE = 1e-30  # 1 / standard deviation stays below 1e15, so that even the largest input stays finite
# The layer's outputs are cut to +-this: two first samples that happen to be close have next to no variance. Among n samples,
# none is more than sqrt(n - 1) standard deviations from their mean.
LARGEST_OUTPUT = 10.0


@dataclass(frozen=True)
class RunningStatistics(Op):
    """(x - mean) / standard deviation, cut to +-LARGEST_OUTPUT, per channel, the last axis, of all inputs trained on so far.

    Its parameters are local: the number of samples, and mean and variance of each channel. They have no gradient; a training
    step that changes local weights takes its sample into them before the forward pass. It cannot be a layer of the user's.

    ``shift`` and ``scale``: the start, mean and 1 / standard deviation of each channel, which counts as ``start_count``
    samples; empty for mean 0 and variance 1, which count as none. ``largest_count``: from then on older samples count
    exponentially less.

    Source: Ren, Anicic and Runkler 2021 (TinyOL); Welford 1962, for samples of several values per channel as Chan, Golub and
    LeVeque 1979.
    """

    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    start_count: int = 0
    largest_count: int = 0

    kind: ClassVar[str] = "running_statistics"
    header: ClassVar[str] = "running_statistics.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (280, 460)  # of forward and observe
    template: ClassVar[str] = "running_statistics.hpp.j2"
    in_place: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    @classmethod
    def of(
        cls, name: str, shape: Shape, shift: Sequence[float], scale: Sequence[float], start_count: int, largest_count: int
    ) -> Self:
        """Makes the op for an input of any shape; ``shift`` and ``scale`` may be empty."""
        channels = shape[-1:]
        mean, variance = (tuple(shift), tuple(1 / factor**2 for factor in scale)) if shift else (0.0, 1.0)
        parameters = (
            Parameter("count", (1,), fan_in=1, fan_out=1, starts_at=float(start_count)),
            Parameter("mean", channels, fan_in=1, fan_out=1, starts_at=mean),
            Parameter("variance", channels, fan_in=1, fan_out=1, starts_at=variance),
        )
        numbers = (tuple(shift), tuple(scale), start_count, largest_count)
        return cls(name, shape, shape, parameters, True, False, False, *numbers)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        pixels = math.prod(self.input_shape) // channels
        return (
            f"kernels::RunningStatistics</*pixels=*/{pixels}, /*channels=*/{channels}, /*largest_count=*/{self.largest_count}, "
            f"/*least_variance=*/{float_bits(LEAST_VARIANCE)}, /*largest_output=*/{float_bits(LARGEST_OUTPUT)}>"
        )

    @property
    def title(self) -> str:
        """A description of one line, for comments and tables."""
        return f"running mean and variance, local: {list(self.input_shape)} -> {list(self.output_shape)}"
