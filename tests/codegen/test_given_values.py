"""Values that users and programs give to keys: any value of any key is taken or refused in words, never an accident."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec.toml_values import inline, plain

SINE = find("examples") / "sine.toml"
EXAMPLES = [tomllib.loads(path.read_text()) for path in sorted(find("examples").glob("*.toml"))]

WORDS = st.sampled_from(
    ["", "a\0b", "²", "٣", "x.py:Y", "/", "i8", "random", "sine", "dense", "mse", "1_000", "budget:9KB", "9s"]
)
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), st.dates(), WORDS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=3
)


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """An example with one section, key or entry of a list replaced."""
    whole: dict[str, Any] = draw(st.sampled_from(EXAMPLES)).copy()
    place: Any = whole
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            place[key] = draw(VALUES)
            return whole
        place[key] = inner = inner.copy()
        place = inner


@settings(max_examples=150)
@given(changed())
def test_any_value_of_any_key_is_taken_or_refused_in_words(raw: dict[str, Any]) -> None:
    try:
        spec.parse(raw, "x.toml")
    except spec.SpecError as error:
        assert "x.toml" in str(error) and "Spec " not in f"{error} " and "dictionary" not in str(error)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("task", 3, r"'task' = 3: expected keys with values, below a line \[task\]"),
        ("run", [], r"'run' = \[\]: expected keys with values, below a line \[run\]"),
        ("strategy", "reptile", r"'strategy' = 'reptile': expected keys with values"),
        ("task.kind", 3, r"'task.kind' unknown value 3; expected one of: sine, omniglot"),
        ("model.layers", [3], r"'model.layers\[0\]' = 3: expected keys with values, as in \{ op = "),
        ("model.layers", [{}], r"'model.layers\[0\].op' is missing; expected one of: dense, conv2d"),
        ("model.layers.²", 3, "layers is a list"),
        ("model.layers.².units", 3, "² is not a number from 0 to 2"),
        ("model.layers.٢.units", 3, "٢ is not a number from 0 to 2"),
        ("model.input", 1, r"'model.input' = 1: expected a list, as in input = \[1\]"),
        ("run..rounds", 3, "'run..rounds': expected SECTION.KEY, for instance run.rounds"),
        ("", 3, "'': expected SECTION.KEY"),
    ],
)
def test_values_that_no_key_has_are_explained(key: str, value: Any, said: str) -> None:
    with pytest.raises(spec.SpecError, match=said):
        spec.load(SINE, settings={key: value})


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(spec.SpecError, match="cannot be read"):
        spec.load(Path("a\0b"))


def test_values_of_numpy_and_paths_become_plain() -> None:
    given = {"a": np.float32(0.5), "b": (np.int64(3), Path("x")), "c": np.array([[1, 2]]), "d": np.bool_(True)}
    assert plain(given) == {"a": 0.5, "b": [3, "x"], "c": [[1, 2]], "d": True}


TOML = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"))
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=5,
)


@settings(max_examples=100)
@given(TOML)
def test_a_value_on_one_line_is_read_again(value: Any) -> None:
    assert tomllib.loads(f"value = {inline(value)}") == {"value": value}
