"""Messages between server and gateways: what is written is read back in the same bits, and anything else is refused."""

from __future__ import annotations

import contextlib
import unicodedata
import zlib
from dataclasses import replace

import numpy as np
import pytest
from gateways_in_memory import gateway, setup, terms
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.federation.clients import DeviceFacts, Served, Traffic
from tinymetafed.federation.quorum import Absence, Returned
from tinymetafed.federation.sums import Share
from tinymetafed.gateways.gateway import shape_of
from tinymetafed.gateways.gateway_fields import FieldReader, FieldWriter, GatewayMessageError
from tinymetafed.gateways.gateway_messages import (
    Failed,
    ForeignMessage,
    Join,
    Joined,
    Kind,
    Shape,
    Trained,
    TrainOrder,
    opened,
    read_failed,
    read_join,
    read_joined,
    read_order,
    read_trained,
    sealed,
)
from tinymetafed.gateways.terms import Terms
from tinymetafed.gateways.update_fields import read_sum, read_update, write_sum, write_update
from tinymetafed.learn import fixed_sum
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed_codegen.protocol import Dtype, Status

N = 40
IDENTITY = bytes(range(16))


def update(rng: np.random.Generator, k: int, dtype: Dtype, n: int = N) -> Sparse:
    """An update with the values that ``dtype`` can have."""
    indices = np.sort(rng.choice(n, k, replace=False)).astype(np.int64)
    values = rng.normal(size=k).astype(np.float32)
    if dtype is Dtype.F16:
        values = values.astype(np.float16).astype(np.float32)
    if dtype is Dtype.I8:
        scale = np.abs(values).max(initial=np.float32(0)) / np.float32(127)
        values = np.rint(values / scale).astype(np.int8).astype(np.float32) * scale if k else values
    return Sparse(indices, values)


def same(one: Sparse, other: Sparse) -> bool:
    return one.indices.tolist() == other.indices.tolist() and one.values.tobytes() == other.values.tobytes()


@given(seed=st.integers(0, 1 << 32), k=st.integers(0, N), dtype=st.sampled_from([Dtype.F32, Dtype.F16, Dtype.I8]))
@settings(max_examples=200)
def test_updates_are_read_back_in_the_same_bits(seed: int, k: int, dtype: Dtype) -> None:
    made = update(np.random.default_rng(seed), k, dtype)
    writer = FieldWriter()
    write_update(writer, made, N)
    reader = FieldReader(writer.finished())
    assert same(read_update(reader, N, k), made)
    reader.end()


@pytest.mark.parametrize(
    "values", [[0.0, -0.0], [-0.0], [1e-45, 1.0], [3e38, 1.0], [2.0**-126, 0.0], [65504.0, -65504.0], [65520.0], [0.0]]
)
def test_awkward_values_keep_their_bits(values: list[float]) -> None:
    made = Sparse(np.arange(len(values)), np.array(values, np.float32))
    writer = FieldWriter()
    write_update(writer, made, N)
    assert same(read_update(FieldReader(writer.finished()), N, len(values)), made)


def test_updates_take_the_bytes_that_they_took_on_the_line() -> None:
    rng, n = np.random.default_rng(1), 1000
    for dtype, most in ((Dtype.I8, 500 + 125), (Dtype.F16, 1000 + 125), (Dtype.F32, 2000 + 125)):
        writer = FieldWriter()
        write_update(writer, update(rng, 500, dtype, n), n)
        assert len(writer.finished()) <= most + 8
    writer = FieldWriter()
    write_update(writer, update(rng, 5, Dtype.I8, n), n)
    assert len(writer.finished()) <= 5 * 3 + 8


@given(st.lists(st.integers(-(1 << 61), 1 << 61), min_size=1, max_size=50))
@settings(max_examples=200)
def test_sums_are_read_back(numbers: list[int]) -> None:
    writer = FieldWriter()
    write_sum(writer, np.array(numbers, np.int64))
    reader = FieldReader(writer.finished())
    assert read_sum(reader, len(numbers), fixed_sum.MAX_UPDATES).tolist() == numbers
    reader.end()


