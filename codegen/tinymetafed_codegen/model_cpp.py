"""A model as C++: its training step as calls of kernels, the kernels that it includes, and the weights of frozen layers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from . import included, ops
from .calls import BackwardCall, Call, Tensor
from .cpp_literals import float_literal, in_lines
from .design import Design
from .graph import Graph, PlacedParameter
from .memory import kept_activations
from .messages.protocol_cpp import cpp_constant
from .ops import Op, Parameter, WindowsOfBytes
from .plan import HISTOGRAM_BINS
from .protocol import Variant
from .rendering import render

FIRMWARE = "model.hpp.j2"  # the template of firmware


@dataclass(frozen=True)
class CallText:
    """A call of a kernel as C++ text, for the templates of ops.

    ``template``: the op's template. ``direction``: forward, observe or backward. ``type``: the kernel's type. Tensors are the
    names of their places in the arena, "" where the call has none: ``other`` is the second input of a merge, ``rows`` and
    ``sums`` memory of a layer that reads bytes, which nothing reads afterwards. ``rule``: how the call updates weights.
    ``forward_tensors``: arguments that the backward pass reads of the forward pass. ``normalising``: arguments of a
    normalisation that the call includes.
    """

    template: str
    direction: str
    type: str
    x: str
    y: str
    other: str
    dy: str
    dx: str
    has_dx: str
    saved_mask: str
    masks_input: str
    rule: str
    weights: str
    forward_tensors: str
    rows: str
    sums: str
    normalising: str


@dataclass(frozen=True)
class _PartText:
    """A part of a split step: its number, its call (None: the loss), and whether it is the last."""

    index: int
    call: CallText | None
    is_last: bool


@dataclass(frozen=True)
class _PassText:
    """A forward pass: ``first`` layers that are a function of their own, 0 for none, and the calls after them."""

    name: str
    first: int
    calls: list[CallText]


def model_header(design: Design, command: str, template: str = FIRMWARE) -> str:
    """The text of model.hpp: one model's training step, as calls of kernels. ``template``: that of firmware or of libraries."""
    net, arena = design.lowered, design.plan
    splits = design.experiment.board.split_steps
    redraws_local = design.experiment.model.local_start == "redrawn" and net.n_local > 0

    def place(tensor: Tensor) -> str:
        return cpp_constant(tensor.name)

    def weights(op: Op) -> str:
        at = "" if op.frozen else "p + "
        return ", ".join(f"{at}{weight_constant(op, parameter)}" for parameter in op.parameters)

    def text(call: Call | BackwardCall, direction: str, dx: Tensor | None, rule: str = "") -> CallText:
        op = call.op
        normalise = op.normalise if isinstance(op, WindowsOfBytes) else None
        reads = op.backward_reads()
        back = call if isinstance(call, BackwardCall) else None
        rows, sums, *_ = *map(place, call.work), "", ""
        return CallText(
            template=op.template,
            direction=direction,
            type=type_name(op.name) or op.cpp_type(),
            x=place(call.x),
            y=place(call.y),
            other=place(call.other) if isinstance(call, Call) and call.other is not None else "",
            dy="" if back is None else place(back.dy),
            dx="" if dx is None else place(dx),
            has_dx=str(back is not None and back.dx is not None).lower(),
            saved_mask="" if call.saved_mask is None else place(call.saved_mask),
            masks_input=str(call.masks_input).lower(),
            rule=rule,
            weights=weights(op),
            forward_tensors="".join(f"a + {place(t)}, " for name, t in (("x", call.x), ("y", call.y)) if name in reads),
            rows=rows,
            sums=sums,
            normalising="" if normalise is None else f", {weights(normalise)}",
        )

    def forward(call: Call) -> CallText:
        return text(call, "forward", None)

    def observe(call: Call) -> CallText:
        return text(call, "observe", None)

    def backward(call: BackwardCall, update: str) -> CallText:
        dx = call.dy if call.dx is None else call.dx  # without dx the kernel does not write there
        return text(call, "backward", dx, update if call.update else "kernels::Hold")

    def step(variant: Variant) -> list[CallText]:
        update = net.sgd.accumulating_cpp_type() if variant is Variant.GRADIENT else "Update"
        return [forward(call) if isinstance(call, Call) else backward(call, update) for call in net.backward[variant]]

    def parts(variant: Variant) -> list[_PartText]:
        """The calls of a step one by one, where steps are split; the one of the loss has no call."""
        if not splits or not net.backward[variant]:
            return []
        calls = [*map(observe, net.observing(variant)), *map(forward, net.forward_of(variant)), None, *step(variant)]
        return [_PartText(index, call, index + 1 == len(calls)) for index, call in enumerate(calls)]

    # An exported library keeps no activations: its samples are the program's own.
    prefixes = kept_activations.prefixes(net) if design.manifest.kept and template == FIRMWARE else {}
    # Steps that save the same masks have one forward pass, and predictions save none.
    unmasked = net.forward_of(None)
    passes = {unmasked: "forward"}
    for variant, calls in net.backward.items():
        if calls and variant not in prefixes:
            passes.setdefault(net.forward_of(variant), f"forward_{variant.name.lower()}")
    # The layers that steps leave out save no masks, as nothing below them trains.
    lengths = sorted({len(prefix.calls) for prefix in prefixes.values()})

    def pass_of(name: str, calls: tuple[Call, ...]) -> _PassText:
        first = max((length for length in lengths if calls[:length] == unmasked[:length]), default=0)
        return _PassText(name, first, [forward(call) for call in calls[first:]])

    return render(
        template,
        title=" -> ".join(call.op.name for call in net.forward),
        command=command,
        splits=splits,
        frozen=bool(design.graph.frozen),
        model_hash_hex=design.model_hash.hex(),
        model_hash_bytes=", ".join(f"0x{b:02x}" for b in design.model_hash),
        input_size=net.input.size,
        input_shape=list(net.input.shape),
        output_size=net.output.size,
        target_size=net.target.size,
        target_note=net.target.note,
        class_count=net.output.size if net.loss.class_target else 0,
        n_global=net.n_global,
        n_parameters=net.n_parameters,
        n_state=net.n_state,
        state_note=_state_note(net),
        sums_gradients=str(net.sums_gradients).lower(),
        redraws_local=str(redraws_local).lower(),
        keeps_local=str(design.manifest.keeps_local).lower(),
        largest_input=float_literal(net.largest_input or 0.0),
        feeds_back=str(design.experiment.strategy.error_feedback).lower(),
        parameters=[
            {
                "constant": weight_constant(p.op, p.parameter),
                "offset": p.offset,
                "shape": list(p.parameter.shape),
                "part": p.op.part,
            }
            for p in net.parameters
        ],
        global_ends=", ".join(str(p.offset + p.parameter.size) for p in net.parameters if not p.op.local),
        layer_ends=", ".join(map(str, net.layer_ends)),
        downlink=cpp_constant(design.manifest.downlink),
        slots=[
            {
                "constant": place(slot.tensor),
                "offset": slot.offset,
                "shape": list(slot.tensor.shape),
                "note": slot.tensor.note,
                "lifetime": f"from {arena.steps[slot.first]} to {arena.steps[slot.last]}",
            }
            for slot in arena.slots
        ],
        arena_floats=arena.floats,
        histogram_bins=HISTOGRAM_BINS,
        layers=[{"title": c.op.title, "type": type_name(c.op.name), "cpp_type": c.op.cpp_type()} for c in net.forward],
        update=net.sgd.cpp_type(),
        update_formula=net.sgd.formula,
        loss=net.loss.cpp_type(net.output.size, design.experiment.model.huber_delta),
        loss_formula=net.loss.formula,
        input=place(net.input),
        output=place(net.output),
        target=place(net.target),
        output_gradient=place(net.output_gradient),
        passes=[pass_of(name, calls) for calls, name in passes.items()],
        prefixes=[
            {
                "layers": length,
                "shorter": shorter,
                "boundary": place(unmasked[length - 1].y),
                "calls": [forward(call) for call in unmasked[shorter:length]],
            }
            for shorter, length in pairwise((0, *lengths))
        ],
        variants=[
            {
                "name": v.name.lower(),
                "prefix": len(prefixes[v].calls) if v in prefixes else 0,
                "rest": [forward(call) for call in net.forward_of(v)[len(prefixes[v].calls) :]] if v in prefixes else [],
                "doc": _VARIANT_DOC[v],
                "forward": passes.get(net.forward_of(v), ""),
                "observing": [observe(call) for call in net.observing(v)],
                "calls": step(v),
                "parts": parts(v),
            }
            for v in net.backward
        ],
        start_values=[_StartText.of(p) for p in net.parameters if p.op.local and isinstance(p.parameter.starts_at, tuple)],
        local_starts=[_local_start(design, p) for p in net.parameters if p.op.local],
        local_redraws=[_local_start(design, p, ", key") for p in net.parameters if p.op.local] if redraws_local else [],
    )


