"""A device receives the global weights, as typed calls: all of them, or what differs from those that it holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from tinymetafed_codegen import protocol
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages import difference_messages, level_messages
from tinymetafed_codegen.protocol import Status

from ...learn.codecs.difference import Coded, Version, Versions
from ...learn.codecs.downlink import Segment
from ...learn.codecs.level_load import LeveledWeights
from ...wire.messages import checked_length, levels_on_wire, load_chunk, loads_on_wire, tail_capacity, weights_payload
from .clock import Clock
from .link_errors import DeviceGarbled, DeviceRefused
from .questions import Questions
from .transport import Transport

MOST_REFUSED = 1  # difference of one session; a board that was reset begins another session
_HOLDS_ANOTHER = (Status.BAD_STATE, Status.BAD_VALUE, Status.NOT_FINITE)  # refusals of a difference


class WeightsDown(Questions):
    """Sends global weights to one device on an open line. Every call may raise a LinkError, as `request` does."""

    def __init__(self, transport: Transport, *, name: str | None, deadline: float, retries: int, clock: Clock) -> None:
        super().__init__(transport, name=name, deadline=deadline, retries=retries, clock=clock)
        self.versions: Versions | None = None  # those that boards may hold, for a download by difference
        self.on_event: Callable[[str], None] = lambda line: None  # told of what does not end the board's work
        self._held: bytes | None = None  # fingerprint of the version that the board holds
        self._refused = 0  # differences
        self._has_stated = False  # whether the board was asked for it

    def load(self, token: int, segments: Sequence[Segment]) -> None:
        """Sends the global weights, or what differs from those that the board holds where that is less.

        Args:
            token: Token of the new cycle.
            segments: Consecutive segments from weight 0 on.

        Raises:
            ValueError: The segments leave a gap, or hold NaN or infinity.
        """
        if self.versions is None:
            self._load_all(token, segments)
            return
        version = self.versions.newest(segments)
        before = sum(self._down)
        if self._load_difference(token, self.versions, version):
            self._spared += self._full(segments) - (sum(self._down) - before)
        else:
            self._spared -= sum(self._down) - before
            self._load_all(token, segments)
        self._held = version.fingerprint

    def _full(self, segments: Sequence[Segment]) -> int:
        """Bytes on the line of all weights."""
        if (levels := _levels(segments)) is None:
            return loads_on_wire(segments, self.window, self.mac_bytes)[1]
        messages = LeveledWeights.of(segments, levels).messages(self._level_capacity)
        return levels_on_wire(messages, self.mac_bytes)[1]

    @property
    def _level_capacity(self) -> int:
        return tail_capacity(level_messages.LoadLevels, self.window, self.mac_bytes)

    def _load_difference(self, token: int, versions: Versions, version: Version) -> bool:
        """Sends what differs from the version that the board states to hold; returns whether it has the new one now."""
        if not self._has_stated:
            held = self._ask(difference_messages.AskHeld(), difference_messages.Held)
            self._held, self._has_stated = held.version if held.whole else None, True
        base, self._held = self._held, None  # unknown until all of the new version is there
        coded = None if base is None else versions.difference(base, version)
        if base is None or coded is None:
            return False
        try:
            self._send_difference(token, coded)
        except DeviceRefused as refusal:
            if refusal.message not in difference_messages.DIFFERENCE_REQUESTS or refusal.status not in _HOLDS_ANOTHER:
                raise
            self._refused += 1
            what = "it was reset since, or never held it"
            if refusal.status != Status.BAD_STATE:
                what = f"the result is not version {version.fingerprint.hex()}"
            if refusal.status != Status.BAD_STATE or self._refused > MOST_REFUSED:
                what += ", so it gets no more differences"
                self.versions = None
            self.on_event(
                f"{self.name}: refused a difference to version {base.hex()} of the weights, which it stated to hold: {what}; "
                "it gets all weights"
            )
            return False
        return True

    def _send_difference(self, token: int, coded: Coded) -> None:
        capacity = weights_payload(self.window, self.mac_bytes)

        def message_at(position: int) -> tuple[protocol.Request, int] | None:
            if position > coded.entries:
                raise DeviceGarbled(
                    f"{self.name}: claims {position} entries of a difference of {coded.entries}; reset the board"
                )
            return coded.message(token, position, capacity) if position < coded.entries else None

        if coded.entries:
            for _ in self._in_order(message_at, difference_messages.Taken, lambda answer: answer.next):
                pass
        elif taken := self._ask(coded.message(token, 0, capacity)[0], difference_messages.Taken).next:
            raise DeviceGarbled(f"{self.name}: claims {taken} entries of a difference without any; reset the board")

    def _load_all(self, token: int, segments: Sequence[Segment]) -> None:
        parts = [segment for segment in segments if segment.data]
        total = checked_length(parts)
        leveled = None if (levels := _levels(parts)) is None else LeveledWeights.of(parts, levels)

        def chunk_at(position: int) -> tuple[protocol.Request, int] | None:
            if position > total:
                raise DeviceGarbled(f"{self.name}: claims {position} weights, {total} were sent; reset the board")
            if position == total:
                return None
            if leveled is not None:
                return leveled.message(token, position, self._level_capacity)
            return load_chunk(parts, token, position, self.window, self.mac_bytes)

        if leveled is None:
            deque(self._in_order(chunk_at, protocol.LoadAnswer, lambda answer: answer.next_offset), maxlen=0)
        else:
            deque(self._in_order(chunk_at, level_messages.LevelsLoaded, lambda answer: answer.next_offset), maxlen=0)


def _levels(segments: Sequence[Segment]) -> LevelFormat | None:
    """How segments travel as levels; None for those that travel as they are, as segments of another class do."""
    return next((segment.levels for segment in segments if isinstance(segment, Segment)), None)
