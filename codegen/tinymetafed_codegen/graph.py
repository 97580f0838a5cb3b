"""Turns a model's layers into lists of forward and backward calls over named tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from . import backward, layer_chain
from .calls import BackwardCall, Call, Tensor, mask, mask_name, observes
from .loss import target_size
from .ops import INPUT, LOSSES, Int8Op, Loss, Op, Parameter, RoundToHalf, Sgd
from .ops.running_statistics import LARGEST_INPUT
from .protocol import MAX_PARAMETERS, Variant
from .spec import DataSpec, ModelSpec, SpecError, TaskShapes

_NOT_NORMALISED = DataSpec()


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
    """A model as tensors and calls, with all shapes and the order of the weights decided.

    ``forward`` has a call for each layer, ``forward_of`` all calls of a pass. ``backward`` is by variant. ``rounds``: outputs
    of layers are rounded to float16. ``packing``: what runs after a layer, by its name, to pack activations for the backward
    pass. ``keeps_input``: a forward pass leaves the input as it is.
    """

    input: Tensor
    output: Tensor
    output_gradient: Tensor
    target: Tensor
    loss: Loss
    forward: tuple[Call, ...]
    backward: dict[Variant, tuple[Call | BackwardCall, ...]]
    parameters: tuple[PlacedParameter, ...]
    sgd: Sgd
    rounds: bool = False
    packing: dict[str, tuple[Call, ...]] = dataclasses.field(default_factory=dict)
    keeps_input: bool = False

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
    def largest_input(self) -> float | None:
        """The largest magnitude of an input of a model whose device takes statistics of it; None for any other."""
        return LARGEST_INPUT if any(call.op.observes for call in self.forward) else None

    def forward_of(self, variant: Variant | None) -> tuple[Call, ...]:
        """The forward pass of a training step, or of a prediction (None), without what nothing reads afterwards.

        That are masks and packed activations.
        """
        readers = () if variant is None else self.backward[variant]
        read = {tensor.name for call in readers for tensor in call.reads}
        calls: list[Call] = []
        for call in self.forward:
            is_read = call.saved_mask is None or call.saved_mask.name in read
            calls.append(call if is_read else dataclasses.replace(call, saved_mask=None))
            calls += self.rounding(call)
            calls += [packing for packing in self.packing.get(call.op.name, ()) if packing.y.name in read]
        return tuple(calls)

    def rounding(self, call: Call) -> tuple[Call, ...]:
        """The call that rounds the output of a layer to float16, if it is rounded: the model's output is not."""
        if not self.rounds or call.y.int8 or call.y.name == self.output.name:
            return ()
        return (Call(RoundToHalf("", call.y.shape, call.y.shape), call.y, call.y),)

    def observing(self, variant: Variant) -> list[Call]:
        """The calls whose ops take the model's input into their statistics, before a training step of this variant."""
        return [call for call in self.forward if observes(call.op, variant)]

    @property
    def sums_gradients(self) -> bool:
        """Whether a device can return one gradient of the weights that it received."""
        return Variant.GRADIENT in self.backward

    @property
    def n_state(self) -> int:
        """Floats of all weights, plus one per weight for its velocity (momentum) or its sum of gradients."""
        return self.n_parameters * (2 if self.sgd.momentum or self.sums_gradients else 1)

    @property
    def labels(self) -> int:
        """Number of labels of a model whose target is one label; 0 for any other."""
        takes_label = self.loss.class_target or (self.loss.targets == "labels" and self.output.size == 1)
        return max(2, self.output.size) if takes_label else 0

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
    model: ModelSpec,
    source: str = "model",
    *,
    partial: bool = True,
    gradient: bool = False,
    data: DataSpec = _NOT_NORMALISED,
) -> Graph:
    """Computes all shapes, fuses ReLU and lists the calls of each variant.

    Args:
        model: The [model] section.
        source: The experiment's name in errors.
        partial: Whether the strategy keeps local layers on their device; otherwise they are global too.
        gradient: Whether the strategy asks devices for a gradient, which adds Variant.GRADIENT.
        data: The [data] section: whether a layer NORMALISE comes before the first layer, and which.

    Raises:
        SpecError: A layer or the loss does not fit; the text names the layer.
    """
    steps = layer_chain.steps(model, source, data)
    if not partial:
        steps = [dataclasses.replace(step, op=_shared(step.op)) for step in steps]
    parameters = _place([step.op for step in steps])
    n_global = sum(p.parameter.size for p in parameters if not p.op.local)
    if all(p.op.observes for p in parameters):
        raise SpecError(f"{source}: model.layers has nothing to train; add a dense or conv2d layer")
    if n_global == 0:
        named = isinstance(model.trainable, tuple)
        every, remedy = (
            ("every layer of model.trainable", "name another one")
            if named
            else ("every layer", "leave 'local' out of one of them")
        )
        raise SpecError(f"{source}: {every} is local, so nothing would be shared; {remedy}")
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
    calls = {variant: backward.backward(forward, current, d_output, variant, model.clip_norm) for variant in variants}
    read = {tensor.name: back for back in calls[Variant.FULL] for tensor in back.reads}
    forward = [_withmask(call, read.get(mask_name(call.y))) for call in forward]
    sgd = Sgd(model.momentum, model.weight_decay)
    return Graph(first, current, d_output, target, loss, tuple(forward), calls, parameters, sgd, model.activations == "f16")


def _withmask(call: Call, reader: Call | BackwardCall | None) -> Call:
    """The call as it saves the mask that ``reader`` reads."""
    if reader is None:
        return call
    masks_input = isinstance(reader, BackwardCall) and reader.masks_input
    return dataclasses.replace(call, saved_mask=mask(call.op, call.y, masks_input), masks_input=masks_input)


def _shared(op: Op) -> Op:
    """The op with global weights; statistics of inputs are of one device."""
    return op if op.observes else dataclasses.replace(op, local=False)


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
