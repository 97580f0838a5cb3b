"""Reads and checks experiment files; every error names the key and says what to do."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from ..files import suggestion
from ..section import SpecError, TomlTable, TomlValue
from ..toml_text import decoded
from ..whole_numbers import whole_number
from . import online
from .defaults import CLIENTS, defaults
from .experiment import Experiment
from .folder_task import FolderTask
from .mistakes import explain
from .paths import anchored
from .rules import check


class WrongKey(SpecError):
    """A key is unknown, or has a value that it cannot have, whatever the other keys are."""


def load(path: Path, overrides: Sequence[str] = (), settings: Mapping[str, TomlValue] | None = None) -> Experiment:
    """Reads an experiment file.

    Args:
        path: The TOML file.
        overrides: Texts ``section.key=value`` as in ``--set``; numbers select entries of lists: ``model.layers.2.local``.
        settings: The same with decoded values, by ``section.key``.

    Returns:
        The complete experiment, with absolute paths.

    Raises:
        SpecError: The file cannot be read or is wrong; the text names file, key and remedy.
    """
    try:
        raw = decoded(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = suggestion(path, "examples/sine.toml is one to start from")
        raise SpecError(f"{path}: no such experiment file; {remedy}") from None
    except IsADirectoryError:
        remedy = f"; did you mean {path / 'experiment.toml'}?" if (path / "experiment.toml").is_file() else ""
        raise SpecError(f"{path}: a folder, not an experiment file{remedy}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte in the path
        raise SpecError(f"{path}: cannot be read: {error}") from None
    for override in overrides:
        _put(raw, *_decode(override), f"--set {override}")
    for key, value in (settings or {}).items():
        _put(raw, _path(key), value, key)
    return parse(anchored(raw, path.parent), str(path))


def parse(raw: TomlTable, source: str) -> Experiment:
    """Validates a decoded experiment; ``source`` is its name in errors. Raises SpecError."""
    for section, values in defaults(*(_key(raw, *key) for key in _DECIDING), online=online.is_asked(raw.get("task"))).items():
        given = raw.get(section, {})
        if isinstance(given, dict):
            raw = {**raw, section: {**values, **given}}
    try:
        experiment = Experiment.model_validate(raw)
    except pydantic.ValidationError as error:
        raise WrongKey(f"{source}: {explain(error, Experiment)}") from None
    if experiment.run.clients is None and not experiment.task.counts_clients:
        experiment = experiment.model_copy(update={"run": experiment.run.model_copy(update={"clients": CLIENTS})})
    experiment = experiment.model_copy(update={"task": online.sized(experiment.task)})
    if not experiment.strategy.has_rounds:
        experiment = experiment.model_copy(update={"run": experiment.run.model_copy(update={"rounds": 0})})
    if experiment.data.normalise is None:
        experiment = experiment.model_copy(
            update={"data": experiment.data.model_copy(update={"normalise": experiment.task.normalise})}
        )
    check(experiment, source)
    return experiment


# The keys that other defaults depend on: section, key, its own default.
_DECIDING = (
    ("model", "loss", ""),
    ("strategy", "kind", "tinymetafed"),
    ("task", "kind", ""),
    ("strategy", "server", "sgd"),
)


def _key(raw: TomlTable, section: str, key: str, default: str) -> str:
    found = raw.get(section)
    return str(found.get(key, default)) if isinstance(found, dict) else default


def folder_task(path: Path, changes: Mapping[str, TomlValue] | Sequence[str] = ()) -> FolderTask:
    """The section [task] of an experiment on a folder of data, for data that have no experiment yet.

    Args:
        path: The folder.
        changes: Keys of [task] by ``task.key``, or texts ``task.key=value`` as in ``--set``.

    Raises:
        SpecError: A key is unknown or its value is wrong.
    """
    raw: TomlTable = {"task": {"kind": "folder", "path": str(path.resolve())}}
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            _put(raw, _path(key), value, key)
    else:
        for override in changes:
            _put(raw, *_decode(override), f"--set {override}")
    if others := [section for section in raw if section != "task"]:
        raise SpecError(f"{path}: '{others[0]}' is set, but a folder of data has keys of [task] only; give an experiment file")
    try:
        task = FolderTask.model_validate(raw["task"])
    except pydantic.ValidationError as error:
        raise SpecError(f"{path}: task: {explain(error, FolderTask)}") from None
    task.check(str(path))
    return task


def dump(experiment: Experiment) -> TomlTable:
    """The complete experiment as plain values for TOML."""
    return experiment.model_dump(mode="json", exclude_none=True, by_alias=True)


def _decode(override: str) -> tuple[list[str], TomlValue]:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise SpecError(f"--set {override}: expected SECTION.KEY=VALUE, for instance run.rounds=50")
    try:
        return path, decoded(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return path, text.strip()


def _path(key: str) -> list[str]:
    path = str(key).split(".")
    if not all(path):
        raise SpecError(f"{key!r}: expected SECTION.KEY, for instance run.rounds")
    return path


def _put(raw: TomlTable, path: Sequence[str], value: TomlValue, source: str) -> None:
    section: Any = raw
    for part in path[:-1]:
        if isinstance(section, list):
            index = whole_number(part)
            if index is None or index >= len(section):
                raise SpecError(f"{source}: {part} is not a number from 0 to {len(section) - 1}")
            section = section[index]
        else:
            section = section.setdefault(part, {})
        if not isinstance(section, dict | list):
            raise SpecError(f"{source}: {part} is not a section")
    if isinstance(section, list):
        raise SpecError(f"{source}: {path[-2]} is a list; name a key of one of its entries")
    section[path[-1]] = value
