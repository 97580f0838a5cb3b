"""Values of keys: those that programs pass as plain ones of TOML, and plain ones as text on one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ..section import TomlValue


def plain(value: object) -> TomlValue:
    """A value as TOML has it: numbers and arrays of NumPy, paths and tuples become numbers, lists and texts."""
    if isinstance(value, Path):
        return str(value)
    if callable(to_list := getattr(value, "tolist", None)):
        return cast(TomlValue, to_list())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return cast(TomlValue, value)  # anything else is left to validation


def inline(value: TomlValue) -> str:
    """A plain value as text on one line, as in ``[{ op = "dense", units = 8 }]``."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {inline(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return _json(value)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("-", "_").isidentifier() else _json(key)


def _json(value: str | int) -> str:
    """JSON of a value but for two things that TOML does not have: pairs of surrogates, and DEL as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
