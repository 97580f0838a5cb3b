"""What a folder of the user's files contains: recordings, every client's samples, problems and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import DataError, Floats
from .file_table import Table
from .problems import Problem
from .windows import Recording

MediaKind = Literal["images", "sounds"]


@dataclass(frozen=True, slots=True)
class ClientRecording:
    """A client's rows in one file."""

    client: str
    table: Table
    recording: Recording


@dataclass(frozen=True, slots=True)
class ClientSamples:
    """A client's samples.

    Attributes:
        name: The client.
        origin: The files of its samples, in this order, and the number of samples of each.
        rows: Number of rows that its samples come from.
        inputs: float32 [samples, *input_shape].
        targets: float32 [samples, target_size].
        is_held_out: Whether it serves the test or validation; otherwise it is trained on.
    """

    name: str
    origin: tuple[tuple[Path, int], ...]
    rows: int
    inputs: Floats
    targets: Floats
    is_held_out: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(dict.fromkeys(file for file, _ in self.origin))


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a folder.

    Attributes:
        path: The folder.
        recordings: Rows by client and file.
        clients: Samples by client, sorted by name.
        classes: Class index by label; None where rows have values to predict.
        problems: Everything that is wrong, listed; ``problem_count`` counts more where many are alike.
        notes: What was decided by what the files look like, a line each.
        warnings: What may be meant otherwise, without being an error, a line each.
        usual_forms: The form of those files that have the usual one, a line for each.
        media: What the files are; None for rows of numbers.
        validation: Names of the clients for validation that ``task.validation`` asks for; they are held out too.
        scale: The input value of level 1, where all inputs are bytes with a scale (``task.dtype = "uint8"``).
    """

    path: Path
    recordings: tuple[ClientRecording, ...]
    clients: tuple[ClientSamples, ...]
    classes: Mapping[str, int] | None
    problems: tuple[Problem, ...]
    problem_count: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    usual_forms: tuple[str, ...] = ()
    scale: float = 1.0
    media: MediaKind | None = None
    validation: frozenset[str] = frozenset()

    def require(self) -> None:
        """Raises DataError with the first problem if there is one, and the number of the others."""
        if self.problems:
            more = self.problem_count - 1
            others = f" ({more:,} more problem{'s' * (more > 1)}; `tinymetafed check` lists all)" if more else ""
            raise DataError(f"{self.problems[0]}{others}")
