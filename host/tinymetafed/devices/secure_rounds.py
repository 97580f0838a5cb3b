"""Rounds with secure aggregation: each client on a board of its own, and updates that only their sum shows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from tinymetafed_codegen.optional_messages import LEAST_PARTICIPANTS

from ..federation.clients import Served
from ..learn import masked_sum
from ..learn.codecs.delta import Indices, Sparse
from .fleet import Fleet, FleetError
from .link.session import Session

Outcome = TypeVar("Outcome")

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

    def __init__(self, fleet: Fleet, seats: int) -> None:
        """Prepares a run.

        Args:
            fleet: The devices.
            seats: Most participants of a round, as the firmware was made for.
        """
        self._fleet = fleet
        self._run = int.from_bytes(os.urandom(4), "little")  # boards draw new keys for it
        self._attempt = 0
        self._lock = threading.Lock()  # of the number above, when boards answer at the same time
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
        self._forget_updates()
        while True:
            part.place(self._boards)
            ready = self._map(part, list(part.boards), partial(self._ready, train))
            if len(ready) < len(part.boards):
                continue  # without the boards that were lost, or with others in their place
            self._require(ready, part, round_)
            attempt = self._begin(ready.values())
            masked = self._map(part, list(ready), partial(self._pull, attempt, indices.size))
            if len(masked) < len(ready):
                continue
            own = self._map(part, list(ready), partial(self._open, attempt, indices.size))
            if len(own) == len(ready):
                break
            self._forget_updates()  # some boards have opened their masks and will mask these updates for no other sum
            if boards is not None:
                # In a sum without the lost board, its update would be what the two sums differ by.
                why = "a board was lost when the others had opened their masks; the round ends without an update"
                return [Served(None, "", False, part.notes.get(client, why)) for client in clients]
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
        served = self._fleet.map(clients, work, pinned=part.boards.__getitem__)
        outcomes = {}
        for client, each in zip(clients, served, strict=True):
            board = part.boards[client]
            if each.note:
                part.notes[client] = each.note
            if each.outcome is not None:
                outcomes[client], part.devices[client] = each.outcome, each.device
                continue
            if each.device:  # it came back, without its update
                part.notes.setdefault(client, f"{each.device}: was reset")
                self._restarts[board] = self._restarts.get(board, 0) + 1
            if not each.device or self._restarts[board] >= MAX_RESTARTS:
                part.lost.add(board)
        return outcomes

    def _ready(self, train: Callable[[Session, int], int], session: Session, client: int) -> str:
        """Makes a board ready to mask a client's update, unless it is; returns the board's name."""
        member = self._members.get(session.name)
        if member is None or member.session is not session:
            own = session.own_key(self._run)
            member = self._members[session.name] = _Member(session, own.key)
            with self._lock:
                self._attempt = max(self._attempt, own.attempt)
        if member.trained != client:
            member.trained = None
            member.token = train(session, client)
            member.trained = client
        return session.name

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
