"""A line between two machines: the bytes that it carries in a second, and how long an answer takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.section import StrictJson

from ...runs.estimate import BITS_PER_BYTE

NOMINAL = "nominal rate; the turn-around is assumed"


@dataclass(frozen=True)
class Line(StrictJson):
    """A line.

    ``turn_around_seconds``: what an answer takes beyond its bytes. ``source``: where the figures come from. ``assumed``:
    whether nobody has measured them with this project.
    """

    name: str
    bytes_per_second: float
    turn_around_seconds: float
    source: str
    assumed: bool

    def seconds(self, size: float, messages: float = 1.0, at_once: int = 1) -> float:
        """Time of messages of ``size`` bytes in all, each of which is answered, with up to ``at_once`` under way.

        The line stands still only where it has carried all that may be under way before the first answer comes.
        """
        if messages <= 0:
            return 0.0
        one = size / messages / self.bytes_per_second
        still = max(0.0, self.turn_around_seconds - (at_once - 1) * one)
        return size / self.bytes_per_second + self.turn_around_seconds + still * (math.ceil(messages / at_once) - 1)


LINES = {
    line.name: line
    for line in (
        Line("serial", 11520.0, 0.016, "the board's baud rate; 16 ms is the latency timer that USB bridges start with", False),
        Line("usb", 100_000.0, 0.002, "a chip's own USB at full speed, a cautious guess", True),
        Line("wifi", 250_000.0, 0.010, "TCP over 2.4 GHz Wi-Fi to a microcontroller, a cautious guess", True),
        Line("ethernet", 1_000_000.0, 0.001, "TCP over a cable to a microcontroller, a cautious guess", True),
    )
}
BACKHAULS = {
    line.name: line
    for line in (
        Line("lan", 12.5e6, 0.001, f"100 Mbit/s, {NOMINAL}", True),
        Line("gigabit", 125e6, 0.001, f"1 Gbit/s, {NOMINAL}", True),
        Line("internet", 1.25e6, 0.040, f"10 Mbit/s, {NOMINAL}", True),
    )
}


def parsed(text: str, known: Mapping[str, Line], option: str, board: Board | None = None) -> Line:
    """The line that a user names.

    Args:
        text: The name of a known line, or RATE,LATENCY in bytes per second and seconds.
        known: Lines by name.
        option: The option that has the text, for errors.
        board: Whose baud rate the line "serial" has; None for its usual one.

    Raises:
        UsageError: It is neither.
    """
    if (line := known.get(text)) is not None:
        if board is None or line.name != "serial":
            return line
        return replace(line, bytes_per_second=board.line.baud / BITS_PER_BYTE)
    try:
        rate, latency = (float(word) for word in text.split(","))
    except ValueError:
        rate = latency = math.nan
    if not (0 < rate < math.inf and 0 <= latency < math.inf):
        raise UsageError(
            f"{option} {text}: expected {', '.join(known)}, or RATE,LATENCY in bytes per second and seconds, for instance "
            "11520,0.016"
        )
    return Line(text, rate, latency, "given by you", False)
