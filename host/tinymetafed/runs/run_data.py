"""The content of a run's store as typed values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tinymetafed_codegen.manifest import ManifestError, ModelManifest
from tinymetafed_codegen.section import TomlTable, TomlValue
from tinymetafed_codegen.spec import Experiment, SpecError, anchor, anchored, parse
from tinymetafed_codegen.toml_text import decoded

from ..federation.clients import DeviceFacts
from ..federation.result import Evaluation
from ..federation.standing import Measure
from ..learn.server_optimiser import ServerState
from ..learn.weights import Floats
from .foreign_parts import Part, cpp_of, devices_of, project_around, python_of, remember, require_known
from .journal import Entry, RoundEntry, RunHeader, RunResult, ServedDevice, SessionEntry, Showcase
from .run_errors import StoreError as StoreError


@dataclass(frozen=True)
class Evaluating:
    """An evaluation that has begun and is not in the journal: float32[n_global] weights after ``round`` rounds."""

    round: int
    weights: Floats = field(repr=False)


@dataclass(frozen=True)
class StoreContent:
    """The journal, of which the first entry is the header, the latest weights, the best ones, what the server keeps, the last
    entry's hash, and the evaluation that has begun; in ``entries`` rounds may stand after all others."""

    entries: list[Entry]
    weights: Floats
    best: Floats | None
    server: ServerState
    chain: str
    evaluating: Evaluating | None = None


