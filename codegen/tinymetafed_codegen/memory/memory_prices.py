"""What less memory for activations costs: the arena and the work of a step with each choice of the two keys that decide it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import Literal

from .. import plan
from ..calls import Call
from ..design import Design, built, smaller_with_bytes
from ..ops import HalfOp
from ..protocol import Variant
from . import stored_activations, work

_Memory = Literal["fastest", "least"]
_Activations = Literal["f32", "f16"]
_MEMORY: tuple[_Memory, ...] = ("fastest", "least")
_ACTIVATIONS: tuple[_Activations, ...] = ("f32", "f16")


@dataclass(frozen=True)
class MemoryPrice:
    """One choice of board.memory and model.activations.

    ``arena_bytes``: of the arena. ``multiply_accumulates``: of a step that trains all weights, ``again`` of them to compute
    activations again. ``converted``: numbers that such a step rounds to float16, packs or unpacks. ``chosen``: whether the
    experiment has these keys.
    """

    memory: _Memory
    activations: _Activations
    arena_bytes: int
    multiply_accumulates: int
    again: int
    converted: int
    chosen: bool


def prices(design: Design) -> tuple[MemoryPrice, ...]:
    """The price of each choice for a design's model, the fastest one first.

    The choice of model.activations changes the weights that are trained, that of board.memory does not.
    """
    net, experiment = built(design.experiment, design.source), design.experiment
    found = []
    for activations, memory in product(_ACTIVATIONS, _MEMORY):
        rounding = dataclasses.replace(net, rounds=activations == "f16")
        made = stored_activations.stored(rounding, stored_activations.chosen(rounding, again=memory == "least"))
        arena = plan.plan(made)
        if design.sends_bytes:
            made, arena = smaller_with_bytes(rounding, made, arena, again=memory == "least")
        calls = (*made.forward_of(Variant.FULL), *made.backward[Variant.FULL])
        found.append(
            MemoryPrice(
                memory,
                activations,
                4 * arena.floats,
                work.multiply_accumulates(made, Variant.FULL),
                sum(work.of_forward(call.op) for call in calls if isinstance(call, Call) and call.again),
                sum(call.x.size for call in calls if isinstance(call.op, HalfOp)),
                (memory, activations) == (experiment.board.memory, experiment.model.activations),
            )
        )
    return tuple(found)
