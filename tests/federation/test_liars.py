"""One board among three lies in one of many ways: every run ends on the weights of honest boards, and says who lied."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import DATA, Quiet, needs_data, omniglot, sine

from tinymetafed.devices import device_clients, ports
from tinymetafed.devices import fleet as fleet_module
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport
from tinymetafed.devices.running import running
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.learn.codecs import delta
from tinymetafed.learn.strategies import Diverged
from tinymetafed.learn.tasks import HELD_OUT
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
from tinymetafed_codegen.spec import Experiment

LIAR = "native#1"
ROUNDS = 4
Lie = Callable[[Record, Frame], Record | bytes]  # the answer that is sent instead: a message, or the bytes of a payload


@dataclasses.dataclass
class Liar:
    """What the first board says instead of its answers; ``lied`` once it has. ``noise``: what comes instead of bytes then."""

    lie: Lie
    noise: bytes = b""
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
        if said != honest:
            self._boards.liar.lied.set()
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


LIES: dict[str, Lie] = {
    "a scale of infinity": changed(Delta, scale=float("inf")),
    "a negative scale": entry(scale=lambda delta: -delta.scale),
    "no entries": changed(Delta, count=0),
    "no data": changed(Delta, data=b""),
    "one entry too few": entry(count=lambda delta: delta.count - 1),
    "one entry too many": entry(count=lambda delta: delta.count + 1),
    "a byte left over": entry(data=lambda delta: delta.data + b"\0"),
    "a byte too few": entry(data=lambda delta: delta.data[:-1]),
    "a value of -128": entry(data=lambda delta: delta.data[:-1] + b"\x80"),
    "all indices moved beyond the end": entry(base=lambda delta: delta.base + 10_000),
    "another token in the delta": entry(token=lambda delta: delta.token + 1),
    "a delta in a dtype that does not exist": bytes_at(protocol.Pull, protocol.Delta.place("dtype"), b"\x77"),
    "a delta in a coding that does not exist": bytes_at(protocol.Pull, protocol.Delta.place("coding"), b"\x77"),
    "done at step 0": changed(Progress, state=State.DONE, step=0),
    "done beyond the last step": changed(Progress, state=State.DONE, step=2**32 - 1),
    "failed without a fault": changed(Progress, state=State.FAILED, fault=Status.OK),
    "failed: TOO_LARGE": changed(Progress, state=State.FAILED, fault=Status.TOO_LARGE),
    "a state that does not exist": bytes_at(protocol.Train, Progress.place("state"), b"\x63"),
    "a fault that does not exist": bytes_at(protocol.Await, Progress.place("fault"), b"\xee"),
    "step 0 for ever": in_turn(0),
    "one step more each time, then back": in_turn(*range(80)),
    "no weight arrives": changed(LoadAnswer, next_offset=0),
    "an odd number of weights arrives": changed(LoadAnswer, next_offset=1),
    "a window of 65,535 bytes after a silence": after_a_silence(receive_window=0xFFFF),
    "a window of 1 byte after a silence": after_a_silence(receive_window=1),
    "a name of escape sequences after a silence": after_a_silence(board=b"\x1b[2J\x1b[31m"),
    "no name after a silence": after_a_silence(board=b""),
    **{
        f"{question.__name__} answered with {what}": payload(question, change)
        for question in (protocol.Load, protocol.Train, protocol.Await, protocol.Pull)
        for what, change in {
            "nothing": lambda said: b"",
            "a byte too many": lambda said: said + b"\xff",
            "200 zeros": lambda said: bytes(200),
        }.items()
    },
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
            protocol.Load: (Status.BAD_VALUE, Status.TOO_LARGE, Status.NOT_FINITE, Status.BAD_LENGTH, Status.BAD_OFFSET, 77),
            protocol.Train: (Status.UNKNOWN_TYPE, Status.BAD_STATE, Status.BAD_VALUE, 0),
            protocol.Await: (Status.OVERFLOW, Status.BAD_TOKEN, Status.BAD_LENGTH, 200),
            protocol.Pull: (Status.TOO_LARGE, Status.BAD_OFFSET, Status.NOT_FINITE, 0),
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


NOISES = {
    "a flood of whole frames": encode(0x7F, 1, bytes(200)) * 50,
    "a flood of damaged frames": (b"\x02\x01" * 20 + b"\0") * 50,
    "garbage without a zero": b"\xff" * 4096,
    "text": b"panic at 0x4000\r\n" * 20,
}


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
        with Fleet(self.devices[:count], on_event=events.event, patience=0.3) as fleet:
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


@pytest.fixture(scope="module")
def boards(built_once_for_module: None) -> Iterator[Boards]:
    experiment = sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", "strategy.uplink=i8")
    with starting(experiment, None) as started:
        yield started


@pytest.fixture(scope="module")
def streamed(built_once_for_module: None) -> Iterator[Boards]:
    experiment = omniglot(
        "run.rounds=1", "run.devices_per_round=3", "strategy.selection=layer", "task.support=5", "task.query=5"
    )
    with starting(experiment, DATA) as started:
        yield started


@contextmanager
def starting(experiment: Experiment, data: Path | None) -> Iterator[Boards]:
    """Starts three boards."""
    honestly, federate = ports.Wrapping.wrap, device_clients.federate
    made: list[Boards] = []

    def wrap(self: Any, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
        line = honestly(self, transport, device, reboot)
        return LyingLine(line, made[0]) if device == LIAR and made else line  # type: ignore[return-value]

    def wait(session: Session, *job: Any) -> device_clients.ClientResult:
        """The others train nothing before the first board has lied."""
        if session.name != LIAR:
            assert made[0].liar.lied.wait(HUNG_SECONDS), "hung"
        return federate(session, *job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports.Wrapping, "wrap", wrap)
        patch.setattr(device_clients, "federate", wait)
        patch.setattr(fleet_module, "OVERDUE_SECONDS", 0.3)
        with running(design_of(experiment, "test"), ["native:3"], Events()) as fleet:
            made.append(Boards(fleet.devices, experiment, data))
            yield made[0]


@pytest.fixture(scope="module")
def honest(boards: Boards) -> str:
    """The weights after all rounds of honest boards."""
    return sha256(boards.train(Events(), HONEST)[-1].weights)


def check(boards: Boards, liar: Liar, honest: str) -> None:
    """A run with a liar ends on the weights of honest boards, and says who has lied."""
    events = Events()
    done = boards.train(events, liar)
    assert sha256(done[-1].weights) == honest
    said = [*events.seen, *(part.note for each in done for part in each.contributions)]
    assert any(LIAR in line for line in said)
    assert {part.status for each in done for part in each.contributions} <= {"accepted", "redone"}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_run_with_a_liar_ends_on_the_weights_of_honest_boards(boards: Boards, lie: Lie, honest: str) -> None:
    check(boards, Liar(lie), honest)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_a_run_with_endless_noise_ends_on_the_weights_of_honest_boards(boards: Boards, noise: bytes, honest: str) -> None:
    check(boards, Liar(payload(protocol.Train, lambda said: b""), noise), honest)


def test_the_update_of_an_only_board_is_checked_before_its_round_is_stored(boards: Boards) -> None:
    with pytest.raises(Diverged, match=rf"in round 0, which is not stored; .* came from client \d+ on {LIAR}; continue"):
        boards.train(Events(), Liar(changed(Delta, scale=4e3)), count=1)


def of_sample(**fields: Callable[[Progress], Any]) -> Lie:
    """Changes fields of every answer to a Sample."""

    def lie(answer: Record, frame: Frame) -> Record:
        if not isinstance(answer, Progress) or frame.type_id != protocol.Sample.type_id | protocol.ANSWER_BIT:
            return answer
        return dataclasses.replace(answer, **{name: change(answer) for name, change in fields.items()})

    return lie


STREAMED_LIES: dict[str, Lie] = {
    "a step beyond the samples": of_sample(step=lambda progress: progress.step + 7),
    "no step": of_sample(step=lambda progress: 0),
    "one step back": of_sample(step=lambda progress: max(0, progress.step - 2)),
    "another cycle": of_sample(token=lambda progress: progress.token + 1),
    "failed": of_sample(state=lambda progress: State.FAILED, fault=lambda progress: Status.NOT_FINITE),
    "done at once": of_sample(state=lambda progress: State.DONE),
    "the entries of another layer": entry(base=lambda delta: delta.base + 1),
    **{f"Sample refused with {status}": refused(protocol.Sample, status) for status in (6, 9, 5, 99)},
}


@pytest.fixture(scope="module")
def honestly_streamed(streamed: Boards) -> str:
    """The weights of honest boards."""
    return sha256(streamed.train(Events(), HONEST)[-1].weights)


@needs_data
@pytest.mark.parametrize("lie", STREAMED_LIES.values(), ids=STREAMED_LIES.keys())
def test_a_run_with_streamed_samples_ends_on_the_weights_of_honest_boards(
    streamed: Boards, lie: Lie, honestly_streamed: str
) -> None:
    check(streamed, Liar(lie), honestly_streamed)


def outputs(change: Callable[[Any], Any], *, only: int = 1) -> Lie:
    """Changes the predictions, those of every ``only``-th request."""
    asked = 0

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal asked
        if not isinstance(answer, protocol.Outputs):
            return answer
        asked += 1
        values = np.frombuffer(answer.data, "<f4")
        return protocol.Outputs(change(values).astype("<f4").tobytes()) if asked % only == 0 else answer

    return lie


FALSE_PREDICTIONS: dict[str, Lie] = {
    "zeros": outputs(np.zeros_like),
    "other signs": outputs(np.negative),
    "the smallest change": outputs(lambda values: np.nextafter(values, np.float32(9))),
    "1e30": outputs(lambda values: values + 1e30),
    "NaN": outputs(lambda values: values * np.nan),
    "infinity": outputs(lambda values: values + np.inf),
    "one number too few": outputs(lambda values: values[:-1]),
    "the best scores after adaptation only": outputs(np.sign, only=2),
    "training failed": changed(Progress, state=State.FAILED, fault=Status.NOT_FINITE),
    "not trained": changed(Progress, state=State.DONE, step=1),
    "step 0 for ever": in_turn(0),
}


@pytest.mark.parametrize("lie", FALSE_PREDICTIONS.values(), ids=FALSE_PREDICTIONS.keys())
def test_false_predictions_do_not_reach_a_score(boards: Boards, lie: Lie) -> None:
    clients = [HELD_OUT + n for n in range(12)]  # so many that the liar gets some, too
    with boards.clients(Events(), HONEST, count=1) as on_one:
        expected = on_one.adapt(boards.first, clients, 10)
    events = Events()
    liar = Liar(lie)
    with boards.clients(events, liar) as on_three:
        found = on_three.adapt(boards.first, clients, 10)
    assert liar.lied.is_set()
    assert [each.after.tobytes() for each in found] == [each.after.tobytes() for each in expected]
    assert [each.before.tobytes() for each in found] == [each.before.tobytes() for each in expected]
    assert any(LIAR in line for line in events.seen)


def test_two_boards_that_differ_are_both_named(boards: Boards) -> None:
    events = Events()
    with boards.clients(events, Liar(outputs(np.negative)), count=2) as on_two:
        on_two.adapt(boards.first, [HELD_OUT, HELD_OUT + 1], 10)
    assert any("native#1" in line and "native#2" in line and "a further board would show" in line for line in events.seen)
