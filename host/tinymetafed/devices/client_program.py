"""One client's program on a device: sends weights, trains, and receives the delta or predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.protocol import Phase, Program, Progress, Recipe, Selection, State, Status

from ..federation.clients import Adapted, TrainingFailed
from ..learn.codecs import coded_delta, delta, level_update
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.tasks import Samples, Task
from ..learn.weights import Floats
from ..wire.messages import Example
from .link.deadline import Deadline
from .link.session import Session


@dataclass(frozen=True)
class ClientResult:
    """A client's delta and the device's final progress report."""

    client: int
    delta: Sparse
    progress: Progress


@dataclass(frozen=True)
class Job:
    """A program to run on one client's data; seed, client and round determine the samples.

    ``shares_entries``: a random selection chooses the same entries for all clients of a round. ``codes_values``: the values of
    deltas are coded, ``strategy.uplink_coding``. ``levels``: how deltas travel as levels; None if they do not.
    """

    program: Program
    recipe: Recipe
    seed: int
    client: int
    round: int
    shares_entries: bool = False
    codes_values: bool = False
    levels: LevelFormat | None = None


def federate(
    session: Session, task: Task, job: Job, weights: list[Segment], n: int, layer_ends: Sequence[int] = ()
) -> ClientResult:
    """Runs one meta-training round of one client: Load, Train, Pull.

    Args:
        session: A device on which the program is configured.
        task: Task of the experiment.
        job: What to train.
        weights: The global weights, encoded.
        n: Number of global weights.
        layer_ends: For each global layer the index after its last weight, for a recipe that selects layer by layer.

    Returns:
        The client's delta of ``top_k`` entries, and the final progress.

    Raises:
        LinkError: The device failed.
        DeltaError: The device sent an invalid delta.
    """
    token = session.next_token()
    session.load(token, weights)
    progress = run(session, task, job, token)
    try:
        sparse = pulled(session, token, job.recipe, n, codes_values=job.codes_values, levels=job.levels)
        _check_selection(sparse, job, n, layer_ends)
    except delta.DeltaError as error:
        raise delta.DeltaError(
            f"{session.name}: its update is invalid and was discarded: {error}; the global weights are unchanged, "
            "reset the board"
        ) from None
    return ClientResult(job.client, sparse, progress)


def pulled(
    session: Session, token: int, recipe: Recipe, n: int, *, codes_values: bool = False, levels: LevelFormat | None = None
) -> Sparse:
    """The delta of a cycle that is trained, of ``n`` global weights. Raises LinkError, and DeltaError for an invalid delta."""
    k, dtype = recipe.top_k, recipe.uplink
    if levels is not None:
        return level_update.decode(session.pull_levels(token, k), n=n, k=k, levels=levels)
    if codes_values:
        return coded_delta.decode(session.pull_coded(token, k), n=n, k=k, dtype=dtype)
    return delta.decode(session.pull(token, k), n=n, k=k, token=token, dtype=dtype)


def adapt(session: Session, task: Task, job: Job, weights: list[Segment], test: Samples) -> Adapted:
    """One client's predictions on test samples before and after adaptation. Raises LinkError."""
    token = session.next_token()
    session.load(token, weights)
    before = _predict(session, task, test)
    if not job.recipe.phases:
        return Adapted(job.client, test, before, before)
    try:
        run(session, task, job, token)
    except TrainingFailed as failure:
        if failure.status not in (Status.NOT_FINITE, Status.OVERFLOW):
            raise
        # A client that diverges gets the worst score; the others go on.
        return Adapted(job.client, test, before, np.full_like(before, np.nan))
    return Adapted(job.client, test, before, _predict(session, task, test))


def run(session: Session, task: Task, job: Job, token: int) -> Progress:
    """Trains a program to its end, from the weights loaded under ``token``. Raises LinkError, TrainingFailed."""
    session.train(token, job.program, job.seed, job.client, job.round)
    if task.on_device(job.recipe.phases[0].sample_set):
        return session.await_done(token, job.recipe.steps)
    progress = _train_streamed(session, task, job, token)
    session.require_done(progress, job.recipe.steps)
    return progress


