"""Experiment TOML in, frozen and complete experiment out; every mistake is named with its key and a remedy."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

from .protocol import SampleSet

# Both travel as float32: what is left out here would be 0 or infinite on the device.
Rate = Annotated[float, Field(ge=1e-9, le=10, allow_inf_nan=False)]
Clamp = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=65_535)]
Passes = Annotated[int, Field(ge=1, le=1_000)]
ValueType = Literal["f32", "f16", "i8"]


class SpecError(ValueError):
    """An experiment that cannot be run as it is written; the text names file, key and remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$", max_length=40)]
Extent = Annotated[int, Field(ge=1, le=64)]
# One number for both axes, or [height, width].
Pair = Annotated[
    tuple[Extent, Extent],
    Field(strict=False),
    BeforeValidator(lambda given: (given, given) if isinstance(given, int) else given),
]
Padding = Literal["same", "valid"]
Activation = Literal["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax"]


class _Layer(_Section):
    """Any layer; by its ``name``, or else by its op and its place from 1 on (dense3), an add finds it."""

    name: Name | None = None


class _Weighted(_Layer):
    """A layer with weights: global, unless they are ``local`` to a device or ``frozen`` into the firmware."""

    activation: Activation | None = None
    local: bool = False
    frozen: bool = False


class DenseSpec(_Weighted):
    """Fully connected layer; a kernel of [inputs, units] and a bias."""

    op: Literal["dense"]
    units: Annotated[int, Field(ge=1, le=65_536)]


