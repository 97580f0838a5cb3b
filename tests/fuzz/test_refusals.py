"""A refusal's detail belongs to the refused message, never to an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import in_process
import pytest
from in_process import Device

from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import (
    Await,
    Configure,
    Dtype,
    ErrorAnswer,
    Fetch,
    Load,
    Program,
    Pull,
    Recipe,
    Request,
    Status,
    Train,
)

TOKEN = 5


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_process.build("sine", tmp_path_factory.mktemp("refusals"))


@pytest.fixture
def device(library: Path) -> Iterator[Device]:
    device = Device(library)
    device.ask(Configure(1, Program.TRAIN, Recipe((), 3)))
    device.ask(Load(TOKEN, 0, Dtype.F16, 0.0, bytes(14)))
    yield device
    device.close()


def refusal(device: Device, type_id: int, payload: bytes) -> ErrorAnswer:
    device.receive(encode(type_id, 1, payload))
    device.work()
    (frame,) = Decoder().feed(device.sent())
    assert frame.type_id == protocol.ERROR_TYPE, frame
    return ErrorAnswer.unpack(frame.payload)


# Refused messages, each with a detail of its own.
WITH_DETAIL = [Load(TOKEN, 900, Dtype.F16, 0.0, bytes(2)), Load(TOKEN - 1, 0, Dtype.F16, 0.0, bytes(2)), Await(TOKEN + 4, 0)]


@pytest.mark.parametrize("earlier", WITH_DETAIL, ids=["offset of a Load", "token of a Load", "token of an Await"])
@pytest.mark.parametrize("message", protocol.REQUESTS, ids=lambda message: message.__name__)
def test_a_malformed_message_says_nothing_of_an_earlier_one(device: Device, message: type[Request], earlier: Request) -> None:
    assert refusal(device, earlier.type_id, earlier.pack()).detail in (5, 7)
    size = message.fixed_size()
    for payload in (bytes(size - 1) if size else bytes(1), *([] if message.has_tail() else [bytes(size + 1)])):
        assert refusal(device, message.type_id, payload) == ErrorAnswer(Status.BAD_LENGTH, 0)


@pytest.mark.parametrize("earlier", WITH_DETAIL, ids=["offset of a Load", "token of a Load", "token of an Await"])
@pytest.mark.parametrize(
    ("message", "status"),
    [
        (Train(TOKEN, Program.TRAIN, 1, 2, 3), Status.BAD_STATE),
        (Pull(TOKEN, 0), Status.BAD_STATE),
        (Fetch(0, 1), Status.BAD_STATE),
        (Load(TOKEN, 7, Dtype.I8, 0.0, bytes(2)), Status.BAD_VALUE),
        (Load(TOKEN, 7, Dtype.F16, 0.0, b""), Status.BAD_LENGTH),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else type(value).__name__,
)
def test_a_refused_message_says_nothing_of_an_earlier_one(
    device: Device, message: Request, status: Status, earlier: Request
) -> None:
    assert refusal(device, earlier.type_id, earlier.pack()).detail in (5, 7)
    assert refusal(device, message.type_id, message.pack()) == ErrorAnswer(status, 0)
    assert refusal(device, 0x55, b"x") == ErrorAnswer(Status.UNKNOWN_TYPE, 0)


@pytest.mark.parametrize(
    "message", [message for message in protocol.REQUESTS if message.fixed_size()], ids=lambda m: m.__name__
)
def test_a_value_outside_a_fields_domain_is_refused_whatever_the_state(device: Device, message: type[Request]) -> None:
    """The generated C++ checks of the wire table: each field with a domain in turn, and the device's message."""
    for where, payload, status in outside(message):
        assert refusal(device, message.type_id, payload) == ErrorAnswer(status, 0), where


def outside(message: type[Request]) -> list[tuple[str, bytes, Status]]:
    """Payloads with one value outside its domain: field and message, bytes, expected refusal."""
    return [
        (where, valid(message)[:at] + bad + valid(message)[at + len(bad) :], status)
        for where, at, bad, status in spots(message, message.__name__, 0)
    ]


def valid(record: type[protocol.Record]) -> bytes:
    return b"".join(value_of(kind) for kind in record.kinds().values())


def value_of(kind: protocol.Kind) -> bytes:
    if isinstance(kind, protocol.UpTo):
        return valid(kind.record).ljust(kind.size, b"\0")
    if isinstance(kind, protocol.Nested):
        return valid(kind.record)
    if isinstance(kind, protocol.Rest):
        return bytes(2)
    return kind.encode(kind.members[0] if isinstance(kind, protocol.Named) else 1)


def spots(record: type[protocol.Record], path: str, start: int) -> list[tuple[str, int, bytes, Status]]:
    found: list[tuple[str, int, bytes, Status]] = []
    for name, kind in record.kinds().items():
        at, where = start + record.place(name), f"{path}.{name}"
        if isinstance(kind, protocol.Nested | protocol.UpTo):
            # passes = 0 is valid in a recipe: it ends the phases
            found += [spot for spot in spots(kind.record, where, at) if ".passes =" not in spot[0]]
        elif isinstance(kind, protocol.Named):
            unknown = [code for code in (*range(6), 77, 255) if code not in kind.members]
            found += [(f"{where} = {code}", at, bytes([code]), Status.BAD_VALUE) for code in unknown]
        elif isinstance(kind, protocol.Number):
            wrong = {kind.bounds.least: -1, kind.bounds.most: 1, kind.bounds.above: 0}
            wrong.pop(None, None)
            values = [limit + step for limit, step in wrong.items() if limit is not None]
            found += [(f"{where} = {value}", at, kind.encode(value), Status.BAD_VALUE) for value in values]
            if kind.is_float:
                for value in (float("nan"), float("inf"), float("-inf")):
                    found.append((f"{where} = {value}", at, kind.encode(value), Status.NOT_FINITE))
    return found
