"""Turns a model's layers into ops in order, each with what it reads."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass

from . import ops
from .ops import INPUT, Affine, AffineSpec, Int8Op, LayerSpec, Merge, MergeSpec, Op, OpError, RunningStatistics, Shape, shape_of
from .own_class import OwnClassError
from .spec import DataSpec, ModelSpec, SpecError

NORMALISE = "normalise"  # the name of the layer that normalises the input
NORMALISING = (f"{NORMALISE}.kernel", f"{NORMALISE}.bias")  # its weights where they are constants
RESERVED_NAMES = {"loss", "model", "t", "update"}  # types of the generated C++ that a layer's type would hide


@dataclass(frozen=True)
class Step:
    """An op and the names of the ops whose outputs it reads, INPUT for the model's input; only a merge reads ``other``."""

    op: Op
    source: str
    other: str | None = None


def steps(model: ModelSpec, source: str, data: DataSpec) -> list[Step]:
    """The ops of a model in order; ReLU layers are fused where that is possible.

    Args:
        model: The [model] section.
        source: The experiment's name in errors.
        data: The [data] section: whether a layer NORMALISE comes before the first layer, and which.

    Raises:
        SpecError: A layer does not fit its input or the layers before it; the text names the layer.
    """
    return _chain(model, source, data).steps


def layers(model: ModelSpec, source: str, data: DataSpec) -> dict[str, list[Op]]:
    """The ops of each layer by its name, from input to output. Arguments and errors are those of ``steps``."""
    return _chain(model, source, data).layers


def _chain(model: ModelSpec, source: str, data: DataSpec) -> _Chain:
    chain = _Chain(model, source)
    if data.is_normalised:
        chain.normalise(data)
    for number, layer in enumerate(model.layers):
        chain.add(number, layer)
    chain.require_trainable()
    chain.require_readers()
    return chain


@dataclass(frozen=True)
class _Output:
    """The output of a layer, or the model's input: its shape, the op that writes it, and the number that means 0 in int8."""

    shape: Shape
    op: str
    zero_point: int | None = None  # None for float32


