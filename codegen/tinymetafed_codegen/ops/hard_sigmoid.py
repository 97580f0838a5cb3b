"""Hard sigmoid as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class HardSigmoidSpec(LayerSpec):
    """x / 6 + 1/2, but at least 0 and at most 1."""


@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """x / 6 + 1/2, but at least 0 and at most 1."""

    kind: ClassVar[str] = "hard_sigmoid"
    spec: ClassVar[type[LayerSpec]] = HardSigmoidSpec
    header: ClassVar[str] = "hard_sigmoid.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (100, 90)
    function: ClassVar[str] = "HardSigmoid"