@dataclass(frozen=True)
class RunData:
    """A run; its lists are in order of time.

    ``weights``: float32[n_global] after ``len(rounds)`` rounds. ``best``: with run.keep = "best", the best evaluated weights so
    far. ``server``: what the server keeps besides the weights. ``evaluating``: an evaluation that has not ended.
    ``showcase``: None until the final meta-test is done. ``result``: None until the run has finished. A session that extends
    the run makes it unfinished.
    """

    path: Path
    header: RunHeader
    sessions: list[SessionEntry]
    rounds: list[RoundEntry]
    evaluations: list[Evaluation]
    showcase: Showcase | None
    result: RunResult | None
    weights: Floats = field(repr=False)
    best: Floats | None = field(default=None, repr=False)
    server: ServerState = field(default_factory=ServerState, repr=False)
    evaluating: Evaluating | None = None

    @classmethod
    def of(cls, path: Path, content: StoreContent) -> Self:
        """The run with this content of its file."""
        header, *others = content.entries
        assert isinstance(header, RunHeader)
        extended = [i for i, entry in enumerate(others) if isinstance(entry, SessionEntry) and entry.rounds is not None]
        latest = others[extended[-1] :] if extended else others
        return cls(
            path=path,
            header=header,
            sessions=[entry for entry in others if isinstance(entry, SessionEntry)],
            rounds=[entry for entry in others if isinstance(entry, RoundEntry)],
            evaluations=[entry for entry in others if isinstance(entry, Evaluation)],
            showcase=next((entry for entry in reversed(latest) if isinstance(entry, Showcase)), None),
            result=next((entry for entry in reversed(latest) if isinstance(entry, RunResult)), None),
            weights=content.weights,
            best=content.best,
            server=content.server,
            evaluating=content.evaluating,
        )

    @property
    def name(self) -> str:
        """The folder's name, as one line."""
        return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", self.path.resolve().name).split()) or "run"

    @property
    def kept(self) -> Floats:
        """The weights that the run is for: the best where they are kept, else the average if there is one, else the latest."""
        return self.server.result(self.weights) if self.best is None else self.best

    @property
    def kept_round(self) -> int:
        """Rounds trained until the weights ``kept``."""
        return next((entry.round for entry in reversed(self.evaluations) if entry.kept_sha256), self.trained)

    @property
    def averaged(self) -> int | None:
        """Rounds whose mean the weights ``kept`` are; None for those after a single round."""
        last = self.rounds[self.kept_round - 1] if 0 < self.kept_round <= len(self.rounds) else None
        return None if last is None or last.server is None else last.server.averaged or None

    @property
    def trained(self) -> int:
        """Rounds trained."""
        return len(self.rounds)

    @property
    def bytes_down_full(self) -> int | None:
        """Training bytes to clients with all weights in place of differences; None without a download by difference."""
        full = [entry.bytes_down_full for entry in self.rounds if entry.bytes_down_full is not None]
        return sum(full) if full else None

    @property
    def extended(self) -> int | None:
        """The number of rounds that the run was last extended to; None if it was not."""
        return next((session.rounds for session in reversed(self.sessions) if session.rounds is not None), None)

    @contextmanager
    def consistent(self) -> Iterator[None]:
        """Raises StoreError where entries that are valid each do not fit each other: anybody may have made the file."""
        try:
            yield
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.path / 'run.db'}: its entries do not fit each other ({type(error).__name__}: {error}); get the run "
                "again from where it was trained"
            ) from error

    def require_model(self) -> None:
        """Raises StoreError unless the weights are those of a model whose tensors fit each other."""
        try:
            self.manifest.require_consistent(str(self.path / "run.db"))
        except ManifestError as error:
            raise StoreError(f"{error}; get the run again from where it was trained") from None
        if self.weights.size != self.manifest.n_global:
            raise StoreError(
                f"{self.path / 'run.db'}: {self.weights.size:,} weights, but its model has {self.manifest.n_global:,}; get the "
                "run again from where it was trained"
            )

    @property
    def manifest(self) -> ModelManifest:
        """The model's facts on the first device's board."""
        return self.header.manifest

    @property
    def data(self) -> Path | None:
        """The data folder that was given at the start of the run, None if the experiment's own was used."""
        return None if self.header.asked.data is None else anchor(self.header.asked.data, *self._folders)

    @property
    def _folders(self) -> tuple[Path, ...]:
        """Folders that its paths may be relative to: the run folder now, and the run folder at the start of the run."""
        return (self.path.resolve(), Path(self.header.folder or self.path))

    @property
    def devices(self) -> list[ServedDevice]:
        """All devices of all sessions; URL and unique id together identify a device."""
        known: dict[tuple[str, str], DeviceFacts] = {}
        served: Counter[tuple[str, str]] = Counter()
        for entry, there in self._over_time():
            for device in entry.devices:
                known.setdefault((device.url, device.unique_id), device)
            if isinstance(entry, RoundEntry):
                served.update((part.device, there[part.device].unique_id) for part in entry.contributions if part.device)
        return [
            ServedDevice(device.url, device.board, device.unique_id, device.receive_window, served[key])
            for key, device in known.items()
        ]

    def measures(self) -> Iterator[list[tuple[str, Measure]]]:
        """For each round the measured contributions: unique id of the board ("" in a simulation) and measure."""
        for entry, there in self._over_time():
            if isinstance(entry, RoundEntry):
                yield [(there[part.device].unique_id, part.measure) for part in entry.contributions if part.measure]

    def _over_time(self) -> Iterator[tuple[SessionEntry | RoundEntry, dict[str, DeviceFacts]]]:
        """Sessions and rounds in order of time, each with the device that a URL means at that point of the run."""
        there: dict[str, DeviceFacts] = {}
        entries: list[SessionEntry | RoundEntry] = [*self.sessions, *self.rounds]
        for entry in sorted(entries, key=lambda entry: (entry.round, isinstance(entry, RoundEntry))):
            there |= {device.url: device for device in entry.devices}
            yield entry, there

    def experiment(self, adapt: int | None = None, rounds: int | None = None) -> Experiment:
        """The run's experiment, with the number of rounds that it was extended to.

        Args:
            adapt: Another value for task.adapt; None for the run's own.
            rounds: Another value for run.rounds; None for the run's own.

        Raises:
            UntrustedError: It brings code or boards that this user has not used.
            StoreError: This version cannot read the experiment.
            SpecError: The value of ``adapt`` or ``rounds`` is invalid.
        """
        return self._experiment(lambda parts: require_known(parts, self.path), adapt, rounds)

    def trust(self) -> None:
        """Accepts the code, boards and devices that the run brings, from now on. Raises StoreError."""
        asked = self.header.asked
        remember(devices_of([*asked.devices, *asked.test_devices]))
        self._experiment(remember)

    def _experiment(
        self, vet: Callable[[Sequence[Part]], None], adapt: int | None = None, rounds: int | None = None
    ) -> Experiment:
        """As ``experiment``; ``vet`` is asked before anything that the run brings is used."""
        # Experiments of versions that did not normalise lack the section [data].
        raw: TomlTable = {"data": {"normalise": "none"}}
        with self.consistent():
            raw |= anchored(decoded(self.header.experiment), *self._folders)
        if self.extended is not None:
            raw = _with(raw, "run", "rounds", self.extended)
        vet([*python_of(raw), *project_around(self.path)])
        try:
            experiment = parse(raw, str(self.path))
        except SpecError as error:
            made_by = f"the run was made by tinymetafed {self.header.tinymetafed}"
            raise StoreError(f"{error}; {made_by}, use that version, or restore the files that it names") from None
        vet(cpp_of(experiment))
        changed = raw if adapt is None else _with(raw, "task", "adapt", adapt)
        changed = changed if rounds is None else _with(changed, "run", "rounds", rounds)
        return experiment if changed is raw else parse(changed, str(self.path))


def _with(raw: TomlTable, section: str, key: str, value: TomlValue) -> TomlTable:
    """A decoded experiment with another value of a key."""
    given = raw.get(section, {})
    return {**raw, section: {**(given if isinstance(given, dict) else {}), key: value}}
