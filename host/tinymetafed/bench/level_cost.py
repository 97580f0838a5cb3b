"""Weights and updates in few bits: bytes on the wire, and what reading and writing them costs a board."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tinymetafed_codegen.messages.level_format import LevelFormat, level_format, wire_dtype
from tinymetafed_codegen.optional_messages.level_messages import LevelDelta, LoadLevels
from tinymetafed_codegen.protocol import Delta, Record
from tinymetafed_codegen.section import ValueType
from tinymetafed_codegen.spec import Experiment

from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.codecs import delta, downlink, level_update
from ..learn.codecs.delta import Sparse
from ..learn.codecs.index_code import Indices
from ..learn.codecs.level_load import LeveledWeights
from ..learn.weights import Floats, initial
from ..runs.setup import Setup, measured_design, set_up
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from ..wire.frame import encode
from ..wire.messages import loads_on_wire, tail_capacity
from . import BenchError, board_round, in_qemu, keeping_nothing, stack

LevelCoding = Literal["packed", "range"]
MEASURED: tuple[tuple[ValueType, LevelCoding], ...] = (
    ("i8", "packed"), ("i8", "range"), ("i4", "packed"), ("i4", "range"), ("i3", "range"), ("t2", "range"),
)  # fmt: skip
TOP_P = 10.0  # the share of the changes that travels where weights have few bits, in percent
ROUNDS = 100
EVERY = 10  # rounds between weights that are measured
# In the names of the functions that read the levels of weights and write those of an update, in whichever coding.
_LEVELS = ("LoadOfLevels", "LevelUpdate", "LevelCode", "NumberCode", "RangeDecoder", "RangeEncoder", "Chance")


@dataclass(frozen=True)
class LevelRow:
    """Weights and updates in one dtype and coding.

    ``weights``, ``update``: mean bytes of all weights and of an update in simulated rounds, framing included. ``flash``,
    ``static_ram``, ``stack``: of the firmware, in bytes, the stack the deepest that was seen. ``instructions``: of the first
    round on the board. ``levels``: of these, those that read and write levels; 0 where bytes of the wire table travel.
    """

    values: str
    coding: str
    weights: float
    update: float
    flash: int
    static_ram: int
    stack: int
    instructions: int
    levels: int

    @property
    def share(self) -> float:
        """The part of a round's instructions that reads and writes levels."""
        return self.levels / self.instructions


@dataclass(frozen=True)
class LevelCost:
    """``n`` weights and ``entries`` changes of them, in each dtype and coding both ways, on one board."""

    board: str
    rounds: int
    n: int
    entries: int
    rows: tuple[LevelRow, ...]


def measure(experiment: Experiment, source: str, board: str, data: Path | None, observer: Observer) -> LevelCost:
    """Measures weights and updates as levels, with a tenth of the changes.

    Args:
        experiment: The experiment, whose updates are neither masked nor private.
        source: Its name in errors.
        board: An emulated board whose instructions can be counted.
        data: Folder of the task's data; None if it needs none.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, TaskError or LinkError.
    """
    if experiment.privacy.secure_aggregation or experiment.privacy.is_private or not experiment.run.rounds:
        raise BenchError(f"{source}: private updates cannot travel as levels; leave [privacy] out")
    setup = set_up(_exact(experiment), source, data)
    sent, weights = _rounds(setup, observer)
    rows = []
    for values, coding in MEASURED:
        chosen = keeping_nothing(_with(experiment, values, coding))
        designed = measured_design(chosen, source, data=data)
        facts = in_qemu(board, designed.boards)
        observer.stage(f"a round on {board}, {values} {coding}")
        built = build_firmware(designed, board)
        done = board_round.measure(chosen, built, facts, (_LEVELS,))
        rows.append(
            LevelRow(
                values,
                coding,
                _mean([_weights_bytes(each, setup, values, coding) for each in weights]),
                _mean([_update_bytes(each, setup, values, coding) for each in sent]),
                built.flash_bytes,
                built.ram_bytes,
                stack.deepest(chosen, built, facts),
                done.instructions,
                done.counted[0],
            )
        )
    return LevelCost(board, ROUNDS, setup.strategy.n_global, setup.strategy.top_k, tuple(rows))


