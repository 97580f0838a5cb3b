"""Paths in experiments: absolute in memory, relative in files of folders that may be moved or copied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..own_class import SEPARATOR
from ..section import TomlTable, TomlValue
from .task import section_class

PUBLISHED = "doi:"  # begins a path that is no file: the DOI of data that are downloaded


def anchored(raw: TomlTable, *folders: Path) -> TomlTable:
    """Makes all paths of a decoded experiment absolute.

    Args:
        raw: The sections as plain values, decoded from TOML.
        folders: The folders that a path may be relative to. The first folder that has the file counts, else the first one.

    Returns:
        A copy with absolute paths; a DOI stays as it is.
    """
    return _moved(raw, lambda name: name if name.startswith(PUBLISHED) else str(anchor(name, *folders)))


def anchor(name: str, *folders: Path) -> Path:
    """Makes one path absolute, as ``anchored`` does."""
    found = [(folder / name).resolve() for folder in folders]
    return next((path for path in found if path.exists()), found[0])


def portable(raw: TomlTable, folder: Path) -> TomlTable:
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


def _moved(raw: TomlTable, move: Callable[[str], str]) -> TomlTable:
    """A copy with ``move`` applied to every path; values that are not texts are left to validation."""
    moved = dict(raw)

    def change(section: str, key: str, new: Callable[[str], str]) -> None:
        values = moved.get(section)
        name = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(name, str) and name:
            moved[section] = {**values, key: new(name)}

    change("model", "weights", move)
    change("board", "sensor", move)
    for section in ("strategy", "task"):
        change(section, "kind", lambda kind: _moved_class(kind, move))
    model = moved.get("model")
    layers = model.get("layers") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(layers, list):
        moved["model"] = {**model, "layers": [_moved_layer(layer, move) for layer in layers]}
    task = raw.get("task")
    if isinstance(task, dict) and (chosen := section_class(task.get("kind"))):
        for key in chosen.path_keys:
            change("task", key, move)
    return moved


def _moved_layer(layer: TomlValue, move: Callable[[str], str]) -> TomlValue:
    op = layer.get("op") if isinstance(layer, dict) else None
    return {**layer, "op": _moved_class(op, move)} if isinstance(layer, dict) and isinstance(op, str) else layer


def _moved_class(kind: str, move: Callable[[str], str]) -> str:
    """``move`` applied to FILE of FILE:CLASS, with or without .py; MODULE:CLASS and built-in kinds stay unchanged."""
    name, own, class_name = kind.rpartition(SEPARATOR)
    if not own:
        return kind
    given = f"{name.removesuffix('.py')}.py"
    file = move(given)
    is_file = file != given and (name.endswith(".py") or Path(file).exists())
    return f"{file}{SEPARATOR}{class_name}" if is_file else kind
