"""One board among three lies in one of many ways: every run ends on the weights of honest boards, and says who lied."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import SINE, Quiet, sine

from tinymetafed.devices import device_clients, ports
from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport
from tinymetafed.devices.running import running
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.learn.codecs import delta
from tinymetafed.learn.strategies import Diverged
from tinymetafed.learn.weights import initial, sha256
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import ALL_REQUESTS
from tinymetafed_codegen.protocol import (
    Coding,
    Delta,
    Dtype,
    ErrorAnswer,
    HelloAnswer,
    LoadAnswer,
    Progress,
    Record,
    State,
    Status,
)

pytestmark = pytest.mark.usefixtures("built_once")
LIAR = "native#1"
ROUNDS = 4
Lie = Callable[[Record, Frame], Record | bytes]  # the answer that is sent instead: a message, or the bytes of a payload


class LyingLine:
    """A line to an honest board whose answers are replaced on their way to the host; ``lied`` once one was."""

    def __init__(self, inner: Transport, lie: Lie, lied: threading.Event) -> None:
        self.name, self.baud = inner.name, inner.baud
        self._inner, self._lie, self._lied = inner, lie, lied
        self._decoder = Decoder()

    def read(self, timeout: float) -> bytes:
        return b"".join(map(self._said, self._decoder.feed(self._inner.read(timeout))))

    def _said(self, frame: Frame) -> bytes:
        answer = next(
            (each.answer for each in ALL_REQUESTS if each.type_id | protocol.ANSWER_BIT == frame.type_id), ErrorAnswer
        )
        honest = answer.unpack(frame.payload)
        try:
            said = self._lie(honest, frame)
        except PortError:
            self._lied.set()
            raise
        if said != honest:
            self._lied.set()
        type_id = protocol.ERROR_TYPE if isinstance(said, ErrorAnswer) else frame.type_id
        return encode(type_id, frame.sequence, said if isinstance(said, bytes) else said.encode())

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


LIES: dict[str, Lie] = {
    "weights of 3e38": changed(Delta, scale=2e36),
    "weights of 1e5": changed(Delta, scale=4e3),
    "weights of 60,000 at first": changed(Delta, scale=1e3),
    "a delta in F32": in_dtype(Dtype.F32),
    "a delta in F16": in_dtype(Dtype.F16),
    "a scale of NaN": changed(Delta, scale=float("nan")),
    "a delta of another cycle": changed(Delta, token=999),
    "a delta of another rank": changed(Delta, rank=3),
    "more entries than asked for": changed(Delta, count=0xFFFF),
    "an index beyond the weights": changed(Delta, base=2**31),
    "another coding": changed(Delta, coding=Coding.RICE_20),
    "training failed: NOT_FINITE": changed(Progress, state=State.FAILED, fault=Status.NOT_FINITE),
    "training failed: OVERFLOW": changed(Progress, state=State.FAILED, fault=Status.OVERFLOW),
    "training failed: BAD_VALUE": changed(Progress, state=State.FAILED, fault=Status.BAD_VALUE),
    "step 5,000 of 80": changed(Progress, state=State.TRAINING, step=5000),
    "steps 0, 1, 0, 1": in_turn(0, 1),
    "steps 2, 1, 2, 1": in_turn(2, 1),
    "done at step 1": changed(Progress, state=State.DONE, step=1),
    "the progress of another cycle": changed(Progress, token=77),
    "back to IDLE": changed(Progress, state=State.IDLE),
    "more weights than were sent": changed(LoadAnswer, next_offset=2**31),
    "another board after a silence": after_a_silence(board=b"toaster"),
    "a board that the experiment is not built for after a silence": after_a_silence(board=b"uno"),
    "another model after a silence": after_a_silence(model_hash=b"otherone"),
    "another id after a silence": after_a_silence(unique_id=b"somebody"),
    "another protocol after a silence": after_a_silence(schema_hash=b"otherone"),
    **{
        f"{question.__name__} refused with {status}": refused(question, status)
        for question, statuses in {
            protocol.Configure: (Status.UNKNOWN_TYPE, Status.BAD_VALUE, 99),
            protocol.Load: (Status.BAD_VALUE, Status.TOO_LARGE, Status.NOT_FINITE, Status.BAD_LENGTH),
            protocol.Train: (Status.UNKNOWN_TYPE, Status.BAD_STATE, 0),
            protocol.Await: (Status.OVERFLOW, Status.BAD_TOKEN, 200),
            protocol.Pull: (Status.TOO_LARGE, Status.BAD_OFFSET),
        }.items()
        for status in statuses
    },
}


class Events(Quiet):
    """Keeps the events of a run."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def event(self, text: str) -> None:
        self.seen.append(text)


def train(url: str, events: Events) -> list[Round]:
    experiment = sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", "strategy.uplink=i8")
    setup = set_up(experiment, str(SINE), None)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    with running(design_of(experiment, str(SINE)), [url], events) as fleet:
        fleet.patience = 0.3
        return list(rounds(setup.strategy, setup.task, DeviceClients(fleet, setup.strategy, setup.task), first))


@pytest.fixture(scope="module")
def honest() -> str:
    """The weights after all rounds of honest boards."""
    return sha256(train("native:1", Events())[-1].weights)


def tell(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the first board lie; the others train nothing before it has."""
    lied, federate = threading.Event(), device_clients.federate
    honestly = ports.Wrapping.wrap

    def wrap(self: Any, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
        line = honestly(self, transport, device, reboot)
        return LyingLine(line, lie, lied) if device == LIAR else line  # type: ignore[return-value]

    def wait(session: Session, *job: Any) -> device_clients.ClientResult:
        if session.name != LIAR:
            assert lied.wait(HUNG_SECONDS), "hung"
        return federate(session, *job)

    monkeypatch.setattr(ports.Wrapping, "wrap", wrap)
    monkeypatch.setattr(device_clients, "federate", wait)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_run_with_a_liar_ends_on_the_weights_of_honest_boards(lie: Lie, honest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(lie, monkeypatch)
    events = Events()
    done = train("native:3", events)
    assert sha256(done[-1].weights) == honest
    said = [*events.seen, *(part.note for each in done for part in each.contributions)]
    assert any(LIAR in line for line in said)
    assert {part.status for each in done for part in each.contributions} <= {"accepted", "redone"}


def test_the_update_of_an_only_board_is_checked_before_its_round_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(changed(Delta, scale=4e3), monkeypatch)
    with pytest.raises(Diverged, match=rf"in round 0, which is not stored; .* came from client \d+ on {LIAR}; continue"):
        train("native:1", Events())
