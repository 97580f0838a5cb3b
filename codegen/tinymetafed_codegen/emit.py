"""Renders the generated C++ from templates; the only module that uses jinja2. Unchanged files are not written again."""

from __future__ import annotations

import ctypes
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from . import adaptation, included, log_mel_facts, ops, protocol_cpp, sample_source, sensor, simulation_abi, work
from .boards import Board
from .calls import BackwardCall, Call
from .cpp11 import float_literal
from .design import Design
from .files import write_if_changed
from .graph import Graph, PlacedParameter
from .log_mel_facts import LEVELS, LogMelFacts
from .ops import Op, Parameter
from .plan import HISTOGRAM_BINS
from .protocol import Phase, SampleSet, Status, Variant
from .protocol_cpp import cpp_constant
from .section import SpecError

# Their presence gives the firmware a store, or a sensor.
_OPTIONAL_HEADERS = {
    "saved_state.hpp",
    "store_facts.hpp",
    "sensing.hpp",
    "sensor_facts.hpp",
    "own_sensor.hpp",
    "log_mel_facts.hpp",
}
_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """Renders one template; a name that is missing in the context is an error."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def command(experiment: Path, board: Board) -> str:
    """The command that generates the files of an experiment for a board, for the comment at the top of each file."""
    return f"{shlex.join(['tinymetafed', 'codegen', experiment.name, '--board', board.name, '-o'])} DIR"


def write(design: Design, folder: Path, command: str) -> list[Path]:
    """Writes a design's generated files: the headers that the firmware's core includes, and manifest.json.

    Args:
        design: The design.
        folder: The folder for the files.
        command: The command that generates them, for the comment at the top of each file.

    Returns:
        The files that changed.

    Raises:
        SpecError: The numbers of the normalisation are not measured yet.
        OSError: A file cannot be written.
    """
    own = sample_source.own_source(design.experiment)
    texts = headers(design, command) | {"manifest.json": json.dumps(design.manifest.as_json(), indent=1) + "\n"}
    if own is not None:
        texts["own_source.hpp"] = own_source_header(own.as_posix(), sample_source.digest(own), command)
    for name in _OPTIONAL_HEADERS - texts.keys():
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name, text in texts.items() if write_if_changed(folder / name, text)]


def headers(design: Design, command: str, phases: Sequence[Phase] | None = None) -> dict[str, str]:
    """The texts of the generated headers that the firmware's core includes, by name.

    Args:
        design: The design.
        command: The command that generates them.
        phases: What a board trains when it adapts by itself; None for the phases of [adaptation].

    Raises:
        SpecError: The numbers of the normalisation are not measured yet.
    """
    if design.experiment.data.is_unmeasured:
        raise SpecError(
            f"{design.source}: data.normalise = '{design.experiment.data.normalise}' lacks data.shift and data.scale, which "
            "are measured in the data; `tinymetafed codegen` measures them and generates the code, as every run does"
        )
    texts = {
        "protocol.hpp": protocol_header(command),
        "status.hpp": status_header(command),
        "board.hpp": board_header(design, command),
        "model.hpp": model_header(design, command),
        "op_headers.hpp": op_headers(design, command),
        "device_facts.hpp": device_facts_header(design, command),
        "adaptation.hpp": adaptation_header(design, command, phases),
        "own_program.hpp": render("own_program.hpp.j2", command=command, records=protocol_cpp.own_program_records()),
    }
    if design.graph.frozen:
        texts["frozen.hpp"] = frozen_header(design, command)
    return texts | store_headers(design, command) | sensor_headers(design, command)


def protocol_header(command: str) -> str:
    """The text of protocol.hpp: the wire table as C++."""
    return render("protocol.hpp.j2", command=command, **vars(protocol_cpp.parts()))


def status_header(command: str) -> str:
    """The text of status.hpp: the results of operations as C++, and what they mean."""
    enum = protocol_cpp.enum_text(Status)
    members = [{**vars(member), "literal": json.dumps(member.doc.replace("`", ""))} for member in enum.members]
    return render("status.hpp.j2", source=protocol_cpp.SOURCE, command=command, enum={"doc": enum.doc, "members": members})


def device_facts_header(design: Design, command: str) -> str:
    """The text of device_facts.hpp: the sizes of samples and scores, for the user's program."""
    net = design.graph
    activation = net.loss.takes_logits_of
    return render(
        "device_facts.hpp.j2",
        title=" -> ".join(call.op.name for call in net.forward),
        command=command,
        model_hash_hex=design.model_hash.hex(),
        input_size=net.input.size,
        input_shape=list(net.input.shape),
        output_size=net.output.size,
        scores_note=f"logits, of which {activation} makes probabilities" if activation else "the predicted values",
        target_size=net.target.size,
        target_note=net.target.note,
        classes=net.labels,
        targets_are_values=str(net.loss.targets == "values").lower(),
        receive_window=design.manifest.receive_window,
    )


