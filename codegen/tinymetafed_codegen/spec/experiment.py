"""Reads and checks experiment files; every error names the key and says what to do."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from ..files import suggestion
from ..ops.running_statistics import LARGEST_INPUT, LEAST_VARIANCE
from ..optional_messages.secure_messages import LEAST_PARTICIPANTS, SEATS
from ..section import Section, SpecError, TomlTable, TomlValue
from . import augment as augment_rules
from . import online
from .augment import AugmentSpec, PredictSpec
from .coding import check_coding
from .data import DataSpec
from .defaults import CLIENTS, defaults
from .folder_task import FolderTask
from .mistakes import explain
from .model import ModelSpec
from .paths import anchored
from .privacy import PrivacySpec
from .run import RunSpec, check_quorum
from .strategy import AdaptationSpec, StrategySpec
from .task import TaskSpec


class TooFewClients(SpecError):
    """A round needs more training clients than there are."""


class WrongKey(SpecError):
    """A key is unknown, or has a value that it cannot have, whatever the other keys are."""


class EvaluationSpec(Section):
    """The ``[evaluation]`` section: unseen clients to score at the end and on the way.

    ``tasks``: how many tasks are scored at the end, of clients of the ``group``: "test", whom the report is about, or
    "validation", by whom settings are chosen. ``every``: rounds between scores on the way, of ``every_tasks`` tasks of
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
    the activations of layers that do not change between passes, for as many samples as half of its free RAM holds.
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
        """Whether the board keeps activations between passes in RAM that is free otherwise."""
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