def test_a_sum_that_its_updates_cannot_have_is_refused() -> None:
    writer = FieldWriter()
    write_sum(writer, np.array([3 << fixed_sum.ENTRY_BITS], np.int64))
    assert read_sum(FieldReader(writer.finished()), 1, 3).tolist() == [3 << fixed_sum.ENTRY_BITS]
    with pytest.raises(GatewayMessageError, match="a sum that 2 updates cannot have"):
        read_sum(FieldReader(writer.finished()), 1, 2)


@given(st.lists(st.integers(0, 1 << 32), max_size=40))
def test_lists_of_numbers_are_read_back(numbers: list[int]) -> None:
    writer = FieldWriter()
    writer.numbers(numbers)
    assert FieldReader(writer.finished()).numbers(40, 1 << 32) == numbers


DEVICES = (DeviceFacts("native#1", "native", "00ff", 512), DeviceFacts("/dev/ttyACM0", "nano33ble", "", 256))
NAMES = tuple(device.url for device in DEVICES)
TRAFFIC = Traffic(1, 2, 3, 4, 5, 6)


def order(exponent: int | None = None) -> TrainOrder:
    weights = np.linspace(-1, 1, N, dtype=np.float32)
    download = tuple(downlink.encode(weights, Dtype.I8, [10, 30]))
    return TrainOrder(7, 300, 5, exponent, download, (900, 3, 5, 44), (b"a", b"bb", b"", b"c"), ((b"c", "stands out"),))


def answer(exponent: int | None) -> Trained:
    rng = np.random.default_rng(3)
    made = [update(rng, 9, Dtype.I8) for _ in range(2)]
    served = (
        Served(made[0], NAMES[1], False, ""),
        Served[Sparse](None, "", False, "its board is late", Absence(NAMES[0], away=True)),
        Served[Sparse](None, "", False, "no board had begun it", Absence("", away=False)),
        Served(made[1], NAMES[0], True, "native#2: sent no byte", None, Returned(NAMES[0], 7, 1.5)),
    )
    if exponent is None:
        return Trained(served, (), None, TRAFFIC, 10, 20)
    shares = tuple(each.of(lambda one: Share(one.indices.size, "")) for each in served)
    return Trained((), shares, fixed_sum.total(made, N, exponent), TRAFFIC, 10, 20)


def all_messages() -> list[Join | Joined | TrainOrder | Trained | Failed]:
    common = terms(setup())
    return [
        Join(common, 1 << 62),
        Joined("lab-1", 1 << 62, common, DEVICES, (1,), TRAFFIC),
        order(),
        order(-20),
        answer(None),
        answer(-20),
        Failed("training failed: ä", Status.NOT_FINITE, stale=True),
    ]


def read(content: bytes, shape: Shape, to: TrainOrder) -> object:
    kind, identity, reader = opened(content)
    assert identity == IDENTITY
    match kind:
        case Kind.JOIN:
            return read_join(reader)
        case Kind.JOINED:
            return read_joined(reader)
        case Kind.TRAIN:
            return read_order(reader, shape)
        case Kind.TRAINED:
            return read_trained(reader, shape, NAMES, to)
        case Kind.FAILED:
            return read_failed(reader)


@pytest.mark.parametrize("place", range(7))
def test_messages_are_read_back_and_refused_if_anything_is_changed(place: int) -> None:
    message, shape = all_messages()[place], Shape(N, 9, None)
    to = order(-20 if place == 5 else None)
    content = sealed(message, IDENTITY, shape, NAMES)
    assert repr(read(content, shape, to)) == repr(message)
    for cut in range(len(content)):
        with pytest.raises(GatewayMessageError):
            read(content[:cut], shape, to)
    for at in range(len(content)):
        with pytest.raises(GatewayMessageError):
            read(content[:at] + bytes([content[at] ^ 0x21]) + content[at + 1 :], shape, to)
    with pytest.raises(GatewayMessageError):
        read(content + b"\0", shape, to)


def with_fields(kind: Kind, fields: bytes) -> bytes:
    """A message whose fields are any bytes, with the right CRC."""
    content = bytearray(sealed(Failed(""), IDENTITY, Shape(N, 9, None)))
    content[5] = kind
    content[28:] = zlib.compress(fields)
    content[24:28] = zlib.crc32(bytes(content[:24]) + bytes(4) + bytes(content[28:])).to_bytes(4, "little")
    return bytes(content)


