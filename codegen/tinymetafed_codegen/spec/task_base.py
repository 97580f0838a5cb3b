"""What all ``[task]`` sections have: sizes of sample sets, facts for firmware and reports, options for sound."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from ..protocol import SampleSet
from ..section import Section
from .data import Normalise
from .task_facts import TaskShapes

if TYPE_CHECKING:
    from .folder_task import FolderTask
    from .sampled_tasks import SineTask

SPECTROGRAM = (32, 20)  # bands and frames where nothing says others
InputFormat = Literal["float32", "uint8"]
Validation = Annotated[int, Field(ge=0, le=1 << 20)] | Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class SoundOptions(Section):
    """How log-mel spectrograms are made of recorded sounds.

    ``lowest_hz``: where the lowest mel band begins. ``window_seconds``, ``hop_seconds``: a Hann window's length, and the time
    from one to the next. ``range_db``: the range below the loudest point of a recording. ``silence``: share of the loudest
    window's power; quieter windows before and after the sound are cut off, with 0 none.

    ``arithmetic``: "host" computes in float64 over whole recordings; "board" as a board does with its microphone, of ``rate``
    Hz: there a sound begins when its power is above ``floor_db`` (0 is that of the loudest sine), and ends with a pause of
    ``pause_seconds``, or when it is ``longest_seconds`` long.
    """

    lowest_hz: Annotated[float, Field(gt=0, le=20_000)] = 60.0
    window_seconds: Annotated[float, Field(gt=0, le=1)] = 0.032
    hop_seconds: Annotated[float, Field(gt=0, le=1)] = 0.008
    range_db: Annotated[float, Field(gt=0, le=200)] = 60.0
    silence: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    arithmetic: Literal["host", "board"] = "host"
    rate: Annotated[int, Field(ge=100, le=192_000)] | None = None
    floor_db: Annotated[float, Field(ge=-200, le=0)] = -70.0
    pause_seconds: Annotated[float, Field(gt=0, le=10)] = 0.25
    longest_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0


class TaskBase(Section):
    """Base class of [task] sections: sizes of three sample sets, and facts for firmware, budget and reports.

    ``sample_source`` names firmware/app/source_NAME.cpp; with "streamed" the host sends every sample. ``evaluation`` has
    defaults of [evaluation] that replace those of the loss. ``online``: a device trains on each sample of a round once and
    keeps none; see online.py.
    """

    sample_source: ClassVar[str] = "streamed"
    path_keys: ClassVar[tuple[str, ...]] = ()  # keys that name files, relative to the experiment file until it is loaded
    evaluation: ClassVar[Mapping[str, int]] = MappingProxyType({})
    more_validation: ClassVar[str] = "hold out three clients or more"  # what to do where there are no validation clients
    of_time: ClassVar[bool] = False  # whether inputs are spectrograms [bands, frames, channels]

    kind: str
    support: int
    query: int
    adapt: int
    online: bool = False

    @property
    @abstractmethod
    def title(self) -> str:
        """The task's name in reports."""

    @property
    def reads_data(self) -> bool:
        """Whether the task reads data; otherwise it makes its samples from random numbers alone."""
        return True

    @property
    def bytes_per_input(self) -> int:
        """Bytes in which the host sends one input value."""
        return 4  # float32

    @property
    def lacks_dtype(self) -> bool:
        """Whether what the files are decides how the host sends an input."""
        return False

    def sent_as(self, dtype: InputFormat | None) -> Self:
        """These keys with how the host sends an input; None: as its files are."""
        return self

    @property
    def normalise(self) -> Normalise:
        """The default of ``data.normalise``."""
        return "none"

    @property
    def shapes(self) -> TaskShapes | None:
        """The task's requirements for a model; None where it takes any model."""
        return None

    @property
    def classes(self) -> int:
        """Number of classes that each have ``support``, ``query`` and ``adapt`` samples; 1 where these count all samples."""
        return 1

    @property
    def own_source(self) -> str | None:
        """The user's C++ file that makes the samples on the board; None where there is none."""
        return None

    @property
    def own_files(self) -> FolderTask | None:
        """The keys for the user's own data files; None where the data are given."""
        return None

    @property
    def waves(self) -> SineTask | None:
        """The ranges of the sine waves that boards make; None where they make none."""
        return None

    @property
    def board_sound(self) -> tuple[SoundOptions | None, int | None]:
        """How boards make features of sound, and its sampling rate in Hz; None and None where they do not."""
        return None, None

    @property
    def boards_are_clients(self) -> bool:
        """Whether every board is one client, with data that exist only on the board."""
        return False

    @property
    def counts_clients(self) -> bool:
        """Whether the number of clients follows from files or boards; otherwise ``run.clients`` sets it."""
        return False

    @property
    def streamed(self) -> Self:
        """The same task with all samples streamed by the host."""
        return self

    def count(self, sample_set: SampleSet) -> int:
        """Number of samples in a set, over all classes."""
        counts = {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}
        return self.classes * counts[sample_set]

    def check(self, source: str) -> None:
        """Checks rules over several keys. Raises SpecError; ``source`` is the experiment's name in its text."""
