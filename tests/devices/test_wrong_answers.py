"""Devices with wrong answers: the host refuses each answer with a reason, or has what it asked for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clocks import FakeClock
from fake_device import FakeBoard, FakeLine
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import manifest, sine

from tinymetafed.devices.link.exchange import LOOK_SECONDS
from tinymetafed.devices.link.link_errors import DeviceGarbled, DeviceSlow, LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.federation.clients import TrainingFailed
from tinymetafed.learn.codecs import delta
from tinymetafed.wire.frame import Frame
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Coding, Delta, Dtype, LoadAnswer, Outputs, Program, Progress, State, Status, Weights

N, K, TOKEN = 300, 40, 6
VALUES = np.random.default_rng(3).normal(size=N).astype(np.float32)
CORRECT = delta.encode(VALUES, K, Dtype.F32, 90, token=TOKEN)
Change = Callable[[protocol.Record], protocol.Record]


class WrongDevice(FakeBoard):
    """A device with a correct delta; ``change`` alters each of its answers of the type ``about``."""

    def __init__(self, about: type[protocol.Record], change: Change, **fake: Any) -> None:
        self._about, self._change = about, change
        super().__init__(weights=N, **fake)

    def _answer(self, frame: Frame) -> protocol.Record | None:
        if frame.type_id == protocol.Pull.type_id:
            rank = protocol.Pull.unpack(frame.payload).rank
            answer: protocol.Record | None = next((chunk for chunk in CORRECT if chunk.rank == rank), CORRECT[0])
        else:
            answer = super()._answer(frame)
        return self._change(answer) if isinstance(answer, self._about) and self._about is not Progress else answer

    def _progress(self) -> Progress:
        progress = super()._progress()
        return self._change(progress) if self._about is Progress else progress  # type: ignore[return-value]


class Connection:
    """A session with a WrongDevice, closed at the end."""

    def __init__(self, about: type[protocol.Record], change: Change, **fake: Any) -> None:
        clock = FakeClock()
        self.device = WrongDevice(about, change, clock=clock, **fake)
        self.session = Session(FakeLine(self.device, clock), deadline=0.2, retries=2, clock=clock)
        self.session.window = self.device.window

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def delta(self) -> delta.Sparse:
        """The delta as the server decodes it."""
        return delta.decode(self.session.pull(TOKEN, K), n=N, k=K, token=TOKEN)


def changed(**fields: Any) -> Change:
    return lambda answer: dataclasses.replace(answer, **fields)  # type: ignore[type-var]


def second(**fields: Any) -> Change:
    """Changes the second chunk only."""
    return lambda answer: changed(**fields)(answer) if answer.rank == CORRECT[1].rank else answer  # type: ignore[attr-defined]


def test_a_correct_delta_is_accepted() -> None:
    with Connection(Delta, lambda answer: answer) as connection:
        found = connection.delta()
    np.testing.assert_array_equal(found.indices, delta.select_top(VALUES, K))
    np.testing.assert_array_equal(found.values, VALUES[found.indices])


# --- The delta ---

FIRST = CORRECT[0]
NAN = np.float32(np.nan).tobytes()
DESCENDING = dataclasses.replace(CORRECT[1], base=FIRST.base)  # the indices start again below those sent before
CHANGES: dict[str, Change] = {
    "more entries declared than sent": changed(count=FIRST.count + 1),
    "fewer entries declared than sent": changed(count=FIRST.count - 1),
    "no entry": changed(count=0),
    "more entries than asked for": changed(count=K + 1),
    "as many entries as the field holds": changed(count=0xFFFF),
    "another token": changed(token=TOKEN - 1),
    "a later token": changed(token=2**31),
    "another rank": second(rank=0),
    "a rank of 2^31": changed(rank=2**31),
    "the same chunk again": second(base=FIRST.base, count=FIRST.count, data=FIRST.data),
    "descending chunks": second(base=DESCENDING.base),
    "an index beyond the weights": changed(base=N - 1),
    "an index of 2^31": changed(base=2**31),
    "an index of 2^32 - 1": changed(base=2**32 - 1),
    "an unknown coding": changed(coding=77),
    "another coding": changed(coding=int(Coding.BITMAP)),
    "another coding than the first chunk's": second(coding=Coding(FIRST.coding ^ 1)),
    "an unknown dtype": changed(dtype=9),
    "another dtype": changed(dtype=int(Dtype.F16)),
    "a scale of NaN": changed(scale=float("nan")),
    "an infinite scale": changed(scale=float("inf")),
    "a value of NaN": changed(data=FIRST.data[:-4] + NAN),
    "an infinite value": changed(data=FIRST.data[:-4] + np.float32(np.inf).tobytes()),
    "no data": changed(data=b""),
    "data cut short": changed(data=FIRST.data[:-1]),
    "data beyond the end": changed(data=FIRST.data + b"\0"),
    "indices without end": changed(data=b"\xff" * len(FIRST.data)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_wrong_delta_is_refused(change: Change) -> None:
    with Connection(Delta, change) as connection, pytest.raises((DeviceGarbled, delta.DeltaError)) as caught:
        connection.delta()
    assert re.search(r"rank|entries|Delta\.\w+", str(caught.value))  # says where


@pytest.mark.parametrize("asked", [Dtype.I8, Dtype.F16])
@pytest.mark.parametrize("sent", [Dtype.F32, Dtype.F16, Dtype.I8])
def test_a_delta_in_another_dtype_than_the_uplink_is_refused(sent: Dtype, asked: Dtype) -> None:
    chunks = delta.encode(VALUES, K, sent, 90, token=TOKEN)
    if sent == asked:
        assert delta.decode(chunks, n=N, k=K, token=TOKEN, dtype=asked).indices.size == K
    else:
        with pytest.raises(delta.DeltaError, match=f"rank 0: values in {sent.name}, expected {asked.name}"):
            delta.decode(chunks, n=N, k=K, token=TOKEN, dtype=asked)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(step=6), "claims step 6 of 5"),
        (changed(state=State.DONE, step=1), "stands at DONE, step 1, expected DONE, step 5"),
        (changed(token=TOKEN - 1), "progress of cycle 6, got that of 5"),
    ],
    ids=["a step beyond the last", "done too early", "another cycle"],
)
def test_a_progress_that_cannot_be_is_refused(change: Change, words: str) -> None:
    with Connection(Progress, change, steps=5) as connection, pytest.raises(DeviceGarbled, match=words):
        connection.session.train(TOKEN, Program.TRAIN, 1, 2, 3)
        connection.session.await_done(TOKEN, 5)


def test_a_board_that_never_names_the_same_cycle_is_not_asked_for_ever() -> None:
    tokens = iter(range(1, 1000))
    with (
        Connection(protocol.ErrorAnswer, lambda answer: changed(detail=next(tokens))(answer)) as connection,
        pytest.raises(DeviceGarbled, match="names another cycle each time"),
    ):
        connection.device._token = 5
        connection.session.position()


def test_a_wait_ends_when_the_watch_gives_a_reason() -> None:
    with Connection(Progress, lambda answer: answer, steps=5, pace=1e-9) as connection:
        session, began = connection.session, connection.session.clock.monotonic()
        session.train(TOKEN, Program.TRAIN, 1, 2, 3)
        reason = DeviceSlow("enough")
        session.watch = lambda: reason if session.clock.monotonic() - began > 10.0 else None
        with pytest.raises(DeviceSlow, match="enough"):
            session.await_done(TOKEN, 5)
        assert session.clock.monotonic() - began < 10.0 + 2 * LOOK_SECONDS


def test_a_window_beyond_that_of_the_board_is_neither_used_nor_waited_for() -> None:
    facts = manifest(sine())
    identity = {"model_hash": bytes.fromhex(facts.model_hash), "board": facts.board.encode()}
    with Connection(Progress, lambda answer: answer, window=65535, **identity) as connection:
        session = connection.session
        session.check(session.hello(), facts, "make flash")
        assert session.window == facts.receive_window < 65535


def test_steps_that_go_back_are_refused() -> None:
    steps = iter([0, 0, 1, 0, 1])
    with (
        Connection(Progress, lambda answer: changed(step=next(steps))(answer), steps=5, pace=1e-3) as connection,
        pytest.raises(DeviceGarbled, match="claims step 0 of 5 after step 1"),
    ):
        connection.session.train(TOKEN, Program.TRAIN, 1, 2, 3)
        connection.session.await_done(TOKEN, 5)


@settings(max_examples=60)
@given(
    field=st.sampled_from(["token", "rank", "count", "base", "coding", "dtype", "scale", "data"]),
    number=st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 255, 2**16 - 1, 2**31 - 1, 2**31]),
    data=st.binary(max_size=100),
)
def test_any_delta_is_refused_or_valid(field: str, number: int, data: bytes) -> None:
    widths = {"count": 16, "coding": 8, "dtype": 8}
    value: Any = number & (1 << widths.get(field, 32)) - 1
    value = data if field == "data" else float(np.uint32(value).view(np.float32)) if field == "scale" else value
    chunks = [dataclasses.replace(CORRECT[0], **{field: value}), *CORRECT[1:]]
    try:
        found = delta.decode(chunks, n=N, k=K, token=TOKEN)
    except delta.DeltaError:
        return
    assert found.indices.size == found.values.size == K
    assert (np.diff(found.indices, prepend=-1) > 0).all() and found.indices[-1] < N
    assert np.isfinite(found.values).all()


# --- Everything else ---


@pytest.mark.parametrize(
    "change",
    [
        changed(offset=1),
        changed(offset=2**31),
        changed(data=b""),
        changed(data=bytes(3)),
        changed(data=bytes(4 * 11)),
    ],
    ids=["offset", "offset of 2^31", "none", "half a weight", "more than asked for"],
)
def test_wrong_weights_are_refused(change: Change) -> None:
    with Connection(Weights, change) as connection, pytest.raises(DeviceGarbled, match="asked for 10 weights from 0"):
        connection.session.fetch(0, 10)


@pytest.mark.parametrize("size", [0, 4, 12])
def test_wrong_outputs_are_refused(size: int) -> None:
    with (
        Connection(Outputs, changed(data=bytes(size))) as connection,
        pytest.raises(DeviceGarbled, match="1 predictions of 2 outputs"),
    ):
        connection.session.predict(np.zeros((1, 4), np.float32), 2)


@pytest.mark.parametrize("claimed", [N + 1, 2**31, 2**32 - 1])
def test_a_device_that_claims_more_weights_than_there_are_is_refused(claimed: int) -> None:
    whole = [Segment(0, Dtype.F32, 0.0, VALUES.tobytes())]
    with Connection(LoadAnswer, changed(next_offset=claimed)) as connection, pytest.raises(LinkError, match=str(claimed)):
        connection.session.load(TOKEN, whole)


@pytest.mark.parametrize("claimed", [4, 2**31, 2**32 - 1])
def test_a_device_that_claims_samples_it_was_not_sent_is_refused(claimed: int) -> None:
    samples = [Example(np.zeros(1, np.float32), np.zeros(4, np.uint8))] * 3
    with Connection(Progress, changed(step=claimed)) as connection, pytest.raises(LinkError, match=str(claimed)):
        connection.session.stream(TOKEN, samples)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            changed(state=State.FAILED, fault=99),
            DeviceGarbled,
            r"answered Train with .*Progress\.fault = 99: expected one of OK,",
        ),
        (changed(state=77), DeviceGarbled, r"answered Train with .*Progress\.state = 77: expected one of IDLE, LOADING,"),
        (changed(state=State.FAILED, fault=Status.OK), TrainingFailed, "training failed at step 0: OK"),
    ],
    ids=["unknown fault", "unknown state", "no fault"],
)
def test_an_invalid_progress_ends_training(change: Change, error: type[LinkError], words: str) -> None:
    with Connection(Progress, change, steps=5) as connection, pytest.raises(error, match=words):
        connection.session.train(TOKEN, Program.TRAIN, 1, 2, 3)
        connection.session.await_done(TOKEN, 5)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Weights for a Load."""

    offset: int
    dtype: int
    scale: float
    data: bytes
