"""Rounds with secure aggregation: each client on a board of its own, and updates that only their sum shows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from tinymetafed_codegen.optional_messages.secure_messages import LEAST_PARTICIPANTS, SECURE_REQUESTS

from ..federation.clients import Served
from ..learn import masked_sum
from ..learn.codecs.delta import Sparse
from ..learn.codecs.index_code import Indices
from .fleet import Fleet
from .link.link_errors import DeviceGarbled, DeviceRefused
from .link.session import Session
from .roster import FleetError

Outcome = TypeVar("Outcome")

_PRIME = 2**255 - 19
# Points of a small order, with which a shared secret is 0 whatever the private key is.
_LOW_ORDER = {
    *(0, 1, _PRIME - 1, _PRIME, _PRIME + 1),
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}
MAX_RESTARTS = 5  # of a board in a row, each after it had trained and before the sum was complete


@dataclass(eq=False)
class _Member:
    """What the host knows about a board as long as its connection lasts."""

    session: Session
    key: bytes
    keys: dict[int, bytes] = field(default_factory=dict)  # those that the board knows, by seat
    trained: int | None = None  # the client whose update of this round it has
    token: int = 0  # of that cycle


@dataclass(frozen=True)
class _Attempt:
    """The participants of one attempt: the public key at each of their seats."""

    number: int
    keys: Mapping[int, bytes]


class SecureRounds:
    """Trains the clients of each round on a board each, and has these boards mask and send their updates.

    A board that is lost is looked for as in any run; then another takes its place, if there is one. The others keep what they
    have trained, and all mask it anew. A round ends when all boards of one attempt have sent their masked updates, and after
    that have opened the masks of their own.
    """

    def __init__(self, fleet: Fleet, seats: int, *, noisy: bool = False) -> None:
        """Prepares a run.

        Args:
            fleet: The devices.
            seats: Most participants of a round, as the firmware was made for.
            noisy: A client that is trained again sends another update, because of its noise.
        """
        self._fleet = fleet
        self._noisy = noisy
        self._run = int.from_bytes(os.urandom(4), "little")  # boards draw new keys for it
        self._attempt = 0
        self._lock = threading.Lock()  # boards tell their keys at the same time, and each is compared with those of the others
        self._members: dict[str, _Member] = {}  # by the name of the board
        self._seats = [""] * seats  # names of boards; a board keeps its seat as long as no other needs it
        self._boards = [device.hello.unique_id for device in fleet.devices]  # those of the latest round first
        self._restarts: dict[bytes, int] = {}  # of each board, since it was last part of a sum

    def train(
        self,
        clients: Sequence[int],
        round_: int,
        indices: Indices,
        train: Callable[[Session, int], int],
        boards: Sequence[bytes] | None,
    ) -> list[Served[Sparse]]:
        """Trains each client once, and gets the masked updates of all that could be trained.

        Args:
            clients: Numbers of the clients.
            round_: Number of the round.
            indices: Indices of the entries that each update has, int64[k].
            train: Trains a client on a board from the round's weights to a frozen delta; returns the token of that cycle.
            boards: For each client number the unique id of its board; None if any device may train any client.

        Returns:
            For each client integers modulo 65536 as float32, in which only the masks are left that cancel in the sum over all
            clients that are not skipped.

        Raises:
            FleetError: Fewer than three clients could be trained.
            Error: As Fleet.map.
        """
        part = _Round(list(clients), boards, {board for board, times in self._restarts.items() if times >= MAX_RESTARTS})
        opened: set[int] = set()  # clients of an attempt in which some boards have opened their masks, and others not
        self._forget_updates()
        while True:
            part.place(self._boards)
            ready = self._map(part, list(part.boards), partial(self._ready, train))
            if len(ready) < len(part.boards):
                continue  # without the boards that were lost, or with others in their place
            self._require(ready, part, round_)
            if opened and (self._noisy or opened != set(ready)):
                # The two sums would differ by the updates of lost boards, whose masks may still come, or by noise alone.
                why = "a board was lost when others had opened their masks; the round ends without an update"
                return [Served(None, "", False, part.notes.get(client, why)) for client in clients]
            attempt = self._begin(ready.values())
            masked = self._map(part, list(ready), partial(self._pull, attempt, indices.size))
            if len(masked) < len(ready):
                continue
            own = self._map(part, list(ready), partial(self._open, attempt, indices.size))
            if len(own) == len(ready):
                break
            opened = set(ready)
            self._forget_updates()  # boards that have opened their masks will mask these updates for no other sum
        used = list(part.boards.values())
        self._boards = used + [board for board in self._boards if board not in used]
        for board in used:
            self._restarts.pop(board, None)
        return [self._served(part, client, indices, masked, own) for client in clients]

    def _served(
        self,
        part: _Round,
        client: int,
        indices: Indices,
        masked: Mapping[int, masked_sum.Integers],
        own: Mapping[int, masked_sum.Integers],
    ) -> Served[Sparse]:
        note = part.notes.get(client, "")
        if client not in masked:
            return Served(None, "", False, note or "no board is free to train it")
        update = Sparse(indices, (masked[client] - own[client]).astype(np.float32))
        return Served(update, part.devices[client], bool(note), note)

    # --- What all boards do at the same time ---

    def _map(self, part: _Round, clients: Sequence[int], work: Callable[[Session, int], Outcome | None]) -> dict[int, Outcome]:
        """The outcomes of a step for those clients of which the boards have done it; what the others have failed is noted."""
        served = self._fleet.map(clients, partial(_carefully, work), pinned=part.boards.__getitem__)
        outcomes = {}
        for client, each in zip(clients, served, strict=True):
            board = part.boards[client]
            if each.note:
                part.notes[client] = each.note
            if each.outcome is not None:
                outcomes[client], part.devices[client] = each.outcome, each.device
                continue
            if each.device:  # it came back, without its update
                part.notes.setdefault(client, f"{each.device}: lost its update")
                self._restarts[board] = self._restarts.get(board, 0) + 1
                if self._restarts[board] == MAX_RESTARTS:
                    self._fleet.on_event(f"{each.device}: lost its update {MAX_RESTARTS} times in a row; left out from now on")
            if not each.device or self._restarts[board] >= MAX_RESTARTS:
                part.lost.add(board)
        return outcomes

    def _ready(self, train: Callable[[Session, int], int], session: Session, client: int) -> str:
        """Makes a board ready to mask a client's update, unless it is; returns the board's name."""
        member = self._members.get(session.name)
        if member is None or member.session is not session:
            key = session.own_key(self._run)
            with self._lock:
                self._check_key(session.name, key)
                member = self._members[session.name] = _Member(session, key)
        if member.trained != client:
            member.trained = None
            member.token = train(session, client)
            member.trained = client
        return session.name

    def _check_key(self, name: str, key: bytes) -> None:
        """Raises DeviceGarbled for a key that the other boards would refuse."""
        coordinate = int.from_bytes(key, "little") & ~(1 << 255)
        copied = any(member.key == key for other, member in self._members.items() if other != name)
        if coordinate in _LOW_ORDER or copied:
            what = "is that of another board" if copied else "makes every secret 0"
            raise DeviceGarbled(f"{name}: its public key {key.hex()} {what}; reset the board, or leave it out")

    def _pull(self, attempt: _Attempt, count: int, session: Session, client: int) -> masked_sum.Integers | None:
        """The masked update; None from a board that was connected anew and has none."""
        member = self._member(session, client)
        if member is None:
            return None
        for seat, key in attempt.keys.items():
            if member.keys.get(seat) != key:
                session.take_seat(seat, key)
                member.keys[seat] = key
        return session.pull_masked(member.token, attempt.number, attempt.keys, count)

    def _open(self, attempt: _Attempt, count: int, session: Session, client: int) -> masked_sum.Integers | None:
        """The board's own mask, as ``_pull``."""
        member = self._member(session, client)
        return None if member is None else masked_sum.stream(session.open_mask(member.token, attempt.number), count)

    def _member(self, session: Session, client: int) -> _Member | None:
        member = self._members[session.name]
        return member if member.session is session and member.trained == client else None

    # --- Between these steps ---

    def _forget_updates(self) -> None:
        for member in self._members.values():
            member.trained = None

    def _begin(self, names: Iterable[str]) -> _Attempt:
        """A new attempt of these boards, each with a seat."""
        together = list(names)
        for name in together:
            if name not in self._seats:
                self._seats[next(i for i, other in enumerate(self._seats) if other not in together)] = name
        self._attempt += 1
        return _Attempt(self._attempt, {self._seats.index(name): self._members[name].key for name in together})

    def _require(self, ready: Mapping[int, str], part: _Round, round_: int) -> None:
        if len(ready) >= LEAST_PARTICIPANTS:
            return
        why = "; ".join(f"client {client}: {note}" for client, note in part.notes.items())
        raise FleetError(
            f"round {round_}: {len(ready)} of {len(part.clients)} clients could be trained, and a sum of fewer than "
            f"{LEAST_PARTICIPANTS} updates would show them{why and f' ({why})'}; connect more boards and continue the run"
        )


