"""Quantised networks compiled for the host with every tensor at a place of its own, so that a test sees all of them."""

from __future__ import annotations

import ctypes
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compiled_model import Compiled, library

from tinymetafed_codegen.design import Design
from tinymetafed_codegen.plan import ALIGNMENT, Plan


@dataclass(frozen=True)
class Int8Model:
    """A compiled network, and the place of each tensor in its arena."""

    compiled: Compiled
    plan: Plan

    def tensors(self, x: Any) -> dict[str, Any]:
        """Every layer's output for one sample, int8 or float32, by the layer's name; and the network's outputs."""
        made = self.compiled
        arena = np.full(made.arena, np.nan, np.float32)
        arena[made.at_in : made.at_in + made.n_in] = np.ravel(x)
        weights = np.zeros(made.n_state, np.float32)
        made.library.forward_float(*(array.ctypes.data_as(ctypes.c_void_p) for array in (weights, arena)))
        found = {}
        for call in made.design.graph.forward:
            at = self.plan.offset(call.y)
            values = arena[at : at + call.y.floats]
            found[call.op.name] = values.view(np.int8)[: call.y.size] if call.y.int8 else values[: call.y.size]
        return found


def compile_apart(made: Design, folder: Path, first: list[str] | None = None) -> Int8Model:
    """Compiles a designed network; ``first``: compiler options before all others."""
    slots, offset = [], 0
    for slot in made.plan.slots:
        slots.append(dataclasses.replace(slot, offset=offset))
        offset += -(-slot.tensor.floats // ALIGNMENT) * ALIGNMENT
    apart = dataclasses.replace(made.plan, slots=tuple(slots), floats=offset)
    return Int8Model(library(dataclasses.replace(made, plan=apart), folder, first), apart)
