"""The messages between server and gateways: one order and one answer per gateway and round, as opaque bytes.

A message begins with MAGIC, the format's version, its kind, the arithmetic's version, the identity of the run's terms and a
CRC-32; its fields follow, compressed. It is read whole or refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, TypeVar

import numpy as np

from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.protocol import Dtype, Status

from ..federation.clients import DeviceFacts, Served, Traffic
from ..federation.quorum import Absence, Returned
from ..federation.sums import Share
from ..learn.codecs.delta import WIRE_TYPES, Sparse
from ..learn.codecs.downlink import Segment
from ..learn.fixed_sum import MAX_UPDATES, Integers
from .gateway_fields import FieldReader, FieldWriter, GatewayMessageError
from .terms import Terms
from .update_fields import read_sum, read_update, write_sum, write_update

MAGIC = b"TMFG"
FORMAT = 1
MAX_BYTES = 1 << 28  # of a message and of its fields
MAX_DEVICES = 1 << 16
MAX_TRAFFIC = 1 << 48  # bytes; so the sum of all gateways is a number that a database holds
ID_BYTES = 32  # of a board's unique id, at most
MAX_NAME = 4 * 64  # bytes of 64 letters
_NOTE_BYTES = 1_000
_LEVEL = 6  # of zlib
_HEAD = struct.Struct("<4sBBH16sI")
_EXPONENT = 1 << 10


class ForeignMessage(GatewayMessageError):
    """A message of another version, or of a run with other terms."""


class Kind(IntEnum):
    """The kinds of messages."""

    JOIN = 1
    JOINED = 2
    TRAIN = 3
    TRAINED = 4
    FAILED = 5


@dataclass(frozen=True)
class Shape:
    """What a reader must know: the number of global weights, the entries of an update, and the format of levels down."""

    n: int
    k: int
    levels: LevelFormat | None


@dataclass(frozen=True)
class Join:
    """The server's question: whether a gateway takes part, and with which boards. ``run``: another number for each session."""

    kind: ClassVar[Kind] = Kind.JOIN
    terms: Terms
    run: int


@dataclass(frozen=True)
class Joined:
    """A gateway's answer.

    ``session`` is another number after each start of the gateway. ``dropped``: places among ``devices`` of boards that get no
    work any more, whatever a run asks for. ``traffic``: on its lines so far.
    """

    kind: ClassVar[Kind] = Kind.JOINED
    name: str
    session: int
    terms: Terms
    devices: tuple[DeviceFacts, ...]
    dropped: tuple[int, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True)
class TrainOrder:
    """An order to train clients for one round.

    ``session``: that of the gateway's answer to Join. ``of``: number of the round's clients, at all gateways. ``exponent``: of
    the round's step where updates are to be added up; None where they are handed on. ``download``: the weights as boards get
    them. ``boards``: for each client the unique id of its board; None if any board may train it. ``excluded``: boards that get
    no work, and why.
    """

    kind: ClassVar[Kind] = Kind.TRAIN
    session: int
    round: int
    of: int
    exponent: int | None
    download: tuple[Segment, ...]
    clients: tuple[int, ...]
    boards: tuple[bytes, ...] | None = None
    excluded: tuple[tuple[bytes, str], ...] = ()


@dataclass(frozen=True)
class Trained:
    """A gateway's answer to an order: what came of each client, in the order's order.

    ``served``: the updates, where ``sum_`` is None; otherwise their shares, and ``sum_`` their sum, int64[n]. Devices are named
    as in Joined. ``traffic``: on the gateway's lines since it started. ``microseconds``: that the order took. ``processor``:
    microseconds of this machine's processor in the gateway since it started.
    """

    kind: ClassVar[Kind] = Kind.TRAINED
    served: tuple[Served[Sparse], ...]
    shares: tuple[Served[Share], ...]
    sum_: Integers | None
    traffic: Traffic
    microseconds: int
    processor: int


@dataclass(frozen=True)
class Failed:
    """A gateway's answer if it has not trained: ``status`` is why training failed (protocol.Status), OK for another reason.

    ``stale``: the order was for an earlier session of the gateway, which must join again.
    """

    kind: ClassVar[Kind] = Kind.FAILED
    text: str
    status: Status = Status.OK
    stale: bool = False


_Answer = TypeVar("_Answer")


def sealed(
    message: Join | Joined | TrainOrder | Trained | Failed, identity: bytes, shape: Shape, names: Sequence[str] = ()
) -> bytes:
    """A message as bytes.

    Args:
        message: The message.
        identity: Of the terms of this side.
        shape: Of the run.
        names: The URLs of the gateway's devices, in the order of Joined; only a Trained needs them.
    """
    writer = FieldWriter()
    match message:
        case Join():
            message.terms.write(writer)
            writer.number(message.run)
        case Joined():
            _write_joined(writer, message)
        case TrainOrder():
            _write_order(writer, message)
        case Trained():
            _write_trained(writer, message, shape, {name: place for place, name in enumerate(names)})
        case Failed():
            writer.text(message.text, _NOTE_BYTES)
            writer.number(message.status)
            writer.number(message.stale)
    body = zlib.compress(writer.finished(), _LEVEL)
    head = (MAGIC, FORMAT, message.kind, ARITHMETIC_VERSION, identity)
    return _HEAD.pack(*head, zlib.crc32(_HEAD.pack(*head, 0) + body)) + body


