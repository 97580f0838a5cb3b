"""All that a run's store holds at one moment, as typed values."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment, SpecError, anchor, anchored, parse

from .. import __version__
from ..federation.clients import DeviceFacts
from ..federation.result import Evaluation
from ..learn.weights import Floats
from .journal import Entry, RoundEntry, RunHeader, RunResult, ServedDevice, SessionEntry, Showcase


class StoreError(Error):
    """A run that cannot be written or read; the text names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class RunData:
    """A run; its lists are in the order in which things happened.

    ``weights`` float32[n_global] is what ``len(rounds)`` rounds made of the initial ones. ``result`` is None as long as the
    run has not finished, ``showcase`` as long as it has not been through its final meta-test.
    """

    path: Path
    header: RunHeader
    sessions: list[SessionEntry]
    rounds: list[RoundEntry]
    evaluations: list[Evaluation]
    showcase: Showcase | None
    result: RunResult | None
    weights: Floats = field(repr=False)

    @classmethod
    def of(cls, path: Path, entries: Sequence[Entry], weights: Floats) -> Self:
        """The run of a journal, of which the first entry is the header."""
        header, *others = entries
        assert isinstance(header, RunHeader)
        return cls(
            path=path,
            header=header,
            sessions=[entry for entry in others if isinstance(entry, SessionEntry)],
            rounds=[entry for entry in others if isinstance(entry, RoundEntry)],
            evaluations=[entry for entry in others if isinstance(entry, Evaluation)],
            showcase=next((entry for entry in reversed(others) if isinstance(entry, Showcase)), None),
            result=next((entry for entry in reversed(others) if isinstance(entry, RunResult)), None),
            weights=weights,
        )

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def trained(self) -> int:
        """Rounds trained."""
        return len(self.rounds)

    @property
    def manifest(self) -> ModelManifest:
        """The model's facts on the first device's board."""
        return self.header.manifest

    @property
    def data(self) -> Path | None:
        """Where the task's data are that the run began with instead of those that its experiment names."""
        return None if self.header.asked.data is None else anchor(self.header.asked.data, *self._folders)

    @property
    def _folders(self) -> tuple[Path, ...]:
        """What its paths may be relative to: where it lies now, together with its files, or where it lay then."""
        return (self.path.resolve(), Path(self.header.folder or self.path))

    @property
    def devices(self) -> list[ServedDevice]:
        """Every device of every session; its URL and id tell it from others."""
        known: dict[tuple[str, str], DeviceFacts] = {}
        there: dict[str, tuple[str, str]] = {}  # which device a URL means at this point of the run
        served: Counter[tuple[str, str]] = Counter()
        entries: list[SessionEntry | RoundEntry] = [*self.sessions, *self.rounds]
        for entry in sorted(entries, key=lambda entry: (entry.round, isinstance(entry, RoundEntry))):
            for device in entry.devices:
                there[device.url] = (device.url, device.unique_id)
                known.setdefault(there[device.url], device)
            if isinstance(entry, RoundEntry):
                served.update(there[part.device] for part in entry.contributions if part.device)
        return [
            ServedDevice(device.url, device.board, device.unique_id, device.receive_window, served[key])
            for key, device in known.items()
        ]

    def experiment(self, adapt: int | None = None) -> Experiment:
        """The run's experiment, with another task.adapt where it is given. Raises StoreError, SpecError for that number."""
        raw = anchored(tomllib.loads(self.header.experiment), *self._folders)
        try:
            experiment = parse(raw, str(self.path))
        except SpecError as error:  # of another version, or of a file of the user's own that is no longer as it was
            made_by = self.header.tinymetafed
            remedy = "" if made_by == __version__ else f"; the run was made by tinymetafed {made_by}, use that"
            raise StoreError(f"{error}{remedy}") from None
        return experiment if adapt is None else parse({**raw, "task": {**raw["task"], "adapt": adapt}}, str(self.path))
