"""Prints the frames of a line as text, one per line of text: live from a port, or from a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tinymetafed_codegen import optional_messages, protocol
from tinymetafed_codegen.optional_messages.authentication_messages import MAC_BYTES, Challenge, Prove, Response
from tinymetafed_codegen.protocol import Code, ErrorAnswer, HelloAnswer, Record, WireError

from ...wire.authentication import Handshake, SessionKeys
from ...wire.frame import Decoder, Frame
from .clock import SYSTEM_CLOCK
from .record import UP, RecordingError, events, is_recording
from .transport import DEFAULT_BAUD, open_transport

SHOWN_BYTES = 8  # bytes shown of a field or of a damaged frame
_POLL_SECONDS = 0.5
_REQUESTS = {each.type_id: each for each in optional_messages.ALL_REQUESTS}
_WITHOUT_MAC = (protocol.Hello.type_id, Challenge.type_id, Prove.type_id)
_ANSWERS = {type_id | protocol.ANSWER_BIT: each.answer for type_id, each in _REQUESTS.items()}


KeysOf = Callable[[bytes], Sequence[bytes]]  # a board's id to its keys, as far as they are known


class _Session:
    """The MACs of a line: its frames have them from the answer to Prove up to the next answer to Hello.

    They are checked where the handshake was seen whole and the board's key is known.
    """

    def __init__(self, keys_of: KeysOf) -> None:
        self._keys_of = keys_of
        self._is_authenticated = False
        self._hello = self._nonce = b""
        self._handshake: Handshake | None = None
        self._keys: SessionKeys | None = None
        self._counter = 0  # of the latest request

    def divided(self, frame: Frame) -> tuple[Frame, str]:
        """The frame without its MAC, and what to show of the MAC; "" if it has none."""
        asked = frame.type_id & ~protocol.ANSWER_BIT
        if frame.type_id != protocol.ERROR_TYPE and asked in _WITHOUT_MAC:
            with suppress(WireError):  # shown as malformed
                self._follow(frame)
            return frame, ""
        refused = frame.type_id == protocol.ERROR_TYPE and len(frame.payload) == ErrorAnswer.fixed_size()
        if not self._is_authenticated or refused or len(frame.payload) < MAC_BYTES:
            return frame, ""
        payload, mac = frame.payload[:-MAC_BYTES], frame.payload[-MAC_BYTES:]
        return Frame(frame.type_id, frame.sequence, payload, frame.wire_bytes), f" mac={mac.hex()} {self._verdict(frame)}"

    def _follow(self, frame: Frame) -> None:
        """Takes part in a handshake. Raises WireError."""
        if frame.type_id == Challenge.type_id:
            self._nonce = Challenge.unpack(frame.payload).nonce
        elif frame.type_id == Prove.type_id:
            self._counter = frame.sequence
        elif frame.type_id == Challenge.type_id | protocol.ANSWER_BIT:
            self._handshake = self._fitting(Response.unpack(frame.payload))
        elif frame.type_id == Prove.type_id | protocol.ANSWER_BIT:
            self._is_authenticated = True
            self._keys = None if self._handshake is None else self._handshake.session()
        elif frame.type_id == protocol.Hello.type_id | protocol.ANSWER_BIT:
            self._is_authenticated, self._hello, self._handshake = False, frame.payload, None

    def _fitting(self, response: Response) -> Handshake | None:
        """The handshake by a key that the board has proved to have; None if no such key is known, or the rest was not seen."""
        if not self._hello or not self._nonce:
            return None
        tried = (
            Handshake(key, self._hello, self._nonce, response.nonce)
            for key in self._keys_of(HelloAnswer.unpack(self._hello).unique_id)
        )
        return next((each for each in tried if each.board_proof == response.proof), None)

    def _verdict(self, frame: Frame) -> str:
        """Whether a frame's MAC is right; the frame has the lowest byte of its counter."""
        if self._keys is None:
            return "not checked"
        is_answer = frame.type_id & protocol.ANSWER_BIT or frame.type_id == protocol.ERROR_TYPE
        opened = self._keys.opened if is_answer else self._keys.opened_request
        earlier = self._counter - (self._counter - frame.sequence & 0xFF)
        for counter in (earlier, earlier + 256):  # of a repeated request, and of a new one
            if counter >= 0 and opened(counter, frame.type_id, frame.payload) is not None:
                self._counter = max(self._counter, counter)
                return "right"
        return "WRONG"


