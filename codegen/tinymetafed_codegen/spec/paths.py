"""Files that an experiment names: absolute once it is loaded, relative where it is written into a folder that may be moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..own_class import SEPARATOR, is_reference
from .task import section_class


def anchored(raw: dict[str, Any], *folders: Path) -> dict[str, Any]:
    """A decoded experiment with absolute paths.

    Args:
        raw: sections as plain values, as TOML has them.
        folders: what relative paths may be relative to; each is taken from the first one where it leads to something, or else
            from the first.

    Returns:
        The same values, with other paths.
    """
    return _moved(raw, lambda name: str(anchor(name, *folders)))


def anchor(name: str, *folders: Path) -> Path:
    """One absolute path, as ``anchored`` finds it."""
    found = [(folder / name).resolve() for folder in folders]
    return next((path for path in found if path.exists()), found[0])


def portable(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A decoded experiment of absolute paths, to be written into ``folder``: relative to it where both may move together."""
    return _moved(raw, lambda name: relative(Path(name), folder) if Path(name).is_absolute() else name)


def relative(path: Path, folder: Path) -> str:
    """An absolute path as it is written down in ``folder``.

    It is relative where a folder below the user's home, or elsewhere below the root, holds both: that folder may be copied
    to another place, or cloned by somebody else, and the path still leads to its file.
    """
    here, home = folder.resolve(), Path.home()
    try:
        both = Path(os.path.commonpath([path, here]))
    except ValueError:  # on two drives
        return str(path)
    if both == Path(both.anchor) or home.is_relative_to(both):
        return str(path)
    return Path(os.path.relpath(path, here)).as_posix()


def _moved(raw: dict[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """The one list of keys that hold paths; what is no text is left for validation to refuse."""
    moved = dict(raw)

    def change(section: str, key: str, new: Callable[[str], str]) -> None:
        values = moved.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str) and values[key]:
            moved[section] = {**values, key: new(values[key])}

    change("model", "weights", move)
    for section in ("strategy", "task"):
        change(section, "kind", lambda kind: _moved_class(kind, move))
    model = moved.get("model")
    if isinstance(model, dict) and isinstance(model.get("layers"), list | tuple):
        moved["model"] = {**model, "layers": [_moved_layer(layer, move) for layer in model["layers"]]}
    task = raw.get("task")
    if isinstance(task, dict) and (chosen := section_class(task.get("kind"))):
        for key in chosen.path_keys:
            change("task", key, move)
    return moved


def _moved_layer(layer: Any, move: Callable[[str], str]) -> Any:
    if isinstance(layer, dict) and is_reference(layer.get("op")):
        return {**layer, "op": _moved_class(layer["op"], move)}
    return layer


def _moved_class(kind: str, move: Callable[[str], str]) -> str:
    """``FILE:CLASS``, with or without .py; module:CLASS, where there is no such file, and our own kinds stay as they are."""
    name, own, class_name = kind.rpartition(SEPARATOR)
    if not own:
        return kind
    given = f"{name.removesuffix('.py')}.py"
    file = move(given)
    is_file = file != given and (name.endswith(".py") or Path(file).exists())
    return f"{file}{SEPARATOR}{class_name}" if is_file else kind
