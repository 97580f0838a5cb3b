"""One client's part on one device: weights down, training, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinymetafed_codegen.protocol import Phase, Program, Progress, SampleSet

from .learn import delta
from .learn.delta import Sparse
from .learn.downlink import Segment
from .learn.tasks import Samples, Task
from .link.messages import Example
from .link.session import Session


@dataclass(frozen=True)
class ClientResult:
    """What a client sent back, and the device's last word on its training."""

    client: int
    delta: Sparse
    progress: Progress


@dataclass(frozen=True)
class Job:
    """A program to run on one client's data; ``draw`` says which of the client's samples."""

    program: Program
    phases: tuple[Phase, ...]
    seed: int
    client: int
    draw: int

    @property
    def steps(self) -> int:
        """Training steps of all phases."""
        return sum(phase.count * phase.passes for phase in self.phases)


def federate(session: Session, task: Task, job: Job, weights: list[Segment], n: int, k: int) -> ClientResult:
    """One meta-training round of one client: returns its Top-P% delta of k entries out of n. Raises LinkError, DeltaError."""
    token = session.next_round()
    session.load(token, weights)
    progress = run(session, task, job, token)
    try:
        sparse = delta.decode(session.pull(token, k), n=n, k=k, round=token)
    except delta.DeltaError as error:
        raise delta.DeltaError(
            f"{session.name}: its update is not believed: {error}; the weights are as before, reset the board"
        ) from None
    return ClientResult(job.client, sparse, progress)


def run(session: Session, task: Task, job: Job, token: int) -> Progress:
    """Runs a program to its end on the weights that are loaded under ``token``. Raises LinkError."""
    session.train(token, job.program, job.seed, job.client, job.draw)
    if task.on_device(SampleSet(job.phases[0].sample_set)):
        return session.await_done(token, job.steps)
    return session.stream(token, _stream(task, job))


def _stream(task: Task, job: Job) -> Iterator[Example]:
    """The samples in the order in which the device trains them: phase by phase, pass by pass."""
    for phase in job.phases:
        if phase.passes == 0:
            return
        samples = task.samples(job.client, job.draw, SampleSet(phase.sample_set), phase.count)
        for _ in range(phase.passes):
            yield from examples(samples)


def examples(samples: Samples) -> Iterator[Example]:
    """Samples as they travel: grey levels where the data have them, float32 otherwise."""
    inputs = samples.levels if samples.levels is not None else samples.inputs
    scale = samples.scale if samples.levels is not None else 1.0
    for target, values in zip(samples.targets, inputs, strict=True):
        yield Example(target, values, scale)