class _Direction:
    """One direction of one line: turns its bytes into lines of text."""

    def __init__(self, label: str, session: _Session) -> None:
        self._label = label
        self._session = session
        self._decoder = Decoder()

    def feed(self, seconds: float, data: bytes) -> Iterator[str]:
        """A line of text for each frame that ``data`` completes, damaged ones included."""
        *ended, rest = data.split(b"\0")
        for piece in ended:
            wire = self._decoder.pending + piece
            damaged = self._decoder.damaged
            for frame in self._decoder.feed(piece + b"\0"):
                content, mac = self._session.divided(frame)
                yield f"{seconds:11.6f} {self._label} {describe(content)}{mac}"
            if self._decoder.damaged > damaged:
                yield f"{seconds:11.6f} {self._label} DAMAGED, {len(wire) + 1} bytes: {_hex(wire)}"
        self._decoder.feed(rest)

    def end(self) -> Iterator[str]:
        """A line of text if an incomplete frame is left at the end."""
        if rest := len(self._decoder.pending):
            yield f"{'':11} {self._label} {rest} bytes of a frame that does not end"


def lines(source: str, baud: int = DEFAULT_BAUD, keys_of: KeysOf = lambda unique_id: ()) -> Iterator[str]:
    """Yields one line of text per frame: time, direction, message.

    Args:
        source: A recording, or the URL of a serial line, which is read until it is closed. On a line only the frames that
            the device sends can be seen.
        baud: Speed of the serial line in bit/s.
        keys_of: Gives the keys of a board's id, with which MACs are checked. A line alone does not show the handshake.

    Yields:
        Lines of text. The last one says so if a recording was cut off.

    Raises:
        RecordingError: The file is not a recording.
        PortError: The line cannot be opened, or was lost.
    """
    if Path(source).is_file():
        yield from _of_recording(Path(source), keys_of)
    elif Path(source).suffix and "://" not in source and not source.startswith("/dev/"):
        raise RecordingError(f"{source}: no such recording; give a file that `train --record` wrote, or a port")
    else:
        yield from _of_port(source, baud)


def describe(frame: Frame) -> str:
    """A frame as text: sequence number, message, fields, size."""
    kind: type[Record] | None = _REQUESTS.get(frame.type_id) or _ANSWERS.get(frame.type_id)
    if frame.type_id == protocol.ERROR_TYPE:
        kind = ErrorAnswer
    head = f"#{frame.sequence:<3} {kind.__name__ if kind else f'type 0x{frame.type_id:02x}':<15}"
    if kind is None:
        return f"{head} unknown, {len(frame.payload)} bytes of payload: {_hex(frame.payload)}"
    try:
        message = kind.unpack(frame.payload)
    except WireError as error:
        return f"{head} MALFORMED: {error}"
    shown = " ".join(_fields(message))
    return f"{head} {shown}{' ' if shown else ''}({frame.wire_bytes} bytes)"


def _fields(record: Record) -> list[str]:
    """``name=value`` for each field; the fields of nested records are listed too."""
    shown: list[str] = []
    for name in record.kinds():
        value = getattr(record, name)
        shown += _fields(value) if isinstance(value, Record) else [f"{name}={_value(name, value)}"]
    return shown


def _value(name: str, value: object) -> str:
    if isinstance(value, Code):
        return value.name
    if isinstance(value, tuple):
        return "[" + ", ".join(" ".join(_fields(each)) for each in value) + "]"
    if isinstance(value, bytes):
        if name == "key":
            return f"<{len(value)} secret bytes>"
        if name == "board":
            return value.rstrip(b"\0").decode("ascii", "backslashreplace")
        return value.hex() if len(value) <= SHOWN_BYTES else f"<{len(value)} bytes {_hex(value)}>"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hex(data: bytes) -> str:
    return data[:SHOWN_BYTES].hex(" ") + (" …" if len(data) > SHOWN_BYTES else "")


def _of_recording(path: Path, keys_of: KeysOf) -> Iterator[str]:
    if not is_recording(path):
        raise RecordingError(f"{path}: is not a recording; give a serial port, or a file that --record wrote")
    directions: dict[tuple[str, str], _Direction] = {}
    sessions: dict[str, _Session] = {}
    try:
        for event in events(path):
            key = (event.device, event.direction)
            if key not in directions:
                session = sessions.setdefault(event.device, _Session(keys_of))
                directions[key] = _Direction(f"{event.device} {event.direction}", session)
            yield from directions[key].feed(event.seconds, event.data)
    except RecordingError as error:
        yield f"{error}"
    for direction in directions.values():
        yield from direction.end()


def _of_port(url: str, baud: int) -> Iterator[str]:
    began = SYSTEM_CLOCK.monotonic()
    heard = _Direction(UP, _Session(lambda unique_id: ()))
    with open_transport(url, baud) as transport:
        while True:
            data = transport.read(_POLL_SECONDS)
            yield from heard.feed(SYSTEM_CLOCK.monotonic() - began, data)