def op_headers(design: Design, command: str) -> str:
    """The text of op_headers.hpp: includes the kernels of the model's ops."""
    net = design.lowered
    passes = [net.forward_of(variant) for variant in net.backward]
    used = {type(call.op) for calls in (*passes, *net.backward.values()) for call in calls}
    ours = sorted({f"<kernels/{op.header}>" for op in used if ops.own_op.header(op) is None})
    theirs = sorted({file for op in used if (file := ops.own_op.header(op))})
    return render(
        "op_headers.hpp.j2",
        command=command,
        ours=ours,
        theirs=[{"path": file.as_posix(), "sha256": included.digest(file)} for file in theirs],
    )


def frozen_header(design: Design, command: str) -> str:
    """The text of frozen.hpp: the weights of frozen layers as C++ constants."""
    tensors = [_frozen_tensor(design, op, parameter) for op, parameter in design.graph.frozen]
    return render("frozen.hpp.j2", command=command, tensors=tensors)


@dataclass(frozen=True)
class _FrozenText:
    """A tensor of a frozen layer as C++ text: its type, the constant's name and the lines of its numbers."""

    declaration: str
    constant: str
    shape: list[int]
    lines: list[str]


def _frozen_tensor(design: Design, op: Op, parameter: Parameter) -> _FrozenText:
    values = design.weights[f"{op.name}.{parameter.name}"].ravel()
    if parameter.dtype == "float32":
        # str(float32) is the shortest decimal that reads back as the same float32.
        numbers = [f"{float(str(value))!r}f" for value in values]
    else:
        numbers = [str(int(value)) for value in values]
    return _FrozenText(
        _DECLARATIONS[parameter.dtype], weight_constant(op, parameter), list(parameter.shape), in_lines(numbers, 8)
    )


