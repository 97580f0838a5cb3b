"""A gateway: answers the server's messages with the work of its own boards."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, process_time
from typing import Protocol

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import Status

from ..federation.clients import DeviceFacts, Served, Traffic, TrainingFailed
from ..federation.sums import Share
from ..learn import fixed_sum
from ..learn.codecs import downlink
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.strategies import Strategy
from ..learn.weights import Floats
from .gateway_fields import FieldReader, GatewayMessageError
from .gateway_messages import (
    Failed,
    ForeignMessage,
    Joined,
    Kind,
    Shape,
    Trained,
    TrainOrder,
    opened,
    read_join,
    read_order,
    sealed,
)
from .terms import Terms


class Boards(Protocol):
    """What a gateway needs of its boards; devices.device_clients.DeviceClients has it."""

    @property
    def traffic(self) -> Traffic:
        """All bytes on their lines so far."""

    @property
    def devices(self) -> list[DeviceFacts]:
        """All boards."""

    @property
    def dropped(self) -> Collection[str]:
        """Unique ids of boards that get no work any more, without those that ``exclude`` named."""

    def exclude(self, board: str, why: str) -> None:
        """See Trainers."""

    def readmit(self, board: str) -> None:
        """Gives a board work again that was excluded."""

    def readmit_all(self) -> None:
        """Gives all boards work again, as a new run does."""

    def train_some(
        self,
        download: list[Segment],
        weights: Floats,
        clients: Sequence[int],
        round_: int,
        boards: Mapping[int, bytes] | None,
        of: int,
    ) -> list[Served[Sparse]]:
        """See DeviceClients."""


def shape_of(strategy: Strategy) -> Shape:
    """What a reader of messages must know of an experiment."""
    return Shape(strategy.n_global, strategy.training_recipe().top_k, strategy.spec.downlink_levels)


@dataclass
class Gateway:
    """The boards of a machine, and what it knows of the run.

    ``name``: by which people tell gateways apart. ``on_run``: called when a server begins a run. ``on_round``: called with the
    number of each round that is done and its number of clients.
    """

    name: str
    clients: Boards
    strategy: Strategy
    terms: Terms
    on_event: Callable[[str], None] = lambda line: None
    on_run: Callable[[], None] = lambda: None
    on_round: Callable[[int, int], None] = lambda round_, clients: None
    session: int = field(default_factory=lambda: secrets.randbits(63))
    _run: int | None = field(default=None, init=False)  # that it was asked to join last
    _excluded: frozenset[bytes] = field(default=frozenset(), init=False)  # boards, by the latest order

    def answer(self, content: bytes) -> bytes:
        """The answer to a message of the server, whatever it contains; an error is an answer too."""
        shape = shape_of(self.strategy)
        devices = self.clients.devices
        answer: Joined | Trained | Failed
        try:
            kind, identity, reader = opened(content)
            if kind is Kind.JOIN:
                answer = self._join(reader)
            elif identity != self.terms.identity:
                raise ForeignMessage("the message is about a run of another experiment; start this gateway with its experiment")
            elif kind is Kind.TRAIN:
                answer = self._train(read_order(reader, shape))
            else:
                raise GatewayMessageError(f"message: a server does not send {kind.name}")
        except GatewayMessageError as error:
            self.on_event(f"the server's message is refused: {error}")
            answer = Failed(f"refused the server's message: {error}")
        except TrainingFailed as error:
            answer = Failed(str(error), error.status)
        except fixed_sum.TooLarge as error:
            answer = Failed(str(error), Status.OVERFLOW)
        except Error as error:
            self.on_event(str(error))
            answer = Failed(str(error))
        return sealed(answer, self.terms.identity, shape, [device.url for device in devices])

    def _join(self, reader: FieldReader) -> Joined:
        asked = read_join(reader)
        wrong, is_new, self._run = asked.terms.difference(self.terms), asked.run != self._run, asked.run
        if not wrong and is_new:  # boards that were not used any more in an earlier run get another chance
            self.clients.readmit_all()
            self._excluded = frozenset()
            self.on_run()
        if not wrong:
            self.on_event(f"joined a run with {len(self.clients.devices)} boards")
        elif is_new:  # the server asks again now and then
            self.on_event(f"a server asks for a run of another experiment: this gateway {wrong}")
        devices, unused = tuple(self.clients.devices), self.clients.dropped
        dropped = tuple(place for place, device in enumerate(devices) if device.unique_id in unused)
        return Joined(self.name, self.session, self.terms, devices, dropped, self.clients.traffic)

    def _train(self, order: TrainOrder) -> Trained | Failed:
        if order.session != self.session:
            return Failed("this gateway was started again since it joined the run", stale=True)
        began = monotonic()
        self._exclude(dict(order.excluded))
        weights = downlink.decode(order.download, self.strategy.n_global)
        download = list(order.download)
        boards = None if order.boards is None else dict(zip(order.clients, order.boards, strict=True))
        served = self.clients.train_some(download, weights, order.clients, order.round, boards, order.of)
        sum_ = None
        if order.exponent is not None:
            updates = [each.outcome for each in served if each.outcome is not None]
            sum_ = fixed_sum.total(updates, self.strategy.n_global, order.exponent)
        self.on_round(order.round, len(order.clients))
        took, spent = int(1e6 * (monotonic() - began)), int(1e6 * process_time())
        if sum_ is None:
            return Trained(tuple(served), (), None, self.clients.traffic, took, spent)
        shares = tuple(each.of(lambda update: Share(update.indices.size, "")) for each in served)
        return Trained((), shares, sum_, self.clients.traffic, took, spent)

    def _exclude(self, boards: Mapping[bytes, str]) -> None:
        """Excludes just these boards, each for a reason; others that were excluded, by another run, come back."""
        for board in sorted(self._excluded - boards.keys()):
            self.clients.readmit(board.hex())
        for board in boards.keys() - self._excluded:
            self.clients.exclude(board.hex(), boards[board])
        self._excluded = frozenset(boards)
