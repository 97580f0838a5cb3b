"""What server and gateways must have in common so that any of them trains a client to the same bits, and where they differ."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import PurePath

import tomli_w

from tinymetafed_codegen.design import Design
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.own_class import SEPARATOR
from tinymetafed_codegen.section import TomlTable, TomlValue
from tinymetafed_codegen.spec import dump
from tinymetafed_codegen.toml_text import decoded

from ..learn.strategies import code_sha256
from ..learn.tasks import Task
from .gateway_fields import FieldReader, FieldWriter, GatewayMessageError

_IDENTITY_BYTES = 16
_MOST_TEXT = 1 << 20
_HASH_TEXT = 64


@dataclass(frozen=True)
class Terms:
    """The terms of a run, which every gateway checks.

    ``experiment``: its TOML, without the sections that concern the server alone, and with names of files only. ``model``: the
    model's hash, which covers its weights and own ops. ``data``, ``strategy``, ``task``: SHA-256 of the task's data, and of the
    files of the user's own strategy and task; "" without them.
    """

    tinymetafed: str
    experiment: str
    model: str
    data: str
    strategy: str
    task: str

    @classmethod
    def of(cls, design: Design, task: Task, tinymetafed: str) -> Terms:
        """The terms of an experiment whose normalisation is measured.

        Args:
            design: The experiment's model.
            task: Its task.
            tinymetafed: The version of this package.
        """
        experiment = design.experiment
        sections = {name: section for name, section in dump(experiment).items() if name != "evaluation"}
        task_section = sections.get("task")
        if isinstance(task_section, dict):
            sections["task"] = {key: value for key, value in task_section.items() if key not in experiment.task.path_keys}
        return cls(
            tinymetafed,
            tomli_w.dumps(_without_folders(sections)),
            design.manifest.model_hash,
            task.data_sha256,
            code_sha256(experiment),
            task.code_sha256,
        )

    @property
    def identity(self) -> bytes:
        """The bytes by which every message names the terms; the versions of arithmetic and of messages stand beside them."""
        text = "\0".join((self.experiment, self.model, self.data, self.strategy, self.task, str(ARITHMETIC_VERSION)))
        return hashlib.sha256(text.encode()).digest()[:_IDENTITY_BYTES]

    def difference(self, other: Terms) -> str:
        """Where ``other``, a gateway's terms, differ, as the end of a sentence that begins with the gateway; "" if nowhere."""
        here, there = _flat(decoded(self.experiment)), _flat(decoded(other.experiment))
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key):
                return f"has {key} = {_shown(there.get(key))}, and this run has {_shown(here.get(key))}"
        for what, mine, its in (
            ("data of the task", self.data, other.data),
            ("file of strategy.kind", self.strategy, other.strategy),
            ("file of task.kind", self.task, other.task),
            ("model (weights, own ops or the version of this package)", self.model, other.model),
        ):
            if mine != its:
                return f"has another {what}: {its[:16] or 'none'} there, {mine[:16] or 'none'} here"
        return ""

    def write(self, writer: FieldWriter) -> None:
        """Appends the terms to a message."""
        writer.text(self.tinymetafed, _HASH_TEXT)
        writer.text(self.experiment, _MOST_TEXT)
        for text in (self.model, self.data, self.strategy, self.task):
            writer.text(text, _HASH_TEXT)

    @classmethod
    def read(cls, reader: FieldReader) -> Terms:
        """The next terms of a message. Raises GatewayMessageError."""
        version, experiment = reader.text(_HASH_TEXT), reader.text(_MOST_TEXT)
        terms = cls(version, experiment, *(reader.text(_HASH_TEXT) for _ in range(4)))
        try:
            decoded(experiment)
        except tomllib.TOMLDecodeError:
            raise GatewayMessageError("message: its experiment is not TOML") from None
        return terms


def _without_folders(value: TomlTable) -> TomlTable:
    """The table with files by their names alone, as every machine has its own folders."""
    return {key: _file_name(each) for key, each in value.items()}


def _file_name(value: TomlValue) -> TomlValue:
    if isinstance(value, dict):
        return _without_folders(value)
    if isinstance(value, list):
        return [_file_name(each) for each in value]
    if isinstance(value, str) and PurePath(value.partition(SEPARATOR)[0]).is_absolute():
        return PurePath(value).name
    return value


def _flat(table: TomlTable, prefix: str = "") -> dict[str, TomlValue]:
    found: dict[str, TomlValue] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _shown(value: TomlValue | None) -> str:
    text = "no value" if value is None else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}…"