class _Chain:
    """The steps of the layers so far, and what each layer gives."""

    def __init__(self, model: ModelSpec, source: str) -> None:
        self.steps: list[Step] = []
        self._source = source
        self._outputs = {INPUT: _Output(tuple(model.input), INPUT)}
        self._before = INPUT  # the layer before the next one
        self._wanted = {name for layer in model.layers for name in _named(layer)}
        self._read: set[str] = set()
        self._lowest_training: int | None = None
        self._is_running = False
        # The layers that train, by model.trainable; None: all that are not frozen. A budget names none yet.
        self._trainable = model.trainable if isinstance(model.trainable, tuple) else None
        self._able: dict[str, bool] = {}  # which layers could train
        self.layers: dict[str, list[Op]] = {}  # the ops of each layer

    def normalise(self, data: DataSpec) -> None:
        """Puts the layer that normalises the input before all others."""
        shape = self._outputs[INPUT].shape
        op: Op = Affine.build(AffineSpec(op="affine", frozen=True), NORMALISE, shape)
        if data.is_running:
            op = RunningStatistics.of(NORMALISE, shape, data.shift or (), data.scale or (), data.counted_from, data.counted_to)
            self._is_running = True
        self.steps.append(Step(op, INPUT))
        self._outputs[INPUT] = _Output(shape, NORMALISE)

    def add(self, number: int, layer: LayerSpec) -> None:
        """Adds a layer; ``number`` is its place in the model, from 0. Raises SpecError."""
        at = f"{self._source}: model.layers[{number}]"
        below = self._before if layer.from_ is None else layer.from_
        shapes = {name: output.shape for name, output in self._outputs.items()}
        try:
            shape = shape_of("from", below, shapes)
            name = layer.name or f"{ops.find(layer.op).kind}{number + 1}"
            made = ops.build(layer, name, shape, shapes)
            made[0] = _reading(made[0], [self._outputs[each].zero_point for each in (below, *_others(layer))])
        except (OpError, OwnClassError) as error:
            raise SpecError(f"{at}: {error}") from None
        if self._is_running and any(isinstance(op, Int8Op) for op in made):
            raise SpecError(
                f"{at}: data.normalise = 'running' moves the range of the inputs, and '{made[0].kind}' computes in int8, made "
                "for one range; set data.normalise = 'none', or 'standard'"
            )
        self._require_free(at, {name, *(op.name for op in made)})
        self._require_frozen_first(at, number, made[0])
        self._able[name] = any(trains(op) for op in made)
        made = self._only_trainable(at, name, made)
        if any(trains(op) for op in made) and self._lowest_training is None:
            self._lowest_training = number
        self.layers[name] = made
        if not self._fused(made[0], below):
            self._append(made, below)
        self._read |= {below} | _named(layer)
        self._outputs[name] = _Output(
            made[-1].output_shape, self.steps[-1].op.name, _zero_point(made[-1], self._outputs[below].zero_point)
        )
        self._before = name

    def require_trainable(self) -> None:
        """Raises SpecError if model.trainable names a layer that has nothing to train."""
        able = [name for name, is_able in self._able.items() if is_able]
        for name in self._trainable or ():
            if name in able:
                continue
            if name in self._able:
                raise SpecError(f"{self._source}: model.trainable names '{name}', which is frozen or has no weights")
            near = difflib.get_close_matches(name, able, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"layers with weights: {', '.join(able)}"
            raise SpecError(f"{self._source}: model.trainable names '{name}', but no layer has that name; {hint}")

    def require_readers(self) -> None:
        """Raises SpecError if no layer reads the output of one that is not the last."""
        for number, name in enumerate(list(self._outputs)[1:-1]):
            if name not in self._read:
                raise SpecError(
                    f"{self._source}: model.layers[{number}]: no layer reads the output of '{name}'; leave it out, or name it "
                    "in 'from' or 'with' of a layer below"
                )

    def _require_free(self, at: str, names: set[str]) -> None:
        taken = {*RESERVED_NAMES, *self._outputs, *(step.op.name for step in self.steps)}
        if clash := names & taken:
            raise SpecError(f"{at}: the name '{min(clash)}' is taken; give this layer another 'name'")

    def _require_frozen_first(self, at: str, number: int, op: Op) -> None:
        """Only the first layers can be frozen, because the backward pass ends at the lowest layer that trains."""
        if op.frozen and op.local:
            raise SpecError(f"{at}: 'frozen' and 'local' exclude each other: a frozen layer is the same on all devices")
        if op.frozen and self._lowest_training is not None:
            raise SpecError(
                f"{at}: frozen above model.layers[{self._lowest_training}], which trains; freeze only the first layers, or "
                "name the layers that train in model.trainable"
            )

    def _only_trainable(self, at: str, name: str, made: list[Op]) -> list[Op]:
        """The ops of a layer, frozen if the model trains only layers that it names, and this is none of them."""
        if self._trainable is None or name in self._trainable or not any(trains(op) for op in made):
            return made
        if any(op.local for op in made):
            raise SpecError(f"{at}: '{name}' is local, so each device trains it; name it in model.trainable")
        if self._lowest_training is not None and (own := next((op for op in made if ops.own_op.is_own(type(op))), None)):
            raise SpecError(
                f"{at}: frozen above model.layers[{self._lowest_training}], which trains, but the kernels of your own op "
                f"'{own.kind}' update their weights; name '{name}' in model.trainable, or leave the layers below it out"
            )
        return [dataclasses.replace(op, frozen=True) if op.parameters else op for op in made]

    def _fused(self, op: Op, below: str) -> bool:
        """Whether the op is a ReLU that the op before it applies from now on."""
        last = self.steps[-1].op if self.steps else None
        if op.kind != "relu" or last is None or not last.can_fuse_relu or self._outputs[below].op != last.name:
            return False
        if any(self._outputs[name].op == last.name for name in self._wanted if name in self._outputs):
            return False  # a layer reads the output of the op without a ReLU
        self.steps[-1] = dataclasses.replace(self.steps[-1], op=dataclasses.replace(last, relu=True))
        return True

    def _append(self, made: list[Op], below: str) -> None:
        x = self._outputs[below].op
        for op in made:
            self.steps.append(Step(op, x, self._outputs[op.other].op if isinstance(op, Merge) else None))
            x = op.name


def trains(op: Op) -> bool:
    """Whether an op has weights that follow a gradient."""
    return bool(op.parameters) and not op.frozen and not op.observes


def _others(layer: LayerSpec) -> tuple[str, ...]:
    """The layers that a merge reads beside its first one."""
    return layer.with_ if isinstance(layer, MergeSpec) else ()


def _named(layer: LayerSpec) -> set[str]:
    """The layers that a layer reads by name."""
    return {*_others(layer), *([] if layer.from_ is None else [layer.from_])}


def _reading(op: Op, zero_points: list[int | None]) -> Op:
    """The op on tensors with these zero points; None is a tensor of float32. Raises OpError if it cannot read one of them."""
    if isinstance(op, Int8Op):
        return op.reading(tuple(zero_points))
    if not op.is_view and any(point is not None for point in zero_points):
        raise OpError(f"{op.kind} computes in float32 and would read int8; put {{ op = 'dequantize' }} between them")
    return op


def _zero_point(op: Op, read: int | None) -> int | None:
    """The number that means 0 in the output of an op, None for float32; a view has that of what it reads."""
    if op.is_view:
        return read
    return op.zero_point if isinstance(op, Int8Op) and op.writes_int8 else None
