"""Model spec to an explicit list of forward, backward and update calls over named tensors."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from . import ops
from .ops import LOSSES, Loss, Op, OpError, Parameter, Shape
from .protocol import MAX_PARAMETERS, Variant
from .spec import ModelSpec, SpecError


@dataclass(frozen=True)
class Tensor:
    """A buffer of the arena: an activation, a gradient or the sample's targets."""

    name: str
    shape: Shape
    note: str

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Call:
    """One op run forward: ``x`` in, ``y`` out."""

    op: Op
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class BackwardCall:
    """One op run backward: ``dy`` in; ``dx`` out where something below trains; parameters updated where they train."""

    op: Op
    x: Tensor
    dy: Tensor
    dx: Tensor | None
    update: bool
    mask: bool  # x came out of a ReLU: its derivative is folded into the store of dx


@dataclass(frozen=True)
class Placed:
    """A parameter tensor with its place in the weight vector: global tensors first, each part in layer order."""

    op: Op
    parameter: Parameter
    offset: int

    @property
    def name(self) -> str:
        """``layer.tensor``."""
        return f"{self.op.name}.{self.parameter.name}"


@dataclass(frozen=True)
class Graph:
    """A model with all shapes, calls and places settled; nothing is left to decide when it is printed."""

    input: Tensor
    output: Tensor
    output_gradient: Tensor
    target: Tensor
    loss: Loss
    forward: tuple[Call, ...]
    backward: dict[Variant, tuple[BackwardCall, ...]]
    parameters: tuple[Placed, ...]

    @property
    def n_global(self) -> int:
        """Weights that are shared."""
        return sum(p.parameter.size for p in self.parameters if not p.op.local)

    @property
    def n_local(self) -> int:
        """Weights that never leave a device."""
        return sum(p.parameter.size for p in self.parameters if p.op.local)

    @property
    def n_parameters(self) -> int:
        """All weights."""
        return self.n_global + self.n_local


def build(model: ModelSpec, source: str = "model") -> Graph:
    """Settles shapes, fuses ReLU and lists the calls of each variant. Raises SpecError naming the layer at fault."""
    layers = _fuse_relu(_layers(model, source))
    parameters = _place(layers)
    n_global = sum(p.parameter.size for p in parameters if not p.op.local)
    if not parameters:
        raise SpecError(f"{source}: model.layers has nothing to train; add a dense or conv2d layer")
    if n_global == 0:
        raise SpecError(f"{source}: every layer is local, so nothing would be shared; leave 'local' out of one of them")
    total = sum(p.parameter.size for p in parameters)
    if total > MAX_PARAMETERS:
        raise SpecError(f"{source}: {total} weights, more than the {MAX_PARAMETERS} that a device can address")

    current = Tensor("x0", tuple(model.input), "input")
    first = current
    forward: list[Call] = []
    rectified = {current.name: False}
    for i, op in enumerate(layers, start=1):
        if op.is_view:
            # A view keeps its tensor's name, and so its memory.
            viewed = Tensor(current.name, op.output_shape, current.note)
            rectified[viewed.name] = rectified[current.name]
            current = viewed
            continue
        y = Tensor(f"x{i}", op.output_shape, f"output of {op.name}")
        forward.append(Call(op, current, y))
        rectified[y.name] = op.relu
        current = y
    if len(current.shape) != 1:
        raise SpecError(f"{source}: the last layer gives {list(current.shape)}, a loss needs a vector; add a flatten layer")
    if forward[-1].op.relu or forward[-1].op.kind == "relu":
        raise SpecError(f"{source}: the last layer ends in a ReLU, under which a network that outputs 0 never trains again")
    loss = LOSSES[model.loss]
    if loss.class_target and current.size < 2:
        raise SpecError(f"{source}: {model.loss} needs at least 2 outputs, the last layer has {current.size}")
    target = Tensor("target", (loss.target_size(current.size),), "class index" if loss.class_target else "wanted output")
    gradient = _gradient(current)
    backward = {variant: _backward(forward, gradient, rectified, variant) for variant in Variant}
    return Graph(first, current, gradient, target, loss, tuple(forward), backward, parameters)


def trains(op: Op, variant: Variant) -> bool:
    """Whether this variant of the training step updates the op's parameters."""
    if not op.parameters:
        return False
    return variant is Variant.FULL or op.local == (variant is Variant.LOCAL)


def _layers(model: ModelSpec, source: str) -> list[Op]:
    layers: list[Op] = []
    shape: Shape = tuple(model.input)
    for i, layer in enumerate(model.layers):
        try:
            op = ops.build(layer, f"{layer.op}{i + 1}", shape)
        except OpError as error:
            raise SpecError(f"{source}: model.layers[{i}]: {error}") from None
        layers.append(op)
        shape = op.output_shape
    return layers


def _fuse_relu(layers: list[Op]) -> list[Op]:
    """Folds a ReLU layer into the dense or conv2d right before it."""
    fused: list[Op] = []
    for op in layers:
        if op.kind == "relu" and fused and fused[-1].can_fuse_relu:
            fused[-1] = dataclasses.replace(fused[-1], relu=True)
        else:
            fused.append(op)
    return fused


def _place(layers: list[Op]) -> tuple[Placed, ...]:
    placed: list[Placed] = []
    offset = 0
    for local in (False, True):
        for op in layers:
            for parameter in op.parameters:
                if op.local == local:
                    placed.append(Placed(op, parameter, offset))
                    offset += parameter.size
    return tuple(placed)


def _gradient(tensor: Tensor) -> Tensor:
    return Tensor("d" + tensor.name, tensor.shape, f"gradient of {tensor.name}")


def _backward(forward: list[Call], gradient: Tensor, rectified: dict[str, bool], variant: Variant) -> tuple[BackwardCall, ...]:
    """From the loss down to the lowest op that trains in this variant, and no further."""
    training = [i for i, call in enumerate(forward) if trains(call.op, variant)]
    if not training:
        return ()
    calls: list[BackwardCall] = []
    dy = gradient
    for i in range(len(forward) - 1, training[0] - 1, -1):
        call = forward[i]
        dx = _gradient(call.x) if i > training[0] else None
        mask = dx is not None and call.op.masks_input and rectified[call.x.name]
        calls.append(BackwardCall(call.op, call.x, dy, dx, trains(call.op, variant), mask))
        if dx is not None:
            dy = dx
    return tuple(calls)
