"""The entries of a run's journal, each a typed value; JSON is only what the store writes of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pydantic
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest

from ..federation.clients import DeviceFacts
from ..federation.result import DCurve, Evaluation, Example, FinalScores
from ..federation.rounds import Contribution
from .estimate import RoundEstimate

_STRICT = ConfigDict(extra="forbid")


class JournalError(Error):
    """An entry that this version cannot read."""


@dataclass(frozen=True, config=_STRICT)
class Asked:
    """What the user asked for, which a resumed run does again unless told otherwise.

    ``devices`` and ``test_devices`` are URLs. ``data``: where the task's original data are, None for the usual place.
    ``data_sha256``, ``strategy_sha256``, ``task_sha256``: of the data and of the files of the user's own strategy and task, ""
    where there are none.
    ``instructions_per_step``: by variant, where they were counted before the run.
    """

    devices: tuple[str, ...]
    test_devices: tuple[str, ...]
    data: str | None
    data_sha256: str
    strategy_sha256: str
    instructions_per_step: dict[str, int] | None = None
    task_sha256: str = ""


@dataclass(frozen=True, config=_STRICT)
class RunHeader:
    """What a run was begun with: the complete experiment as TOML, the model, and the hash of the initial weights.

    ``arithmetic`` is hash.ARITHMETIC_VERSION, ``tinymetafed`` the version of this package. ``folder``: the run folder as it was
    then, where paths in ``experiment`` or ``asked`` are relative to it.
    """

    format: int
    arithmetic: int
    tinymetafed: str
    seed: int
    experiment: str
    manifest: ModelManifest
    asked: Asked
    weights_sha256: str
    folder: str | None = None


@dataclass(frozen=True, config=_STRICT)
class SessionEntry:
    """One stretch of work on a run, from round ``round`` on: the devices at its start, and how long they took to start."""

    round: int
    devices: tuple[DeviceFacts, ...]
    versions: dict[str, str]
    start_seconds: float


@dataclass(frozen=True, config=_STRICT)
class RoundEntry:
    """A finished round: who took part, the bytes that it took, and the hash of the weights after it.

    ``devices``: those that joined in this round. ``bytes_samples`` go both ways and are in neither of the others.
    ``update_norm``: Euclidean norm of the weights' change.
    """

    round: int
    alpha: float
    contributions: tuple[Contribution, ...]
    devices: tuple[DeviceFacts, ...]
    bytes_down: int
    bytes_up: int
    bytes_samples: int
    retries: int
    seconds: float
    update_norm: float
    weights_sha256: str


@dataclass(frozen=True, config=_STRICT)
class Showcase:
    """What is measured once after the final meta-test."""

    d_curve: DCurve
    example: Example | None
    seconds: float


@dataclass(frozen=True, config=_STRICT)
class ServedDevice(DeviceFacts):
    """A device of any session, with the client rounds that it served."""

    rounds: int


@dataclass(frozen=True, config=_STRICT)
class RunResult:
    """The figures of a whole run, all of its sessions together.

    Bytes are those of training, framing and retries included; ``bytes_up_dense`` is what float32 values of all global
    weights would take. ``seconds``: training and tests, without ``start_seconds``. ``collapsed``: Evaluation.collapsed of
    the last one. ``estimate`` is None for a run without rounds.
    """

    task: str
    rounds: int
    seed: int
    weights_sha256: str
    bytes_down: int
    bytes_up: int
    bytes_up_dense: int
    bytes_samples: int
    retries: int
    redone: int
    skipped: int
    sessions: int
    seconds: float
    training_seconds: float
    start_seconds: float
    meta_test: FinalScores
    d_curve: DCurve
    example: Example | None
    estimate: RoundEstimate | None
    collapsed: bool
    devices: tuple[ServedDevice, ...]
    versions: dict[str, str]
    instructions_per_step: dict[str, int] | None = None
    task_sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of a run; instructions only where they were counted."""
        plain = asdict(self)
        if self.instructions_per_step is None:
            del plain["instructions_per_step"]
        return plain


Entry = RunHeader | SessionEntry | RoundEntry | Evaluation | Showcase | RunResult

KINDS: dict[str, type[Entry]] = {
    "run": RunHeader,
    "session": SessionEntry,
    "round": RoundEntry,
    "evaluation": Evaluation,
    "showcase": Showcase,
    "result": RunResult,
}
_KIND_OF = {entry: kind for kind, entry in KINDS.items()}
_ADAPTERS: dict[str, TypeAdapter[Entry]] = {kind: TypeAdapter(entry) for kind, entry in KINDS.items()}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def kind_of(entry: Entry) -> str:
    """What the store calls entries of this type."""
    return _KIND_OF[type(entry)]


def to_json(entry: Entry) -> str:
    """An entry as canonical JSON: the same text for the same values. Raises ValueError for a number that is not finite."""
    return _canonical(_ADAPTERS[kind_of(entry)].dump_python(entry, mode="json"))


def from_json(kind: str, text: str) -> Entry:
    """Reads what ``to_json`` wrote of an entry of a kind. Raises JournalError."""
    if kind not in _ADAPTERS:
        raise JournalError(f"an entry of the unknown kind '{kind}'")
    try:
        return _ADAPTERS[kind].validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise JournalError(
            f"an entry ({kind}) that is not of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
