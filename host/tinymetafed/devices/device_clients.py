"""Clients on devices: send weights, train, receive the delta or predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np

from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.protocol import Phase, Program, Progress, Recipe, Selection, State, Status

from ..federation.audit import Audit
from ..federation.board_state import BoardState
from ..federation.clients import Adapted, DeviceFacts, Doubtful, Served, Traffic, TrainingFailed
from ..federation.quorum import Closing
from ..federation.rounds import digest
from ..learn.codecs import coded_delta, delta, level_update
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.strategies import Strategy
from ..learn.tasks import Samples, Task
from ..learn.weights import Floats
from ..wire.messages import Example
from .board_stores import problem
from .device import Device
from .fleet import Fleet
from .link.deadline import Deadline
from .link.session import Session
from .secure_rounds import SecureRounds
from .spot_checks import SpotCheck

# Times the largest weight that one client's update may change a weight by: training that learns moves far less, training that
# diverges soon far more. Where a second board can be asked, that costs no more than its time.
LIKELY = 16.0
LIKELY_ALONE = 16384.0  # where no other board can train the client, so that its update would be left out


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


@dataclass(frozen=True)
class Bound:
    """How far one client's update may change a global weight before another board is asked for the same update.

    ``step``: factor from an entry of a delta to the change of the weight. ``most``: the largest change.
    """

    step: float
    most: float

    @classmethod
    def of(cls, weights: Floats, step: float, likely: float) -> Self:
        """The bound for updates of ``weights``, float32[n_global]: ``likely`` times the largest of them, or of 1."""
        return cls(step, likely * max(1.0, float(np.abs(weights).max(initial=np.float32(0)))))

    def exceeded(self, update: Sparse) -> str:
        """What is unlikely in an update, as the end of a sentence; "" if nothing is."""
        change = self.step * float(np.abs(update.values).max(initial=np.float32(0)))
        return f"changes a weight by {change:.3g}, expected {self.most:.3g} at most" if change > self.most else ""


class DeviceClients:
    """The clients of an experiment (clients.Clients); each is trained by any free device of a fleet."""

    def __init__(self, fleet: Fleet, strategy: Strategy, task: Task) -> None:
        self.fleet = fleet
        self._strategy = strategy
        self._task = task
        facts = strategy.secure_sum
        self._secure = None if facts is None else SecureRounds(fleet, facts.seats, noisy=strategy.experiment.privacy.is_private)

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, those of lost sessions included."""
        return self.fleet.traffic

    @property
    def devices(self) -> list[DeviceFacts]:
        """All devices, those that are not connected at the moment included."""
        return [_describe(device) for device in self.fleet.devices]

    @property
    def states(self) -> list[BoardState]:
        """What every device is doing, for those who watch."""
        return self.fleet.states

    def exclude(self, board: str, why: str) -> None:
        """See Clients."""
        self.fleet.exclude(bytes.fromhex(board), why)

    @property
    def dropped(self) -> set[str]:
        """Unique ids, in hexadecimal, of boards that get no work any more, without those that ``exclude`` named."""
        return {board.hex() for board in self.fleet.dropped}

    def readmit(self, board: str) -> None:
        """Gives a board work again that was excluded; ``board``: its unique id, in hexadecimal."""
        self.fleet.readmit(bytes.fromhex(board))

    def readmit_all(self) -> None:
        """Gives all boards work again, as a new run does."""
        self.fleet.readmit_all()

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """See Clients; a client whose board is lost is skipped."""
        download = self._strategy.download(weights)
        if self._secure is not None:
            recipe = self._strategy.training_recipe()
            self.fleet.configure(Program.TRAIN, recipe)
            return self._train_together(self._secure, clients, round_, recipe, download, boards)
        own = None if boards is None else {client: boards[client] for client in clients}
        return self.train_some(download, weights, clients, round_, own, len(clients))

    def train_some(
        self,
        download: list[Segment],
        weights: Floats,
        clients: Sequence[int],
        round_: int,
        boards: Mapping[int, bytes] | None,
        of: int,
    ) -> list[Served[Sparse]]:
        """As ``train``, for some of the ``of`` clients of a round, from weights that are encoded already.

        Args:
            download: The weights, encoded.
            weights: float32[n_global], from which an update should not lead far away.
            clients: Numbers of the clients.
            round_: Number of the round.
            boards: For each of these clients the unique id of its board; None if any device may train any client.
            of: Number of clients of the whole round.

        Returns:
            The clients' deltas, in the order of ``clients``.

        Raises:
            Error: As ``train``.
        """
        strategy, recipe = self._strategy, self._strategy.training_recipe()
        self.fleet.configure(Program.TRAIN, recipe)
        private = strategy.experiment.privacy.is_private
        likely = LIKELY if boards is None else LIKELY_ALONE
        bound = Bound.of(weights, float(strategy.alpha(round_)) / of, likely)

        def one(session: Session, client: int) -> Sparse:
            job = Job(
                Program.TRAIN,
                recipe,
                strategy.experiment.run.seed,
                client,
                round_,
                shares_entries=private,
                codes_values=strategy.spec.codes_values,
                levels=strategy.spec.uplink_levels,
            )
            trained = federate(session, self._task, job, download, strategy.n_global, strategy.layer_ends)
            self._watch_store(session)
            if wrong := bound.exceeded(trained.delta):
                text = f"{session.name}: its update of client {client} {wrong}; reset the board, or leave it out"
                if boards is not None:  # no other board can be asked
                    raise delta.DeltaError(text)
                # The noise of two boards differs, so that they can only agree that the update is large.
                raise Doubtful(text, trained.delta, "large" if private else digest(trained.delta))
            return trained.delta

        share = strategy.spec.audit
        audit = Audit(share, digest) if share else None
        pinned = None if boards is None else boards.__getitem__
        closing = self._closing(round_, len(clients))
        return self.fleet.map(clients, one, pinned=pinned, kind=recipe, audit=audit, closing=closing)

    def _closing(self, round_: int, clients: int) -> Closing | None:
        """When a round of so many clients ends without some of them; None if it waits for all."""
        run = self._strategy.experiment.run
        seconds = run.deadline_seconds
        return None if seconds is None else Closing(round_, run.quorum_of(clients), seconds)

    def _train_together(
        self,
        secure: SecureRounds,
        clients: Sequence[int],
        round_: int,
        recipe: Recipe,
        download: list[Segment],
        boards: Sequence[bytes] | None,
    ) -> list[Served[Sparse]]:
        """As ``train``, with secure aggregation."""
        n, seed = self._strategy.n_global, self._strategy.experiment.run.seed
        shared = delta.select_random(np.zeros(n, np.float32), recipe.top_k, seed, 0, round_)

        def one(session: Session, client: int) -> int:
            token = session.next_token()
            session.load(token, download)
            run(session, self._task, Job(Program.TRAIN, recipe, seed, client, round_), token)
            self._watch_store(session)
            return token

        return secure.train(clients, round_, shared, one, boards)

    def _watch_store(self, session: Session) -> None:
        """Reports a store that no longer saves, once."""
        if session.store is None:
            return
        was = session.store.state
        now = session.refresh()
        if now.state != was and (wrong := problem(now.state)):
            self.fleet.on_event(f"{session.name}: {wrong}")

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
        *,
        keep: bool = False,
    ) -> list[Adapted]:
        """See Clients. ``keep``: client i is adapted on device i, which saves its weights unless they diverged."""
        strategy, recipe = self._strategy, self._strategy.adaptation_recipe(count)
        self.fleet.configure(Program.ADAPT, recipe)
        download = strategy.download(weights)
        ended: set[int] = set()

        def end(client: int) -> None:
            if client not in ended:  # a client may be adapted on a second board
                ended.add(client)
                on_client()

        def one(session: Session, client: int) -> Adapted:
            job = Job(Program.ADAPT, recipe, strategy.experiment.run.seed, client, 0)
            test = self._task.test_samples(client, 0) if test_of is None else test_of(client)
            adapted = adapt(session, self._task, job, download, test)
            if adapted.after.size and np.isnan(adapted.after).all() and not keep:
                end(client)
                raise Doubtful(f"{session.name}: training of client {client} failed", adapted, "failed")
            if keep and (wrong := _keep(session, adapted, self._task.classes_of(client))):
                self.fleet.on_event(f"{session.name}: {wrong}")
            end(client)
            return adapted

        devices = self.fleet.devices if keep else []
        own = {client: device.hello.unique_id for client, device in zip(clients, devices, strict=False)}
        # Without `keep` any device may serve an unseen client, so none is skipped.
        served = self.fleet.map(clients, one, pinned=own.get, kind=recipe)
        if not keep:
            served = SpotCheck(self.fleet, one, _predictions, recipe).confirmed(clients, served)
        return [each.outcome for each in served if each.outcome is not None]


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
    parts = _parts(phases, [phase.passes for phase in phases] if session.kept is None else session.kept.passes_sent(phases))
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


def _predictions(adapted: Adapted) -> str:
    """The digest of a client's predictions before and after adaptation."""
    return hashlib.sha256(adapted.before.tobytes() + adapted.after.tobytes()).hexdigest()


def _keep(session: Session, adapted: Adapted, names: Sequence[str]) -> str:
    """Makes the board save what it has adapted; returns why it has not, as the end of a sentence, "" if it has."""
    if np.isnan(adapted.after).all():
        return (
            f"client {adapted.client} diverged, its weights are not kept, and those that were kept before stay; lower "
            "adaptation.full_learning_rate or adaptation.local_learning_rate"
        )
    return problem(session.keep(names).state)


def _predict(session: Session, task: Task, test: Samples) -> Floats:
    if test.levels is not None:
        return session.predict(test.levels, task.output_size, test.scale)
    return session.predict(test.inputs, task.output_size)


def _describe(device: Device) -> DeviceFacts:
    hello = device.hello
    return DeviceFacts(device.url, device.board, hello.unique_id.hex(), hello.receive_window)
