"""Samples in parts: which firmware takes them, because a whole one needs too large a receive window, and how long a part is."""

from __future__ import annotations

from .. import protocol
from ..optional_messages.part_messages import InputPart, InputTaken, SamplePart

# A window grows up to so many times the board's own before samples travel in parts instead: three buffers have its size, but
# parts take flash and an answer each.
LARGEST_GROWTH = 2
PER_WINDOW = 2  # parts per receive window: the line carries one while the device answers the other
RAM_BYTES = 48  # what has come of the sample that waits in the arena, and padding
FLASH_BYTES = 900


def window_of(payloads: list[int], least: int, mac_bytes: int) -> int:
    """Bytes of the receive window that the largest payload needs, at least ``least``."""
    return max(least, -(-protocol.wire_size(max(payloads) + mac_bytes) // 64) * 64)


def takes_parts(samples: list[int], own_window: int, mac_bytes: int) -> bool:
    """Whether samples and inputs come in parts.

    Args:
        samples: Payloads of a sample and of an input in one message, in bytes.
        own_window: The receive window of the board's file.
        mac_bytes: Bytes of the MAC in every frame.
    """
    return window_of(samples, own_window, mac_bytes) > LARGEST_GROWTH * own_window


def answer_with(outputs: int) -> int:
    """The payload of the answer to the last part of an input, in bytes."""
    return InputTaken.fixed_size() + 4 * outputs


def part_bytes(part: type[SamplePart] | type[InputPart], window: int, mac_bytes: int) -> int:
    """Bytes of a sample or an input in one message of several, for a receive window of ``window`` bytes."""
    return protocol.payload_capacity(window // PER_WINDOW) - mac_bytes - part.fixed_size()


def is_whole(size: int, window: int, mac_bytes: int) -> bool:
    """Whether a sample of ``size`` bytes fits one message."""
    return size <= protocol.payload_capacity(window) - mac_bytes - protocol.Sample.fixed_size()
