"""A line to an honest board on which the host hears lies; what lies the tests tell is theirs."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS, wait_until
from small_runs import Quiet

from tinymetafed.devices import client_program, ports, shared_work
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport
from tinymetafed.devices.running import running
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.learn.codecs import delta
from tinymetafed.learn.tasks import Task
from tinymetafed.learn.weights import initial, sha256
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import ALL_REQUESTS
from tinymetafed_codegen.protocol import Delta, Dtype, ErrorAnswer, HelloAnswer, Progress, Record, State, Status
from tinymetafed_codegen.spec import Experiment

LIAR = "native#1"
# The answer that is sent instead: a message, the bytes of a payload, or None for nothing.
Lie = Callable[[Record, Frame], Record | bytes | None]


@dataclasses.dataclass
class Liar:
    """What the first board says instead of its answers; ``lied`` once it has.

    ``noise``: what comes instead of bytes then. ``early``: adds what comes before an answer; ``copies``: how often it comes.
    """

    lie: Lie
    noise: bytes = b""
    early: Callable[[Frame], bytes] = lambda frame: b""
    copies: int = 1
    round: int = -1  # of its latest turn
    lied: threading.Event = dataclasses.field(default_factory=threading.Event)


class LyingLine:
    """A line to an honest board whose answers are replaced on their way to the host."""

    def __init__(self, inner: Transport, boards: Boards) -> None:
        self.name, self.baud = inner.name, inner.baud
        self._inner, self._boards = inner, boards
        self._decoder = Decoder()

    def read(self, timeout: float) -> bytes:
        liar = self._boards.liar
        if liar.noise and liar.lied.is_set():
            return liar.noise
        return b"".join(map(self._said, self._decoder.feed(self._inner.read(timeout))))

    def _said(self, frame: Frame) -> bytes:
        answer = next(
            (each.answer for each in ALL_REQUESTS if each.type_id | protocol.ANSWER_BIT == frame.type_id), ErrorAnswer
        )
        honest = answer.unpack(frame.payload)
        try:
            said = self._boards.liar.lie(honest, frame)
        except PortError:
            self._boards.liar.lied.set()
            raise
        liar = self._boards.liar
        early = liar.early(frame)
        if said != honest or early or liar.copies > 1:
            liar.lied.set()
        if said is None:
            return early
        type_id = protocol.ERROR_TYPE if isinstance(said, ErrorAnswer) else frame.type_id
        return early + liar.copies * encode(type_id, frame.sequence, said if isinstance(said, bytes) else said.encode())

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def close(self) -> None:
        self._inner.close()


def changed(about: type[Record], **fields: Any) -> Lie:
    """Changes fields of every answer of a type."""
    return lambda answer, frame: dataclasses.replace(answer, **fields) if isinstance(answer, about) else answer  # type: ignore[type-var]


def refused(question: type[protocol.Request], status: int) -> Lie:
    """Refuses every request of a type."""
    payload = ErrorAnswer(Status.BAD_VALUE, 0).encode()
    said: Record | bytes = ErrorAnswer(Status(status), 7) if status in list(Status)[1:] else bytes([status]) + payload[1:]

    def lie(answer: Record, frame: Frame) -> Record | bytes:
        return said if frame.type_id == question.type_id | protocol.ANSWER_BIT else answer

    return lie


def in_dtype(dtype: Dtype) -> Lie:
    """Sends the right entries in a dtype that was not asked for."""

    def lie(answer: Record, frame: Frame) -> Record:
        if not isinstance(answer, Delta):
            return answer
        values = np.frombuffer(answer.data[-answer.count :], np.int8).astype(np.float32) * np.float32(answer.scale)
        data = answer.data[: -answer.count] + values.astype(delta.WIRE_TYPES[dtype]).tobytes()
        return dataclasses.replace(answer, dtype=dtype, scale=0.0, data=data)

    return lie


def after_a_silence(**fields: Any) -> Lie:
    """Another board answers Hello once the line was lost in the first round."""
    lost = False

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal lost
        if isinstance(answer, Delta) and not lost:
            lost = True
            raise PortError(LIAR, "the line went away")
        return dataclasses.replace(answer, **fields) if lost and isinstance(answer, HelloAnswer) else answer

    return lie


def in_turn(*steps: int) -> Lie:
    """Claims one step after the other, without end."""
    asked = 0

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal asked
        if not isinstance(answer, Progress) or frame.type_id != protocol.Await.type_id | protocol.ANSWER_BIT:
            return answer
        asked += 1
        return dataclasses.replace(answer, state=State.TRAINING, step=steps[asked % len(steps)])

    return lie


def payload(question: type[protocol.Request], change: Callable[[bytes], bytes]) -> Lie:
    """Changes the bytes of every answer to a type of request."""

    def lie(answer: Record, frame: Frame) -> Record | bytes:
        return change(frame.payload) if frame.type_id == question.type_id | protocol.ANSWER_BIT else answer

    return lie


def bytes_at(question: type[protocol.Request], at: int, value: bytes) -> Lie:
    """Replaces bytes of every answer to a type of request."""
    return payload(question, lambda said: said[:at] + value + said[at + len(value) :])


def entry(**fields: Callable[[Delta], Any]) -> Lie:
    """Changes fields of every delta, depending on it."""

    def lie(answer: Record, frame: Frame) -> Record:
        if not isinstance(answer, Delta):
            return answer
        return dataclasses.replace(answer, **{name: change(answer) for name, change in fields.items()})

    return lie


class Events(Quiet):
    """Keeps the events of a run."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def event(self, text: str) -> None:
        self.seen.append(text)


