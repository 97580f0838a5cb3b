"""The ``[task]`` section: what clients learn and how many samples they have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import Field

from ..loss import LossName, is_classification, target_size
from ..protocol import SampleSet
from ..section import Count, Section, SpecError


class TaskShapes(NamedTuple):
    """What a task asks of a model: the shape of its input, its number of outputs, its loss."""

    input: tuple[int, ...]
    outputs: int
    loss: LossName

    @property
    def is_classification(self) -> bool:
        """Whether classes are told apart; otherwise values are learned."""
        return is_classification(self.loss)

    @property
    def target_size(self) -> int:
        """Numbers that say what is right for one sample."""
        return target_size(self.loss, self.outputs)


class TaskBase(Section):
    """What all tasks have: three sets of samples, and facts that firmware, budget and reports ask for.

    ``title`` is the task's name in reports. ``sample_source`` names firmware/app/source_NAME.cpp; with "streamed" the host
    sends every sample, each input value in ``bytes_per_input`` bytes. ``evaluation``: defaults of [evaluation] that go before
    those of the loss.
    """

    title: ClassVar[str]
    sample_source: ClassVar[str] = "streamed"
    bytes_per_input: ClassVar[int] = 4  # float32
    path_keys: ClassVar[tuple[str, ...]] = ()  # keys that name files, relative to the experiment file until it is loaded
    evaluation: ClassVar[Mapping[str, int]] = MappingProxyType({})

    kind: str
    support: int
    query: int
    adapt: int

    @property
    def shapes(self) -> TaskShapes | None:
        """What the task asks of a model; None where it takes any."""
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


class SineTask(TaskBase):
    """One sine wave per client, y = a sin(x + phase); boards compute the samples from the client's random numbers."""

    title: ClassVar[str] = "Sine waves"
    sample_source: ClassVar[str] = "sine"

    kind: Literal["sine"]
    support: Count = 16
    query: Count = 16
    adapt: Count = 8

    @property
    def shapes(self) -> TaskShapes:
        """Input [1], one output."""
        return TaskShapes((1,), 1, "mse")


class OmniglotTask(TaskBase):
    """``ways`` random characters per client, streamed by the host; ``support``, ``query`` and ``adapt`` are per character."""

    title: ClassVar[str] = "Omniglot characters"
    bytes_per_input: ClassVar[int] = 1  # grey levels

    kind: Literal["omniglot"]
    ways: Annotated[int, Field(ge=2, le=100)] = 5
    support: Annotated[int, Field(ge=1, le=16)] = 5
    query: Annotated[int, Field(ge=1, le=16)] = 5
    adapt: Annotated[int, Field(ge=1, le=16)] = 8

    @property
    def shapes(self) -> TaskShapes:
        """Images of 28x28 grey levels, one output per character."""
        return TaskShapes((28, 28, 1), self.ways, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Number of characters of a client."""
        return self.ways

    def check(self, source: str) -> None:
        """Refuses more samples than the 20 drawings of a character."""
        if self.support + self.query > 20:
            raise SpecError(
                f"{source}: task.support + task.query = {self.support + self.query}, but each character has 20 drawings"
            )


class KeywordsTask(TaskBase):
    """``ways`` random spoken words per client, streamed by the host; ``support``, ``query`` and ``adapt`` are per word.

    ``split``: whether held-out clients have other speakers, other words, or both. ``held_out``: the held-out speakers;
    without it ``run.seed`` selects them.
    """

    title: ClassVar[str] = "Spoken words"
    bytes_per_input: ClassVar[int] = 1  # levels of the spectrogram

    kind: Literal["keywords"]
    corpus: Literal["fsdd", "speech_commands"] = "fsdd"
    ways: Annotated[int, Field(ge=2, le=35)] = 4
    support: Annotated[int, Field(ge=1, le=64)] = 5
    query: Annotated[int, Field(ge=1, le=64)] = 5
    adapt: Annotated[int, Field(ge=1, le=64)] = 8
    split: Literal["speaker", "word", "both"] = "speaker"
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None

    @property
    def shapes(self) -> TaskShapes:
        """Spectrograms of 32 mel bands and 20 frames, one output per word."""
        return TaskShapes((32, 20, 1), self.ways, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Number of words of a client."""
        return self.ways

    def check(self, source: str) -> None:
        """Refuses held-out speakers where the split is by word."""
        if self.held_out is not None and self.split == "word":
            raise SpecError(
                f"{source}: task.held_out names speakers, but task.split = 'word' holds out words; leave one of them out"
            )


class PresenceTask(TaskBase):
    """One simulated room per client, occupied or empty, streamed by the host; sample counts are per class."""

    title: ClassVar[str] = "Presence in rooms"

    kind: Literal["presence"]
    support: Annotated[int, Field(ge=1, le=1_000)] = 8
    query: Annotated[int, Field(ge=1, le=1_000)] = 8
    adapt: Annotated[int, Field(ge=1, le=1_000)] = 8

    @property
    def shapes(self) -> TaskShapes:
        """Values and changes of four sensors; one output for an empty room, one for an occupied room."""
        return TaskShapes((8,), 2, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Empty and occupied."""
        return 2


class FolderTask(TaskBase):
    """The user's data, one file per client, streamed by the host; boards train on samples of the C++ file ``source``, if set.

    ``path`` and ``source`` are relative to the experiment file until it is loaded, absolute from then on.
    """

    title: ClassVar[str] = "Your own data"
    path_keys: ClassVar[tuple[str, ...]] = ("path", "source")
    # There are few files; every test splits each one anew.
    evaluation: ClassVar[Mapping[str, int]] = MappingProxyType({"tasks": 40, "every": 0, "every_tasks": 20})

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    support: Count = 8
    query: Count = 8
    adapt: Count = 8
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    source: Annotated[str, Field(min_length=1)] | None = None
    client_per_board: bool = False

    @property
    def own_source(self) -> str | None:
        """The C++ file that makes the samples on the board."""
        return self.source

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
        if self.client_per_board and self.source is None:
            raise SpecError(
                f"{source}: task.client_per_board = true needs task.source, the C++ file that reads the board's data"
            )


_AnyTask = SineTask | OmniglotTask | KeywordsTask | PresenceTask | FolderTask
TaskSpec = Annotated[_AnyTask, Field(discriminator="kind")]
# The classes by what an experiment calls them in task.kind.
TASKS: dict[str, type[TaskBase]] = {get_args(each.model_fields["kind"].annotation)[0]: each for each in get_args(_AnyTask)}
