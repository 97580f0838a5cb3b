"""Turns a model's layers into lists of forward and backward calls over named tensors."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass

from . import ops
from .loss import target_size
from .ops import (
    INPUT,
    LOSSES,
    Add,
    Affine,
    AffineSpec,
    ClipNorm,
    Int8Op,
    LayerSpec,
    Loss,
    Merge,
    MergeSpec,
    Op,
    OpError,
    Parameter,
    Relu,
    Sgd,
    Shape,
    shape_of,
)
from .own_class import OwnClassError
from .protocol import MAX_PARAMETERS, Variant
from .spec import ModelSpec, SpecError, TaskShapes

NORMALISE = "normalise"  # the name of the layer that normalises the input
RESERVED_NAMES = {"loss", "model", "t", "update"}  # types of the generated C++ that a layer's type would hide


@dataclass(frozen=True)
class Tensor:
    """A buffer in the arena: an activation, a gradient, a mask saved for backward, or the sample's targets."""

    name: str
    shape: Shape
    note: str
    int8: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def floats(self) -> int:
        """Floats of the arena that it takes; four int8 values share one."""
        return -(-self.size // 4) if self.int8 else self.size


@dataclass(frozen=True)
class Call:
    """One op run forward: reads ``x``, for a merge also ``other``; writes ``y`` and the mask saved for backward, if any.

    The gradient of an input of a merge is such a call as well: ``x`` is dy, ``other`` what the call reads beside dy.

    ``masks_input``: x is the output of a ReLU, whose derivative the mask saved for backward includes.
    """

    op: Op
    x: Tensor
    y: Tensor
    other: Tensor | None = None
    saved_mask: Tensor | None = None
    masks_input: bool = False

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The tensors that it reads."""
        return (self.x,) if self.other is None else (self.x, self.other)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The tensors that it writes, its result first."""
        return (self.y,) if self.saved_mask is None else (self.y, self.saved_mask)

    @property
    def reusable(self) -> tuple[Tensor, ...]:
        """The tensors among those read whose place in the arena the result may take."""
        return tuple(tensor for tensor in self.reads if tensor.size == self.y.size) if self.op.in_place else ()


@dataclass(frozen=True)
class BackwardCall:
    """One op run backward: reads ``dy``, writes ``dx`` where a layer below trains, updates the op's parameters if ``update``.

    ``masks_input``: x is the output of a ReLU, whose derivative the op applies to dx.
    """

    op: Op
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    update: bool
    masks_input: bool
    saved_mask: Tensor | None = None  # written by the op's forward

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The tensors that it reads."""
        needed = self.op.backward_reads()
        forward = [tensor for name, tensor in (("x", self.x), ("y", self.y)) if name in needed]
        return (*forward, *(() if self.saved_mask is None else (self.saved_mask,)), self.dy)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The tensors that it writes."""
        return () if self.dx is None else (self.dx,)

    @property
    def reusable(self) -> tuple[Tensor, ...]:
        """The tensors among those read whose place in the arena the result may take."""
        return (self.dy,) if self.op.in_place else ()


@dataclass(frozen=True)
class PlacedParameter:
    """A parameter tensor and its offset in the weight vector: global tensors first, then local ones, each in layer order."""

    op: Op
    parameter: Parameter
    offset: int

    @property
    def name(self) -> str:
        """LAYER.TENSOR, for instance dense1.kernel."""
        return f"{self.op.name}.{self.parameter.name}"


@dataclass(frozen=True)
class Graph:
    """A model as tensors and calls, with all shapes and the order of the weights decided. ``backward`` is by variant."""

    input: Tensor
    output: Tensor
    output_gradient: Tensor
    target: Tensor
    loss: Loss
    forward: tuple[Call, ...]
    backward: dict[Variant, tuple[Call | BackwardCall, ...]]
    parameters: tuple[PlacedParameter, ...]
    sgd: Sgd

    @property
    def shapes(self) -> TaskShapes:
        """The shapes and the loss that a task must have to fit this model."""
        return TaskShapes(self.input.shape, self.output.size, self.loss.name)

    @property
    def frozen(self) -> list[tuple[Op, Parameter]]:
        """The tensors of frozen layers, which are not in the weight vector."""
        return [(call.op, parameter) for call in self.forward if call.op.frozen for parameter in call.op.parameters]

    @property
    def frozen_bytes(self) -> int:
        """Bytes of flash that they take."""
        return sum(parameter.bytes for _, parameter in self.frozen)

    @property
    def sums_gradients(self) -> bool:
        """Whether a device can return one gradient of the weights that it received."""
        return Variant.GRADIENT in self.backward

    @property
    def n_state(self) -> int:
        """Floats of all weights, plus one per weight for its velocity (momentum) or its sum of gradients."""
        return self.n_parameters * (2 if self.sgd.momentum or self.sums_gradients else 1)

    @property
    def n_global(self) -> int:
        """Number of global weights."""
        return sum(p.parameter.size for p in self.parameters if not p.op.local)

    @property
    def layer_ends(self) -> list[int]:
        """The offset in the weight vector where each global layer ends; a layer is its kernel and its bias."""
        return list({p.op.name: p.offset + p.parameter.size for p in self.parameters if not p.op.local}.values())

    @property
    def n_local(self) -> int:
        """Number of local weights, which never leave a device."""
        return sum(p.parameter.size for p in self.parameters if p.op.local)

    @property
    def n_parameters(self) -> int:
        """Number of all weights that train."""
        return self.n_global + self.n_local


def build(
    model: ModelSpec, source: str = "model", *, partial: bool = True, gradient: bool = False, normalised: bool = False
) -> Graph:
    """Computes all shapes, fuses ReLU and lists the calls of each variant.

    Args:
        model: The [model] section.
        source: The experiment's name in errors.
        partial: Whether the strategy keeps local layers on their device; otherwise they are global too.
        gradient: Whether the strategy asks devices for a gradient, which adds Variant.GRADIENT.
        normalised: Whether a frozen affine layer NORMALISE comes before the first layer.

    Raises:
        SpecError: A layer or the loss does not fit; the text names the layer.
    """
    steps = _steps(model, source, normalised)
    if not partial:
        steps = [dataclasses.replace(step, op=dataclasses.replace(step.op, local=False)) for step in steps]
    parameters = _place([step.op for step in steps])
    n_global = sum(p.parameter.size for p in parameters if not p.op.local)
    if not parameters:
        raise SpecError(f"{source}: model.layers has nothing to train; add a dense or conv2d layer")
    if n_global == 0:
        raise SpecError(f"{source}: every layer is local, so nothing would be shared; leave 'local' out of one of them")
    total = sum(p.parameter.size for p in parameters)
    if total > MAX_PARAMETERS:
        raise SpecError(f"{source}: {total} weights, more than the {MAX_PARAMETERS} that a device can address")

    current = first = Tensor("x0", tuple(model.input), "input")
    forward: list[Call] = []
    made: dict[str, Tensor] = {INPUT: first}  # output of each op, by its name
    for i, step in enumerate(steps, start=1):
        op, x = step.op, made[step.source]
        if op.is_view:
            # A view has the name of its input tensor, and so its memory.
            current = dataclasses.replace(x, shape=op.output_shape)
        else:
            is_int8 = isinstance(op, Int8Op) and op.writes_int8
            current = Tensor(f"x{i}", op.output_shape, f"output of {op.name}", is_int8)
            forward.append(Call(op, x, current, None if step.other is None else made[step.other]))
        made[op.name] = current
    computing = [i for i, layer in enumerate(model.layers) if layer.op not in ("flatten", "reshape")]
    at = f"{source}: model.layers[{computing[-1]}]"
    if len(current.shape) != 1:
        raise SpecError(f"{at}: the last layer gives {list(current.shape)}, a loss needs a vector; add a flatten layer")
    last, loss = forward[-1].op, LOSSES[model.loss]
    if last.relu or last.kind in ("relu", "relu6"):
        raise SpecError(
            f"{at}: the last layer ends in a ReLU, under which a network that outputs 0 never trains again; build it without "
            "activation, or with softplus, which is above 0 as well"
        )
    if last.kind == loss.takes_logits_of:
        raise SpecError(f"{at}: {model.loss} applies the {last.kind} itself; leave it out of the last layer")
    if loss.class_target and current.size < 2:
        raise SpecError(
            f"{at}: {model.loss} needs at least 2 outputs, the last layer has {current.size}; give it one per class"
        )
    note = {"values": "target values", "labels": "0 or 1 per output", "class": "class index"}[loss.targets]
    target = Tensor("target", (target_size(loss.name, current.size),), note)
    d_output = Tensor(f"d{current.name}", current.shape, f"gradient of {current.name}")
    variants = [variant for variant in Variant if variant is not Variant.GRADIENT or gradient]
    backward = {variant: _backward(forward, current, d_output, variant, model.clip_norm) for variant in variants}
    read = {tensor.name: back for back in backward[Variant.FULL] for tensor in back.reads}
    forward = [_with_mask(call, read.get(_mask_name(call.y))) for call in forward]
    sgd = Sgd(model.momentum, model.weight_decay)
    return Graph(first, current, d_output, target, loss, tuple(forward), backward, parameters, sgd)


def _mask_name(y: Tensor) -> str:
    return f"{y.name}_mask"


def _mask(op: Op, y: Tensor, masks_input: bool = False) -> Tensor | None:
    """The mask that an op with the output ``y`` saves for its backward; None if it needs none."""
    size = op.mask_floats(masks_input)
    return Tensor(_mask_name(y), (size,), f"mask saved for the backward of {op.name}") if size else None


def _with_mask(call: Call, reader: Call | BackwardCall | None) -> Call:
    """The call as it saves the mask that ``reader`` reads."""
    if reader is None:
        return call
    masks_input = isinstance(reader, BackwardCall) and reader.masks_input
    return dataclasses.replace(call, saved_mask=_mask(call.op, call.y, masks_input), masks_input=masks_input)


def trains(op: Op, variant: Variant) -> bool:
    """Whether this variant of the training step updates the op's parameters."""
    if not op.parameters or op.frozen:
        return False
    return variant in (Variant.FULL, Variant.GRADIENT) or op.local == (variant is Variant.LOCAL)


@dataclass(frozen=True)
class _Step:
    """An op and the names of the ops whose outputs it reads, INPUT for the model's input; only a merge reads ``other``."""

    op: Op
    source: str
    other: str | None = None


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


def _steps(model: ModelSpec, source: str, normalised: bool) -> list[_Step]:
    """The ops in order, each with what it reads; ReLU layers are fused where that is possible."""
    before = INPUT
    shapes: dict[str, Shape] = {INPUT: tuple(model.input)}
    outputs = {INPUT: INPUT}  # the name of each layer's last op
    zero_points: dict[str, int | None] = {INPUT: None}  # of each layer's output
    steps: list[_Step] = []
    if normalised:
        steps.append(_Step(Affine.build(AffineSpec(op="affine", frozen=True), NORMALISE, shapes[INPUT]), INPUT))
        outputs[INPUT] = NORMALISE
    wanted = {name for layer in model.layers for name in _named(layer)}
    read: set[str] = set()
    lowest_training: int | None = None
    for i, layer in enumerate(model.layers):
        at = f"{source}: model.layers[{i}]"
        below = before if layer.from_ is None else layer.from_
        try:
            shape = shape_of("from", below, shapes)
            name = layer.name or f"{ops.find(layer.op).kind}{i + 1}"
            made = ops.build(layer, name, shape, shapes)
            made[0] = _reading(made[0], [zero_points[each] for each in (below, *_others(layer))])
        except (OpError, OwnClassError) as error:
            raise SpecError(f"{at}: {error}") from None
        if clash := {name, *(op.name for op in made)} & {*RESERVED_NAMES, *shapes, *(step.op.name for step in steps)}:
            raise SpecError(f"{at}: the name '{min(clash)}' is taken; give this layer another 'name'")
        if made[0].frozen and made[0].local:
            raise SpecError(f"{at}: 'frozen' and 'local' exclude each other: a frozen layer is the same on all devices")
        if made[0].frozen and lowest_training is not None:
            raise SpecError(
                f"{at}: frozen above model.layers[{lowest_training}], which trains; only the first layers can be frozen"
            )
        if made[0].parameters and not made[0].frozen and lowest_training is None:
            lowest_training = i
        unfusable = {outputs.get(other) for other in wanted}  # a layer reads the output of these ops without a ReLU
        x, last = outputs[below], steps[-1].op if steps else None
        if made[0].kind == "relu" and last and last.name == x and last.can_fuse_relu and x not in unfusable:
            steps[-1] = dataclasses.replace(steps[-1], op=dataclasses.replace(last, relu=True))
        else:
            for op in made:
                steps.append(_Step(op, x, outputs[op.other] if isinstance(op, Merge) else None))
                x = op.name
        read |= {below} | _named(layer)
        shapes[name], outputs[name] = made[-1].output_shape, steps[-1].op.name
        zero_points[name] = _zero_point(made[-1], zero_points[below])
        before = name
    for i, name in enumerate(list(shapes)[1:-1]):
        if name not in read:
            raise SpecError(
                f"{source}: model.layers[{i}]: no layer reads the output of '{name}'; leave it out, or name it in 'from' or "
                "'with' of a layer below"
            )
    return steps


def _place(layers: list[Op]) -> tuple[PlacedParameter, ...]:
    placed: list[PlacedParameter] = []
    offset = 0
    for local in (False, True):
        for op in layers:
            for parameter in op.parameters:
                if op.local == local and not op.frozen:
                    placed.append(PlacedParameter(op, parameter, offset))
                    offset += parameter.size
    return tuple(placed)


def _backward(
    forward: list[Call], output: Tensor, gradient: Tensor, variant: Variant, clip_norm: float
) -> tuple[Call | BackwardCall, ...]:
    """The calls from the loss down to the lowest op that trains in this variant.

    A tensor that several layers read receives one gradient from each; they are added from the last layer to the first.
    """
    needed: set[str] = set()  # tensors whose gradient a layer that trains needs
    readers = Counter(tensor.name for call in forward for tensor in call.reads)
    relu = {call.y.name for call in forward if call.op.relu}
    for call in forward:
        if trains(call.op, variant) or any(tensor.name in needed for tensor in call.reads):
            needed.add(call.y.name)
    calls: list[Call | BackwardCall] = []
    # The gradients of each tensor, and the op that each one comes from.
    received: dict[str, list[tuple[str, Tensor]]] = {output.name: [("loss", gradient)]}
    masked: set[str] = set()  # outputs of a fused ReLU whose only reader applies the ReLU's derivative

    for call in reversed(forward):
        op, y = call.op, call.y
        if y.name not in needed:
            continue
        (_, dy), *more = received[y.name]
        for k, (sender, part) in enumerate(more, start=2):
            total = Tensor(f"d{y.name}_sum{k}", y.shape, f"gradient of {y.name} with the part from {sender}")
            calls.append(Call(Add("", y.shape, y.shape), dy, total, part))
            dy = total
        if op.relu and y.name not in masked:
            rectified = Tensor(f"d{y.name}_rectified", y.shape, f"gradient of {y.name} before its ReLU")
            calls.append(BackwardCall(Relu("", y.shape, y.shape), y, y, dy, rectified, update=False, masks_input=False))
            dy = rectified
        update = trains(op, variant)
        if update and clip_norm > 0:
            clipped = Tensor(f"d{y.name}_clipped", y.shape, f"gradient of {y.name}, clipped")
            calls.append(Call(ClipNorm("", y.shape, y.shape, limit=clip_norm), dy, clipped))
            dy = clipped
        if isinstance(op, Merge):
            others = {"x": call.x, "other": call.other, "mask": _mask(op, y), "": None}
            for of, (tensor, derivative) in enumerate(zip(call.reads, op.derivatives(), strict=True)):
                if tensor.name not in needed:
                    continue
                part = dy
                if derivative.op is not None:
                    name = f"d{tensor.name}_from_{op.name}{'_other' if of else ''}"
                    part = Tensor(name, tensor.shape, f"gradient of {tensor.name}")
                    calls.append(Call(derivative.op, dy, part, others[derivative.reads]))
                received.setdefault(tensor.name, []).append((op.name, part))
            continue
        x = call.x
        dx: Tensor | None = None
        if x.name in needed:
            alone = readers[x.name] == 1
            dx = Tensor(f"d{x.name}" if alone else f"d{x.name}_from_{op.name}", x.shape, f"gradient of {x.name}")
            received.setdefault(x.name, []).append((op.name, dx))
            if alone and op.can_mask_input and x.name in relu:
                masked.add(x.name)
        if update or dx is not None:
            masks_input = x.name in masked
            calls.append(BackwardCall(op, x, y, dy, dx, update, masks_input, _mask(op, y, masks_input)))
    return tuple(calls)
