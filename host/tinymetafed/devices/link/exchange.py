"""Requests and answers over one line: sequence numbers, timeouts, retries, several requests in flight, traffic counts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import ALL_REQUESTS
from tinymetafed_codegen.optional_messages.authentication_messages import MAC_BYTES
from tinymetafed_codegen.optional_messages.part_messages import PART_REQUESTS
from tinymetafed_codegen.protocol import FRAME_HEADER_BYTES, Status, wire_size

from ...federation.clients import Traffic
from ...wire.authentication import SessionKeys
from ...wire.frame import KEPT_BYTES, Decoder, Frame, encode
from .clock import SYSTEM_CLOCK, Clock
from .link_errors import DeviceGarbled, DeviceRefused, DeviceSilent, DeviceSlow, LinkError, SessionLost
from .transport import Transport

AnswerT = TypeVar("AnswerT", bound=protocol.Record)

DEADLINE_SECONDS = 0.5  # timeout until the device's answer times are known; doubled at every retry
SHORTEST_SECONDS = 0.2  # shortest timeout: a busy laptop may suspend this process for so long
HURRY_SECONDS = 0.02  # timeout after a damaged frame, which probably was the answer
RETRIES = 4
PATIENCE = 4  # the timeout is this many times the longest recent answer time of the message type
LONGEST_SECONDS = 10.0  # longest timeout of a first try: answers that get slower and slower must not stretch it for ever
PACE_DECAY = 0.875  # factor on the longest recent answer time with every answer
MAX_UNDER_WAY = 64  # requests in flight; well below the 256 sequence numbers
LOOK_SECONDS = 0.2  # between two questions to `watch` while waiting for an answer
_NO_SESSION = protocol.ErrorAnswer(Status.BAD_STATE, 0).pack()
_SAMPLES = {protocol.Sample.type_id, protocol.Predict.type_id, *(each.type_id for each in PART_REQUESTS)}
ANSWER_TYPES = frozenset((protocol.ERROR_TYPE, *(each.type_id | protocol.ANSWER_BIT for each in ALL_REQUESTS)))


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
        self.watch: Callable[[], LinkError | None] | None = None  # gives a reason to stop waiting for an answer
        self._transport = transport
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        # Of the last request; its lowest byte is the sequence number. A late answer to an earlier program is unlikely to match.
        self._counter = os.urandom(1)[0]
        self._keys: SessionKeys | None = None  # of an authenticated session
        self.forged = 0  # frames with a wrong MAC, received and dropped
        self._pace: dict[int, float] = {}  # longest recent answer time in seconds, by request type
        self._late = 0  # valid answers to earlier requests, received since the latest request
        self._down = [0, 0]  # bytes: of other messages, of samples
        self._up = [0, 0]
        self._retries = 0
        self._spared = 0

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
        return Traffic(sum(self._down), sum(self._up), self._down[1], self._up[1], self._retries, self._spared)

    @contextmanager
    def _in_place_of_samples(self) -> Iterator[None]:
        """Counts what travels meanwhile among the samples, because it stands for samples that are not sent."""
        down, up = self._down[0], self._up[0]
        try:
            yield
        finally:
            for bytes_, before in ((self._down, down), (self._up, up)):
                bytes_[:] = before, bytes_[1] + bytes_[0] - before

    @property
    def damaged(self) -> int:
        """Number of damaged frames received and dropped."""
        return self._decoder.damaged

    @property
    def mac_bytes(self) -> int:
        """Bytes of the MAC behind every payload; 0 unless the session is authenticated."""
        return 0 if self._keys is None else MAC_BYTES

    def begin(self, keys: SessionKeys) -> None:
        """Gives every frame a MAC from now on, and takes no frame without one. The last request was the host's proof."""
        self._keys = keys
        self._counter &= 0xFF  # as the board counts
        self._frames.clear()  # nobody has checked them

    def end(self) -> None:
        """Sends and takes frames without a MAC again, as a handshake needs."""
        self._keys = None

    def delimit(self) -> None:
        """Sends a single 0x00, which ends any incomplete frame in the device's decoder and has no other effect."""
        self._transport.write(b"\0")
        self._down[0] += 1

    # --- One request ---

    def request(self, message: protocol.Request) -> protocol.Record:
        """Sends ``message``, with retries, until its answer is received.

        Raises:
            LinkError: DeviceSilent, DeviceGarbled, DeviceSlow, DeviceRefused or PortError.
        """
        return self._ask(message, message.answer)

    def _ask(self, message: protocol.Request, answer: type[AnswerT]) -> AnswerT:
        sent = self._prepare(message)
        self._listen_afresh()
        patience = self._patience(sent)
        for attempt in range(self.retries + 1):
            self._send(sent, repeated=attempt > 0)
            until = self.clock.monotonic() + patience * 2**attempt
            frame = self._receive((sent.sequence,), message.type_id, until, hurry=attempt == 0)
            if frame is not None:
                return self._open(frame, sent, answer)
        raise self._no_answer((sent,), patience * (2 ** (self.retries + 1) - 1), self.retries)

    def _prepare(self, message: protocol.Request, after: int = 0) -> Sent:
        self._counter += 1
        payload, sequence = message.pack(), self._counter & 0xFF
        if self._keys is not None:
            payload = self._keys.sealed(self._counter, message.type_id, payload)
        return Sent(sequence, message, encode(message.type_id, sequence, payload), after, 0.0)

    def _listen_afresh(self) -> None:
        """Forgets what was received before a new request, so that an error's text is about this request only."""
        self._decoder.forget_damage()
        self._late = 0

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
        return min(known, LONGEST_SECONDS) + on_the_line

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
            if self.watch is not None and (reason := self.watch()) is not None:  # also where a flood of frames leaves no wait
                raise reason
            while self._frames:
                frame = self._frames.popleft()
                if frame.sequence in sequences and frame.type_id in answers:
                    return frame
                self._late += frame.type_id in ANSWER_TYPES
            remaining = until - self.clock.monotonic()
            if remaining <= 0:
                return None
            if self.watch is not None:
                remaining = min(remaining, LOOK_SECONDS)
            data = self._transport.read(remaining)
            self._up[_is_sample(type_id)] += len(data)
            for received in self._decoder.feed(data):
                if (taken := self._authentic(received, sequences)) is not None:
                    self._frames.append(taken)
            if hurry and self._decoder.damaged > damaged:
                until = min(until, self.clock.monotonic() + HURRY_SECONDS)
            on_bytes()

    def _authentic(self, frame: Frame, asked: Collection[int]) -> Frame | None:
        """The frame without its MAC; None if it is dropped, because its MAC is wrong or it has none.

        A board answers without a MAC only if it has no session, because it was reset. Nobody proves that, so nothing follows
        but a new handshake.

        Raises:
            SessionLost: Such an answer to one of the requests ``asked``.
        """
        if self._keys is None:
            return frame
        counter = self._counter - (self._counter - frame.sequence & 0xFF)
        payload = self._keys.opened(counter, frame.type_id, frame.payload) if counter >= 0 else None
        if payload is not None:
            return Frame(frame.type_id, frame.sequence, payload, frame.wire_bytes)
        self.forged += 1
        if (frame.type_id, frame.payload) == (protocol.ERROR_TYPE, _NO_SESSION) and frame.sequence in asked:
            raise SessionLost(
                f"{self.name}: an answer without a MAC says that the board knows no session; if it was reset, connect it again"
            )
        return None

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
            raise DeviceGarbled(f"{self.name}: answered {question} with an unexpected message: {error}") from error

    def _no_answer(self, asked: Collection[Sent], seconds: float, retries: int | None) -> LinkError:
        """The error for requests without an answer: what was received instead decides what is wrong and what to do."""
        what = f"{type(next(iter(asked)).message).__name__} in {seconds:.1f} s"
        if retries is not None:
            what += f" and {retries} {'retry' if retries == 1 else 'retries'}"
        late, noise = self._heard({sent.sequence for sent in asked})
        answers = f"{late} to earlier requests"
        if noise and late:
            return DeviceGarbled(
                f"{self.name}: no answer to {what}, only {answers} and damaged bytes like {noise!r}; "
                "the cable or the USB hub loses or changes bytes: try another one"
            )
        if noise:
            return DeviceGarbled(
                f"{self.name}: no valid answer to {what}, only bytes like {noise!r}; "
                f"another program is on the board, its speed is not {self._transport.baud} bit/s, or the cable is bad: "
                "flash this experiment's firmware, then try another cable"
            )
        if late:
            return DeviceSlow(
                f"{self.name}: no answer to {what}, only {answers}: the device answers too slowly; emulated boards: start "
                "fewer, or end other programs on this machine; a real board: shorten what its program does between two calls "
                "that serve the host"
            )
        return DeviceSilent(f"{self.name}: no answer to {what}; reset the board, check cable and power, try again")

    def _heard(self, asked: Collection[int]) -> tuple[int, bytes]:
        """What was received since the request: the number of late answers, and the first bytes of damaged frames.

        An incomplete frame that begins as an answer to an earlier request is the next late answer. Any other one is damaged,
        unless late answers were received and too little of it is there to tell.
        """
        rest = self._decoder.pending
        head = self._decoder.beginning(FRAME_HEADER_BYTES)
        begins = not head or (head[0] in ANSWER_TYPES and _may_have(len(rest), rest[0], head[0]))
        late = self._late + (begins and len(head) == FRAME_HEADER_BYTES and head[1] not in asked)
        return late, self._decoder.damage if begins and late else (self._decoder.damage + rest)[:KEPT_BYTES]

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
        self._listen_afresh()
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
                    raise refused or self._no_answer((oldest,), patience, self.retries)
                lost, ready, following = False, None, position


def _is_sample(type_id: int) -> bool:
    return type_id in _SAMPLES


def _may_have(received: int, first: int, type_id: int) -> bool:
    """Whether a frame of this type may have so many bytes; ``first``, its first, promises as many (COBS)."""
    return type_id != protocol.ERROR_TYPE or max(received, first) <= wire_size(protocol.ErrorAnswer.fixed_size())