class Conv2dSpec(_Weighted):
    """2-D convolution over [height, width, channels]; a kernel of [rows, columns, channels, filters] and a bias."""

    op: Literal["conv2d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class DepthwiseConv2dSpec(_Weighted):
    """2-D convolution of every channel by itself; a kernel of [rows, columns, channels, 1] and a bias."""

    op: Literal["depthwise_conv2d"]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class SeparableConv2dSpec(_Weighted):
    """A depthwise_conv2d and a conv2d of 1x1 after it, with the activation; each has a bias."""

    op: Literal["separable_conv2d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class Conv1dSpec(_Weighted):
    """1-D convolution over [length, channels]; a kernel of [size, channels, filters] and a bias."""

    op: Literal["conv1d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Extent
    stride: Extent = 1
    padding: Padding = "same"


class MaxPoolSpec(_Layer):
    """The largest value of each window over [height, width, channels]; windows touch unless ``stride`` says otherwise."""

    op: Literal["max_pool"]
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


class AvgPoolSpec(_Layer):
    """The mean of each window over [height, width, channels]; pixels outside the image do not count."""

    op: Literal["avg_pool"]
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


class GlobalAvgPoolSpec(_Layer):
    """The mean over all pixels, channel by channel."""

    op: Literal["global_avg_pool"]


class FlattenSpec(_Layer):
    """Any tensor seen as one vector."""

    op: Literal["flatten"]


class AddSpec(_Layer):
    """The sum of the layer above this line and of the layer named ``with``."""

    op: Literal["add"]
    with_: Annotated[str, Field(alias="with")]


class ReluSpec(_Layer):
    """max(0, x)."""

    op: Literal["relu"]


class Relu6Spec(_Layer):
    """min(max(0, x), 6)."""

    op: Literal["relu6"]


class LeakyReluSpec(_Layer):
    """x where it is positive, slope x elsewhere."""

    op: Literal["leaky_relu"]
    slope: Annotated[float, Field(ge=1e-6, lt=1)] = 0.2


class SigmoidSpec(_Layer):
    """1 / (1 + e^-x)."""

    op: Literal["sigmoid"]


class TanhSpec(_Layer):
    """Hyperbolic tangent."""

    op: Literal["tanh"]


class SoftmaxSpec(_Layer):
    """e^x over the sum of e^x along the last axis."""

    op: Literal["softmax"]


LayerSpec = Annotated[
    DenseSpec
    | Conv2dSpec
    | DepthwiseConv2dSpec
    | SeparableConv2dSpec
    | Conv1dSpec
    | MaxPoolSpec
    | AvgPoolSpec
    | GlobalAvgPoolSpec
    | FlattenSpec
    | AddSpec
    | ReluSpec
    | Relu6Spec
    | LeakyReluSpec
    | SigmoidSpec
    | TanhSpec
    | SoftmaxSpec,
    Field(discriminator="op"),
]
# What a layer with weights may name as its ``activation``, with the keys' defaults.
ACTIVATIONS: dict[str, type[Any]] = {
    "relu": ReluSpec,
    "relu6": Relu6Spec,
    "leaky_relu": LeakyReluSpec,
    "sigmoid": SigmoidSpec,
    "tanh": TanhSpec,
    "softmax": SoftmaxSpec,
}


class ModelSpec(_Section):
    """Layers from input to output, their loss and how they learn.

    ``weights``: an npz file of arrays LAYER.kernel and LAYER.bias, for the frozen layers and for where meta-training starts;
    ``init`` draws what it lacks. Local layers start anew from ``local_start`` at every reconstruction.
    ``momentum``, ``weight_decay`` and ``clip_norm`` (the norm of each layer's output gradient) are off at 0: plain SGD.
    """

    input: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=3, strict=False)]
    layers: Annotated[tuple[LayerSpec, ...], Field(min_length=1, max_length=64, strict=False)]
    loss: Literal["mse", "mae", "huber", "binary_crossentropy", "softmax_cross_entropy"]
    huber_delta: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    weights: str | None = None
    init: Literal["glorot", "he"]
    local_start: Literal["alternating", "random", "zeros"]
    local_start_scale: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class TaskShapes(NamedTuple):
    """What a task asks of a model: the shape of its input, its number of outputs, its loss."""

    input: tuple[int, ...]
    outputs: int
    loss: str


class SineTask(_Section):
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


class OmniglotTask(_Section):
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


class FolderTask(_Section):
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


TaskSpec = Annotated[SineTask | OmniglotTask | FolderTask, Field(discriminator="kind")]


class TinyMetaFedSpec(_Section):
    """Partial local reconstruction and Top-P% communication (arXiv 2307.06822)."""

    kind: Literal["tinymetafed"] = "tinymetafed"
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    schedule: Literal["linear", "sgdr"] = "linear"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 0.5
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    restart_rounds: PositiveInt | None = None
    restart_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    local_learning_rate: Rate
    local_passes: Passes
    global_learning_rate: Rate
    global_passes: Passes
    output_clamp: Clamp


class AdaptationSpec(_Section):
    """How a new client adapts: passes over its samples with the local part only, then with the whole model."""

    local_learning_rate: Rate
    local_passes: Passes
    full_learning_rate: Rate
    full_passes: Passes


class RunSpec(_Section):
    """How long, with whom, from which seed."""

    rounds: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    clients: Annotated[int, Field(ge=1, le=1 << 20)] | None = None  # None: the task's files or boards are counted
    devices_per_round: Annotated[int, Field(ge=1, le=1_024)] = 1


class EvaluationSpec(_Section):
    """Meta-test on clients that never took part: how many at the end, and how many on the way, how often."""

    tasks: Annotated[int, Field(ge=1, le=100_000)]
    every: Annotated[int, Field(ge=0)]
    every_tasks: Annotated[int, Field(ge=1, le=100_000)]


class Experiment(_Section):
    """All that determines a run's result, with nothing left to default."""

    task: TaskSpec
    model: ModelSpec
    strategy: TinyMetaFedSpec
    adaptation: AdaptationSpec
    run: RunSpec
    evaluation: EvaluationSpec

    @property
    def streamed(self) -> Experiment:
        """The experiment whose firmware has all samples streamed, where a source of the user's makes those to train on."""
        if not isinstance(self.task, FolderTask) or self.task.source is None:
            return self
        task = self.task.model_copy(update={"source": None, "client_per_board": False})
        return self.model_copy(update={"task": task, "run": self.run.model_copy(update={"clients": None})})


CLIENTS = 1_000  # data owners where nobody can count them
FOLDER_EVALUATION = {"tasks": 40, "every": 0, "every_tasks": 20}  # few files, each split anew for every test

# What works, measured with mse and softmax_cross_entropy; a file states only what differs.
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "mse": {
        "model": {"init": "glorot", "local_start": "alternating", "local_start_scale": 0.35},
        "strategy": {
            "local_learning_rate": 0.03,
            "local_passes": 2,
            "global_learning_rate": 0.02,
            "global_passes": 3,
            "output_clamp": 1.0,
        },
        "adaptation": {
            "local_learning_rate": 0.03,
            "local_passes": 16,
            "full_learning_rate": 0.005,
            "full_passes": 16,
        },
        "evaluation": {"tasks": 200, "every": 0, "every_tasks": 50},
    },
    "softmax_cross_entropy": {
        "model": {"init": "he", "local_start": "random", "local_start_scale": 0.05},
        "strategy": {
            "local_learning_rate": 0.05,
            "local_passes": 2,
            "global_learning_rate": 0.03,
            "global_passes": 2,
            "output_clamp": 0.0,
        },
        "adaptation": {
            "local_learning_rate": 0.05,
            "local_passes": 8,
            "full_learning_rate": 0.02,
            "full_passes": 2,
        },
        "evaluation": {"tasks": 100, "every": 0, "every_tasks": 20},
    },
}
# Values are learned like values, labels like classes.
_DEFAULTS |= {
    "mae": _DEFAULTS["mse"],
    "huber": _DEFAULTS["mse"],
    "binary_crossentropy": _DEFAULTS["softmax_cross_entropy"],
}


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment file; ``overrides`` are ``section.key=value`` as in ``--set``. Raises SpecError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such experiment file; examples/sine.toml is one to start from") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: a folder, not an experiment file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply(raw, override)
    model = raw.get("model")
    if isinstance(model, dict) and isinstance(model.get("weights"), str):
        model["weights"] = str((path.parent / model["weights"]).resolve())  # the experiment may be written elsewhere
    task = raw.get("task")
    if isinstance(task, dict) and task.get("kind") == "folder":
        for key in ("path", "source"):
            if isinstance(task.get(key), str):
                task[key] = str((path.parent / task[key]).resolve()) if task[key] else ""
    return parse(raw, str(path))


