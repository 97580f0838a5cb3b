"""The arguments of calls of the compiled kernels, kept from round to round: making them anew takes as long as a short round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tinymetafed_codegen.abi import simulation_abi as abi
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Recipe, SampleSet

from ..learn.tasks import Floats
from .client_rounds import JoinedRounds

_Key = TypeVar("_Key")
_Call = TypeVar("_Call")
_NONE = np.zeros(0, np.float32)  # of a value that is set later
_MOST = 8  # different calls that are kept; a run has two recipes and two sets of samples


class TrainingCall:
    """The arguments of a call that trains the clients of some runs.

    ``training`` and ``updates`` are the structs; ``updates`` lacks the deltas. ``statuses`` is filled by the call, and so is
    ``sent``, uint32 [messages, their bytes, bytes of samples][client].
    """

    def __init__(self, joined: JoinedRounds, manifest: ModelManifest, threads: int, lanes: int) -> None:
        """Makes the structs with the values that do not change; ``fill`` sets the others."""
        recipe, clients = joined.rounds[0].recipe, len(joined.numbers)
        self.statuses, self.sent = np.zeros(clients, np.uint8), np.zeros((3, clients), np.uint32)
        self._numbers = np.zeros(clients, np.uint32)
        self._recipe = np.array(bytearray(recipe.pack()))  # the structs do not keep it alive
        self._phases = recipe.phases
        runs = [abi.RunClients(_NONE, len(each.clients.numbers), 0, 0) for each in joined.rounds]
        samples = [abi.Samples(None, None, _NONE, 1.0, sent) for sent in manifest.passes_sent(recipe.phases)]
        training = abi.Training(
            runs=runs,
            recipe=self._recipe,
            samples=samples,
            clients=self._numbers,
            client_count=clients,
            threads=threads,
            lanes=lanes,
            local_weights=None,
            statuses=self.statuses,
        )
        updates = abi.Updates(
            indices=np.zeros(0, np.int64),
            values=_NONE,
            residuals=None,
            messages=self.sent[0],
            message_bytes=self.sent[1],
            sample_bytes=self.sent[2] if joined.rounds[0].streamed else None,
            total=None,
        )
        self.training, self.updates = abi.Filled(training), abi.Filled(updates)
        self._runs = [abi.Filled(each, self.training.to.runs[i]) for i, each in enumerate(runs)]
        self._samples = [abi.Filled(each, self.training.to.samples[i]) for i, each in enumerate(samples)]

    def fill(self, joined: JoinedRounds) -> None:
        """Sets the values of a round. Raises ValueError for samples of another number of clients or rows."""
        self._numbers[:] = np.fromiter(joined.numbers, np.uint32, self._numbers.size)
        for run, each in zip(self._runs, joined.rounds, strict=True):
            run.fill(global_weights=each.global_weights, seed=each.clients.seed, round=each.clients.round)
        for samples, phase, batch in zip(self._samples, self._phases, joined.samples, strict=True):
            given, needed = batch.inputs.shape[:2], (self._numbers.size, phase.count)
            if given != needed:  # the library would read beyond the arrays
                raise ValueError(f"a phase needs samples of {needed} (clients, count), the batch has {given}")
            levels, inputs = batch.as_levels_or_inputs
            samples.fill(levels=levels, inputs=inputs, targets=batch.targets, scale=batch.scale)
        self.training.fill(local_weights=joined.local_weights)


class SamplesCall:
    """The arguments of a call in which clients make their own samples."""

    def __init__(self, clients: int, sample_set: SampleSet, count: int) -> None:
        self._numbers = np.zeros(clients, np.uint32)
        self.own = abi.Filled(abi.OwnSamples(self._numbers, clients, 0, 0, sample_set, count, _NONE, _NONE))

    def fill(self, seed: int, clients: Sequence[int], round_: int, inputs: Floats, targets: Floats) -> None:
        """Sets the values of a round."""
        self._numbers[:] = np.fromiter(clients, np.uint32, self._numbers.size)
        self.own.fill(seed=seed, round=round_, inputs=inputs, targets=targets)


class KeptCalls:
    """The latest calls of one kernels object. A call is valid until the next one of its kind is asked for."""

    def __init__(self, manifest: ModelManifest, threads: int, lanes: int) -> None:
        """Keeps none yet; the arguments are those of Kernels."""
        self._made = manifest, threads, lanes
        self._training: dict[tuple[int, bool, tuple[int, ...]], tuple[Recipe, TrainingCall]] = {}
        self._samples: dict[tuple[int, int, int], SamplesCall] = {}

    def training(self, joined: JoinedRounds) -> TrainingCall:
        """The call that trains these rounds. Raises ValueError as ``TrainingCall.fill``."""
        first = joined.rounds[0]
        # By identity, as hashing a recipe takes longer; it stays the same object, because it is kept.
        key = id(first.recipe), first.streamed, tuple([len(each.clients.numbers) for each in joined.rounds])
        kept = self._training.get(key)
        if kept is None:
            kept = _added(self._training, key, (first.recipe, TrainingCall(joined, *self._made)))
        kept[1].fill(joined)
        return kept[1]

    def samples(
        self, seed: int, clients: Sequence[int], round_: int, sample_set: SampleSet, inputs: Floats, targets: Floats
    ) -> SamplesCall:
        """The call that makes samples in two arrays, [clients, count, ...]."""
        key = len(clients), int(sample_set), inputs.shape[1]
        call = self._samples.get(key) or _added(self._samples, key, SamplesCall(len(clients), sample_set, inputs.shape[1]))
        call.fill(seed, clients, round_, inputs, targets)
        return call


def _added(kept: dict[_Key, _Call], key: _Key, call: _Call) -> _Call:
    """Keeps a call in place of the oldest one."""
    if len(kept) == _MOST:
        del kept[next(iter(kept))]
    kept[key] = call
    return call
