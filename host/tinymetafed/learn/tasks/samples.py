"""Labelled samples of a client, and the error about data that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class DataError(Error):
    """A data set cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled samples in training order.

    Attributes:
        inputs: float32 [count, *input_shape].
        targets: float32 [count, target_size]; for a class, its index.
        levels: The bytes of byte data, uint8 [count, *input_shape]: inputs == levels * float32(scale) exactly; None for others.
        scale: The input value of level 1; 1 where there are no levels.
    """

    inputs: Floats
    targets: Floats
    levels: Bytes | None = None
    scale: float = 1.0

    @classmethod
    def from_levels(cls, levels: Bytes, scale: float, targets: Floats) -> Self:
        """Samples of byte data; a device computes their inputs with the same arithmetic.

        Args:
            levels: uint8 [count, *input_shape].
            scale: The input value of level 1; the same for all samples of a task.
            targets: float32 [count, target_size].

        Returns:
            Samples with inputs = levels * float32(scale).
        """
        return cls(levels.astype(np.float32) * np.float32(scale), targets, levels, scale)

    def __len__(self) -> int:
        return len(self.inputs)
