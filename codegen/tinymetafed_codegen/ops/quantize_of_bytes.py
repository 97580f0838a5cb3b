"""The first layer of int8 firmware whose inputs are bytes: quantize of bytes times a scale."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .op import float_bits
from .quantize import Quantize


@dataclass(frozen=True)
class QuantizeOfBytes(Quantize):
    """Bytes times a scale to int8."""

    flash_bytes: ClassVar[tuple[int, ...]] = (190,)

    @classmethod
    def of(cls, quantize: Quantize) -> Self:
        """The layer ``quantize``, which reads the input."""
        return cls(**{field.name: getattr(quantize, field.name) for field in dataclasses.fields(quantize)})

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::QuantizeOfBytes</*size=*/{math.prod(self.input_shape)}, /*scale=*/{float_bits(self.scale)}, "
            f"/*zero=*/{self.zero_point}>"
        )