@dataclass(eq=False)
class _Round:
    """The state of one round: which board trains which client, and what went wrong."""

    clients: list[int]
    only: Sequence[bytes] | None  # for each client number the unique id of its board; None if any may train any
    lost: set[bytes]  # boards that cannot be used in this round
    boards: dict[int, bytes] = field(default_factory=dict)  # by client
    devices: dict[int, str] = field(default_factory=dict)  # URLs, by client
    notes: dict[int, str] = field(default_factory=dict)  # why a client was redone or skipped

    def place(self, known: Sequence[bytes]) -> None:
        """Gives each client a board of its own that is not lost, as far as there are any; placed ones stay where they are."""
        stay = {client: board for client, board in self.boards.items() if board not in self.lost}
        free = [board for board in known if board not in self.lost and board not in stay.values()]
        self.boards = {}
        for client in self.clients:
            if client in stay:
                self.boards[client] = stay[client]
            elif self.only is not None:
                if self.only[client] not in self.lost:
                    self.boards[client] = self.only[client]
            elif free:
                self.boards[client] = free.pop(0)


def _carefully(work: Callable[[Session, int], Outcome], session: Session, client: int) -> Outcome:
    """Does a step. A refusal is the board's own fault, as the host asks for nothing that a board should refuse."""
    try:
        return work(session, client)
    except DeviceRefused as refusal:
        if refusal.message in SECURE_REQUESTS:
            raise DeviceGarbled(str(refusal)) from None
        raise