def adaptation_header(design: Design, command: str, phases: Sequence[Phase] | None = None) -> str:
    """The text of adaptation.hpp: what a board trains when it adapts by itself; None for the phases of [adaptation]."""
    count = design.experiment.task.count(SampleSet.ADAPT)
    chosen = adaptation.phases(design.experiment, count) if phases is None else phases
    return render(
        "adaptation.hpp.j2",
        command=command,
        phases=[
            {
                "variant": cpp_constant(phase.variant.name),
                "sample_set": cpp_constant(phase.sample_set.name),
                "count": phase.count,
                "passes": phase.passes,
                "rate": float_literal(phase.learning_rate),
                "clamp": float_literal(phase.output_clamp),
            }
            for phase in chosen
        ],
        last=max(0, len(chosen) - 1),
    )


def simulation_abi_header(command: str) -> str:
    """The text of simulation_abi.hpp: the arguments of the compiled simulation as C++ structs."""
    return render(
        "simulation_abi.hpp.j2",
        source="codegen/tinymetafed_codegen/simulation_abi.py",
        command=command,
        hash=f"0x{simulation_abi.abi_hash():016x}",
        hash_symbol=simulation_abi.HASH_SYMBOL,
        structs=[_abi_struct(struct) for struct in simulation_abi.STRUCTS],
        functions=[
            {
                "name": function.name,
                "doc": function.doc,
                "parameters": ", ".join(f"const tmf::sim::{struct.__name__}&" for struct in function.arguments),
            }
            for function in simulation_abi.FUNCTIONS
        ],
    )


def board_header(design: Design, command: str) -> str:
    """The text of board.hpp: the board's facts as C++."""
    reason = ""
    if design.manifest.receive_window != design.board.receive_window:
        reason = f"; the {design.board.receive_window} of the board's file are too few for one sample or one answer"
    watchdog = work.watchdog_seconds(design.board, design.graph)
    return render(
        "board.hpp.j2",
        board=design.board,
        command=command,
        watchdog_seconds=watchdog,
        watchdog_reason="" if watchdog == design.board.watchdog_seconds else "  // the board file's are too few for a step",
        receive_window=design.manifest.receive_window,
        window_reason=reason,
    )


def store_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of saved_state.hpp and store_facts.hpp; empty for firmware without a store."""
    facts, storage = design.manifest.store, design.board.storage
    if facts is None or storage is None:
        return {}
    return {
        "saved_state.hpp": render("saved_state.hpp.j2", command=command),
        "store_facts.hpp": render(
            "store_facts.hpp.j2",
            board=design.board.name,
            storage=storage,
            facts=facts,
            command=command,
            **vars(protocol_cpp.store_parts()),
        ),
    }


def log_mel_header(facts: LogMelFacts, command: str) -> str:
    """The text of log_mel_facts.hpp: sizes and tables of the log-mel front end."""
    return render(
        "log_mel_facts.hpp.j2",
        command=command,
        facts=facts,
        floor=_exact(facts.floor),
        silence=_exact(facts.silence),
        fade=_exact(facts.fade),
        one=_exact(1 / LEVELS),
        hann=_lines([_exact(value) for value in facts.hann], 6),
        sine=_lines([_exact(value) for value in facts.sine], 6),
        bins=len(facts.band),
        band_type="uint8_t" if facts.bands < 256 else "uint16_t",
        band=_lines([str(value) for value in facts.band], 24),
        share=_lines([_exact(value) for value in facts.share], 6),
    )


def _exact(value: float) -> str:
    """The nearest float32 as a hexadecimal C++ literal."""
    digits, exponent = float(np.float32(value)).hex().split("p")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}p{exponent}f"


def _lines(numbers: Sequence[str], width: int) -> list[str]:
    return [", ".join(numbers[i : i + width]) + "," for i in range(0, len(numbers), width)]


def sensor_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware with a sensor, by name; empty for any other firmware.

    Raises:
        SpecError: The user's sensor cannot be used.
    """
    facts, file = design.manifest.sensor, design.experiment.board.sensor
    if facts is None or file is None:
        return {}
    sha256 = sensor.digest(Path(file))
    heard = log_mel_facts.of_experiment(design.experiment, design.source)
    texts = {
        "sensing.hpp": render("sensing.hpp.j2", command=command),
        "sensor_facts.hpp": render(
            "sensor_facts.hpp.j2",
            board=design.board.name,
            facts=facts,
            header="sensor/windows.hpp" if heard is None else "sound/front_end.hpp",
            front_end=_windows(facts) if heard is None else "sound::FrontEnd<sound::LogMelFacts>",
            replayed=str(facts.replayed).lower(),
            rate=float_literal(facts.rate),
            columns=json.dumps(facts.header, ensure_ascii=False),
            command=command,
            **vars(protocol_cpp.sensor_parts()),
        ),
    }
    if heard is not None:
        texts["log_mel_facts.hpp"] = log_mel_header(heard, command)
    if not facts.replayed:
        texts["own_sensor.hpp"] = render("own_sensor.hpp.j2", path=Path(file).as_posix(), sha256=sha256, command=command)
    return texts


