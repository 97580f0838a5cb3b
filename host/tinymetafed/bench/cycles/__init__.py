"""Estimated cycles of code that ran in an emulator: counts per instruction from QEMU, and what each takes on a core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import cortex_m4
from .executions import Execution, Instruction

Model = Callable[[Sequence[Instruction], dict[int, Execution]], tuple[int, int]]

# Core, as boards name it -> its cost model.
MODELS: dict[str, Model] = {"cortex-m4": cortex_m4.cycles}