def load(path: Path, overrides: Sequence[str] = (), settings: Mapping[str, TomlValue] | None = None) -> Experiment:
    """Reads an experiment file.

    Args:
        path: The TOML file.
        overrides: Texts ``section.key=value`` as in ``--set``; numbers select entries of lists: ``model.layers.2.local``.
        settings: The same with decoded values, by ``section.key``.

    Returns:
        The complete experiment, with absolute paths.

    Raises:
        SpecError: The file cannot be read or is wrong; the text names file, key and remedy.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = suggestion(path, "examples/sine.toml is one to start from")
        raise SpecError(f"{path}: no such experiment file; {remedy}") from None
    except IsADirectoryError:
        remedy = f"; did you mean {path / 'experiment.toml'}?" if (path / "experiment.toml").is_file() else ""
        raise SpecError(f"{path}: a folder, not an experiment file{remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _put(raw, *_decode(override), f"--set {override}")
    for key, value in (settings or {}).items():
        _put(raw, key.split("."), value, key)
    return parse(anchored(raw, path.parent), str(path))


def parse(raw: TomlTable, source: str) -> Experiment:
    """Validates a decoded experiment; ``source`` is its name in errors. Raises SpecError."""
    for section, values in defaults(*(_key(raw, *key) for key in _DECIDING), online=online.is_asked(raw.get("task"))).items():
        given = raw.get(section, {})
        if isinstance(given, dict):
            raw = {**raw, section: {**values, **given}}
    try:
        experiment = Experiment.model_validate(raw)
    except pydantic.ValidationError as error:
        raise WrongKey(f"{source}: {explain(error, Experiment)}") from None
    if experiment.run.clients is None and not experiment.task.counts_clients:
        experiment = experiment.model_copy(update={"run": experiment.run.model_copy(update={"clients": CLIENTS})})
    experiment = experiment.model_copy(update={"task": online.sized(experiment.task)})
    if not experiment.strategy.has_rounds:
        experiment = experiment.model_copy(update={"run": experiment.run.model_copy(update={"rounds": 0})})
    if experiment.data.normalise is None:
        experiment = experiment.model_copy(
            update={"data": experiment.data.model_copy(update={"normalise": experiment.task.normalise})}
        )
    _check(experiment, source)
    return experiment


# The keys that other defaults depend on: section, key, its own default.
_DECIDING = (
    ("model", "loss", ""),
    ("strategy", "kind", "tinymetafed"),
    ("task", "kind", ""),
    ("strategy", "server", "sgd"),
)


def _key(raw: TomlTable, section: str, key: str, default: str) -> str:
    found = raw.get(section)
    return str(found.get(key, default)) if isinstance(found, dict) else default


def folder_task(path: Path, changes: Mapping[str, TomlValue] | Sequence[str] = ()) -> FolderTask:
    """The section [task] of an experiment on a folder of data, for data that have no experiment yet.

    Args:
        path: The folder.
        changes: Keys of [task] by ``task.key``, or texts ``task.key=value`` as in ``--set``.

    Raises:
        SpecError: A key is unknown or its value is wrong.
    """
    raw: TomlTable = {"task": {"kind": "folder", "path": str(path.resolve())}}
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            _put(raw, key.split("."), value, key)
    else:
        for override in changes:
            _put(raw, *_decode(override), f"--set {override}")
    if others := [section for section in raw if section != "task"]:
        raise SpecError(f"{path}: '{others[0]}' is set, but a folder of data has keys of [task] only; give an experiment file")
    try:
        task = FolderTask.model_validate(raw["task"])
    except pydantic.ValidationError as error:
        raise SpecError(f"{path}: task: {explain(error, FolderTask)}") from None
    task.check(str(path))
    return task


def dump(experiment: Experiment) -> TomlTable:
    """The complete experiment as plain values for TOML."""
    return experiment.model_dump(mode="json", exclude_none=True, by_alias=True)


def _decode(override: str) -> tuple[list[str], TomlValue]:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise SpecError(f"--set {override}: expected SECTION.KEY=VALUE, for instance run.rounds=50")
    try:
        return path, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return path, text.strip()


def _put(raw: TomlTable, path: Sequence[str], value: TomlValue, source: str) -> None:
    section: Any = raw
    for part in path[:-1]:
        if isinstance(section, list):
            if not part.isdigit() or int(part) >= len(section):
                raise SpecError(f"{source}: {part} is not a number from 0 to {len(section) - 1}")
            section = section[int(part)]
        else:
            section = section.setdefault(part, {})
        if not isinstance(section, dict | list):
            raise SpecError(f"{source}: {part} is not a section")
    if isinstance(section, list):
        raise SpecError(f"{source}: {path[-2]} is a list; name a key of one of its entries")
    section[path[-1]] = value


def _check(experiment: Experiment, source: str) -> None:
    """Checks rules over several keys."""
    task, strategy, run = experiment.task, experiment.strategy, experiment.run
    if strategy.alpha_min > strategy.alpha_max:
        raise SpecError(f"{source}: strategy.alpha_min = {strategy.alpha_min} is above alpha_max = {strategy.alpha_max}")
    if strategy.schedule == "sgdr":
        if strategy.restart_rounds is None:
            raise SpecError(f"{source}: strategy.schedule = 'sgdr' needs strategy.restart_rounds, the rounds of a cycle")
        if run.rounds % strategy.restart_rounds:
            raise SpecError(
                f"{source}: run.rounds = {run.rounds} is not a multiple of strategy.restart_rounds = "
                f"{strategy.restart_rounds}; a run that stops within a cycle ends at a large learning rate"
            )
        lowest = strategy.alpha_max - strategy.alpha_min - (run.rounds // strategy.restart_rounds - 1) * strategy.restart_decay
        if lowest < 0:
            raise SpecError(
                f"{source}: strategy.restart_decay = {strategy.restart_decay} takes the schedule below alpha_min = "
                f"{strategy.alpha_min} before the last of {run.rounds // strategy.restart_rounds} cycles; "
                f"it can be at most (alpha_max - alpha_min) / (cycles - 1)"
            )
    elif strategy.restart_rounds is not None:
        raise SpecError(f"{source}: strategy.restart_rounds works only with strategy.schedule = 'sgdr'")
    strategy.check(source)
    online.check(task, strategy, source)
    check_coding(strategy, experiment.privacy, source)
    _check_defence(strategy, run.devices_per_round, source)
    differ = {
        "task.client_per_board": task.boards_are_clients,
        "strategy.error_feedback": strategy.error_feedback,
        "model.local_start = 'kept'": experiment.model.local_start == "kept",
        "privacy.noise": experiment.privacy.is_private,
    }
    if strategy.audit and (keys := [key for key, chosen in differ.items() if chosen]):
        raise SpecError(
            f"{source}: strategy.audit = {strategy.audit:g} compares what two boards do for one client, but with "
            f"{' and '.join(keys)} honest boards differ; leave strategy.audit out"
        )
    if run.chooses and not experiment.evaluation.every:
        raise SpecError(
            f"{source}: run.keep = 'best' needs evaluation.every, the number of rounds after which weights are compared; set "
            f"evaluation.every = {max(run.rounds // 20, 1)}"
        )
    if task.counts_clients and run.clients is not None:
        raise SpecError(
            f"{source}: run.clients = {run.clients}, but task '{task.kind}' counts its clients: in its data, "
            "or the boards with task.client_per_board; leave run.clients out"
        )
    if run.clients is not None and run.devices_per_round > run.clients:
        raise TooFewClients(
            f"{source}: {experiment.per_round} but there are only run.clients = {run.clients}; set run.devices_per_round = "
            f"{run.clients} or less"
        )
    task.check(source)
    _check_data(experiment, source)
    augment_rules.check(
        experiment.augment, experiment.predict, experiment.model.input, source, of_time=experiment.input_is_of_time
    )
    _check_privacy(experiment, source)
    check_quorum(run, experiment.privacy, source)
    _check_secure_aggregation(experiment, source)


def _check_privacy(experiment: Experiment, source: str) -> None:
    """Checks that nothing but clipped updates with noise would tell of the data of training clients."""
    privacy, strategy, data = experiment.privacy, experiment.strategy, experiment.data
    given = [key for key in ("clip", "noise") if getattr(privacy, key) is not None]
    if not given:
        if privacy.public_seed is not None:
            raise SpecError(f"{source}: privacy.public_seed works only with privacy.clip and privacy.noise; leave it out")
        return
    if len(given) == 1:
        lacking = "noise" if given == ["clip"] else "clip"
        raise SpecError(f"{source}: privacy.{given[0]} without privacy.{lacking}; private updates need both, or give neither")
    if not strategy.has_rounds:
        raise SpecError(f"{source}: privacy.clip: devices of strategy.kind = 'tinyol' send no updates; leave [privacy] out")
    if strategy.selection != "random":
        raise SpecError(
            f"{source}: privacy.clip needs strategy.selection = 'random', not '{strategy.selection}', which shows where a "
            "client's changes are large; set it"
        )
    if strategy.error_feedback:
        raise SpecError(
            f"{source}: privacy.clip needs strategy.error_feedback = false: the next update would take back the noise of the "
            "last one; leave it out"
        )
    if data.is_unmeasured:
        raise SpecError(
            f"{source}: data.normalise = '{data.normalise}' publishes numbers that are measured in the data of training "
            "clients, which privacy.clip does not protect; give data.shift and data.scale, a number per channel, or set "
            "data.normalise = 'running' or 'none'"
        )


def _check_secure_aggregation(experiment: Experiment, source: str) -> None:
    """Checks that the updates of a round have the same entries, and that there are enough of them to hide each."""
    if not experiment.privacy.secure_aggregation:
        if experiment.privacy.largest_change != PrivacySpec().largest_change:
            raise SpecError(f"{source}: privacy.largest_change works only with privacy.secure_aggregation = true; leave it out")
        return
    strategy, devices = experiment.strategy, experiment.run.devices_per_round
    needs = f"{source}: privacy.secure_aggregation = true needs"
    if not strategy.has_rounds:
        raise SpecError(f"{needs} rounds, and strategy.kind = 'tinyol' has none; leave it out, or choose another strategy")
    if strategy.selection != "random":
        raise SpecError(
            f"{needs} strategy.selection = 'random', not '{strategy.selection}': all devices of a round must send the same "
            "entries, and which ones must not tell anything about their data; set it"
        )
    if strategy.error_feedback:
        raise SpecError(
            f"{needs} strategy.error_feedback = false: a board would not know whether its update went into a sum; leave it out"
        )
    if strategy.pre_sums:
        raise SpecError(
            f"{needs} strategy.gateways = 'forward': masks cancel only in the sum of all updates of a round; leave "
            "strategy.gateways out"
        )
    for key, value, off in (("defence", strategy.defence, "'none'"), ("audit", strategy.audit, "0")):
        if value not in ("none", 0):
            raise SpecError(
                f"{needs} strategy.{key} = {off}, not {value!r}: it looks at single updates, which the host then cannot see; "
                "choose one of the two"
            )
    if not LEAST_PARTICIPANTS <= devices <= SEATS:
        why = "in a sum of two, each would know the other's update" if devices < SEATS else "a board has room for no more keys"
        raise SpecError(
            f"{needs} {LEAST_PARTICIPANTS} to {SEATS} devices in each round, not {experiment.per_round}: {why}; set "
            "run.devices_per_round"
        )


# How many clients of a round must be honest for one that lies, and how many more: see learn/defence.py.
_HONEST = {"trimmed": (1, 1), "krum": (1, 3)}


def _check_defence(strategy: StrategySpec, clients: int, source: str) -> None:
    """Raises SpecError if a round has too few clients for its defence."""
    if strategy.defence not in _HONEST:
        return
    per_liar, more = _HONEST[strategy.defence]
    liars = strategy.liars(clients)
    needed = (1 + per_liar) * liars + more
    if clients < needed:
        raise SpecError(
            f"{source}: strategy.defence = '{strategy.defence}' with defence_liars = {strategy.defence_liars:g} expects "
            f"{liars} of the {clients} client(s) of a round to lie and needs {needed} clients for that; raise "
            "run.devices_per_round, or set strategy.defence = 'bound', which works with one"
        )


def _check_data(experiment: Experiment, source: str) -> None:
    """Checks that the numbers of the normalisation are complete, fit the model's input, and can be known."""
    data, task, channels = experiment.data, experiment.task, experiment.model.input[-1]
    _check_running(data, source)
    given = {key: values for key, values in (("shift", data.shift), ("scale", data.scale)) if values is not None}
    if given and not data.is_normalised:
        raise SpecError(
            f"{source}: data.{next(iter(given))} is set, but data.normalise = 'none'; set data.normalise = 'standard' to use it"
        )
    if len(given) == 1:
        there, lacking = ("shift", "scale") if "shift" in given else ("scale", "shift")
        neither = "start from 0 and 1" if data.is_running else "measure them in the training data"
        raise SpecError(f"{source}: data.{there} without data.{lacking}; give both, or neither to {neither}")
    for key, values in given.items():
        if len(values) != channels:
            raise SpecError(
                f"{source}: data.{key} has {len(values)} number(s), expected {channels}: one per channel, the last axis of "
                f"model.input = {list(experiment.model.input)}"
            )
    for i, (shift, scale) in enumerate(zip(data.shift or (), data.scale or (), strict=True)):
        if abs(shift * scale) > 1e38:
            raise SpecError(
                f"{source}: data.shift[{i}] * data.scale[{i}] = {shift * scale:.3g} does not fit float32; correct one of them"
            )
    if data.is_unmeasured and task.own_source is not None:
        raise SpecError(
            f"{source}: data.normalise = '{data.normalise}' is measured in the files of training clients, but boards make "
            "their samples (task.source); give data.shift and data.scale, a number per channel, or set data.normalise = "
            "'running', with which each board measures its own, or 'none'"
        )


