"""Names of classes as bytes of fixed length."""

from __future__ import annotations

import pytest

from tinymetafed.wire.class_names import decode, encode


@pytest.mark.parametrize("names", [(), ("a",), ("wet", "dry"), ("très sec", "日本"), ("", "second"), ("first", "", "third")])
def test_names_come_back(names: tuple[str, ...]) -> None:
    data = encode(names, 48)
    assert len(data) == 48 and decode(data) == names


def test_long_names_are_shortened_alike_and_stay_text() -> None:
    names = decode(encode(["é" * 40, "b" * 40, "c"], 30))
    assert names == ("éééé", "b" * 9, "c")
    assert decode(encode([f"name {i}" for i in range(20)], 40))[:3] == ("n", "n", "n")


def test_a_line_break_in_a_name_is_a_space() -> None:
    assert decode(encode(["two\nlines", "b"], 32)) == ("two lines", "b")
    assert decode(bytes(16)) == () and decode(b"") == ()