def _windows(facts: sensor.SensorFacts) -> str:
    """The C++ type of the front end that cuts windows."""
    return f"Windows<kChannels, {facts.window}, {facts.stride}, {str(facts.majority).lower()}, kClasses>"


def own_source_header(path: str, sha256: str, command: str) -> str:
    """The text of own_source.hpp: includes the user's sample source, for firmware/app/source_own.cpp."""
    return render("own_source.hpp.j2", path=path, sha256=sha256, command=command)


def model_header(design: Design, command: str, template: str = "model.hpp.j2") -> str:
    """The text of model.hpp: one model's training step, as calls of kernels. ``template``: that of firmware or of libraries."""
    net, arena = design.graph, design.plan
    redraws_local = design.experiment.model.local_start == "redrawn" and net.n_local > 0

    def place(tensor: Any) -> str:
        return cpp_constant(tensor.name)

    def weights(op: Op) -> str:
        at = "" if op.frozen else "p + "
        return ", ".join(f"{at}{weight_constant(op, parameter)}" for parameter in op.parameters)

    def forward(call: Call) -> dict[str, str]:
        return {
            "template": call.op.template,
            "direction": "forward",
            "type": type_name(call.op.name) or call.op.cpp_type(),
            "x": place(call.x),
            "other": "" if call.other is None else place(call.other),
            "y": place(call.y),
            "saved_mask": "" if call.saved_mask is None else place(call.saved_mask),
            "masks_input": str(call.masks_input).lower(),
            "weights": weights(call.op),
        }

    def observe(call: Call) -> dict[str, str]:
        return {**forward(call), "direction": "observe"}

    def backward(call: BackwardCall, update: str) -> dict[str, str]:
        reads = call.op.backward_reads()
        forward_tensors = [tensor for name, tensor in (("x", call.x), ("y", call.y)) if name in reads]
        return {
            "template": call.op.template,
            "direction": "backward",
            "type": type_name(call.op.name) or call.op.cpp_type(),
            "x": place(call.x),
            "y": place(call.y),
            "dy": place(call.dy),
            "saved_mask": "" if call.saved_mask is None else place(call.saved_mask),
            "dx": place(call.dx) if call.dx is not None else place(call.dy),  # without dx the kernel does not write there
            "rule": update if call.update else "kernels::Hold",
            "has_dx": str(call.dx is not None).lower(),
            "masks_input": str(call.masks_input).lower(),
            "weights": weights(call.op),
            "forward_tensors": "".join(f"a + {place(t)}, " for t in forward_tensors),
        }

    def step(variant: Variant) -> list[dict[str, str]]:
        update = net.sgd.accumulating_cpp_type() if variant is Variant.GRADIENT else "Update"
        return [forward(call) if isinstance(call, Call) else backward(call, update) for call in net.backward[variant]]

    return render(
        template,
        title=" -> ".join(call.op.name for call in net.forward),
        command=command,
        frozen=bool(net.frozen),
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
        forward=[forward(call) for call in net.forward],
        variants=[
            {
                "name": v.name.lower(),
                "doc": _VARIANT_DOC[v],
                "observing": [observe(call) for call in net.observing(v)],
                "calls": step(v),
            }
            for v in net.backward
        ],
        start_values=[_StartText.of(p) for p in net.parameters if p.op.local and isinstance(p.parameter.starts_at, tuple)],
        local_starts=[_local_start(design, p) for p in net.parameters if p.op.local],
        local_redraws=[_local_start(design, p, ", key") for p in net.parameters if p.op.local] if redraws_local else [],
    )


def op_headers(design: Design, command: str) -> str:
    """The text of op_headers.hpp: includes the kernels of the model's ops."""
    net = design.graph
    used = {type(call.op) for calls in (net.forward, *net.backward.values()) for call in calls}
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
        _DECLARATIONS[parameter.dtype], weight_constant(op, parameter), list(parameter.shape), _lines(numbers, 8)
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


@dataclass(frozen=True)
class _AbiField:
    """A field of a struct as C++ text, with its offset in bytes."""

    name: str
    type: str
    doc: str
    offset: int


@dataclass(frozen=True)
class _AbiStruct:
    """A struct of the simulation's ABI as C++ text, with its size in bytes."""

    name: str
    doc: str
    size: int
    fields: list[_AbiField]


def _abi_struct(struct: type[simulation_abi.Struct]) -> _AbiStruct:
    layout = struct.c_type()
    fields = [_AbiField(each.name, each.kind.cpp_type, each.doc, getattr(layout, each.name).offset) for each in struct.fields()]
    return _AbiStruct(struct.__name__, struct.__doc__ or "", ctypes.sizeof(layout), fields)
