"""Stand-ins for devices and their sessions, fleets of them, and the events of such a fleet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clocks import HUNG_SECONDS, HeldClock

from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.link_errors import DeviceSilent, PortError
from tinymetafed.federation.clients import Traffic


@dataclass
class Hello:
    unique_id: bytes


@dataclass(eq=False)
class StandIn:
    """A stand-in for a device and its session: raises each of ``trouble`` in turn (None: no error), and rejoins on request.

    It rejoins ``away`` seconds, by ``clock``, after the fleet first looks for it. It starts no work before ``gate`` is open.
    """

    url: str
    trouble: list[Exception | None] = field(default_factory=list)
    away: float = 0.0
    gate: threading.Event | None = None
    clock: HeldClock = field(default_factory=HeldClock)  # shared with the fleet
    served: list[int] = field(default_factory=list)
    configured: int = 0
    rejoined: int = 0
    inside: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    board: str = "stand-in"

    @property
    def session(self) -> StandIn:
        return self

    @property
    def hello(self) -> Hello:
        return Hello(self.url.encode())

    def configure(self, *_: Any) -> None:
        self.configured += 1

    def rejoin(self, patience: float, stop: Callable[[], bool]) -> str:
        waited = min(patience, self.away)
        self.clock.advance(waited)
        self.away -= waited
        if self.away:
            raise PortError(self.url, "does not exist; plug it in")
        self.rejoined += 1
        return "answers again"

    def may_be_back(self) -> bool:
        return False

    def work(self, item: int) -> int:
        self.inside += 1
        assert self.inside == 1, "a session serves one thread at a time"
        try:
            if self.gate is not None:
                assert self.gate.wait(HUNG_SECONDS), "hung"
            trouble = self.trouble.pop(0) if self.trouble else None
            if trouble is not None:
                raise trouble
            self.served.append(item)
            return item * item
        finally:
            self.inside -= 1


def work(session: Any, item: int) -> int:
    outcome: int = session.work(item)
    return outcome


def fleet(*stand_ins: StandIn, events: Events | None = None, patience: float = 0.2) -> Fleet:
    clock = HeldClock()
    for stand_in in stand_ins:
        stand_in.clock = clock
    heard = Events() if events is None else events
    made = Fleet(stand_ins, on_event=heard.hear, patience=patience, clock=clock)  # type: ignore[arg-type]
    MADE.append(made)
    return made


MADE: list[Fleet] = []  # by the test that runs; conftest.py closes them after it


class Events(list[str]):
    """Records the fleet's events; the first with given words opens a gate."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: list[tuple[str, threading.Event]] = []

    def gate(self, words: str) -> threading.Event:
        """A gate that the first event containing ``words`` opens."""
        self._gates.append((words, threading.Event()))
        return self._gates[-1][1]

    def hear(self, event: str) -> None:
        self.append(event)
        for words, gate in self._gates:
            if words in event:
                gate.set()


def silent(name: str = "x") -> DeviceSilent:
    return DeviceSilent(f"{name}: no answer to Train in 3.1 s; reset the board")