@given(st.sampled_from(list(Kind)), st.binary(max_size=300))
@settings(max_examples=500)
def test_any_fields_are_read_or_refused_by_name(kind: Kind, fields: bytes) -> None:
    with contextlib.suppress(GatewayMessageError):
        read(with_fields(kind, fields), Shape(N, 9, None), order())


@given(st.integers(0, 6), st.data())
@settings(max_examples=300)
def test_changed_fields_are_read_or_refused_by_name(place: int, data: st.DataObject) -> None:
    shape = Shape(N, 9, None)
    kind, _, reader = opened(sealed(all_messages()[place], IDENTITY, shape, NAMES))
    fields = bytearray(reader.raw(len(reader._content)))
    for _ in range(data.draw(st.integers(1, 3))):
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(GatewayMessageError):
        read(with_fields(kind, bytes(fields)), shape, order(-20 if place == 5 else None))


@given(st.text(max_size=40), st.integers(0, 40))
@settings(max_examples=300)
def test_any_text_can_be_read_back_up_to_the_most_that_a_reader_takes(text: str, most: int) -> None:
    writer = FieldWriter()
    writer.text(text, most)
    there = FieldReader(writer.finished()).text(most)
    assert len(there) == len(text) or len(there.encode()) > most - 4, "no more is cut than must be"
    for mine, its in zip(text, there, strict=False):
        assert its == mine or (its == "?" and unicodedata.category(mine) in ("Cc", "Cs"))


def test_every_text_of_a_message_is_cut_to_what_a_reader_takes() -> None:
    shape, long = Shape(N, 9, None), "\x1bä" * 3000
    device = DeviceFacts(long, long, "00ff", 512)
    messages = (
        Failed(long),
        Joined(long, 1, terms(setup()), (device,)),
        replace(order(), excluded=((b"c", long),)),
        replace(answer(None), served=tuple(replace(each, note=long) for each in answer(None).served)),
    )
    for message in messages:
        assert "?ä" in repr(read(sealed(message, IDENTITY, shape, NAMES), shape, order()))


def test_control_characters_of_any_kind_are_refused() -> None:
    for text in ("\x1b[2J", "\x7f", "\x9b2J", "\r", "\0"):
        writer = FieldWriter()
        writer.content(text.encode())
        with pytest.raises(GatewayMessageError, match="control characters"):
            FieldReader(writer.finished()).text(99)


def test_fields_that_unpack_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymetafed.gateways.gateway_messages.MAX_BYTES", 1000)
    with pytest.raises(GatewayMessageError, match="too long"):
        opened(with_fields(Kind.JOIN, bytes(5000)))


def test_other_versions_are_named() -> None:
    content = bytearray(sealed(Failed("x"), IDENTITY, Shape(N, 9, None)))
    content[4] = 9
    with pytest.raises(ForeignMessage, match=r"has messages of format 9, this side of format 1; install the same version"):
        opened(bytes(content))


def test_a_gateway_answers_anything_with_an_error_at_worst() -> None:
    made = setup()
    there, shape = gateway(made, "lab"), shape_of(made.strategy)
    for content in (b"", b"GET / HTTP/1.1", sealed(Failed("x"), there.terms.identity, shape), with_fields(Kind.TRAIN, b"")):
        kind, _, reader = opened(there.answer(content))
        assert kind is Kind.FAILED and read_failed(reader).text.startswith("refused the server's message: ")


def test_terms_name_what_differs_first() -> None:
    mine = terms(setup())
    assert mine.difference(mine) == ""
    assert "has run.seed = 9, and this run has 1" in mine.difference(terms(setup("run.seed=9")))
    assert "another data of the task" in mine.difference(replace(mine, data="ab"))
    assert terms(setup("evaluation.tasks=7")) == mine, "how unseen clients are tested does not concern gateways"
    assert terms(setup("run.seed=9")).identity != mine.identity


def test_terms_have_no_folder_of_this_machine() -> None:
    made = setup()
    assert isinstance(terms(made), Terms) and "/" not in terms(made).experiment