def opened(content: bytes) -> tuple[Kind, bytes, FieldReader]:
    """A message's kind, the identity of its sender's terms, and its fields.

    Raises:
        ForeignMessage: It has another format or arithmetic.
        GatewayMessageError: It is damaged, too long, or of another kind of program.
    """
    if len(content) < _HEAD.size or not content.startswith(MAGIC):
        raise GatewayMessageError("message: it does not begin as messages between server and gateways do")
    if len(content) > MAX_BYTES:
        raise GatewayMessageError(f"message: {len(content):,} bytes, expected {MAX_BYTES:,} at most")
    magic, format_, kind, arithmetic, identity, crc = _HEAD.unpack_from(content)
    if format_ != FORMAT:
        raise ForeignMessage(f"the other side has messages of format {format_}, this side of format {FORMAT}; {_SAME_VERSION}")
    body = content[_HEAD.size :]
    if zlib.crc32(_HEAD.pack(magic, format_, kind, arithmetic, identity, 0) + body) != crc:
        raise GatewayMessageError("message: it is damaged, its CRC is wrong")
    if arithmetic != ARITHMETIC_VERSION:
        raise ForeignMessage(
            f"the other side trains with arithmetic {arithmetic}, this side with {ARITHMETIC_VERSION}; {_SAME_VERSION}"
        )
    if kind not in Kind._value2member_map_:
        raise GatewayMessageError(f"message: its kind is {kind}, expected 1 to {max(Kind)}")
    unpacker = zlib.decompressobj()
    try:
        fields = unpacker.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise GatewayMessageError(f"message: its fields cannot be unpacked ({error})") from None
    if not unpacker.eof or unpacker.unused_data:
        raise GatewayMessageError("message: its fields are too long, end too soon, or more follows them")
    return Kind(kind), identity, FieldReader(fields)


_SAME_VERSION = "install the same version of tinymetafed on server and gateways"


def read_join(reader: FieldReader) -> Join:
    """The fields of a Join. Raises GatewayMessageError, as all these functions."""
    return _whole(reader, Join(Terms.read(reader), reader.number()))


def read_joined(reader: FieldReader) -> Joined:
    """The fields of a Joined."""
    name, session, terms = reader.text(MAX_NAME), reader.number(), Terms.read(reader)
    devices = []
    for _ in range(reader.number(MAX_DEVICES)):
        url, board, unique_id = reader.text(_NOTE_BYTES), reader.text(_NOTE_BYTES), reader.content(ID_BYTES)
        devices.append(DeviceFacts(url, board, unique_id.hex(), reader.number(1 << 32)))
    dropped = tuple(reader.numbers(len(devices), len(devices) - 1))
    return _whole(reader, Joined(name, session, terms, tuple(devices), dropped, _read_traffic(reader)))


def read_order(reader: FieldReader, shape: Shape) -> TrainOrder:
    """The fields of a TrainOrder."""
    session, round_, of = reader.number(), reader.number(1 << 32), reader.number(MAX_UPDATES)
    exponent = reader.signed(_EXPONENT) if reader.number(1) else None
    download = _read_download(reader, shape)
    clients = tuple(reader.numbers(MAX_UPDATES, 1 << 32))
    boards = tuple(reader.content(ID_BYTES) for _ in clients) if reader.number(1) else None
    excluded = [(reader.content(ID_BYTES), reader.text(_NOTE_BYTES)) for _ in range(reader.number(MAX_DEVICES))]
    if len(set(clients)) < len(clients) or len(clients) > of:
        raise GatewayMessageError(f"message: clients {list(clients)[:5]}…, expected up to {of}, each once")
    return _whole(reader, TrainOrder(session, round_, of, exponent, download, clients, boards, tuple(excluded)))


def read_trained(reader: FieldReader, shape: Shape, names: Sequence[str], order: TrainOrder) -> Trained:
    """The fields of a Trained, the answer to ``order`` of a gateway whose devices are ``names``."""
    served: list[Served[Sparse]] = []
    shares: list[Served[Share]] = []
    for _ in order.clients:
        one = _read_served(reader, names)
        if order.exponent is None:
            update = read_update(reader, shape.n, shape.k) if one.device else None
            served.append(Served(update, one.device, one.redone, one.note, one.late, one.back))
        else:
            share = Share(shape.k, "") if one.device else None
            shares.append(Served(share, one.device, one.redone, one.note, one.late, one.back))
    came = sum(each.outcome is not None for each in shares)
    total = None if order.exponent is None else read_sum(reader, shape.n, came)
    traffic = _read_traffic(reader)
    return _whole(reader, Trained(tuple(served), tuple(shares), total, traffic, reader.number(), reader.number()))


