"""The ``[task]`` section of the user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from ..section import Count, SpecError
from .data import Normalise
from .task_base import InputFormat, SoundOptions, TaskBase, Validation

ColumnName = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1)]  # in the header, or counted from 1
ColumnNames = Annotated[tuple[ColumnName, ...], Field(min_length=1, strict=False)]


class FolderTask(TaskBase):
    """The user's data, one file per client, streamed by the host; boards train on samples of the C++ file ``source``, if set.

    ``path`` and ``source`` are relative to the experiment file until it is loaded, absolute from then on; ``path`` may also be
    ``doi:PREFIX/RECORD``. ``files``: a pattern of the data files in it; a file's folder is its client then.

    ``held_out``: clients that are not trained on. ``validation``: clients that are taken from those for training, for scores on
    the way and for choices: their names, or how many; 0 for none. Without it they are a third of the held-out ones, the last by
    name, where there are three or more.

    The columns of a file are ``label`` (or several values to predict; default the last), ``features`` (default all others),
    ``ignore``, ``client`` (default: a file is a client) and ``time``. ``delimiter`` and ``decimal`` are found in the file if
    they are not set.

    ``window``: rows over time that are one sample; the next window begins ``stride`` rows later (default ``window``). A window
    lies within rows of one label; with ``window_label`` "majority" it has the label of most of its rows. It never spans a gap
    of more than ``largest_gap`` seconds (default five median steps). ``rate``: recordings are resampled to it, in Hz.
    ``time_unit``: the unit of numbers in the column ``time``; found if it is not set. ``sound``: how recorded sounds are made
    into spectrograms. ``dtype``: how the host sends an input; "uint8" for pixels, spectrograms and whole numbers up to 255.
    Not set, files of images and sounds are sent as uint8, others as float32.
    """

    title: ClassVar[str] = "Your own data"
    more_validation: ClassVar[str] = "set task.validation, to take some from training, or hold out three or more"
    path_keys: ClassVar[tuple[str, ...]] = ("path", "source")
    # There are few files, so every meta-test task is a new split of one file.
    evaluation: ClassVar[Mapping[str, int]] = MappingProxyType({"tasks": 40, "every": 0, "every_tasks": 20})

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    support: Count = 8
    query: Count = 8
    adapt: Count = 8
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    validation: Validation | None = None
    source: Annotated[str, Field(min_length=1)] | None = None
    client_per_board: bool = False
    files: Annotated[str, Field(pattern=r"^[^/\\]")] | None = None
    label: ColumnName | ColumnNames | None = None
    features: ColumnNames | None = None
    ignore: Annotated[tuple[ColumnName, ...], Field(strict=False)] = ()
    client: ColumnName | None = None
    time: ColumnName | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    missing: Literal["refuse", "drop", "interpolate"] = "refuse"
    window: Annotated[int, Field(ge=1, le=65_536)] | None = None
    stride: Annotated[int, Field(ge=1, le=65_536)] | None = None
    window_label: Literal["pure", "majority"] = "pure"
    largest_gap: Annotated[float, Field(gt=0, le=1e9)] | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    sound: SoundOptions = SoundOptions()
    dtype: InputFormat | None = None

    @property
    def lacks_dtype(self) -> bool:
        """Whether no dtype is named. Files that ``files`` chooses are rows of numbers."""
        return self.dtype is None and self.files is None

    def sent_as(self, dtype: InputFormat | None) -> Self:
        """These keys with another ``dtype``."""
        return self.model_copy(update={"dtype": dtype})

    @property
    def bytes_per_input(self) -> int:
        """4 for float32 and as long as the files are not known, 1 for bytes with a scale."""
        return 1 if self.dtype == "uint8" else 4

    @property
    def normalise(self) -> Normalise:
        """The user's numbers have any unit; those that boards read are not known before a run."""
        return "standard" if self.source is None else "none"

    @property
    def own_files(self) -> FolderTask:
        """These keys."""
        return self

    @property
    def own_source(self) -> str | None:
        """The C++ file that makes the samples on the board."""
        return self.source

    @property
    def board_sound(self) -> tuple[SoundOptions | None, int | None]:
        """How boards make features of sound, and its sampling rate."""
        return (self.sound, self.sound.rate) if self.sound.arithmetic == "board" else (None, None)

    @property
    def boards_are_clients(self) -> bool:
        """Whether every board is one client, with data that exist only on the board."""
        return self.client_per_board

    @property
    def counts_clients(self) -> bool:
        """The number of clients is that of the files, or of the boards where boards are clients."""
        return self.source is None or self.client_per_board

    @property
    def streamed(self) -> Self:
        """The same task with all samples from its files."""
        return self if self.source is None else self.model_copy(update={"source": None, "client_per_board": False})

    def check(self, source: str) -> None:
        """Refuses boards as clients without a C++ file that reads their data."""
        if self.sound.arithmetic == "board" and self.sound.rate is None:
            raise SpecError(
                f"{source}: task.sound.arithmetic = 'board' needs task.sound.rate, the sampling rate in Hz of the files and of "
                "the board's microphone"
            )
        if self.client_per_board and self.source is None:
            raise SpecError(
                f"{source}: task.client_per_board = true needs task.source, the C++ file that reads the board's data"
            )
        for key, needed in (
            ("stride", "window"),
            ("rate", "window"),
            ("rate", "time"),
            ("largest_gap", "time"),
            ("time_unit", "time"),
        ):
            if getattr(self, key) is not None and getattr(self, needed) is None:
                raise SpecError(
                    f"{source}: task.{key} = {getattr(self, key)} needs task.{needed}; docs/data.md says what it is"
                )
        if self.files is not None and ".." in self.files.split("/"):
            raise SpecError(f"{source}: task.files = '{self.files}' leaves task.path; name a folder further up in task.path")
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise SpecError(f"{source}: task.delimiter and task.decimal are both '{self.delimiter}'; one of them is wrong")
