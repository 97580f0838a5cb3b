"""The ``[task]`` sections of built-in data sets and generators: sine waves, Omniglot, spoken words, rooms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from ..section import Count, SpecError
from .task_base import SPECTROGRAM, SoundOptions, TaskBase, Validation
from .task_facts import TaskShapes

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
