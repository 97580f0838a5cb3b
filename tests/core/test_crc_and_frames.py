"""The core's CRC-32 and frames against zlib and the cobs package, on clean lines, broken lines and garbage."""

from __future__ import annotations

import random
import zlib

import pytest
from cobs import cobs
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.wire import frame

# Encoders of COBS tend to fail on zeros and on runs near the block length.
runs = st.lists(st.one_of(st.binary(max_size=40), st.builds(lambda n: b"\x01" * n, st.integers(250, 258)), st.just(b"\0")))
payloads = runs.map(b"".join)
bodies = st.tuples(st.integers(0, 255), st.integers(0, 255), payloads)
PLENTY = 1 << 14


@given(first=st.binary(), second=st.binary())
def test_crc_equals_zlibs_also_in_two_calls(core: Core, first: bytes, second: bytes) -> None:
    assert core.crc32(first, second) == zlib.crc32(first + second)


@given(body=bodies)
def test_device_and_host_send_the_same_bytes(core: Core, body: tuple[int, int, bytes]) -> None:
    assert core.frame_encode(bytes(body[:2]) + body[2]) == frame.encode(*body)


@pytest.mark.parametrize("size", [*range(3), *range(245, 260), *range(500, 516)])
def test_sizes_around_a_full_cobs_block(core: Core, size: int) -> None:
    for byte in (b"\0", b"\x01", b"\xff"):
        payload = byte * size
        wire = frame.encode(1, 2, payload)
        assert core.frame_encode(b"\x01\x02" + payload) == wire
        assert core.frame_decode(wire, PLENTY) == ([b"\x01\x02" + payload], 0)


@given(frames=st.lists(bodies, max_size=5), zeros=st.integers(0, 3))
def test_a_clean_line_gives_every_frame(core: Core, frames: list[tuple[int, int, bytes]], zeros: int) -> None:
    wire = b"".join(b"\0" * zeros + frame.encode(*body) for body in frames)
    assert core.frame_decode(wire, PLENTY) == ([bytes(b[:2]) + b[2] for b in frames], 0)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), body=bodies)
def test_core_and_host_read_damaged_lines_alike_and_the_next_frame_arrives(
    core: Core, seed: int, body: tuple[int, int, bytes]
) -> None:
    line = bytearray()
    rng = random.Random(seed)
    for _ in range(4):
        wire = bytearray(frame.encode(rng.randrange(256), rng.randrange(256), rng.randbytes(rng.randrange(300))))
        match rng.randrange(4):
            case 0:
                wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
            case 1:
                del wire[rng.randrange(len(wire)) :]
            case 2:
                wire = bytearray(rng.randbytes(rng.randrange(400)))
        line += wire
    line += b"\0" + frame.encode(*body)
    decoder = frame.Decoder()
    host = [bytes((f.type_id, f.sequence)) + f.payload for f in decoder.feed(bytes(line))]
    assert core.frame_decode(bytes(line), PLENTY) == (host, decoder.damaged)
    assert host[-1] == bytes(body[:2]) + body[2]


@given(garbage=st.binary(max_size=2000))
def test_garbage_gives_no_frame_but_those_that_are_in_it(core: Core, garbage: bytes) -> None:
    found, _ = core.frame_decode(garbage, 64)
    for body in found:
        assert cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) in garbage


@given(payload=payloads, short=st.integers(0, 700))
def test_a_frame_beyond_the_buffer_is_dropped_and_the_next_one_arrives(core: Core, payload: bytes, short: int) -> None:
    needed = 2 + len(payload) + 4
    capacity = max(7, needed - short)
    frames, damaged = core.frame_decode(frame.encode(3, 4, payload) + frame.encode(5, 6, b"x"), capacity)
    if needed <= capacity:
        assert (frames, damaged) == ([b"\x03\x04" + payload, b"\x05\x06x"], 0)
    else:
        assert (frames, damaged) == ([b"\x05\x06x"], 1)
