"""Estimated time and energy of a round on real boards, computed from counted bytes and operations, not measured."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.design import built
from tinymetafed_codegen.memory import stored_activations
from tinymetafed_codegen.memory.work import multiply_accumulates
from tinymetafed_codegen.section import StrictJson

from ..learn.strategies import Strategy

BITS_PER_BYTE = 10  # on a serial line, with start and stop bit
# What an estimate says of samples: it is about a board at work, which has its own.
WITHOUT_SAMPLES = "without samples that a host streams, which a board with data of its own does not need and `plan` counts"
BASIS = (
    f"bytes on the wire at the line's speed without turn-around times, {WITHOUT_SAMPLES}, plus the training steps' "
    "multiply-accumulates times the cycles of one in the emulated examples, with flash wait states, without what activations "
    "and merges add; energy is the chip's documented supply current over that time, without the other parts of the board; not "
    "measured on a board"
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
    net = stored_activations.arranged(built(experiment, "the experiment"), experiment)
    work = sum(phase.steps * multiply_accumulates(net, phase.variant) for phase in strategy.training())
    figures = {}
    for board in boards.usable():
        known = board.estimates
        if known is None:
            continue
        wire = wire_bytes * BITS_PER_BYTE / board.line.baud
        low, high = known.seconds(work)
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