def parse(raw: dict[str, Any], source: str) -> Experiment:
    """Validates a decoded experiment; ``source`` names it in errors. Raises SpecError."""
    loss = raw["model"].get("loss") if isinstance(raw.get("model"), dict) else None
    task = raw.get("task")
    is_folder = isinstance(task, dict) and task.get("kind") == "folder"
    for section, defaults in _DEFAULTS.get(loss if isinstance(loss, str) else "", {}).items():
        if is_folder and section == "evaluation":
            defaults = FOLDER_EVALUATION
        given = raw.get(section, {})
        if isinstance(given, dict):
            raw = {**raw, section: {**defaults, **given}}
    if loss in _DEFAULTS:
        raw = {**raw, "run": raw.get("run", {})}
    try:
        experiment = Experiment.model_validate(raw)
    except pydantic.ValidationError as error:
        # One mistake brings others in its wake (a mistyped key is unknown here and missing there): name the cause only.
        first = min(error.errors(), key=lambda e: _CAUSES_FIRST.get(e["type"], 1))
        raise SpecError(f"{source}: {_explain(first)}") from None
    if experiment.run.clients is None and not _counts_clients(experiment):
        experiment = experiment.model_copy(update={"run": experiment.run.model_copy(update={"clients": CLIENTS})})
    _check(experiment, source)
    return experiment


def dump(experiment: Experiment) -> dict[str, Any]:
    """The complete experiment as plain values that TOML can hold."""
    return experiment.model_dump(mode="json", exclude_none=True, by_alias=True)


