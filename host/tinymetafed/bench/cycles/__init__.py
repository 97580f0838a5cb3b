"""Estimated cycles of code that ran in an emulator: executions per instruction from QEMU, and a cost model of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import cortex_m4
from .executions import Execution, Instruction

Model = Callable[[Sequence[Instruction], dict[int, Execution]], tuple[int, int]]

# Cost models by the core's name in board files.
MODELS: dict[str, Model] = {"cortex-m4": cortex_m4.cycles}