def _check_running(data: DataSpec, source: str) -> None:
    """Checks the keys of data.normalise = 'running', and that its start fits float32 as mean and variance."""
    for key, value in (("start_count", data.start_count), ("largest_count", data.largest_count)):
        if value is not None and not data.is_running:
            raise SpecError(
                f"{source}: data.{key} works only with data.normalise = 'running', not '{data.normalise}'; leave it out"
            )
    if data.start_count is not None and data.shift is None and data.scale is None:
        raise SpecError(
            f"{source}: data.start_count is the number of samples that data.shift and data.scale count as; give these, or "
            "leave it out"
        )
    if not data.is_running:
        return
    if data.counted_from > data.counted_to:
        raise SpecError(
            f"{source}: data.start_count = {data.counted_from} is above data.largest_count = {data.counted_to}; lower the "
            "first, or raise the second"
        )
    steepest = 1 / math.sqrt(LEAST_VARIANCE)
    _check_start("shift", data.shift, -LARGEST_INPUT, LARGEST_INPUT, source)
    _check_start("scale", data.scale, 1 / steepest, steepest, source)


def _check_start(key: str, values: Sequence[float] | None, least: float, most: float, source: str) -> None:
    for i, value in enumerate(values or ()):
        if not least <= value <= most:
            raise SpecError(
                f"{source}: data.{key}[{i}] = {value:g}: statistics of data.normalise = 'running' start from {least:g} to "
                f"{most:g}; correct it"
            )