def _counts_clients(experiment: Experiment) -> bool:
    return isinstance(experiment.task, FolderTask) and experiment.task.counts_clients


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise SpecError(f"--set {override}: expected SECTION.KEY=VALUE, for instance run.rounds=50")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    section: Any = raw
    for part in path[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise SpecError(f"--set {override}: {part} is not a section")
    section[path[-1]] = value


def _check(experiment: Experiment, source: str) -> None:
    """What spans several keys."""
    task, strategy, run = experiment.task, experiment.strategy, experiment.run
    if strategy.alpha_min > strategy.alpha_max:
        raise SpecError(f"{source}: strategy.alpha_min = {strategy.alpha_min} is above alpha_max = {strategy.alpha_max}")
    if strategy.schedule == "sgdr":
        if strategy.restart_rounds is None:
            raise SpecError(f"{source}: strategy.schedule = 'sgdr' needs strategy.restart_rounds, the rounds of a cycle")
        if run.rounds % strategy.restart_rounds:
            raise SpecError(
                f"{source}: run.rounds = {run.rounds} is not a multiple of strategy.restart_rounds = "
                f"{strategy.restart_rounds}; a run that stops in mid-cycle ends on a large learning rate"
            )
    elif strategy.restart_rounds is not None:
        raise SpecError(f"{source}: strategy.restart_rounds has a meaning only with strategy.schedule = 'sgdr'")
    if _counts_clients(experiment) and run.clients is not None:
        raise SpecError(
            f"{source}: run.clients = {run.clients}, but task 'folder' counts its clients: files that are not held out, or "
            "boards with task.client_per_board; leave run.clients out"
        )
    if isinstance(task, FolderTask) and task.client_per_board and task.source is None:
        raise SpecError(f"{source}: task.client_per_board = true needs task.source, the C++ file that reads a board's own data")
    if run.clients is not None and run.devices_per_round > run.clients:
        raise SpecError(
            f"{source}: run.devices_per_round = {run.devices_per_round} but there are only run.clients = {run.clients}"
        )
    if isinstance(task, OmniglotTask) and task.support + task.query > 20:
        raise SpecError(
            f"{source}: task.support + task.query = {task.support + task.query}, but each character has 20 drawings"
        )


_CAUSES_FIRST = {"extra_forbidden": 0, "missing": 2, "too_short": 3}
_TAGS: dict[str, type[BaseModel]] = {
    "dense": DenseSpec,
    "conv2d": Conv2dSpec,
    "depthwise_conv2d": DepthwiseConv2dSpec,
    "separable_conv2d": SeparableConv2dSpec,
    "conv1d": Conv1dSpec,
    "max_pool": MaxPoolSpec,
    "avg_pool": AvgPoolSpec,
    "global_avg_pool": GlobalAvgPoolSpec,
    "flatten": FlattenSpec,
    "add": AddSpec,
    **ACTIVATIONS,
}
_TASKS: dict[str, type[BaseModel]] = {"sine": SineTask, "omniglot": OmniglotTask, "folder": FolderTask}
_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelSpec,
    "strategy": TinyMetaFedSpec,
    "adaptation": AdaptationSpec,
    "run": RunSpec,
    "evaluation": EvaluationSpec,
}


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys that would have been right where an unknown one stands."""
    owner: type[BaseModel] = Experiment
    for part in location[:-1]:
        for known in (_SECTIONS, _TAGS, _TASKS):
            owner = known.get(part, owner)
    return [field.alias or name for name, field in owner.model_fields.items()]


def _explain(error: Any) -> str:
    location = tuple(error["loc"])
    kind = error["type"]
    # pydantic puts the chosen union member into the path; the file's reader never wrote it.
    key = ""
    for i, part in enumerate(location):
        if isinstance(part, int):
            key += f"[{part}]"
        elif not (isinstance(part, str) and i > 0 and i < len(location) and _is_tag(location, i)):
            key += f".{part}" if key else str(part)
    if kind == "extra_forbidden":
        known = _known_keys(location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if kind == "missing":
        return f"'{key}' is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        discriminator = str(error["ctx"]["discriminator"]).strip("'")
        expected = error["ctx"].get("expected_tags", "").replace("'", "") or "one of the known kinds"
        given = error["ctx"].get("tag")
        near = difflib.get_close_matches(str(given), expected.split(", "), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        what = f"unknown value '{given}'" if given is not None else "is missing"
        return f"'{key}.{discriminator}' {what}; expected one of: {expected}{hint}"
    return f"'{key}' = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _is_tag(location: tuple[Any, ...], i: int) -> bool:
    return (location[i - 1] == "task" and location[i] in _TASKS) or (isinstance(location[i - 1], int) and location[i] in _TAGS)
