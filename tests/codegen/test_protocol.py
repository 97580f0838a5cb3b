"""The wire table: what is packed is read again, and what a field may not hold is refused by name, on the host."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import pytest

from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import (
    Await,
    Coding,
    Configure,
    Delta,
    Dtype,
    ErrorAnswer,
    Kind,
    Named,
    Nested,
    Number,
    Phase,
    Predict,
    Program,
    Progress,
    Recipe,
    Record,
    SampleSet,
    Selection,
    State,
    Status,
    UpTo,
    Variant,
    WireError,
)

PHASE = Phase(Variant.LOCAL, SampleSet.QUERY, 3, 2, 0.5, 1.0)
RECIPE = Recipe((PHASE, PHASE), 7, Dtype.F16, Selection.LAYER)


def example(kind: Kind) -> Any:
    if isinstance(kind, Named):
        return kind.members[-1]
    if isinstance(kind, Nested):
        return example_of(kind.record)
    if isinstance(kind, UpTo):
        return (example_of(kind.record),) * (kind.count - 1)
    if isinstance(kind, Number):
        return 0.5 if kind.is_float else int(kind.bounds.least or 0) + 1
    return b"\1" * (kind.size or 5)


def example_of(record: type[Record]) -> Record:
    return record(*(example(kind) for kind in record.kinds().values()))


@pytest.mark.parametrize("record", protocol.records(), ids=lambda record: record.__name__)
def test_what_is_packed_is_read_again_with_its_types(record: type[Record]) -> None:
    message = example_of(record)
    again = record.unpack(message.pack())
    assert again == message
    for name, kind in record.kinds().items():
        if isinstance(kind, Named):
            assert type(getattr(again, name)) is kind.enum


def fields_of(record: type[Record]) -> list[tuple[type[Record], str, Kind]]:
    return [(record, name, kind) for name, kind in record.kinds().items()]


FIELDS = [field for record in protocol.records() for field in fields_of(record)]


def outside(kind: Kind) -> list[Any]:
    """Values that a field of this kind may not have."""
    if isinstance(kind, Named):
        return [code for code in range(256) if code not in kind.members][:3]
    if not isinstance(kind, Number):
        return []
    limits = [kind.bounds.least, kind.bounds.most, kind.bounds.above]
    beyond = [limit + step for limit, step in zip(limits, (-1, 1, 0), strict=True) if limit is not None]
    if kind.is_float:
        return [*beyond, math.nan, math.inf, -math.inf, 1e39]
    return [*beyond, -1, 1 << 8 * kind.size]


@pytest.mark.parametrize(("record", "name", "kind"), FIELDS, ids=lambda value: getattr(value, "__name__", None))
def test_a_value_outside_a_fields_domain_is_refused_by_name(record: type[Record], name: str, kind: Kind) -> None:
    good = example_of(record)
    for value in outside(kind):
        bad = dataclasses.replace(good, **{name: value})  # type: ignore[type-var]
        with pytest.raises(WireError, match=rf"^{record.__name__}\.{name} = .*: expected "):
            bad.pack()
        try:
            payload = bad.encode()
        except (OverflowError, struct.error):
            continue  # it has no bytes that could be received
        with pytest.raises(WireError, match=rf"^{record.__name__}\.{name} = .*: expected "):
            record.unpack(payload)


@pytest.mark.parametrize(
    ("payload", "of", "words"),
    [
        (bytes([77]) + bytes(4), ErrorAnswer, "ErrorAnswer.status = 77: expected one of UNKNOWN_TYPE, BAD_LENGTH"),
        (bytes(5), ErrorAnswer, "ErrorAnswer.status = 0: expected one of UNKNOWN_TYPE"),
        (bytes(4) + bytes([6, 0]) + bytes(8), Progress, "Progress.state = 6: expected one of IDLE, LOADING"),
        (bytes(3), Await, "Await: 3 bytes, expected 8"),
        (bytes(9), Await, "Await: 9 bytes, expected 8"),
        (bytes(4), Predict, "Predict: 4 bytes, expected 5 or more"),
    ],
)
def test_a_payload_that_is_not_the_message_says_so(payload: bytes, of: type[Record], words: str) -> None:
    with pytest.raises(WireError) as caught:
        of.unpack(payload)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phases": (PHASE, dataclasses.replace(PHASE, count=0))}, "Configure.recipe.phases[1].count = 0: expected 1 to 65535"),
        ({"phases": (dataclasses.replace(PHASE, passes=0),)}, "Configure.recipe.phases[0].passes = 0: expected 1 to 65535"),
        ({"phases": (PHASE,) * 5}, "Configure.recipe.phases: 5 entries, expected at most 4"),
        (
            {"phases": (dataclasses.replace(PHASE, learning_rate=1e-60),)},  # 0 as a float32
            "Configure.recipe.phases[0].learning_rate = 1e-60: expected a finite number above 0",
        ),
        ({"uplink": Dtype.U8}, "Configure.recipe.uplink = 3: expected one of F32, F16, I8"),
    ],
)
def test_what_is_wrong_inside_a_recipe_is_named_from_the_message_on(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError) as caught:
        Configure(1, Program.TRAIN, dataclasses.replace(RECIPE, **change)).pack()
    assert str(caught.value) == words


def test_what_follows_the_last_phase_is_not_looked_at() -> None:
    payload = bytearray(Configure(1, Program.TRAIN, RECIPE).pack())
    third = Configure.place("recipe") + Recipe.place("phases") + 2 * Phase.fixed_size()
    junk = bytes([99, 99, 0, 0, 0, 0]) + b"\xff" * 8
    payload[third : third + Phase.fixed_size()] = junk
    assert Configure.unpack(bytes(payload)).recipe == RECIPE
    payload[third + Phase.place("passes")] = 1
    with pytest.raises(WireError, match=r"Configure\.recipe\.phases\[2\]\.variant = 99: expected one of LOCAL"):
        Configure.unpack(bytes(payload))


def test_the_first_fields_of_a_message_that_is_still_coming_in() -> None:
    whole = Delta(5, 6, 7, 0, Coding.RUN, Dtype.F32, 0.0, b"1234").pack()
    assert Delta.unpack_first(whole[: Delta.place("base")], "count") == (5, 6, 7)


def test_a_dtype_says_how_wide_it_is_and_what_numpy_calls_it() -> None:
    assert {dtype.name: (dtype.width, dtype.layout) for dtype in Dtype} == {
        "F32": (4, "<f4"),
        "F16": (2, "<f2"),
        "I8": (1, "<i1"),
        "U8": (1, "<u1"),
    }


@pytest.mark.parametrize("change", ["a field's bounds", "a field's members", "a code", "a constant"])
def test_whatever_both_sides_must_agree_on_changes_the_schema(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = protocol.schema_hash()
    kinds = dict(Delta.kinds())
    if change == "a field's bounds":
        kinds["count"] = dataclasses.replace(kinds["count"], bounds=protocol.Bounds(most=9))  # type: ignore[type-var]
    if change == "a field's members":
        kinds["dtype"] = dataclasses.replace(kinds["dtype"], members=(Dtype.F32,))  # type: ignore[type-var]
    monkeypatch.setattr(Delta, "kinds", lambda: kinds)
    if change == "a code":
        monkeypatch.setattr(protocol, "ENUMS", protocol.ENUMS[1:])
    if change == "a constant":
        monkeypatch.setattr(protocol, "CONSTANTS", protocol.CONSTANTS[1:])
    assert protocol.schema_hash() != before


def test_what_is_said_about_a_field_does_not_change_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    before = protocol.schema_hash()
    fields = tuple(dataclasses.replace(field, doc="else") for field in Await.fields())
    monkeypatch.setattr(Await, "fields", lambda: fields)
    monkeypatch.setattr(State.IDLE, "doc", "else")
    monkeypatch.setattr(Status.OK, "doc", "else")
    assert protocol.schema_hash() == before
