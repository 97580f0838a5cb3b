"""The ``[task]`` section: what clients learn and how many samples they have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, PrivateAttr, SerializeAsAny, Tag, model_validator
from pydantic_core import PydanticCustomError

from .. import own_class
from ..own_class import OwnClassError
from ..protocol import SampleSet
from ..section import Count, Section, SpecError
from .data import Normalise
from .mistakes import READABLE
from .task_facts import StatesFacts, TaskFacts, TaskOptions, TaskShapes, load_task, stated_facts, stated_options

SPECTROGRAM = (32, 20)  # bands and frames where nothing says others


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


PUBLISHED_WAVES = {"amplitude": (0.1, 5.0), "phase": (0.0, 3.14159274), "frequency": (1.0, 1.0)}  # Finn et al. 2017, 5.1
_Amplitude = Annotated[float, Field(ge=0, le=1_000)]
_Angle = Annotated[float, Field(ge=-100, le=100)]  # an angle beyond 1e4 would have no sine in float32
_Frequency = Annotated[float, Field(ge=0, le=100)]
_ANY_SEQUENCE = Field(strict=False)


class SineTask(TaskBase):
    """One sine wave per client, y = a sin(f x + phase); boards compute the samples from the client's random numbers.

    ``amplitude``, ``phase`` and ``frequency``: the lowest and the highest value of a uniform draw per client. The phase is in
    radians, the frequency f in radians per unit of x.
    """

    title: ClassVar[str] = "Sine waves"
    sample_source: ClassVar[str] = "sine"
    reads_data: ClassVar[bool] = False

    kind: Literal["sine"]
    support: Count = 16
    query: Count = 16
    adapt: Count = 8
    amplitude: Annotated[tuple[_Amplitude, _Amplitude], _ANY_SEQUENCE] = PUBLISHED_WAVES["amplitude"]
    phase: Annotated[tuple[_Angle, _Angle], _ANY_SEQUENCE] = PUBLISHED_WAVES["phase"]
    frequency: Annotated[tuple[_Frequency, _Frequency], _ANY_SEQUENCE] = PUBLISHED_WAVES["frequency"]

    @property
    def shapes(self) -> TaskShapes:
        """Input [1], one output."""
        return TaskShapes((1,), 1, "mse")

    @property
    def waves(self) -> SineTask:
        """These ranges."""
        return self

    @property
    def changed_ranges(self) -> dict[str, list[float]]:
        """The ranges that are not the published ones, by key."""
        return {key: list(getattr(self, key)) for key, usual in PUBLISHED_WAVES.items() if getattr(self, key) != usual}

    def check(self, source: str) -> None:
        """Refuses a range that ends before it begins."""
        for key in PUBLISHED_WAVES:
            low, high = getattr(self, key)
            if low > high:
                raise SpecError(f"{source}: task.{key} = [{low:g}, {high:g}] ends below its beginning; write [lowest, highest]")


Validation = Annotated[int, Field(ge=0, le=1 << 20)] | Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class OmniglotTask(TaskBase):
    """``ways`` random characters per client, streamed by the host; ``support``, ``query`` and ``adapt`` are per character.

    ``split``: what unseen clients are unseen in: their characters ("character"), all characters of their alphabets
    ("alphabet"), or the people who drew them ("drawer"), whose characters are seen. ``held_out_alphabets``: the alphabets of
    unseen clients; without it ``run.seed`` selects a quarter of them. ``validation``: alphabets that are taken from those for
    training to serve validation: their names, or how many. Without it they are a third of three or more held-out ones. Of
    characters a third of the held-out ones serves validation, of drawers those of a quarter of the alphabets.
    """

    title: ClassVar[str] = "Omniglot characters"
    bytes_per_input: ClassVar[int] = 1  # grey levels
    drawings: ClassVar[int] = 20  # of each character, by as many people
    test_shots: ClassVar[int] = 4  # test samples per character
    unseen_drawers: ClassVar[int] = 10  # with split = "drawer", of each alphabet
    more_validation: ClassVar[str] = "lower task.ways, or with task.split = 'alphabet' set task.validation"

    kind: Literal["omniglot"]
    ways: Annotated[int, Field(ge=2, le=100)] = 5
    support: Annotated[int, Field(ge=1, le=16)] = 5
    query: Annotated[int, Field(ge=1, le=16)] = 5
    adapt: Annotated[int, Field(ge=1, le=16)] = 8
    split: Literal["character", "alphabet", "drawer"] = "character"
    held_out_alphabets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] | None = (
        None
    )
    validation: Validation | None = None

    @property
    def shapes(self) -> TaskShapes:
        """Images of 28x28 grey levels, one output per character."""
        return TaskShapes((28, 28, 1), self.ways, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Number of characters of a client."""
        return self.ways

    @property
    def smallest_pool(self) -> int:
        """Drawings of a character that an unseen client has."""
        return self.unseen_drawers if self.split == "drawer" else self.drawings

    def check(self, source: str) -> None:
        """Refuses more samples than a character has drawings, and alphabets where the split is not by alphabet."""
        for key in ("held_out_alphabets", "validation"):
            if getattr(self, key) is not None and self.split != "alphabet":
                raise SpecError(
                    f"{source}: task.{key} is for alphabets, but task.split = '{self.split}'; set task.split = 'alphabet', or "
                    "leave it out"
                )
        trained = self.drawings - (self.unseen_drawers if self.split == "drawer" else 0)
        why = f", as task.split = 'drawer' keeps those of {self.unseen_drawers} people for unseen clients"
        note = why if self.split == "drawer" else ""
        if self.support + self.query > trained:
            raise SpecError(
                f"{source}: task.support + task.query = {self.support + self.query}, but each character has {trained} "
                f"drawings{note}"
            )
        if (needed := self.adapt + self.test_shots) > self.smallest_pool:
            raise SpecError(
                f"{source}: task.adapt = {self.adapt} and {self.test_shots} to test need {needed} drawings of each character, "
                f"but unseen clients have {self.smallest_pool}{note}; set task.adapt = {self.smallest_pool - self.test_shots} "
                "or fewer"
            )