class Boards:
    """Three native boards, started once, of which the first may lie."""

    def __init__(self, devices: Sequence[Device], experiment: Experiment, data: Path | None) -> None:
        self.devices = devices
        self.liar = HONEST
        self.setup = set_up(experiment, "test", data)
        self.first = initial(self.setup.design.manifest, experiment.run.seed, experiment.model.init)

    @contextmanager
    def clients(self, events: Events, liar: Liar, count: int = 3) -> Iterator[DeviceClients]:
        """The clients of a run on boards that work again, whatever the last run has made of them."""
        self.liar = HONEST
        for device in self.devices:
            device.session.retries = 1
            device.rejoin(HUNG_SECONDS)
        sleeps = self.setup.strategy.experiment.run.deadline is not None
        with Fleet(self.devices[:count], on_event=events.event, patience=math.inf if sleeps else 0.3) as fleet:
            self.liar = liar
            try:
                yield DeviceClients(fleet, self.setup.strategy, self.setup.task)
            finally:
                self.liar = HONEST  # a line of boards that start later is a line of these, too

    def train(self, events: Events, liar: Liar, count: int = 3) -> list[Round]:
        """A run."""
        with self.clients(events, liar, count) as clients:
            return list(rounds(self.setup.strategy, self.setup.task, clients, self.first))


HONEST = Liar(lambda answer, frame: answer)
HONEST.lied.set()


@contextmanager
def starting(experiment: Experiment, data: Path | None) -> Iterator[Boards]:
    """Starts three boards."""
    honestly, federate = ports.Wrapping.wrap, client_program.federate
    made: list[Boards] = []

    def wrap(self: Any, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
        line = honestly(self, transport, device, reboot)
        return LyingLine(line, made[0]) if device == LIAR and made else line  # type: ignore[return-value]

    def wait(session: Session, task: Task, job: client_program.Job, *rest: Any) -> client_program.ClientResult:
        """In each round the others train nothing before the first board has lied, or has had a turn."""
        liar = made[0].liar
        if session.name != LIAR:
            wait_until(lambda: liar.lied.is_set() or liar.round >= job.round)
            return federate(session, task, job, *rest)
        try:
            return federate(session, task, job, *rest)
        finally:
            liar.round = job.round

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports.Wrapping, "wrap", wrap)
        patch.setattr(client_program, "federate", wait)
        patch.setattr(shared_work, "OVERDUE_SECONDS", 0.3)
        with running(design_of(experiment, "test"), ["native:3"], Events()) as fleet:
            made.append(Boards(fleet.devices, experiment, data))
            yield made[0]


def check(boards: Boards, liar: Liar, honest: str) -> None:
    """A run with a liar ends on the weights of honest boards, and says who has lied."""
    events = Events()
    done = boards.train(events, liar)
    assert sha256(done[-1].weights) == honest
    said = [*events.seen, *(part.note for each in done for part in each.contributions)]
    assert any(LIAR in line for line in said)
    assert {part.status for each in done for part in each.contributions} <= {"accepted", "redone"}