# Bytes begin at a whole word, so that fewer loads of four of them cross its border.
_DECLARATIONS = {
    "float32": "inline constexpr float",
    "int8": "alignas(4) inline constexpr int8_t",
    "int32": "inline constexpr int32_t",
}


_VARIANT_DOC = {
    Variant.LOCAL: "One SGD step of the local weights; the global weights do not change: reconstruction.",
    Variant.GLOBAL: "One SGD step of the global weights; the local weights do not change: the shared update.",
    Variant.FULL: "One SGD step of all weights: fine-tuning.",
    Variant.GRADIENT: "Adds the gradient of all weights to the sum behind the weights; the weights do not change.",
}


def _state_note(net: Graph) -> str:
    behind = ["velocity"] * bool(net.sgd.momentum) + ["sum of gradients"] * net.sums_gradients
    return f"all weights, then a {' or a '.join(behind)} for each" if behind else "the weights alone"


def type_name(name: str) -> str:
    """The C++ type name of a layer: ``StemConv2d1`` for ``stem_conv2d1``."""
    return "".join(part.capitalize() for part in name.split("_"))


def weight_constant(op: Op, parameter: Parameter) -> str:
    """The C++ constant of a tensor's place: ``kConv2d1Kernel`` for ``kernel`` of ``conv2d1``."""
    return cpp_constant(f"{op.name}_{parameter.name}")


@dataclass(frozen=True)
class _StartText:
    """The given start of a local tensor as C++ text: the tensor's constant and its numbers."""

    constant: str
    numbers: str

    @classmethod
    def of(cls, placed: PlacedParameter) -> _StartText:
        given = placed.parameter.starts_at
        assert isinstance(given, tuple)
        return cls(weight_constant(placed.op, placed.parameter), ", ".join(map(float_literal, given)))


def _local_start(design: Design, placed: PlacedParameter, key: str = "") -> str:
    """The call that fills one local tensor; ``key`` is the argument that selects the random numbers, "" for the fixed ones."""
    model, parameter = design.experiment.model, placed.parameter
    constant = weight_constant(placed.op, parameter)
    scale = f"{model.local_start_scale!r}f"
    if isinstance(parameter.starts_at, tuple):
        return f"local_start::given(p + {constant}, {constant}Start, {parameter.size});"
    if parameter.starts_at is not None:
        return f"local_start::fill(p + {constant}, {parameter.size}, {parameter.starts_at!r}f);"
    if parameter.is_bias or model.local_start == "zeros":
        return f"local_start::zeros(p + {constant}, {parameter.size});"
    if model.local_start == "alternating":
        columns = parameter.shape[-1]
        return f"local_start::alternating(p + {constant}, {parameter.size // columns}, {columns}, {scale});"
    return f"local_start::random(p + {constant}, {parameter.size}, {constant}, {scale}{key});"
