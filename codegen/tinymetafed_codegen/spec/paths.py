"""Paths in experiments: absolute in memory, relative in files of folders that may be moved or copied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..own_class import SEPARATOR, is_reference
from .task import TASKS


def anchored(raw: dict[str, Any], *folders: Path) -> dict[str, Any]:
    """Makes all paths of a decoded experiment absolute.

    Args:
        raw: The sections as plain values, decoded from TOML.
        folders: The folders that a path may be relative to. The first folder that has the file counts, else the first one.

    Returns:
        A copy with absolute paths.
    """
    return _moved(raw, lambda name: str(anchor(name, *folders)))


def anchor(name: str, *folders: Path) -> Path:
    """Makes one path absolute, as ``anchored`` does."""
    found = [(folder / name).resolve() for folder in folders]
    return next((path for path in found if path.exists()), found[0])


def portable(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes absolute paths of a decoded experiment relative to ``folder``, each as ``relative`` does."""
    return _moved(raw, lambda name: relative(Path(name), folder) if Path(name).is_absolute() else name)


def relative(path: Path, folder: Path) -> str:
    """Makes an absolute path relative to ``folder``, if both may be moved together.

    That is so if they have a common parent folder that is neither the file system's root nor the user's home or above it.
    Such a folder may be copied or cloned, and the relative path still finds its file. Otherwise the path stays absolute.
    """
    here, home = folder.resolve(), Path.home()
    try:
        both = Path(os.path.commonpath([path, here]))
    except ValueError:  # on different drives of Windows
        return str(path)
    if both == Path(both.anchor) or home.is_relative_to(both):
        return str(path)
    return Path(os.path.relpath(path, here)).as_posix()


def _moved(raw: dict[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """A copy with ``move`` applied to every path; values that are not texts are left to validation."""
    moved = dict(raw)

    def change(section: str, key: str, new: Callable[[str], str]) -> None:
        values = moved.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str) and values[key]:
            moved[section] = {**values, key: new(values[key])}

    change("model", "weights", move)
    change("strategy", "kind", lambda kind: _moved_class(kind, move))
    model = moved.get("model")
    if isinstance(model, dict) and isinstance(model.get("layers"), list | tuple):
        moved["model"] = {**model, "layers": [_moved_layer(layer, move) for layer in model["layers"]]}
    task = raw.get("task")
    if isinstance(task, dict) and (chosen := TASKS.get(str(task.get("kind")))):
        for key in chosen.path_keys:
            change("task", key, move)
    return moved


def _moved_layer(layer: Any, move: Callable[[str], str]) -> Any:
    if isinstance(layer, dict) and is_reference(layer.get("op")):
        return {**layer, "op": _moved_class(layer["op"], move)}
    return layer


def _moved_class(kind: str, move: Callable[[str], str]) -> str:
    """``move`` applied to FILE of FILE:CLASS, with or without .py; MODULE:CLASS and built-in kinds stay unchanged."""
    name, own, class_name = kind.rpartition(SEPARATOR)
    if not own:
        return kind
    given = f"{name.removesuffix('.py')}.py"
    file = move(given)
    is_file = file != given and (name.endswith(".py") or Path(file).exists())
    return f"{file}{SEPARATOR}{class_name}" if is_file else kind
