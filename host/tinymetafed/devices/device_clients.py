"""Clients on a fleet of devices: rounds of training with audits, deadlines or secure aggregation, and adaptations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinymetafed_codegen.protocol import Program, Recipe

from ..federation.audit import Audit
from ..federation.board_state import BoardState
from ..federation.clients import Adapted, DeviceFacts, Doubtful, Served, Traffic
from ..federation.quorum import Closing
from ..federation.rounds import digest
from ..learn.codecs import delta
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.strategies import Strategy
from ..learn.tasks import Samples, Task
from ..learn.weights import Floats
from . import client_program
from .board_stores import problem
from .device import Device
from .fleet import Fleet
from .link.session import Session
from .secure_rounds import SecureRounds
from .spot_checks import SpotCheck

# Times the largest weight that one client's update may change a weight by: training that learns moves far less, training that
# diverges soon far more. Where a second board can be asked, that costs no more than its time.
LIKELY = 16.0
LIKELY_ALONE = 16384.0  # where no other board can train the client, so that its update would be left out


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
        download = self._strategy.downloaded(weights)
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
            job = client_program.Job(
                Program.TRAIN,
                recipe,
                strategy.experiment.run.seed,
                client,
                round_,
                shares_entries=private,
                codes_values=strategy.spec.codes_values,
                levels=strategy.spec.uplink_levels,
            )
            trained = client_program.federate(session, self._task, job, download, strategy.n_global, strategy.layer_ends)
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
            client_program.run(session, self._task, client_program.Job(Program.TRAIN, recipe, seed, client, round_), token)
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
        download = strategy.downloaded(weights)
        ended: set[int] = set()

        def end(client: int) -> None:
            if client not in ended:  # a client may be adapted on a second board
                ended.add(client)
                on_client()

        def one(session: Session, client: int) -> Adapted:
            job = client_program.Job(Program.ADAPT, recipe, strategy.experiment.run.seed, client, 0)
            test = self._task.test_samples(client, 0) if test_of is None else test_of(client)
            adapted = client_program.adapt(session, self._task, job, download, test)
            if adapted.after.size and not np.isfinite(adapted.after).any() and not keep:
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


def _predictions(adapted: Adapted) -> str:
    """The digest of a client's predictions before and after adaptation."""
    return hashlib.sha256(adapted.before.tobytes() + adapted.after.tobytes()).hexdigest()


def _keep(session: Session, adapted: Adapted, names: Sequence[str]) -> str:
    """Makes the board save what it has adapted; returns why it has not, as the end of a sentence, "" if it has."""
    if not np.isfinite(adapted.after).any():
        return (
            f"client {adapted.client} diverged, its weights are not kept, and those that were kept before stay; lower "
            "adaptation.full_learning_rate or adaptation.local_learning_rate"
        )
    return problem(session.keep(names).state)


def _describe(device: Device) -> DeviceFacts:
    hello = device.hello
    return DeviceFacts(device.url, device.board, hello.unique_id.hex(), hello.receive_window)
