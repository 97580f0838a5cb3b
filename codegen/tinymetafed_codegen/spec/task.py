"""The ``[task]`` section: what clients learn and how many samples they have."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from ..protocol import SampleSet
from .section import Count, Section


class TaskShapes(NamedTuple):
    """What a task asks of a model: the shape of its input, its number of outputs, its loss."""

    input: tuple[int, ...]
    outputs: int
    loss: str


class SineTask(Section):
    """One sine wave per client, y = a sin(x + phase), sampled on the board from the client's seed."""

    kind: Literal["sine"]
    support: Count = 16
    query: Count = 16
    adapt: Count = 8

    @property
    def shapes(self) -> TaskShapes | None:
        """One number in, one number out."""
        return TaskShapes((1,), 1, "mse")

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set."""
        return {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}[sample_set]


class OmniglotTask(Section):
    """``ways`` random characters per client, streamed by the host; support, query and adapt count per character."""

    kind: Literal["omniglot"]
    ways: Annotated[int, Field(ge=2, le=100)] = 5
    support: Annotated[int, Field(ge=1, le=16)] = 5
    query: Annotated[int, Field(ge=1, le=16)] = 5
    adapt: Annotated[int, Field(ge=1, le=16)] = 8

    @property
    def shapes(self) -> TaskShapes | None:
        """Drawings of 28x28 grey levels, one output per character."""
        return TaskShapes((28, 28, 1), self.ways, "softmax_cross_entropy")

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set, all classes together."""
        shots = {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}
        return self.ways * shots[sample_set]


class KeywordsTask(Section):
    """``ways`` random spoken words per client, streamed by the host; support, query and adapt count per word.

    ``split``: what held-out clients are unseen in; ``held_out``: their speakers, otherwise chosen by ``run.seed``.
    """

    kind: Literal["keywords"]
    corpus: Literal["fsdd", "speech_commands"] = "fsdd"
    ways: Annotated[int, Field(ge=2, le=35)] = 4
    support: Annotated[int, Field(ge=1, le=64)] = 5
    query: Annotated[int, Field(ge=1, le=64)] = 5
    adapt: Annotated[int, Field(ge=1, le=64)] = 8
    split: Literal["speaker", "word", "both"] = "speaker"
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None

    @property
    def shapes(self) -> TaskShapes | None:
        """Spectrograms of 32 mel bands and 20 frames, one output per word."""
        return TaskShapes((32, 20, 1), self.ways, "softmax_cross_entropy")

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set, all classes together."""
        shots = {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}
        return self.ways * shots[sample_set]


class PresenceTask(Section):
    """One room per client, occupied or not, made up from the client's seed and streamed by the host; counts are per class."""

    kind: Literal["presence"]
    support: Annotated[int, Field(ge=1, le=1_000)] = 8
    query: Annotated[int, Field(ge=1, le=1_000)] = 8
    adapt: Annotated[int, Field(ge=1, le=1_000)] = 8

    @property
    def shapes(self) -> TaskShapes | None:
        """Four sensors and their changes, one output for an empty room and one for an occupied one."""
        return TaskShapes((8,), 2, "softmax_cross_entropy")

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set, both classes together."""
        return 2 * {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}[sample_set]


class FolderTask(Section):
    """The user's own data, a file per client, streamed by the host; or trained on where a C++ ``source`` makes them.

    ``path`` and ``source`` are relative to the experiment file until it is loaded, absolute from then on.
    """

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    support: Count = 8
    query: Count = 8
    adapt: Count = 8
    held_out: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    source: Annotated[str, Field(min_length=1)] | None = None
    client_per_board: bool = False

    @property
    def shapes(self) -> TaskShapes | None:
        """None: the data are read as the model wants them."""
        return None

    @property
    def counts_clients(self) -> bool:
        """Whether the clients are there to be counted, files or boards; otherwise ``run.clients`` says how many."""
        return self.source is None or self.client_per_board

    def count(self, sample_set: SampleSet) -> int:
        """Samples of one set, all classes together."""
        return {SampleSet.SUPPORT: self.support, SampleSet.QUERY: self.query, SampleSet.ADAPT: self.adapt}[sample_set]


TaskSpec = Annotated[SineTask | OmniglotTask | KeywordsTask | PresenceTask | FolderTask, Field(discriminator="kind")]