def read_failed(reader: FieldReader) -> Failed:
    """The fields of a Failed."""
    text, status, stale = reader.text(_NOTE_BYTES), reader.number(255), bool(reader.number(1))
    if status not in Status._value2member_map_:
        raise GatewayMessageError(f"message: status {status} is unknown")
    return _whole(reader, Failed(text, Status(status), stale))


def _whole(reader: FieldReader, message: _Answer) -> _Answer:
    reader.end()
    return message


def _write_joined(writer: FieldWriter, joined: Joined) -> None:
    writer.text(joined.name, MAX_NAME)
    writer.number(joined.session)
    joined.terms.write(writer)
    writer.number(len(joined.devices))
    for device in joined.devices:
        writer.text(device.url, _NOTE_BYTES)
        writer.text(device.board, _NOTE_BYTES)
        writer.content(bytes.fromhex(device.unique_id))
        writer.number(device.receive_window)
    writer.numbers(joined.dropped)
    _write_traffic(writer, joined.traffic)


def _write_order(writer: FieldWriter, order: TrainOrder) -> None:
    for number in (order.session, order.round, order.of, order.exponent is not None):
        writer.number(number)
    if order.exponent is not None:
        writer.signed(order.exponent)
    writer.number(len(order.download))
    for segment in order.download:
        writer.number(segment.dtype)
        writer.real(segment.scale)
        writer.content(segment.data)
    writer.numbers(order.clients)
    writer.number(order.boards is not None)
    for board in order.boards or ():
        writer.content(board)
    writer.number(len(order.excluded))
    for board, why in order.excluded:
        writer.content(board)
        writer.text(why, _NOTE_BYTES)


def _read_download(reader: FieldReader, shape: Shape) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    offset = 0
    for _ in range(reader.number(shape.n)):
        dtype, scale, data = reader.number(Dtype.I8), reader.real(), reader.content(4 * shape.n)
        values = np.frombuffer(data[: len(data) - len(data) % WIRE_TYPES[Dtype(dtype)].itemsize], WIRE_TYPES[Dtype(dtype)])
        if values.nbytes != len(data) or not np.isfinite(values).all():
            raise GatewayMessageError(f"message: the weights from {offset} on are damaged, or not finite")
        segments.append(Segment(offset, Dtype(dtype), scale, data, shape.levels if dtype == Dtype.I8 else None))
        offset += values.size
    if offset != shape.n:
        raise GatewayMessageError(f"message: {offset} weights, expected {shape.n}")
    return tuple(segments)


def _write_trained(writer: FieldWriter, trained: Trained, shape: Shape, places: dict[str, int]) -> None:
    for each in trained.served or trained.shares:
        _write_served(writer, each, places)
        if isinstance(each.outcome, Sparse):
            write_update(writer, each.outcome, shape.n)
    if trained.sum_ is not None:
        write_sum(writer, trained.sum_)
    _write_traffic(writer, trained.traffic)
    writer.number(trained.microseconds)
    writer.number(trained.processor)


def _write_served(writer: FieldWriter, served: Served[Sparse] | Served[Share], places: dict[str, int]) -> None:
    """Appends who did a client's work, without what came of it; 0 stands for no device."""
    late, back = served.late, served.back
    writer.number(0 if served.outcome is None else 1 + places[served.device])
    writer.number(served.redone + 2 * (late is not None) + 4 * (back is not None))
    writer.text(served.note, _NOTE_BYTES)
    if late is not None:
        writer.number(1 + places[late.device] if late.device else 0)
        writer.number(late.away)
    if back is not None:
        writer.number(1 + places[back.device])
        writer.number(back.round)
        writer.real(back.seconds)


def _read_served(reader: FieldReader, names: Sequence[str]) -> Served[None]:
    """Who did a client's work; the outcome is None."""
    known = ("", *names)
    device, how, note = known[reader.number(len(names))], reader.number(7), reader.text(_NOTE_BYTES)
    late = Absence(known[reader.number(len(names))], bool(reader.number(1))) if how & 2 else None
    back = Returned(known[reader.number(len(names))], reader.number(1 << 32), reader.real()) if how & 4 else None
    return Served(None, device, bool(how & 1), note, late, back)


def _write_traffic(writer: FieldWriter, traffic: Traffic) -> None:
    for number in (traffic.down, traffic.up, traffic.samples_down, traffic.samples_up, traffic.retries, traffic.spared):
        writer.number(number)


def _read_traffic(reader: FieldReader) -> Traffic:
    return Traffic(*(reader.number(MAX_TRAFFIC) for _ in range(6)))
