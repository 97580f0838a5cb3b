"""One client's round on a board: its bytes and messages, counted; its time and energy, estimated for a line."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.design import built
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.memory import stored_activations
from tinymetafed_codegen.memory.work import multiply_accumulates
from tinymetafed_codegen.section import StrictJson

from ...learn.strategies import Strategy
from .plan_line import Line

Range = tuple[float, float]


@dataclass(frozen=True)
class DeviceRound(StrictJson):
    """What a client's round takes on its board's line: means over counted rounds, framing included.

    ``bytes_down`` and ``bytes_up`` contain ``samples_down`` and ``samples_up``. ``loads``, ``samples``, ``pulls`` and
    ``others`` are requests: that bring weights, that bring a sample or a part of one, that ask for a part of the update, and
    all the rest.
    ``loads_at_once``, ``samples_at_once``: requests with weights or samples that may be under way. ``pulls_wait``: whether each
    pull waits for the answer to the one before. ``weights``: global ones, of ``weight_bytes`` each on the way down; ``entries``
    of an update, of ``entry_bytes`` each without its index.
    """

    bytes_down: float
    bytes_up: float
    samples_down: float
    samples_up: float
    loads: float
    samples: float
    pulls: float
    others: float
    loads_at_once: int
    samples_at_once: int
    pulls_wait: bool
    weights: int
    weight_bytes: int
    entries: int
    entry_bytes: int

    @property
    def requests(self) -> float:
        """All requests."""
        return self.loads + self.samples + self.pulls + self.others

    def on_line(self, line: Line) -> tuple[float, float]:
        """Seconds on a line: of weights, update and what goes with them; and of samples, during which the board may train."""
        down, up = self.bytes_down - self.samples_down, self.bytes_up - self.samples_up
        update = up * (self.pulls > 0)
        weights = line.seconds(down + (up - update), self.loads, self.loads_at_once) + self.others * line.turn_around_seconds
        # The next part of an update is asked for when the one before begins to come.
        weights += line.seconds(update, self.pulls, 1 if self.pulls_wait else 2)
        return weights, line.seconds(self.samples_down + self.samples_up, self.samples, self.samples_at_once)

    def seconds(self, line: Line, training: Range) -> Range:
        """Lowest and highest time of the round: a board that gets samples trains while the next ones come, or after each."""
        weights, samples = self.on_line(line)
        return weights + max(samples, training[0]), weights + samples + training[1]


@dataclass(frozen=True)
class BoardWork(StrictJson):
    """The training of a client's round on a board, estimated; pairs are (low, high)."""

    board: str
    title: str
    seconds: Range
    watts: Range


def work_of(strategy: Strategy, board: Board) -> BoardWork:
    """The training of a round on a real board, as runs.estimate has it. Raises UsageError for a board without figures."""
    known = board.estimates
    if known is None:
        raise UsageError(
            f"--board {board.name}: has no 'estimates' in {board.file}; name a real board, such as nano33ble or esp32dev"
        )
    net = stored_activations.arranged(built(strategy.experiment, "the experiment"), strategy.experiment)
    work = sum(phase.steps * multiply_accumulates(net, phase.variant) for phase in strategy.training())
    least, most = known.milliamperes
    return BoardWork(board.name, board.title, known.seconds(work), (known.volts * least / 1000, known.volts * most / 1000))
