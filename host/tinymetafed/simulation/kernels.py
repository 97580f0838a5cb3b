"""Calls an experiment's compiled kernels: to make samples, and to train or test many clients at once."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.abi import simulation_abi as abi
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import SampleSet, Status
from tinymetafed_codegen.spec import SpecError
from tinymetafed_codegen.toolchain import BuildError

from ..learn.codecs.delta import Sparse
from ..learn.codecs.level_load import LeveledWeights
from ..learn.tasks import Floats
from .batches import Batch
from .client_rounds import ClientRound, JoinedRounds
from .compilation import BOARD, compile_kernels
from .kept_calls import KeptCalls
from .vector_units import choose


@dataclass(frozen=True)
class SentMessages:
    """Traffic of a round on a serial line: number of delta messages, their bytes, bytes of samples; framing included."""

    messages: int
    message_bytes: int
    sample_bytes: int


TrainedRound = tuple[list[Sparse | Status], SentMessages]  # for each client its delta or why training failed; the traffic


class ClientKernels(Protocol):
    """What a run's clients need of kernels; see Kernels."""

    @property
    def manifest(self) -> ModelManifest: ...  # noqa: D102  # the class says it
    @property
    def lanes(self) -> int: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102

    def samples(self, seed: int, clients: Sequence[int], round_: int, sample_set: SampleSet, count: int) -> Batch:
        """Samples that boards would make themselves."""

    def train_round(self, asked: ClientRound) -> TrainedRound:
        """Trains all clients of a round."""

    def adapt(
        self, asked: ClientRound, test: Batch, weights: Floats | None = None, start: Floats | None = None
    ) -> tuple[list[Status], Floats, Floats]:
        """Adapts all clients and predicts their test samples before and after."""

    def load_on_wire(self, weights: LeveledWeights) -> tuple[int, int]:
        """The messages that bring weights as levels to one board."""


@dataclass(frozen=True)
class _Deltas:
    """Memory of all clients' deltas: ``indices`` int64 and ``values`` float32, both [clients, top_k]."""

    indices: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, shape: tuple[int, int]) -> _Deltas:
        return cls(np.empty(shape, np.int64), np.empty(shape, np.float32))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