def _check_selection(sparse: Sparse, job: Job, n: int, layer_ends: Sequence[int]) -> None:
    """Raises DeltaError if entries came that were not asked for, as far as that does not depend on the values.

    A random selection says which entries; a selection by layer says how many of each layer.
    """
    if job.recipe.selection is Selection.RANDOM:
        drawn_for = 0 if job.shares_entries else job.client
        asked = delta.select_random(np.zeros(n, np.float32), sparse.indices.size, job.seed, drawn_for, job.round)
        if not np.array_equal(sparse.indices, asked):
            raise delta.DeltaError(
                "delta: its entries are not those of strategy.selection = 'random' for this client and round"
            )
    if job.recipe.selection is Selection.LAYER and layer_ends:
        came = np.diff(np.searchsorted(sparse.indices, layer_ends), prepend=0)
        shares = delta.layer_shares(sparse.indices.size, layer_ends)
        if not np.array_equal(came, shares):
            raise delta.DeltaError(
                f"delta: its layers have {came.tolist()} entries, strategy.selection = 'layer' asks for {shares.tolist()}"
            )


def _train_streamed(session: Session, task: Task, job: Job, token: int) -> Progress:
    """Streams the samples that the device needs, and waits while it trains those that it has kept."""
    phases, total = job.recipe.phases, job.recipe.steps
    deadline = Deadline(total, session.clock.monotonic())
    every_pass = [phase.passes for phase in phases]
    parts = _parts(phases, every_pass if session.manifest is None else session.manifest.passes_sent(phases))
    reached = 0
    for part in parts:
        samples = _stream(task, job, part.sent)
        progress = session.stream(token, samples, None, reached, total, deadline, part.end)
        progress = session.await_step(token, part.end, progress, total, deadline)
        if progress.state == State.TRAINING and progress.step < part.end:
            # The board was built for smaller sets or to keep nothing: it gets every sample.
            every = _stream(task, job, [(phase, phase.passes) for phase in phases])
            return session.stream(token, islice(every, progress.step, None), None, progress.step, total, deadline)
        reached = part.end
    return progress


@dataclass(frozen=True)
class _Part:
    """Phases whose samples are sent without a pause, with the passes that are sent; ``end``: the step that then is reached."""

    sent: tuple[tuple[Phase, int], ...]
    end: int


def _parts(phases: Sequence[Phase], sent: Sequence[int]) -> list[_Part]:
    """The phases in parts: a part ends where the device has trained what it has kept and needs samples again."""
    parts: list[_Part] = []
    begun: list[tuple[Phase, int]] = []
    end = 0
    for phase, passes, following in zip(phases, sent, [*sent[1:], 1], strict=True):
        begun.append((phase, passes))
        end += phase.steps
        if (passes < phase.passes and following) or phase is phases[-1]:
            parts.append(_Part(tuple(begun), end))
            begun = []
    return parts


def _stream(task: Task, job: Job, sent: Sequence[tuple[Phase, int]]) -> Iterator[Example]:
    """The samples in the order in which the device trains them: phase by phase, pass by pass. ``sent``: phases and passes."""
    for phase, passes in sent:
        if passes:
            samples = task.samples(job.client, job.round, phase.sample_set, phase.count)
        for _ in range(passes):
            yield from examples(samples)


def examples(samples: Samples) -> Iterator[Example]:
    """Samples as they are sent: inputs as uint8 levels where the data have them, float32 otherwise."""
    inputs = samples.levels if samples.levels is not None else samples.inputs
    scale = samples.scale if samples.levels is not None else 1.0
    for target, values in zip(samples.targets, inputs, strict=True):
        yield Example(target, values, scale)


def _predict(session: Session, task: Task, test: Samples) -> Floats:
    if test.levels is not None:
        return session.predict(test.levels, task.output_size, test.scale)
    return session.predict(test.inputs, task.output_size)
