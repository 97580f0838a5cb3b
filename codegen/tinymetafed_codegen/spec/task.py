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
        """Classes of which each has ``support``, ``query`` and ``adapt`` samples; 1 where samples are counted together."""
        return 1

    @property
    def own_source(self) -> str | None:
        """The user's C++ file that makes the samples on the board; None without one."""
        return None

    @property
    def boards_are_clients(self) -> bool:
        """Whether every board is a client, with data that exist nowhere else."""
        return False

    @property
    def counts_clients(self) -> bool:
        """Whether the clients are there to be counted; otherwise ``run.clients`` says how many."""
        return False

    @property
    def streamed(self) -> Self:
        """The same task with all samples streamed by the host."""
        return self

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set, all classes together."""
        counts = {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}
        return self.classes * counts[sample_set]

    def check(self, source: str) -> None:
        """What spans several keys of the task. Raises SpecError, which calls the experiment ``source``."""


class SineTask(TaskBase):
    """One sine wave per client, y = a sin(x + phase), sampled on the board from the client's seed."""

    title: ClassVar[str] = "Sine waves"
    sample_source: ClassVar[str] = "sine"

    kind: Literal["sine"]
    support: Count = 16
    query: Count = 16
    adapt: Count = 8

    @property
    def shapes(self) -> TaskShapes:
        """One number in, one number out."""
        return TaskShapes((1,), 1, "mse")


class OmniglotTask(TaskBase):
    """``ways`` random characters per client, streamed by the host; support, query and adapt count per character."""

    title: ClassVar[str] = "Omniglot characters"
    bytes_per_input: ClassVar[int] = 1  # grey levels

    kind: Literal["omniglot"]
    ways: Annotated[int, Field(ge=2, le=100)] = 5
    support: Annotated[int, Field(ge=1, le=16)] = 5
    query: Annotated[int, Field(ge=1, le=16)] = 5
    adapt: Annotated[int, Field(ge=1, le=16)] = 8

    @property
    def shapes(self) -> TaskShapes:
        """Drawings of 28x28 grey levels, one output per character."""
        return TaskShapes((28, 28, 1), self.ways, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """Characters of a client."""
        return self.ways

    def check(self, source: str) -> None:
        """Every character has 20 drawings."""
        if self.support + self.query > 20:
            raise SpecError(
                f"{source}: task.support + task.query = {self.support + self.query}, but each character has 20 drawings"
            )


class KeywordsTask(TaskBase):
    """``ways`` random spoken words per client, streamed by the host; support, query and adapt count per word.

    ``split``: what held-out clients are unseen in; ``held_out``: their speakers, otherwise chosen by ``run.seed``.
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
        """Words of a client."""
        return self.ways

    def check(self, source: str) -> None:
        """Speakers are held out only where the split is by speaker."""
        if self.held_out is not None and self.split == "word":
            raise SpecError(
                f"{source}: task.held_out names speakers, but task.split = 'word' holds out words; leave one of them out"
            )


class PresenceTask(TaskBase):
    """One room per client, occupied or not, made up from the client's seed and streamed by the host; counts are per class."""

    title: ClassVar[str] = "Presence in rooms"

    kind: Literal["presence"]
    support: Annotated[int, Field(ge=1, le=1_000)] = 8
    query: Annotated[int, Field(ge=1, le=1_000)] = 8
    adapt: Annotated[int, Field(ge=1, le=1_000)] = 8

    @property
    def shapes(self) -> TaskShapes:
        """Four sensors and their changes, one output for an empty room and one for an occupied one."""
        return TaskShapes((8,), 2, "softmax_cross_entropy")

    @property
    def classes(self) -> int:
        """An empty room and an occupied one."""
        return 2


class FolderTask(TaskBase):
    """The user's own data, a file per client, streamed by the host; or trained on where a C++ ``source`` makes them.

    ``path`` and ``source`` are relative to the experiment file until it is loaded, absolute from then on.
    """

    title: ClassVar[str] = "Your own data"
    path_keys: ClassVar[tuple[str, ...]] = ("path", "source")
    # Few files, each split anew for every test.
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
        """The C++ file that boards make their samples with."""
        return self.source

    @property
    def boards_are_clients(self) -> bool:
        """Whether every board trains on data of its own."""
        return self.client_per_board

    @property
    def counts_clients(self) -> bool:
        """Files are counted, and so are boards that are clients."""
        return self.source is None or self.client_per_board

    @property
    def streamed(self) -> Self:
        """The task whose samples all come from its files."""
        return self if self.source is None else self.model_copy(update={"source": None, "client_per_board": False})

    def check(self, source: str) -> None:
        """A board's own data are read by C++."""
        if self.client_per_board and self.source is None:
            raise SpecError(
                f"{source}: task.client_per_board = true needs task.source, the C++ file that reads a board's own data"
            )


_AnyTask = SineTask | OmniglotTask | KeywordsTask | PresenceTask | FolderTask
TaskSpec = Annotated[_AnyTask, Field(discriminator="kind")]
# The classes by what an experiment calls them in task.kind.
TASKS: dict[str, type[TaskBase]] = {get_args(each.model_fields["kind"].annotation)[0]: each for each in get_args(_AnyTask)}
