"""Frames on the host: input may be split anywhere, and damaged frames are counted and dropped."""

from __future__ import annotations

import zlib

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.wire.frame import Decoder, Frame, encode

bodies = st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=600))


@given(frames=st.lists(bodies, max_size=4), cuts=st.lists(st.integers(0, 2500)))
def test_frames_arrive_however_the_line_is_cut(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(encode(*body) for body in frames)
    decoder = Decoder()
    arrived = []
    ends = sorted(min(cut, len(wire)) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(wire)], strict=True):
        arrived += decoder.feed(wire[start:end])
    assert arrived == [Frame(*body, wire_bytes=len(encode(*body))) for body in frames]
    assert decoder.damaged == 0


@given(body=bodies, data=st.data())
def test_no_flipped_bit_goes_unnoticed(body: tuple[int, int, bytes], data: st.DataObject) -> None:
    wire = bytearray(encode(*body))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoder = Decoder()
    assert decoder.feed(bytes(wire) + b"\0" + encode(9, 9, b"next"))[-1].payload == b"next"
    assert decoder.damaged >= 1


@given(garbage=st.binary(max_size=300), body=bodies)
def test_the_first_frame_after_garbage_and_a_zero_arrives(garbage: bytes, body: tuple[int, int, bytes]) -> None:
    frames = Decoder().feed(garbage + b"\0" + encode(*body))
    assert frames[-1] == Frame(*body, wire_bytes=len(encode(*body)))


def test_a_frame_is_cobs_of_body_and_crc() -> None:
    body = b"\x04\x07\x00\x01"
    assert encode(4, 7, b"\x00\x01") == cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"


def test_empty_frames_are_ignored_and_short_ones_are_damaged() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\0\0\0") == []
    assert decoder.damaged == 0
    assert decoder.feed(cobs.encode(b"\x01" + zlib.crc32(b"\x01").to_bytes(4, "little")) + b"\0") == []
    assert decoder.damaged == 1


def test_a_line_without_zeros_does_not_fill_the_memory() -> None:
    decoder = Decoder(limit=100)
    for _ in range(50):
        assert decoder.feed(b"\x55" * 99) == []
    assert decoder.feed(b"\0" + encode(1, 2, b"x")) == [Frame(1, 2, b"x", len(encode(1, 2, b"x")))]
    assert decoder.damaged == 1


def test_the_limit_counts_the_whole_frame() -> None:
    wire = encode(1, 2, b"x" * 50)
    assert len(Decoder(limit=len(wire)).feed(wire)) == 1
    assert Decoder(limit=len(wire) - 1).feed(wire) == []


def test_a_type_is_one_byte() -> None:
    with pytest.raises(ValueError, match="range"):
        encode(256, 0, b"")
