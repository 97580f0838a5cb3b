"""A complete experiment, and its sections ``[evaluation]`` and ``[board]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..section import Section, SpecError
from .augment import AugmentSpec, PredictSpec
from .data import DataSpec
from .defaults import defaults
from .model import ModelSpec
from .privacy import PrivacySpec
from .run import RunSpec
from .strategy import AdaptationSpec, StrategySpec
from .task import TaskSpec


class TooFewClients(SpecError):
    """A round needs more training clients than there are."""


class EvaluationSpec(Section):
    """The ``[evaluation]`` section: unseen clients to score at the end and on the way.

    ``tasks``: how many tasks are scored at the end, of clients of the ``group``: "test", which the report is about, or
    "validation", which settings are chosen by. ``every``: rounds between scores on the way, of ``every_tasks`` tasks of
    validation clients; 0 for none.
    """

    tasks: Annotated[int, Field(ge=1, le=100_000)]
    every: Annotated[int, Field(ge=0)]
    every_tasks: Annotated[int, Field(ge=1, le=100_000)]
    group: Literal["test", "validation"] = "test"


class BoardSpec(Section):
    """The ``[board]`` section: what the firmware does besides training.

    ``store``: state that is kept from round to round, and weights that were saved, survive a reset of the board.
    ``save_every``: so does what the board learns by itself, saved after every so many samples; 0: when its program says so.
    ``split_steps``: a sketch may let the board train a step in parts, layer by layer. ``measures``: the board measures its
    stack, the time of its flash and its supply voltage, for `tinymetafed bench board`. ``keep_activations``: the board keeps
    the samples that the host sends several times, and the activations of layers that do not change between passes, in up to two
    thirds of its free RAM.
    ``memory``: "least" computes activations again in the backward pass where that is cheap, and keeps none between passes, with
    the same weights as "fastest", which stores all of them.
    ``sensor``: the C++ file of the board's sensor, relative to the experiment file until it is loaded, absolute from then on;
    a board that runs as a process reads a recording instead.
    """

    store: bool = False
    save_every: Annotated[int, Field(ge=0, le=1_000_000)] = 16
    split_steps: bool = False
    measures: bool = False
    keep_activations: bool = True
    memory: Literal["fastest", "least"] = "fastest"
    sensor: Annotated[str, Field(min_length=1)] | None = None

    @property
    def keeps(self) -> bool:
        """Whether the board keeps samples and activations between passes in RAM that is free otherwise."""
        return self.keep_activations and self.memory != "least"


class Experiment(Section):
    """A complete experiment: everything that determines the result of a run."""

    task: TaskSpec
    data: DataSpec = DataSpec()
    model: ModelSpec
    strategy: StrategySpec
    adaptation: AdaptationSpec
    run: RunSpec
    evaluation: EvaluationSpec
    board: BoardSpec = BoardSpec()
    privacy: PrivacySpec = PrivacySpec()
    augment: AugmentSpec = AugmentSpec()
    predict: PredictSpec = PredictSpec()

    @property
    def input_is_of_time(self) -> bool:
        """Whether the second axis of the input is time, as in spectrograms."""
        return self.task.of_time or self.augment.of_time

    def as_asked(self, asked: Experiment) -> Experiment:
        """This experiment of a run without what its data have shown, where ``asked``, its counterpart, lacks it too."""
        update: dict[str, DataSpec | TaskSpec] = {}
        if asked.data.is_unmeasured and self.data.normalise == asked.data.normalise:
            update["data"] = asked.data
        if asked.task.lacks_dtype:
            update["task"] = self.task.sent_as(None)
        return self.model_copy(update=update) if update else self

    @property
    def per_round(self) -> str:
        """``run.devices_per_round`` in words; says so if it is the default of the strategy, which the user may not know."""
        chosen, kind = self.run.devices_per_round, self.strategy.kind
        default = defaults(self.model.loss, kind, self.task.kind).get("run", {}).get("devices_per_round")
        remark = f" (the default of strategy.kind = '{kind}')" if chosen == default else ""
        return f"run.devices_per_round = {chosen}{remark}"

    def require_clients(self, clients: int, source: str) -> None:
        """Raises TooFewClients if a round needs more training clients than there are; ``source`` says where they are from."""
        if clients < self.run.devices_per_round:
            raise TooFewClients(
                f"{source}: {clients} training client(s), too few for {self.per_round}; set run.devices_per_round = {clients} "
                "or less, or add clients"
            )

    @property
    def notes(self) -> list[str]:
        """What a reader of results must know of inputs and samples, a sentence each."""
        return [note for note in (self.data.running_note, self.augment.note, self.predict.note) if note]

    @property
    def with_plain_samples(self) -> Experiment:
        """The same experiment with samples that do not change, and predictions of one input."""
        if self.augment == AugmentSpec() and self.predict == PredictSpec():
            return self
        return self.model_copy(update={"augment": AugmentSpec(), "predict": PredictSpec()})

    @property
    def streamed(self) -> Experiment:
        """The same experiment with all samples streamed by the host instead of made by the user's sample source."""
        if self.task.own_source is None:
            return self
        return self.model_copy(update={"task": self.task.streamed, "run": self.run.model_copy(update={"clients": None})})
