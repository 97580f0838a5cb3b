"""Decodes TOML texts, also those that somebody has made to do harm: whatever is wrong with one is the same error."""

from __future__ import annotations

import tomllib

from .section import TomlTable, TomlValue

MOST_LEVELS = 50  # of tables and lists in each other, far fewer than Python can follow; an experiment has 5


def decoded(text: str) -> TomlTable:
    """Decodes a TOML text.

    Args:
        text: The text of a whole file.

    Returns:
        The table.

    Raises:
        TOMLDecodeError: It is not TOML, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of int() and of dates
        raise tomllib.TOMLDecodeError(str(error).partition(";")[0]) from None
    level: list[TomlValue] = [table]
    for _ in range(MOST_LEVELS):
        level = [each for value in level for each in _inner(value)]
        if not level:
            return table
    raise _too_deep()


def _inner(value: TomlValue) -> list[TomlValue]:
    """The values in a table or list; none in any other value."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> tomllib.TOMLDecodeError:
    return tomllib.TOMLDecodeError(f"tables and lists in each other over more than {MOST_LEVELS} levels")
