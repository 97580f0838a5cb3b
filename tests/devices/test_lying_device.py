"""Devices that lie: whatever answer comes, the host says what is wrong with it, or what it has then is what it asked for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clocks import FakeClock
from fake_device import FakeBoard, FakeLine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinymetafed.devices.link.link_errors import DeviceGarbled, LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.federation.clients import TrainingFailed
from tinymetafed.learn.codecs import delta
from tinymetafed.wire.frame import Frame
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Coding, Delta, Dtype, LoadAnswer, Outputs, Program, Progress, State, Status, Weights

N, K, TOKEN = 300, 40, 6
VALUES = np.random.default_rng(3).normal(size=N).astype(np.float32)
HONEST = delta.encode(VALUES, K, Dtype.F32, 90, token=TOKEN)
Lie = Callable[[protocol.Record], protocol.Record]


class Liar(FakeBoard):
    """Has an honest delta, and passes every answer of the type ``about`` through ``lie`` first."""

    def __init__(self, about: type[protocol.Record], lie: Lie, **fake: Any) -> None:
        self._about, self._lie = about, lie
        super().__init__(weights=N, **fake)

    def _answer(self, frame: Frame) -> protocol.Record | None:
        if frame.type_id == protocol.Pull.type_id:
            rank = protocol.Pull.unpack(frame.payload).rank
            answer: protocol.Record | None = next((chunk for chunk in HONEST if chunk.rank == rank), HONEST[0])
        else:
            answer = super()._answer(frame)
        return self._lie(answer) if isinstance(answer, self._about) and self._about is not Progress else answer

    def _progress(self) -> Progress:
        progress = super()._progress()
        return self._lie(progress) if self._about is Progress else progress  # type: ignore[return-value]


class Talk:
    """A session with a liar, closed at the end."""

    def __init__(self, about: type[protocol.Record], lie: Lie, **fake: Any) -> None:
        clock = FakeClock()
        self.device = Liar(about, lie, clock=clock, **fake)
        self.session = Session(FakeLine(self.device, clock), deadline=0.2, retries=2, clock=clock)
        self.session.window = self.device.window

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def delta(self) -> delta.Sparse:
        """As the server gets it."""
        return delta.decode(self.session.pull(TOKEN, K), n=N, k=K, token=TOKEN)


def changed(**fields: Any) -> Lie:
    return lambda answer: dataclasses.replace(answer, **fields)  # type: ignore[type-var]


def second(**fields: Any) -> Lie:
    """Only about the second chunk."""
    return lambda answer: changed(**fields)(answer) if answer.rank == HONEST[1].rank else answer  # type: ignore[attr-defined]


def test_an_honest_device_is_believed() -> None:
    with Talk(Delta, lambda answer: answer) as talk:
        found = talk.delta()
    np.testing.assert_array_equal(found.indices, delta.select_top(VALUES, K))
    np.testing.assert_array_equal(found.values, VALUES[found.indices])


# --- The delta ---

FIRST = HONEST[0]
NAN = np.float32(np.nan).tobytes()
DESCENDING = dataclasses.replace(HONEST[1], base=FIRST.base)  # starts over, below what has been sent
LIES: dict[str, Lie] = {
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


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_about_the_delta_is_refused(lie: Lie) -> None:
    with Talk(Delta, lie) as talk, pytest.raises((DeviceGarbled, delta.DeltaError)) as caught:
        talk.delta()
    assert re.search(r"rank|entries|Delta\.\w+", str(caught.value))  # says where


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    field=st.sampled_from(["token", "rank", "count", "base", "coding", "dtype", "scale", "data"]),
    number=st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 255, 2**16 - 1, 2**31 - 1, 2**31]),
    data=st.binary(max_size=100),
)
def test_any_delta_is_refused_or_keeps_its_promises(field: str, number: int, data: bytes) -> None:
    widths = {"count": 16, "coding": 8, "dtype": 8}
    value: Any = number & (1 << widths.get(field, 32)) - 1
    value = data if field == "data" else float(np.uint32(value).view(np.float32)) if field == "scale" else value
    chunks = [dataclasses.replace(HONEST[0], **{field: value}), *HONEST[1:]]
    try:
        found = delta.decode(chunks, n=N, k=K, token=TOKEN)
    except delta.DeltaError:
        return
    assert found.indices.size == found.values.size == K
    assert (np.diff(found.indices, prepend=-1) > 0).all() and found.indices[-1] < N
    assert np.isfinite(found.values).all()


# --- Everything else ---


@pytest.mark.parametrize(
    "lie",
    [
        changed(offset=1),
        changed(offset=2**31),
        changed(data=b""),
        changed(data=bytes(3)),
        changed(data=bytes(4 * 11)),
    ],
    ids=["offset", "offset of 2^31", "none", "half a weight", "more than asked for"],
)
def test_a_lie_about_weights_is_refused(lie: Lie) -> None:
    with Talk(Weights, lie) as talk, pytest.raises(DeviceGarbled, match="asked for 10 weights from 0"):
        talk.session.fetch(0, 10)


@pytest.mark.parametrize("size", [0, 4, 12])
def test_a_lie_about_outputs_is_refused(size: int) -> None:
    with Talk(Outputs, changed(data=bytes(size))) as talk, pytest.raises(DeviceGarbled, match="1 predictions of 2 outputs"):
        talk.session.predict(np.zeros((1, 4), np.float32), 2)


@pytest.mark.parametrize("claimed", [N + 1, 2**31, 2**32 - 1])
def test_a_device_that_claims_more_weights_than_there_are_is_refused(claimed: int) -> None:
    whole = [Segment(0, Dtype.F32, 0.0, VALUES.tobytes())]
    with Talk(LoadAnswer, changed(next_offset=claimed)) as talk, pytest.raises(LinkError, match=str(claimed)):
        talk.session.load(TOKEN, whole)


@pytest.mark.parametrize("claimed", [4, 2**31, 2**32 - 1])
def test_a_device_that_claims_samples_it_was_not_sent_is_refused(claimed: int) -> None:
    samples = [Example(np.zeros(1, np.float32), np.zeros(4, np.uint8))] * 3
    with Talk(Progress, changed(step=claimed)) as talk, pytest.raises(LinkError, match=str(claimed)):
        talk.session.stream(TOKEN, samples)


@pytest.mark.parametrize(
    ("lie", "error", "words"),
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
def test_a_progress_that_makes_no_sense_ends_training(lie: Lie, error: type[LinkError], words: str) -> None:
    with Talk(Progress, lie, steps=5) as talk, pytest.raises(error, match=words):
        talk.session.train(TOKEN, Program.TRAIN, 1, 2, 3)
        talk.session.await_done(TOKEN, 5)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Weights for a Load."""

    offset: int
    dtype: int
    scale: float
    data: bytes