def _exact(experiment: Experiment) -> Experiment:
    """The experiment with updates of float32, from which each format is made."""
    changed = {"uplink": "f32", "uplink_coding": "packed", "top_p": TOP_P}
    return experiment.model_copy(update={"strategy": experiment.strategy.model_copy(update=changed)})


def _with(experiment: Experiment, values: ValueType, coding: LevelCoding) -> Experiment:
    """The experiment with one format both ways."""
    changed = {"uplink": values, "uplink_coding": coding, "downlink": values, "downlink_coding": coding, "top_p": TOP_P}
    return experiment.model_copy(update={"strategy": experiment.strategy.model_copy(update=changed)})


def _rounds(setup: Setup, observer: Observer) -> tuple[list[Sparse], list[Floats]]:
    """The updates of simulated rounds, and the weights after every few of them."""
    strategy, manifest = setup.strategy, setup.design.manifest
    clients = SimulatedClients(open_kernels(setup.design, 1), strategy, setup.task)
    weights = initial(manifest, setup.experiment.run.seed, setup.experiment.model.init)[: strategy.n_global]
    observer.stage(f"updates of {TOP_P:g} % of the weights", ROUNDS)
    sent, measured = [], []
    for round_ in range(ROUNDS):
        served = clients.train(weights, strategy.clients(round_, setup.task.clients), round_)
        updates = [each.outcome for each in served if each.outcome is not None]
        weights = strategy.update(weights, updates, round_)
        sent += updates
        if (round_ + 1) % EVERY == 0:
            measured.append(weights)
        observer.advance()
    return sent, measured


def _weights_bytes(weights: Floats, setup: Setup, values: ValueType, coding: LevelCoding) -> int:
    """Bytes of the messages that bring all weights to a board."""
    manifest, levels = setup.design.manifest, level_format(values, coding)
    segments = downlink.encode(weights, wire_dtype(values), [tensor.size for tensor in manifest.global_tensors], levels)
    if levels is None:
        return loads_on_wire(segments, manifest.receive_window, manifest.mac_bytes)[1]
    return load_bytes(LeveledWeights.of(segments, levels), manifest.receive_window, manifest.mac_bytes)


def load_bytes(weights: LeveledWeights, window: int, mac_bytes: int) -> int:
    """Bytes of the messages that bring weights as levels to a board.

    Args:
        weights: The weights.
        window: The board's receive window in bytes.
        mac_bytes: Bytes of the MAC behind each payload; 0 without one.
    """
    return sum(map(_on_wire, weights.messages(tail_capacity(LoadLevels, window, mac_bytes))))


def _update_bytes(update: Sparse, setup: Setup, values: ValueType, coding: LevelCoding) -> int:
    """Bytes of all messages of an update."""
    dense, levels = update.dense(setup.strategy.n_global), level_format(values, coding)

    def chosen(_: object, count: int) -> Indices:
        return update.indices[:count]

    def room(record: type[Record]) -> int:
        return tail_capacity(record, setup.design.manifest.receive_window, setup.design.manifest.mac_bytes)

    if isinstance(levels, LevelFormat):
        return sum(map(_on_wire, level_update.encode(dense, update.indices.size, levels, room(LevelDelta), select=chosen)))
    dtype = wire_dtype(values)
    return sum(map(_on_wire, delta.encode(dense, update.indices.size, dtype, room(Delta), token=1, select=chosen)))


def _on_wire(message: Record) -> int:
    return len(encode(1, 1, message.pack()))


def _mean(sizes: list[int]) -> float:
    return round(float(np.mean(sizes)), 1)
