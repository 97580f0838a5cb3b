"""What a round would take of real boards in time and energy: an estimate from counted bytes and work, never from a board."""

from __future__ import annotations

import math

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from tinymetafed_codegen import graph
from tinymetafed_codegen.boards import Catalogue
from tinymetafed_codegen.graph import BackwardCall, Call, Graph
from tinymetafed_codegen.ops import Op
from tinymetafed_codegen.protocol import Variant

from ..learn.strategies import Strategy

BITS_PER_BYTE = 10  # on a serial line, with start and stop bit
BASIS = (
    "wire bytes at the line's speed without turn-arounds, then multiply-accumulates of the training steps times what one took "
    "in the emulated examples, without flash wait states; energy is the chip's documented supply current all that time, "
    "without what else is on the board; from no measurement on a board"
)

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class BoardEstimate:
    """A client's round on one board; the last three as (low, high), ``seconds`` being wire and training together."""

    title: str
    wire_seconds: float
    training_seconds: tuple[float, float]
    seconds: tuple[float, float]
    joules: tuple[float, float]


@dataclass(frozen=True, config=_STRICT)
class RoundEstimate:
    """A client's round by board; ``bytes`` go to and from it, samples not counted."""

    basis: str
    bytes: float
    multiply_accumulates: int
    boards: dict[str, BoardEstimate]


def of_round(strategy: Strategy, wire_bytes: float, boards: Catalogue) -> RoundEstimate:
    """A client's round of ``wire_bytes`` to and from it, samples not counted, on the real ones of ``boards``.

    docs/boards.md says what the figures rest on.
    """
    net = graph.build(
        strategy.experiment.model, partial=strategy.experiment.strategy.partial, gradient=strategy.experiment.strategy.gradient
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


def multiply_accumulates(net: Graph, variant: Variant) -> int:
    """Of one training step: forward, and backward for each layer that passes a gradient on and for each that it updates."""
    forward = sum(_products(call.op) for call in net.forward)
    return forward + sum(_backward(call) for call in net.backward[variant])


def _backward(call: Call | BackwardCall) -> int:
    if isinstance(call, Call):
        return 0
    return _products(call.op) * ((call.dx is not None) + call.update)


def _products(op: Op) -> int:
    """A kernel's weights take part once for each place of the output."""
    return sum(p.size for p in op.parameters if not p.is_bias) * math.prod(op.output_shape[:-1])
