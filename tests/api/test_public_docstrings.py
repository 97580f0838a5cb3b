"""The docstrings of the public API: every argument is explained, and what comes back is said."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tinymetafed as tmf


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions of the API, and the public methods of its classes that take more than one argument."""
    for name in tmf.__all__:
        given = getattr(tmf, name)
        if inspect.isfunction(given):
            yield name, given
        elif inspect.isclass(given):
            for method, found in list(vars(given).items()):
                function = getattr(found, "__func__", found)
                if not method.startswith("_") and inspect.isfunction(function) and len(arguments(function)) > 1:
                    yield f"{name}.{method}", function


def arguments(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def lacks(function: Callable[..., Any]) -> list[str]:
    """What a function's docstring does not say."""
    text = inspect.getdoc(function) or ""
    entries = [line.partition(":")[0] for line in text.partition("Args:")[2].partition("\n\n")[0].splitlines()]
    lacking = [name for name in arguments(function) if not any(name in re.findall(r"\w+", entry) for entry in entries)]
    gives = inspect.signature(function).return_annotation not in (None, "None", inspect.Signature.empty)
    return lacking + ["what it returns"] * (gives and not any(f"{word}:" in text for word in ("Returns", "Yields")))


@pytest.mark.parametrize(("name", "function"), [pytest.param(*each, id=each[0]) for each in public_functions()])
def test_a_public_function_explains_its_arguments_and_what_it_returns(name: str, function: Callable[..., Any]) -> None:
    assert lacks(function) == [], f"{name}: its docstring has no entry under Args, or no Returns"


def test_what_a_docstring_lacks_is_found() -> None:
    def share(part: float, whole: float) -> float:
        """A share.

        Args:
            part: The part.
        """
        return part / whole

    assert lacks(share) == ["whole", "what it returns"]