class Kernels:
    """The kernels of one experiment, compiled for this machine; for one thread at a time.

    Threads with kernels of their own wait for each other where these are of one library, which has one working memory.
    """

    def __init__(self, library: Path, manifest: ModelManifest, lanes: int, threads: int) -> None:
        """Loads a library.

        Args:
            library: A library that ``compile_kernels`` built.
            manifest: The model that it was built for.
            lanes: Clients per vector.
            threads: Threads to use.

        Raises:
            BuildError: The library cannot be loaded, or its structs are not those of this version.
        """
        self.manifest = manifest
        self.lanes = lanes
        self.threads = threads
        self._input_size = math.prod(manifest.input_shape)
        self._functions, self._alone = _load(library)
        self._kept = KeptCalls(manifest, threads, lanes)
        self._dropped: _Deltas | None = None  # memory of deltas that only their sum is made of

    def samples(self, seed: int, clients: Sequence[int], round_: int, sample_set: SampleSet, count: int) -> Batch:
        """Samples that boards would make themselves: ``count`` for each client."""
        inputs = np.empty((len(clients), count, self._input_size), np.float32)
        targets = np.empty((len(clients), count, self.manifest.target_size), np.float32)
        self._call(abi.MAKE_SAMPLES, self._kept.samples(seed, clients, round_, sample_set, inputs, targets).own.to)
        return Batch(inputs, targets)

    def train_round(self, asked: ClientRound) -> TrainedRound:
        """Trains all clients of a round.

        Args:
            asked: The round.

        Returns:
            For each client its delta, or the status that says why training failed; and the traffic.
        """
        return self.train_rounds([asked])[0]

    def train_rounds(self, asked: Sequence[ClientRound]) -> list[TrainedRound]:
        """As ``train_round`` for several runs of this model in one call, so that their clients fill vectors together.

        Args:
            asked: One round per run, with equal recipes, samples of one dtype, and all streamed or none.

        Returns:
            What ``train_round`` returns, for each run, with the same bits.
        """
        joined = JoinedRounds.of(asked)
        deltas = _Deltas.of((len(joined.numbers), asked[0].recipe.top_k))
        statuses, sent = self._round(joined, deltas, None)
        joined.keep_state()
        outcomes: list[Sparse | Status] = [
            Sparse(deltas.indices[i], deltas.values[i]) if status == Status.OK else status
            for i, status in enumerate(_statuses(statuses))
        ]
        return [(outcomes[part], _total(sent[:, part])) for part in joined.parts]

    def add_round(self, total: Floats, asked: ClientRound) -> tuple[list[Status], SentMessages]:
        """As ``train_round``, but adds the deltas to ``total``, float32 [n_global], in client order and keeps none of them.

        A round of many clients is the sum of several calls, so that its memory does not grow with its clients.

        Returns:
            The status of each client's training, whose delta counts if it is OK; and the traffic.
        """
        shape = len(asked.clients.numbers), asked.recipe.top_k
        if self._dropped is None or self._dropped.shape != shape:
            self._dropped = _Deltas.of(shape)
        joined = JoinedRounds.of([asked])
        statuses, sent = self._round(joined, self._dropped, total)
        return _statuses(statuses), _total(sent)

    def _round(
        self, joined: JoinedRounds, deltas: _Deltas, total: Floats | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Each client's status, and what it sends: [messages, their bytes, bytes of samples][client]; until the next call."""
        call = self._kept.training(joined)
        call.updates.fill(indices=deltas.indices, values=deltas.values, residuals=joined.residuals, total=total)
        call.sent.fill(0)
        self._call(abi.TRAIN_ROUND, call.training.to, call.updates.to)
        return call.statuses, call.sent

    def adapt(
        self, asked: ClientRound, test: Batch, weights: Floats | None = None, start: Floats | None = None
    ) -> tuple[list[Status], Floats, Floats]:
        """Adapts all clients and predicts their test samples before and after.

        Args:
            asked: What each client trains; nothing is sent.
            test: Test samples of all clients.
            weights: float32 [clients, n_parameters] to write the trained weights to, global ones first; None to drop them.
            start: float32 [clients, n_parameters], all weights to start from; None for the global ones and new local ones.

        Returns:
            The status of each client's training, and the outputs before and after it, float32 [clients, count, output_size].
        """
        before = np.zeros((len(asked.clients.numbers), test.count, self.manifest.output_size), np.float32)
        after = np.zeros_like(before)
        call = self._kept.training(JoinedRounds.of([asked]))
        evaluation = abi.Evaluation(test.arguments(), test.count, before, after, weights, start)
        self._call(abi.ADAPT, call.training.to, evaluation.to_c())
        return _statuses(call.statuses), before, after

    def load_on_wire(self, weights: LeveledWeights) -> tuple[int, int]:
        """The messages that bring weights as levels to one board: how many, and their bytes on the line, framing included."""
        sent = np.zeros(2, np.uint32)
        self._call(abi.MEASURE_LOAD, abi.LoadedLevels(weights.levels.view(np.uint8), weights.scales, sent).to_c())
        return int(sent[0]), int(sent[1])

    def _call(self, function: abi.Function, *arguments: ctypes.Structure) -> None:
        with self._alone:
            self._functions[function.name](*map(ctypes.byref, arguments))


_STATUSES = {status.value: status for status in Status}  # Status(value) takes a tenth of the time of a small client's round


def _statuses(values: NDArray[np.uint8]) -> list[Status]:
    if not values.any():  # nearly always; the loop takes longer than all else that Python does for many clients
        return [Status.OK] * values.size
    return [_STATUSES[value] for value in values.tolist()]


def _total(sent: NDArray[np.uint32]) -> SentMessages:
    return SentMessages(*[sum(row) for row in sent.tolist()])


_IN_USE: dict[int, Lock] = {}  # by the library's handle, which is the same however often a process loads it


def _load(library: Path) -> tuple[dict[str, Callable[..., None]], Lock]:
    """The library's functions by name, and a lock to hold in them.

    Raises BuildError if it was built with structs of another version.
    """
    remedy = "remove that file, and the next simulation builds it again"
    try:
        loaded = ctypes.CDLL(str(library))
        built_with = loaded[abi.HASH_SYMBOL]
        functions = {function.name: loaded[function.name] for function in abi.FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise BuildError(f"{library}: not a library of compiled kernels ({error}); {remedy}") from None
    built_with.restype = ctypes.c_uint64
    if built_with() != abi.abi_hash():
        raise BuildError(f"{library}: built by a version of tinymetafed that passes other arguments; {remedy}")
    for function in abi.FUNCTIONS:
        called = functions[function.name]
        called.argtypes, called.restype = [ctypes.POINTER(argument.c_type()) for argument in function.arguments], None
    return dict(functions), _IN_USE.setdefault(loaded._handle, Lock())


def open_kernels(design: Design, threads: int, unit: str | None = None) -> Kernels:
    """Compiles a design's kernels and loads them.

    Args:
        design: The experiment's model.
        threads: Threads to use.
        unit: Name of a vector unit of this machine; None for the fastest.

    Returns:
        The kernels.

    Raises:
        BuildError: They cannot be compiled or loaded.
        SpecError: The experiment cannot be simulated.
    """
    if design.experiment.task.boards_are_clients:
        raise SpecError(
            f"{design.source}: task.client_per_board = true makes every board a client, and a simulation has none; simulate it "
            "with --set task.client_per_board=false --set run.clients=N"
        )
    chosen, here = choose(unit), design.on(boards.load(BOARD))
    return Kernels(compile_kernels(here, chosen), here.manifest, chosen.lanes, threads)
