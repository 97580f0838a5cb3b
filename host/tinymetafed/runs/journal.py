"""The entries of a run's journal as typed values, and their JSON form in the store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any

import pydantic
from pydantic import Field, TypeAdapter

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.section import StrictJson

from ..federation.clients import DeviceFacts
from ..federation.quorum import Late, LateBoard, Returned
from ..federation.result import DCurve, Evaluation, Example, FinalScores, Scores
from ..federation.rounds import Contribution
from ..federation.standing import BoardDeltas
from .estimate import RoundEstimate
from .privacy_spent import PrivacySpent


class JournalError(Error):
    """An entry that this version cannot read."""


@dataclass(frozen=True)
class Asked(StrictJson):
    """The options of the run's first call, which a resumed run uses again unless others are given.

    ``devices``, ``test_devices``: device URLs. ``data``: folder of the task's data, None for the usual place.
    ``data_sha256``, ``strategy_sha256``, ``task_sha256``: hashes of the data and of the files of the user's own strategy and
    task, "" without them. ``instructions_per_step``: by variant, if they were counted before the run. ``class_names``: of the
    task, () in older runs. ``feature_note``: of the task, "" in older runs.
    """

    devices: tuple[str, ...]
    test_devices: tuple[str, ...]
    data: str | None
    data_sha256: str
    strategy_sha256: str
    instructions_per_step: dict[str, int] | None = None
    task_sha256: str = ""
    class_names: tuple[str, ...] = ()
    feature_note: str = ""


@dataclass(frozen=True)
class RunHeader(StrictJson):
    """The first entry: the complete experiment as TOML, the model, and the hash of the initial weights.

    ``arithmetic`` is hash.ARITHMETIC_VERSION, ``tinymetafed`` the version of this package. ``folder``: path of the run folder
    at that time, if ``experiment`` or ``asked`` have paths relative to it.
    """

    format: int
    arithmetic: int
    tinymetafed: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+!-]{1,64}$")]
    seed: int
    experiment: str
    manifest: ModelManifest
    asked: Asked
    weights_sha256: str
    folder: str | None = None


@dataclass(frozen=True)
class SessionEntry(StrictJson):
    """The start of a session, which trains from round ``round`` on: its devices and how long they took to start.

    ``rounds``: the run's number of rounds from here on, if this session changed it; None otherwise.
    """

    round: int
    devices: tuple[DeviceFacts, ...]
    versions: dict[str, str]
    start_seconds: float
    rounds: int | None = None


@dataclass(frozen=True)
class ServerEntry(StrictJson):
    """What the server keeps after a round: SHA-256 of its vectors, and how many rounds its average of weights has."""

    sha256: str
    averaged: int


@dataclass(frozen=True)
class RoundEntry(StrictJson):
    """A finished round: the clients' contributions, the traffic, and the hash of the weights after it.

    ``devices``: those that joined in this round. ``bytes_down``, ``bytes_up``: without samples. ``bytes_samples``: bytes of
    samples in both directions. ``update_norm``: Euclidean norm of the weights' change. ``bytes_down_full``: ``bytes_down`` with
    all weights in place of differences; None without a download by difference. ``server``: what the server keeps besides the
    weights; None where it keeps nothing. ``late``: clients that are skipped because the round ended before they were done, None
    if there are none. ``returned``: devices whose update is the first after rounds that they were late in; None likewise.
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
    bytes_down_full: int | None = None
    server: ServerEntry | None = None
    late: tuple[Late, ...] | None = None
    returned: tuple[Returned, ...] | None = None


@dataclass(frozen=True)
class Showcase(StrictJson):
    """Measurements that are made once after the final meta-test.

    ``untrained``: the same clients adapting from the initial weights, without any training by others; None in older runs.
    ``online``: their scores on each sample just before they train on it; None where they train on a sample several times.
    """

    d_curve: DCurve
    example: Example | None
    seconds: float
    untrained: Scores | None = None
    online: Scores | None = None


@dataclass(frozen=True)
class ServedDevice(DeviceFacts):
    """A device of any session; ``rounds`` is how many times it trained a client for a round."""

    rounds: int


@dataclass(frozen=True)
class RunResult(StrictJson):
    """The figures of a whole run, all of its sessions together.

    ``bytes_down``, ``bytes_up``: bytes of training, framing and retries included, without samples. ``bytes_up_dense``: bytes
    of all global weights as float32, once per trained client and round. ``seconds``: training and tests, without
    ``start_seconds``. ``collapsed``: that of the last evaluation. ``estimate``: None for a run without rounds. ``untrained``,
    ``online``: those of the Showcase. ``kept_round``: rounds trained until the weights that were kept as the best; None for
    the last ones. ``privacy``: None for updates that are not private.
    ``deltas``: the deltas of each board, () in a simulation and in older runs. ``bytes_down_full``: as of a round.
    ``averaged``: rounds whose mean the weights are; None for those after a single round. ``closed_early``: rounds that ended
    without some of their clients, and ``late_boards``, whose boards were late; None for a run whose rounds have no deadline.
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
    untrained: Scores | None = None
    kept_round: int | None = None
    privacy: PrivacySpent | None = None
    deltas: tuple[BoardDeltas, ...] = ()
    bytes_down_full: int | None = None
    averaged: int | None = None
    online: Scores | None = None
    closed_early: int | None = None
    late_boards: tuple[LateBoard, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The JSON value that ``--json`` prints; keys that a run has no value for are left out."""
        plain = asdict(self)
        if self.instructions_per_step is None:
            del plain["instructions_per_step"]
        if self.kept_round is None:
            del plain["kept_round"]
        if self.privacy is None:
            del plain["privacy"]
        if not self.deltas:
            del plain["deltas"]
        if self.bytes_down_full is None:
            del plain["bytes_down_full"]
        if self.averaged is None:
            del plain["averaged"]
        if self.online is None:
            del plain["online"]
        if self.closed_early is None:
            del plain["closed_early"], plain["late_boards"]
        if self.meta_test.classes is None:
            del plain["meta_test"]["classes"]
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
_LATER: dict[type[Entry], tuple[str, ...]] = {
    RoundEntry: ("bytes_down_full", "server", "late", "returned"),
    RunResult: ("bytes_down_full", "closed_early", "late_boards", "averaged"),
}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def kind_of(entry: Entry) -> str:
    """The store's name for entries of this type."""
    return _KIND_OF[type(entry)]


def to_json(entry: Entry) -> str:
    """An entry as canonical JSON: the same text for the same values. Raises ValueError for a number that is not finite."""
    plain = _adapter(kind_of(entry)).dump_python(entry)
    for later in _LATER.get(type(entry), ()):  # runs that do not use them stay readable by earlier versions
        if plain[later] is None:
            del plain[later]
    return _canonical(plain)


def from_json(kind: str, text: str) -> Entry:
    """Reads an entry of a kind that ``to_json`` wrote. Raises JournalError."""
    if kind not in KINDS:
        raise JournalError(f"an entry of the unknown kind '{kind}'")
    try:
        return _adapter(kind).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise JournalError(
            f"an entry ({kind}) that is not of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


@cache  # built when it is first needed: it takes longer than the import of this module
def _adapter(kind: str) -> TypeAdapter[Entry]:
    return TypeAdapter(KINDS[kind])