class KeywordsTask(TaskBase):
    """``ways`` random spoken words per client, streamed by the host; ``support``, ``query`` and ``adapt`` are per word.

    ``split``: whether held-out clients have other speakers, other words, or both. ``held_out``: the held-out speakers;
    without it ``run.seed`` selects them. ``validation``: speakers, or with ``split`` "word" words, that are taken from those
    for training to serve validation: their names, or how many; 0 for none. Without it they are a third of the held-out ones,
    where that leaves enough. ``sound``: how recordings are made into spectrograms of ``bands`` mel bands and ``frames`` frames.
    """

    title: ClassVar[str] = "Spoken words"
    bytes_per_input: ClassVar[int] = 1  # levels of the spectrogram
    more_validation: ClassVar[str] = "set task.validation, to take some from training"
    of_time: ClassVar[bool] = True
    rates: ClassVar[Mapping[str, int]] = MappingProxyType({"fsdd": 8_000, "speech_commands": 16_000})  # of a corpus, in Hz

    kind: Literal["keywords"]
    corpus: Literal["fsdd", "speech_commands"] = "fsdd"
    ways: Annotated[int, Field(ge=2, le=35)] = 4
    support: Annotated[int, Field(ge=1, le=64)] = 5
    query: Annotated[int, Field(ge=1, le=64)] = 5
    adapt: Annotated[int, Field(ge=1, le=64)] = 8
    split: Literal["speaker", "word", "both"] = "speaker"
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    validation: Validation | None = None
    bands: Annotated[int, Field(ge=1, le=128)] = SPECTROGRAM[0]
    frames: Annotated[int, Field(ge=1, le=1_024)] = SPECTROGRAM[1]
    sound: SoundOptions = SoundOptions()

    @property
    def board_sound(self) -> tuple[SoundOptions | None, int | None]:
        """How boards make features of sound, and the corpus's sampling rate."""
        return (self.sound, self.rates[self.corpus]) if self.sound.arithmetic == "board" else (None, None)

    @property
    def shapes(self) -> TaskShapes:
        """Spectrograms of ``bands`` mel bands and ``frames`` frames, one output per word."""
        return TaskShapes((self.bands, self.frames, 1), self.ways, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Number of words of a client."""
        return self.ways

    def check(self, source: str) -> None:
        """Refuses held-out speakers where the split is by word, and another rate than the corpus has."""
        if self.sound.rate not in (None, rate := self.rates[self.corpus]):
            raise SpecError(f"{source}: task.sound.rate = {self.sound.rate}, but {self.corpus} has {rate}; leave it out")
        if self.held_out is not None and self.split == "word":
            raise SpecError(
                f"{source}: task.held_out names speakers, but task.split = 'word' holds out words; leave one of them out"
            )


Sensor = Literal["CO2", "light", "temperature", "motion"]


class PresenceTask(TaskBase):
    """One simulated room per client, occupied or empty, streamed by the host; sample counts are per class.

    ``sensors``: those of a room, each of which gives its value and its change over ten minutes. ``unseen``: whether unseen
    clients are "simulated" rooms, too, or a real one, "recorded": the office of UCI's "Occupancy Detection", whose three
    periods are tested, each after adapting in the other two.
    """

    title: ClassVar[str] = "Presence in rooms"

    kind: Literal["presence"]
    support: Annotated[int, Field(ge=1, le=1_000)] = 8
    query: Annotated[int, Field(ge=1, le=1_000)] = 8
    adapt: Annotated[int, Field(ge=1, le=1_000)] = 8
    sensors: Annotated[tuple[Sensor, ...], Field(min_length=1, strict=False)] = get_args(Sensor)
    unseen: Literal["simulated", "recorded"] = "simulated"

    @property
    def reads_data(self) -> bool:
        """Whether unseen clients are recorded."""
        return self.unseen == "recorded"

    @property
    def shapes(self) -> TaskShapes:
        """Values and changes of the sensors; one output for an empty room, one for an occupied room."""
        return TaskShapes((2 * len(self.sensors),), 2, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Empty and occupied."""
        return 2

    def check(self, source: str) -> None:
        """Refuses a sensor that is named twice, and motion where the real room has none."""
        if len(set(self.sensors)) < len(self.sensors):
            raise SpecError(f"{source}: task.sensors = {list(self.sensors)} names one twice; name each once")
        if self.unseen == "recorded" and "motion" in self.sensors:
            others = [sensor for sensor in self.sensors if sensor != "motion"] or ["CO2", "light", "temperature"]
            raise SpecError(
                f"{source}: task.unseen = 'recorded' is a room without a motion sensor; set task.sensors = {others} and "
                f"model.input = [{2 * len(others)}]"
            )


InputFormat = Literal["float32", "uint8"]
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


class OwnTaskSpec(TaskBase):
    """A task defined by a user's class, ``FILE.py:CLASS``; the host streams all samples.

    ``path`` is a file or folder with the data; the class defines the keys of ``options``.
    """

    tag: ClassVar[str] = "FILE.py:CLASS"
    more_validation: ClassVar[str] = "set validation_clients in read(), or hold out three or more"
    path_keys: ClassVar[tuple[str, ...]] = ("path",)

    kind: Annotated[str, Field(pattern=r"^.+:[A-Za-z_]\w*$")]
    support: Count = 8
    query: Count = 8
    adapt: Count = 8
    path: Annotated[str, Field(min_length=1)] | None = None
    options: SerializeAsAny[TaskOptions] = TaskOptions()

    _task: type[StatesFacts] = PrivateAttr()
    _facts: TaskFacts = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _read_options(cls, given: Any) -> Any:
        """Validates ``options`` with the user's class."""
        if not isinstance(given, dict) or not own_class.is_reference(given.get("kind")):
            return given
        try:
            options = stated_options(load_task(given["kind"]), given.get("options", {}))
        except OwnClassError as error:
            raise _readable_error(f"kind = '{given['kind']}': {error}") from None
        return {**given, "options": options}

    @model_validator(mode="after")
    def _ask_class(self) -> Self:
        """Reads the facts from the user's class, once, because its file may change during a run."""
        try:
            self._task = load_task(self.kind)
            self._facts = stated_facts(self._task, self.options)
        except OwnClassError as error:
            raise _readable_error(f"kind = '{self.kind}': {error}") from None
        return self

    @property
    def own_task(self) -> type[StatesFacts]:
        """The user's class."""
        return self._task

    @property
    def facts(self) -> TaskFacts:
        """The facts that the class states for these options."""
        return self._facts

    @property
    def title(self) -> str:
        """The task's name in reports."""
        return self._facts.title

    @property
    def bytes_per_input(self) -> int:
        """4 for float32, 1 for bytes with a scale."""
        return self._facts.bytes_per_input

    @property
    def shapes(self) -> TaskShapes:
        """The class's requirements for a model."""
        return self._facts.shapes

    @property
    def classes(self) -> int:
        """Number of classes that each have ``support``, ``query`` and ``adapt`` samples; 1 where these count all samples."""
        return self._facts.classes

    @property
    def counts_clients(self) -> bool:
        """Whether the number of clients follows from the data; otherwise ``run.clients`` sets it."""
        return self._facts.counts_clients


def _readable_error(text: str) -> PydanticCustomError:
    return PydanticCustomError(READABLE, "{text}", {"text": text})


def kind(section: Any) -> str | None:
    """The tag of a section's class for validation: the ``kind`` of a built-in task, or the tag of OwnTaskSpec."""
    named = section.get("kind") if isinstance(section, dict) else section.kind
    return OwnTaskSpec.tag if own_class.is_reference(named) else named if isinstance(named, str) else None


TaskSpec = Annotated[
    Annotated[SineTask, Tag("sine")]
    | Annotated[OmniglotTask, Tag("omniglot")]
    | Annotated[KeywordsTask, Tag("keywords")]
    | Annotated[PresenceTask, Tag("presence")]
    | Annotated[FolderTask, Tag("folder")]
    | Annotated[OwnTaskSpec, Tag(OwnTaskSpec.tag)],
    Discriminator(kind),
]
# Section classes of the built-in tasks by task.kind.
TASKS: dict[str, type[TaskBase]] = {
    get_args(each.model_fields["kind"].annotation)[0]: each
    for each in (SineTask, OmniglotTask, KeywordsTask, PresenceTask, FolderTask)
}


def section_class(name: object) -> type[TaskBase] | None:
    """The class of a [task] section with this ``kind``; None for an unknown kind."""
    return OwnTaskSpec if own_class.is_reference(name) else TASKS.get(str(name))
