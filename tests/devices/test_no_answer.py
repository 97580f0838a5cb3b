"""What the host makes of a request without an answer: silence, damaged bytes, or valid answers that come too late."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import pytest
from clocks import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.devices.link.link_errors import DeviceGarbled, DeviceSilent, DeviceSlow, LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.wire.frame import KEPT_BYTES, encode
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import store_messages
from tinymetafed_codegen.protocol import Status

ASKED = 8  # earlier requests of the session


@dataclass
class Script:
    """A line on which the given pieces arrive one after the other, whatever is asked, and then nothing more."""

    pieces: list[bytes]
    clock: FakeClock = field(default_factory=FakeClock)
    name: str = "/dev/script"
    baud: int = 4_000_000

    def write(self, data: bytes) -> None:
        pass

    def read(self, timeout: float) -> bytes:
        if self.pieces:
            self.clock.sleep(0.0001)
            return self.pieces.pop(0)
        self.clock.sleep(timeout)
        return b""

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answers(sequence: int) -> st.SearchStrategy[bytes]:
    """Frames of valid answers with this sequence number: short, long, refusals, those of firmware with a store."""
    short = st.integers(0, 2**32 - 1).map(lambda at: (protocol.Load.type_id, protocol.LoadAnswer(at).encode()))
    long = st.binary(max_size=700).map(lambda data: (protocol.Fetch.type_id, protocol.Weights(0, data).encode()))
    refusal = st.sampled_from([s for s in Status if s]).map(
        lambda s: (protocol.ERROR_TYPE, protocol.ErrorAnswer(s, 3).encode())
    )
    store = st.sampled_from([store_messages.Recall, store_messages.Keep]).map(
        lambda asked: (asked.type_id, store_messages.StoreReport(store_messages.StoreState.READY, 2, 1, 1, 4, 0).encode())
    )
    return st.one_of(short, long, refusal, store).map(lambda it: encode(it[0] | protocol.ANSWER_BIT, sequence, it[1]))


def asking(pieces: list[bytes], *, hello: bool = False) -> LinkError:
    """The error of one request, during which only these pieces arrive."""
    line = Script(pieces)
    session = Session(line, deadline=0.1, retries=2, clock=line.clock)
    session._counter = ASKED
    with pytest.raises(LinkError) as caught:
        if hello:
            session.hello(1.0)
        else:
            session.fetch(0, 1)
    return caught.value


def cut(data: bytes, at: list[float]) -> list[bytes]:
    """The data in pieces, cut at these parts of its length."""
    places = sorted({0, len(data), *(int(part * len(data)) for part in at)})
    return [data[a:b] for a, b in pairwise(places)]


cuts = st.lists(st.floats(0, 1), max_size=12)
late = st.lists(st.one_of(*(answers(sequence) for sequence in (1, 5, ASKED, 200))), min_size=1, max_size=6)


@given(frames=late, at=cuts, delimiters=st.booleans(), hello=st.booleans())
def test_late_answers_however_they_are_cut_are_never_taken_for_noise(
    frames: list[bytes], at: list[float], delimiters: bool, hello: bool
) -> None:
    data = (b"\0" if delimiters else b"").join(frames)
    error = asking(cut(data, at), hello=hello)
    assert isinstance(error, DeviceSlow)
    assert f"only {len(frames)} to earlier requests: the device answers too slowly" in str(error)
    assert not any(word in str(error) for word in ("cable", "bit/s", "another program is on the board"))


@given(frames=late, at=cuts, left=st.integers(1, 8))
def test_an_incomplete_late_answer_is_late_too(frames: list[bytes], at: list[float], left: int) -> None:
    """The wait may end in the middle of an answer, once its type and its sequence number are there."""
    assert isinstance(asking(cut(b"".join(frames)[:-left], at)), DeviceSlow)


@given(frame=answers(5), rest=st.integers(1, 4))
def test_the_first_bytes_of_a_second_late_answer_are_no_noise(frame: bytes, rest: int) -> None:
    assert isinstance(asking([frame, frame[:rest]]), DeviceSlow)


@given(frames=late, at=cuts, place=st.integers(0, 6), bit=st.integers(0, 7), which=st.floats(0, 1, exclude_max=True))
def test_a_damaged_frame_among_late_answers_is_shown_alone(
    frames: list[bytes], at: list[float], place: int, bit: int, which: float
) -> None:
    broken = bytearray(encode(protocol.Fetch.type_id | protocol.ANSWER_BIT, 7, protocol.Weights(0, b"wwww").encode()))
    broken[int(which * (len(broken) - 1))] ^= 1 << bit
    all_frames = [*frames[:place], bytes(broken), *frames[place:]]
    error = asking(cut(b"".join(all_frames), at))
    assert isinstance(error, DeviceGarbled)
    said = str(error)
    assert f"{len(frames)} to earlier requests" in said and "try another one" in said and "bit/s" not in said
    shown = bytes(broken).partition(b"\0")  # a flipped bit may have made a 0x00, which ends a frame
    assert repr(bytes(shown[0] or shown[2]))[2:10] in said


@given(noise=st.binary(min_size=1, max_size=200).filter(lambda data: data.strip(b"\0")), at=cuts)
def test_bytes_that_are_no_frame_are_noise_or_too_few_to_tell(noise: bytes, at: list[float]) -> None:
    error = asking(cut(noise + b"\0", at))
    assert isinstance(error, DeviceGarbled) and f"not {Script.baud} bit/s" in str(error)


@pytest.mark.parametrize("noise", [b"\x55" * 500, b"\xff" * 500, b"\xff", b"\x00\xff\xff", b"Guru Meditation", b"\x04"])
def test_noise_without_an_end_is_noise(noise: bytes) -> None:
    error = asking([noise])
    assert isinstance(error, DeviceGarbled)
    assert repr(noise.lstrip(b"\0")[:KEPT_BYTES]) in str(error)


def test_what_was_received_before_the_request_is_forgotten() -> None:
    answer = encode(protocol.Fetch.type_id | protocol.ANSWER_BIT, ASKED + 1, protocol.Weights(0, b"wwww").encode())
    stale = encode(protocol.Fetch.type_id | protocol.ANSWER_BIT, 3, protocol.Weights(0, b"wwww").encode())
    line = Script([b"boot\0", stale, answer])
    session = Session(line, deadline=0.1, retries=2, clock=line.clock)
    session._counter = ASKED
    assert len(session.fetch(0, 1)) == 1
    with pytest.raises(DeviceSilent):
        session.fetch(0, 1)


def test_messages_in_order_that_are_answered_too_late_say_so() -> None:
    line = Script([encode(protocol.Load.type_id | protocol.ANSWER_BIT, 3, protocol.LoadAnswer(4).encode())])
    session = Session(line, deadline=0.1, retries=2, clock=line.clock)
    session._counter = ASKED
    with pytest.raises(DeviceSlow, match=r"no answer to Sample .* only 1 to earlier requests"):
        session.stream(1, [Example(np.ones(1, np.float32), np.ones(1, np.float32))])
