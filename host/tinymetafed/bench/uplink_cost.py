"""Bytes of updates on the wire, packed and coded, compared with their entropy; and what coding costs a board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta
from tinymetafed_codegen.protocol import Delta, Dtype
from tinymetafed_codegen.spec import Experiment

from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.codecs import coded_delta, delta
from ..learn.codecs.delta import Sparse
from ..learn.codecs.rice import Numbers
from ..learn.weights import initial
from ..runs.setup import measured_design, set_up
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from ..wire.frame import encode
from ..wire.messages import tail_capacity
from . import BenchError, board_round, in_qemu, keeping_nothing, stack

SHARES = (50, 25, 10)  # of the global weights, in percent, whose changes travel
ROUNDS = 100
LEVELS = 128  # magnitudes of int8 values
# In the names of the functions that select and encode an update.
SELECTING = (
    "DeltaEncoder", "SelectionRule", "Learner6Change", "from_f16", "delta7Planner", "delta5Chunk", "delta6Format",
    "delta10index_bits", "delta9write_gap", "CodedUpdate", "ValueCode", "BitString",
)  # fmt: skip


@dataclass(frozen=True)
class UpdateBytes:
    """Mean bytes of an update with ``entries`` entries, in all of its messages, framing included.

    ``top_p``: entries as a percentage of all weights. ``packed``: int8 values of a byte each. ``coded``: in the code of
    strategy.uplink_coding = "rice". ``indices``: log2 C(n, k), the entropy of equally likely sets of indices. ``values``: the
    bits of an adaptive code of the magnitudes (Krichevsky and Trofimov 1981), and a bit per sign. ``counted``: the same with
    the entropy of each update's own histogram of values, which no receiver knows. All in bytes.
    """

    top_p: float
    entries: int
    packed: float
    coded: float
    indices: float
    values: float
    counted: float

    @property
    def limit(self) -> float:
        """Bytes of indices and values."""
        return self.indices + self.values


@dataclass(frozen=True)
class UplinkRound:
    """A round on a board: bytes of flash, static RAM and deepest stack, bytes on the line, instructions of all that it does.

    ``encoding``: instructions that select the entries of the update and encode them.
    """

    flash: int
    static_ram: int
    stack: int
    bytes_up: int
    instructions: int
    encoding: int


@dataclass(frozen=True)
class UplinkCost:
    """Updates of ``rounds`` simulated rounds for each share of entries, and the first round on a board, packed and coded."""

    board: str
    rounds: int
    updates: list[UpdateBytes]
    packed: UplinkRound
    coded: UplinkRound

    @property
    def share(self) -> float:
        """The instructions that coding adds to a round, as a share of it."""
        return (self.coded.encoding - self.packed.encoding) / self.packed.instructions


def measure(experiment: Experiment, source: str, board: str, data: Path | None, observer: Observer) -> UplinkCost:
    """Measures updates with int8 values.

    Args:
        experiment: The experiment, whose updates are not masked.
        source: Its name in errors.
        board: An emulated board whose instructions can be counted.
        data: Folder of the task's data; None if it needs none.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, TaskError or LinkError.
    """
    if experiment.privacy.secure_aggregation or not experiment.run.rounds:
        raise BenchError(f"{source}: its boards send no updates with values to code")
    updates = [_update_bytes(_with(experiment, "packed", share), source, data, observer) for share in SHARES]
    return UplinkCost(
        board,
        ROUNDS,
        updates,
        _on_board(_with(experiment, "packed"), source, board, observer),
        _on_board(_with(experiment, "rice"), source, board, observer),
    )


def _with(experiment: Experiment, coding: str, share: float | None = None) -> Experiment:
    """The experiment with int8 values in a coding, and another share of entries."""
    changed = {"uplink": "i8", "uplink_coding": coding} | ({} if share is None else {"top_p": share})
    return experiment.model_copy(update={"strategy": experiment.strategy.model_copy(update=changed)})


def _on_board(experiment: Experiment, source: str, board: str, observer: Observer) -> UplinkRound:
    experiment = keeping_nothing(experiment)
    designed = measured_design(experiment, source)
    facts = in_qemu(board, designed.boards)
    observer.stage(f"a round on {board}, strategy.uplink_coding = '{experiment.strategy.uplink_coding}'")
    built = build_firmware(designed, board)
    done = board_round.measure(experiment, built, facts, (SELECTING,))
    sent = done.traffic.up - done.traffic.samples_up
    depth = stack.deepest(experiment, built, facts)
    return UplinkRound(built.flash_bytes, built.ram_bytes, depth, sent, done.instructions, done.counted[0])


def _update_bytes(experiment: Experiment, source: str, data: Path | None, observer: Observer) -> UpdateBytes:
    """Trains rounds in the simulation and codes their updates."""
    setup = set_up(experiment, source, data)
    strategy, manifest = setup.strategy, setup.design.manifest
    clients = SimulatedClients(open_kernels(setup.design, 1), strategy, setup.task)
    weights = initial(manifest, experiment.run.seed, experiment.model.init)[: strategy.n_global]
    observer.stage(f"updates of {experiment.strategy.top_p:g} % of the weights", ROUNDS)
    sizes: list[tuple[float, ...]] = []
    for round_ in range(ROUNDS):
        served = clients.train(weights, strategy.clients(round_, setup.task.clients), round_)
        sent = [each.outcome for each in served if each.outcome is not None]
        sizes += [sizes_of(each, strategy.n_global, manifest.receive_window) for each in sent]
        weights = strategy.update(weights, sent, round_)
        observer.advance()
    means = [round(sum(column) / len(sizes), 1) for column in zip(*sizes, strict=True)]
    return UpdateBytes(experiment.strategy.top_p, strategy.top_k, *means)


def sizes_of(update: Sparse, n: int, window: int) -> tuple[float, float, float, float, float]:
    """Bytes of an update of int8 values, packed and coded; and entropies of its indices, its values, its own histogram."""
    dense, k = update.dense(n), update.indices.size

    def chosen(_: object, count: int) -> Numbers:
        return update.indices[:count]

    packed = delta.encode(dense, k, Dtype.I8, tail_capacity(Delta, window), token=1, select=chosen)
    coded = coded_delta.encode(dense, k, Dtype.I8, tail_capacity(CodedDelta, window), select=chosen)
    numbers = delta.quantise(update.values)[1].astype(np.int64)
    indices = math.log2(math.comb(n, k))
    return (
        float(sum(len(encode(1, 1, message.pack())) for message in packed)),
        float(sum(len(encode(1, 1, message.pack())) for message in coded)),
        indices / 8,
        adaptive_bits(numbers) / 8,
        (indices + _entropy(np.unique(numbers, return_counts=True)[1].tolist())) / 8,
    )


def adaptive_bits(numbers: Numbers) -> float:
    """Bits of an adaptive code of int8 numbers: their magnitudes from the least one on, and the signs of all but zeros.

    Source: Krichevsky and Trofimov 1981, The Performance of Universal Encoding; each magnitude begins with a count of one half.
    """
    magnitudes = np.abs(numbers)
    counts = np.bincount(magnitudes - magnitudes.min())
    kinds, total = LEVELS - int(magnitudes.min()), numbers.size
    nats = math.lgamma(total + kinds / 2) - math.lgamma(kinds / 2)
    nats -= sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts.tolist())
    return nats / math.log(2) + int(np.count_nonzero(numbers))


def _entropy(counts: Sequence[int]) -> float:
    """Bits of all numbers of a histogram under its own frequencies."""
    total = sum(counts)
    return -sum(count * math.log2(count / total) for count in counts)
