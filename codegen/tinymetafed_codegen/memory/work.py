"""Counts the multiply-accumulates of a training step, and estimates from them how long a step takes on a real board."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..board.board_facts import Board
from ..calls import BackwardCall, Call
from ..graph import Graph
from ..ops import Int8Op, Op
from ..protocol import Variant

# A watchdog waits this many times the estimated longest step: the estimate leaves out flash wait states and other interrupts.
STEPS_OF_WATCHDOG = 4


def multiply_accumulates(net: Graph, variant: Variant) -> int:
    """Multiply-accumulates of one training step: forward pass, input gradients, and gradients of the updated weights."""
    return forward_multiply_accumulates(net) + sum(_backward(call) for call in net.backward[variant])


def forward_multiply_accumulates(net: Graph) -> int:
    """Multiply-accumulates of a prediction."""
    return multiply_accumulates_of(net.forward)


def multiply_accumulates_of(calls: Sequence[Call]) -> int:
    """Multiply-accumulates of some calls of the forward pass."""
    return sum(of_forward(call.op) for call in calls)


def step_milliseconds(board: Board, net: Graph) -> dict[Variant, tuple[float, float]]:
    """Estimates one training step of each variant on a real board.

    Args:
        board: The board.
        net: The model's graph.

    Returns:
        Lowest and highest estimate in ms by variant, from counted multiply-accumulates, the cycles of one in the emulated
        examples, and the chip's clock; {} for a board without these figures.
    """
    counts = {variant: multiply_accumulates(net, variant) for variant, calls in net.backward.items() if calls}
    return {variant: time for variant, count in counts.items() if (time := _milliseconds(board, count)) is not None}


def longest_part_milliseconds(board: Board, net: Graph) -> tuple[float, float] | None:
    """The same for the longest part of a step, one pass through one layer; None for a board without figures."""
    passes = [of_forward(call.op) for call in net.forward]
    passes += [_backward(call) for calls in net.backward.values() for call in calls]
    return _milliseconds(board, max(passes))


def _milliseconds(board: Board, products: int) -> tuple[float, float] | None:
    """Lowest and highest estimate of the time of some multiply-accumulates; None for a board without figures."""
    if (known := board.estimates) is None:
        return None
    low, high = known.seconds(products)
    return 1000 * low, 1000 * high


def longest_step_seconds(board: Board, net: Graph) -> float:
    """The estimated time of the longest training step on a real board, by its file's high figure; 0 without figures."""
    return max((high for _, high in step_milliseconds(board, net).values()), default=0.0) / 1000


def watchdog_seconds(board: Board, net: Graph) -> int | None:
    """After how many seconds without a pass of the main loop the port resets the board; None if it has no watchdog.

    It is the time in the board's file, or several times the longest training step where that is longer.
    """
    if board.watchdog_seconds is None:
        return None
    return max(board.watchdog_seconds, math.ceil(STEPS_OF_WATCHDOG * longest_step_seconds(board, net)))


def _backward(call: Call | BackwardCall) -> int:
    if isinstance(call, Call):
        return of_forward(call.op)  # computed again
    return of_forward(call.op) * ((call.dx is not None) + call.update)


def of_forward(op: Op) -> int:
    """Multiply-accumulates of an op's forward pass: each weight that is no bias is used once per output position."""
    weights = op.parameters[:1] if isinstance(op, Int8Op) else op.parameters  # the others scale its sums
    return sum(p.size for p in weights if not p.is_bias) * math.prod(op.output_shape[:-1])
