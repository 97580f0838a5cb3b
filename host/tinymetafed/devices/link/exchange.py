"""Requests and answers over one line: sequence numbers, timeouts, retries, several requests in flight, traffic counts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Self, TypeVar

from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Status

from ...federation.clients import Traffic
from ...wire.frame import Decoder, Frame, encode
from .clock import SYSTEM_CLOCK, Clock
from .link_errors import DeviceGarbled, DeviceRefused, DeviceSilent, LinkError
from .transport import Transport

AnswerT = TypeVar("AnswerT", bound=protocol.Record)

DEADLINE_SECONDS = 0.5  # timeout until the device's answer times are known; doubled at every retry
SHORTEST_SECONDS = 0.2  # shortest timeout: a busy laptop may suspend this process for so long
HURRY_SECONDS = 0.02  # timeout after a damaged frame, which probably was the answer
RETRIES = 4
NOISE_BYTES = 24  # bytes shown in the error text when something else than an answer was received
PATIENCE = 4  # the timeout is this many times the longest recent answer time of the message type
PACE_DECAY = 0.875  # factor on the longest recent answer time with every answer
MAX_UNDER_WAY = 64  # requests in flight; well below the 256 sequence numbers


@dataclass(slots=True)
class Sent:
    """A request in flight."""

    sequence: int
    message: protocol.Request
    frame: bytes
    after: int  # position that its answer should report
    since: float


class Exchange:
    """Requests and answers over one open line; for one thread at a time. Errors are LinkErrors that name the device."""

    def __init__(
        self,
        transport: Transport,
        *,
        name: str | None = None,
        deadline: float = DEADLINE_SECONDS,
        retries: int = RETRIES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name if name is not None else transport.name
        self.deadline = deadline
        self.retries = retries
        self.clock = clock
        self.window = protocol.MIN_RECEIVE_WINDOW  # until hello() has received the device's own
        self._transport = transport
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._sequence = os.urandom(1)[0]  # a late answer to an earlier program is unlikely to match
        self._pace: dict[int, float] = {}  # longest recent answer time in seconds, by request type
        self._noise = bytearray()  # first bytes received since the request that are no valid frame
        self._down = [0, 0]  # bytes: of other messages, of samples
        self._up = [0, 0]
        self._retries = 0

    def close(self) -> None:
        """Closes the line."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> str:
        """Name of the line, which may differ from the device's name."""
        return self._transport.name

    @property
    def traffic(self) -> Traffic:
        """All bytes so far; subtract an earlier value to get those of a round."""
        return Traffic(sum(self._down), sum(self._up), self._down[1], self._up[1], self._retries)

    @property
    def damaged(self) -> int:
        """Number of damaged frames received and dropped."""
        return self._decoder.damaged

    def delimit(self) -> None:
        """Sends a single 0x00, which ends any incomplete frame in the device's decoder and has no other effect."""
        self._transport.write(b"\0")
        self._down[0] += 1

    # --- One request ---

    def request(self, message: protocol.Request) -> protocol.Record:
        """Sends ``message``, with retries, until its answer is received.

        Raises:
            LinkError: DeviceSilent, DeviceGarbled, DeviceRefused or PortError.
        """
        return self._ask(message, message.answer)

    def _ask(self, message: protocol.Request, answer: type[AnswerT]) -> AnswerT:
        sent = self._prepare(message)
        self._noise.clear()
        patience = self._patience(sent)
        for attempt in range(self.retries + 1):
            self._send(sent, repeated=attempt > 0)
            until = self.clock.monotonic() + patience * 2**attempt
            frame = self._receive((sent.sequence,), message.type_id, until, hurry=attempt == 0)
            if frame is not None:
                return self._open(frame, sent, answer)
        raise self._no_answer(message, patience * (2 ** (self.retries + 1) - 1), self.retries)

    def _prepare(self, message: protocol.Request, after: int = 0) -> Sent:
        self._sequence = (self._sequence + 1) & 0xFF
        return Sent(self._sequence, message, encode(message.type_id, self._sequence, message.pack()), after, 0.0)

    def _send(self, sent: Sent, *, repeated: bool = False) -> None:
        # A delimiter in front of a repeated frame ends a frame whose end was lost.
        data = b"\0" + sent.frame if repeated else sent.frame
        sent.since = self.clock.monotonic()
        self._transport.write(data)
        self._down[_is_sample(sent.message.type_id)] += len(data)
        self._retries += repeated

    def _patience(self, sent: Sent) -> float:
        """Timeout for an answer in seconds: the time of both frames on the line, plus the device's own time."""
        on_the_line = 10 * (len(sent.frame) + self.window) / self._transport.baud
        pace = self._pace.get(sent.message.type_id)
        known = self.deadline if pace is None else max(min(self.deadline, SHORTEST_SECONDS), PATIENCE * pace)
        return known + on_the_line

    def _receive(
        self,
        sequences: Collection[int],
        type_id: int,
        until: float,
        *,
        hurry: bool = False,
        on_bytes: Callable[[], None] = lambda: None,
    ) -> Frame | None:
        """The next answer to one of ``sequences``, or None at the time ``until``; other frames are dropped.

        With ``hurry`` the wait ends shortly after a damaged frame. ``on_bytes`` is called whenever bytes were received.
        """
        answers = (type_id | protocol.ANSWER_BIT, protocol.ERROR_TYPE)
        damaged = self._decoder.damaged
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.sequence in sequences and frame.type_id in answers:
                    return frame
            remaining = until - self.clock.monotonic()
            if remaining <= 0:
                return None
            data = self._transport.read(remaining)
            self._up[_is_sample(type_id)] += len(data)
            found = self._decoder.feed(data)
            self._frames.extend(found)
            if not found and len(self._noise) < NOISE_BYTES:
                self._noise += data
            if hurry and self._decoder.damaged > damaged:
                until = min(until, self.clock.monotonic() + HURRY_SECONDS)
            on_bytes()

    def _open(self, frame: Frame, sent: Sent, answer: type[AnswerT]) -> AnswerT:
        """The answer in ``frame``. Raises DeviceRefused or DeviceGarbled."""
        kind, took = sent.message.type_id, self.clock.monotonic() - sent.since
        self._pace[kind] = max(took, PACE_DECAY * self._pace.get(kind, 0.0))
        try:
            if frame.type_id == protocol.ERROR_TYPE:
                error = protocol.ErrorAnswer.unpack(frame.payload)
                raise DeviceRefused(self.name, type(sent.message), error.status, error.detail)
            return answer.unpack(frame.payload)
        except protocol.WireError as error:
            question = type(sent.message).__name__
            raise DeviceGarbled(f"{self.name}: answered {question} with something else: {error}") from error

    def _no_answer(self, message: protocol.Request, seconds: float, retries: int | None) -> LinkError:
        what = f"{type(message).__name__} in {seconds:.1f} s"
        if retries is not None:
            what += f" and {retries} {'retry' if retries == 1 else 'retries'}"
        if not self._noise:
            return DeviceSilent(f"{self.name}: no answer to {what}; reset the board, check cable and power, try again")
        return DeviceGarbled(
            f"{self.name}: no valid answer to {what}, only bytes like {bytes(self._noise[:NOISE_BYTES])!r}; "
            f"another program is on the board, its speed is not {self._transport.baud} bit/s, or the cable is bad: "
            "flash this experiment's firmware, then try another cable"
        )

    # --- Many messages in order ---

    def _in_order(
        self,
        message_at: Callable[[int], tuple[protocol.Request, int] | None],
        answer: type[AnswerT],
        reached: Callable[[AnswerT], int],
        start: int = 0,
    ) -> Iterator[AnswerT]:
        """Sends messages in order of position, as many at once as the receive window holds, and yields their answers.

        The device accepts messages in order only and reports its position in each answer. After a loss the host waits for
        the answers still in flight and continues at the reported position.

        Args:
            message_at: Gives the message that starts at a position and the position after it; None at the end.
            answer: Type of the answers.
            reached: Reads the device's position from an answer.
            start: First position.
        """
        position = following = furthest = start  # acknowledged; to be sent next; highest sent so far
        ready: Sent | None = None
        under_way: deque[Sent] = deque()
        refused: DeviceRefused | None = None
        failures = 0
        lost = False
        self._noise.clear()
        while True:
            while not lost and len(under_way) < MAX_UNDER_WAY:
                if ready is None and (entry := message_at(following)) is not None:
                    ready = self._prepare(*entry)
                used = sum(len(other.frame) + 1 for other in under_way)  # + 1: the delimiter in front of a repeat
                if ready is None or (under_way and used + len(ready.frame) + 1 > self.window):
                    break
                self._send(ready, repeated=following < furthest)
                under_way.append(ready)
                following = ready.after
                furthest = max(furthest, following)
                ready = None
            if not under_way:
                return
            oldest = under_way[0]
            patience = self._patience(oldest) * 2**failures
            until = self.clock.monotonic() + patience
            sequences = [sent.sequence for sent in under_way]
            frame = self._receive(sequences, oldest.message.type_id, until, hurry=len(under_way) == 1 and failures == 0)
            before = position
            if frame is None:
                under_way.clear()
            else:
                while (sent := under_way.popleft()).sequence != frame.sequence:
                    pass  # an earlier request without an answer: it or its answer was lost
                if under_way:
                    under_way[0].since = self.clock.monotonic()  # the device begins with it now
                try:
                    record = self._open(frame, sent, answer)
                    refused, position = None, reached(record)
                except DeviceRefused as refusal:
                    if refusal.status != Status.BAD_OFFSET:
                        raise
                    record, refused, position = None, refusal, refusal.detail
                if position < before:
                    raise refused or DeviceGarbled(
                        f"{self.name}: went back from {before} to {position} in {type(sent.message).__name__}; "
                        "it was reset: start the round again"
                    )
                lost = lost or position != sent.after
                if record is not None:
                    yield record
            if position > before:
                failures = 0
            if frame is None or (lost and not under_way):
                if position == before and (failures := failures + 1) > self.retries:
                    raise refused or self._no_answer(oldest.message, patience, self.retries)
                lost, ready, following = False, None, position


def _is_sample(type_id: int) -> bool:
    return type_id in (protocol.Sample.type_id, protocol.Predict.type_id)
