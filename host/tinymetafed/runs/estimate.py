"""Estimated time and energy of a round on real boards, computed from counted bytes and operations, not measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinymetafed_codegen import graph
from tinymetafed_codegen.boards import Board, Catalogue
from tinymetafed_codegen.calls import BackwardCall, Call
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.ops import Int8Op, Op
from tinymetafed_codegen.protocol import Variant
from tinymetafed_codegen.section import StrictJson

from ..learn.strategies import Strategy

BITS_PER_BYTE = 10  # on a serial line, with start and stop bit
BASIS = (
    "bytes on the wire at the line's speed without turn-around times, plus the training steps' multiply-accumulates times the "
    "cycles of one in the emulated examples, without flash wait states; energy is the chip's documented supply current over "
    "that time, without the other parts of the board; not measured on a board"
)


@dataclass(frozen=True)
class BoardEstimate(StrictJson):
    """One client's round on one board. ``seconds`` is wire and training together; pairs are (low, high)."""

    title: str
    wire_seconds: float
    training_seconds: tuple[float, float]
    seconds: tuple[float, float]
    joules: tuple[float, float]


@dataclass(frozen=True)
class RoundEstimate(StrictJson):
    """One client's round by board; ``bytes`` counts both directions, without samples."""

    basis: str
    bytes: float
    multiply_accumulates: int
    boards: dict[str, BoardEstimate]


def of_round(strategy: Strategy, wire_bytes: float, boards: Catalogue) -> RoundEstimate:
    """Estimates one client's round on real boards.

    Args:
        strategy: Strategy of the experiment.
        wire_bytes: Bytes to and from the client in the round, without samples.
        boards: The known boards; those with the figures that the estimate needs are used.

    Returns:
        Time in seconds and energy in joules by board. docs/boards.md explains the figures.
    """
    experiment = strategy.experiment
    net = graph.build(
        experiment.model,
        partial=experiment.strategy.partial,
        gradient=experiment.strategy.gradient,
        normalised=experiment.data.is_normalised,
    )
    work = sum(phase.steps * multiply_accumulates(net, phase.variant) for phase in strategy.training())
    figures = {}
    for board in boards.usable():
        known = board.estimates
        if known is None:
            continue
        wire = wire_bytes * BITS_PER_BYTE / board.line.baud
        low, high = (work * cycles / known.clock_hz for cycles in known.cycles_per_mac)
        seconds = wire + low, wire + high
        least, most = known.milliamperes
        figures[board.name] = BoardEstimate(
            title=board.title,
            wire_seconds=wire,
            training_seconds=(low, high),
            seconds=seconds,
            joules=(seconds[0] * known.volts * least / 1000, seconds[1] * known.volts * most / 1000),
        )
    return RoundEstimate(BASIS, wire_bytes, work, figures)


def step_milliseconds(net: Graph, board: Board) -> dict[Variant, tuple[float, float]]:
    """Estimates one training step of each variant on a real board.

    Args:
        net: The model's graph.
        board: The board.

    Returns:
        Lowest and highest estimate in ms by variant, from counted multiply-accumulates, the cycles of one in the emulated
        examples, and the chip's clock; {} for a board without these figures.
    """
    known = board.estimates
    if known is None:
        return {}
    low, high = (1000 * cycles / known.clock_hz for cycles in known.cycles_per_mac)
    counts = {variant: multiply_accumulates(net, variant) for variant, calls in net.backward.items() if calls}
    return {variant: (low * count, high * count) for variant, count in counts.items()}


def multiply_accumulates(net: Graph, variant: Variant) -> int:
    """Multiply-accumulates of one training step: forward pass, input gradients, and gradients of the updated weights."""
    forward = sum(_products(call.op) for call in net.forward)
    return forward + sum(_backward(call) for call in net.backward[variant])


def _backward(call: Call | BackwardCall) -> int:
    if isinstance(call, Call):
        return 0
    return _products(call.op) * ((call.dx is not None) + call.update)


def _products(op: Op) -> int:
    """Multiply-accumulates of a forward pass: each weight that is no bias is used once per output position."""
    weights = op.parameters[:1] if isinstance(op, Int8Op) else op.parameters  # the others scale its sums
    return sum(p.size for p in weights if not p.is_bias) * math.prod(op.output_shape[:-1])
