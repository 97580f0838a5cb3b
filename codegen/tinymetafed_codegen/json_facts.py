"""Reads hand-written JSON files with checks of every value; errors name the line and the key."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .errors import UsageError

SHOWN = 60  # characters of a value that an error shows


class FactsError(UsageError):
    """The file cannot be read, or a value is wrong; the text names line and key, but not the file."""


@dataclass(frozen=True)
class Facts:
    """An object in a JSON file: ``keys`` is its path from the top of the file, ``text`` the whole file, for line numbers."""

    values: dict[str, object]
    text: str
    keys: tuple[str, ...] = ()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def raw(self, key: str) -> object:
        """The value, without a check of its type. Raises FactsError if it is missing."""
        if key not in self.values:
            inside = f" in '{self.keys[-1]}'" if self.keys else ""
            raise FactsError(f"line {self._line()}, '{key}' is missing{inside}")
        return self.values[key]

    def checked(self, key: str, fits: bool, expected: str) -> object:
        """The value, if ``fits``. Otherwise raises FactsError, whose text says what was ``expected``."""
        value = self.raw(key)
        if not fits:
            shown = json.dumps(value, ensure_ascii=False)
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
            raise FactsError(f"line {self._line(key)}, '{key}' is {shown}, expected {expected}")
        return value

    def text_of(self, key: str) -> str:
        """A text. Raises FactsError for any other value."""
        return cast(str, self.checked(key, isinstance(self.raw(key), str), "a text"))

    def flag(self, key: str, default: bool) -> bool:
        """True or false; ``default`` if it is missing. Raises FactsError for any other value."""
        if key not in self:
            return default
        return cast(bool, self.checked(key, isinstance(self.raw(key), bool), "true or false"))

    def count(self, key: str, least: int = 1) -> int:
        """A whole number, at least ``least``. Raises FactsError for any other value."""
        value = self.raw(key)
        return cast(int, self.checked(key, type(value) is int and value >= least, f"a whole number from {least} on"))

    def number(self, key: str) -> float:
        """A number, at least 0. Raises FactsError for any other value."""
        value = self.raw(key)
        fits = type(value) in (int, float) and cast(float, value) >= 0
        return float(cast(float, self.checked(key, fits, "a number from 0 on")))

    def words(self, key: str, least: int = 0) -> tuple[str, ...]:
        """A list of at least ``least`` texts. Raises FactsError for any other value."""
        value = self.raw(key)
        fits = isinstance(value, list) and len(value) >= least and all(isinstance(word, str) for word in value)
        expected = "a list of texts" + (f", {least} or more" if least else "")
        return tuple(cast(list[str], self.checked(key, fits, expected)))

    def pair(self, key: str) -> tuple[float, float]:
        """A list of two numbers, low and high. Raises FactsError for any other value."""
        value = self.raw(key)
        fits = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
        low, high = cast(list[float], self.checked(key, fits, "a list of two numbers, low and high"))
        return float(low), float(high)

    def object_of(self, key: str) -> Facts:
        """An object. Raises FactsError for any other value."""
        value = self.checked(key, isinstance(self.raw(key), dict), "an object: {...}")
        return Facts(cast(dict[str, object], value), self.text, (*self.keys, key))

    def _line(self, *key: str) -> int:
        """The line number of a key of this object, or of the object itself."""
        at = end = 0
        for each in (*self.keys, *key):
            found = re.compile(rf"{re.escape(json.dumps(each))}\s*:").search(self.text, end)
            if found is None:  # the file has the key with escape sequences
                break
            at, end = found.span()
        return self.text.count("\n", 0, at) + 1


def read(file: Path) -> Facts:
    """Reads a file that contains one JSON object. Raises FactsError."""
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text)
    except OSError as error:
        raise FactsError(error.strerror or str(error)) from None
    except json.JSONDecodeError as error:
        raise FactsError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise FactsError(f"line 1: {error}") from None
    if not isinstance(values, dict):
        raise FactsError("line 1: expected an object: {...}")
    return Facts(values, text)
