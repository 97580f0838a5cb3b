"""Renders C++ from templates; the only module that knows jinja2. Output is deterministic and written only where it changed."""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from typing import Any

import jinja2

from . import protocol, sample_source
from .design import Design
from .files import write_if_changed
from .graph import BackwardCall, Call, Graph, Placed
from .ops import Op, Parameter
from .plan import HISTOGRAM_BINS
from .protocol import Variant

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """The text of one template; a name that the context lacks is an error, never an empty string."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**context)


def write(design: Design, folder: Path, command: str) -> list[Path]:
    """Writes the C++ headers and manifest.json of a design, and returns the files that changed.

    protocol.hpp, board.hpp, model.hpp; with frozen layers frozen.hpp, with the user's own sample source own_source.hpp.
    ``command`` stands in the files as what made them. Raises OSError.
    """
    texts = {
        "protocol.hpp": protocol_header(command),
        "board.hpp": board_header(design, command),
        "model.hpp": model_header(design, command),
        "manifest.json": json.dumps(design.manifest.as_json(), indent=1) + "\n",
    }
    if design.graph.frozen:
        texts["frozen.hpp"] = frozen_header(design, command)
    if own := sample_source.own_source(design.experiment):
        texts["own_source.hpp"] = own_source_header(own.as_posix(), sample_source.digest(own), command)
    return [folder / name for name, text in texts.items() if write_if_changed(folder / name, text)]


def protocol_header(command: str) -> str:
    """protocol.hpp, the wire table as C++."""
    digest = protocol.schema_hash()
    return render(
        "protocol.hpp.j2",
        source="codegen/tinymetafed_codegen/protocol.py",
        command=command,
        schema_hash_hex=digest.hex(),
        schema_hash_bytes=", ".join(f"0x{b:02x}" for b in digest),
        constants=[{"name": cpp_constant(name), "value": value} for name, value in protocol.CONSTANTS.items()],
        enums=[_enum(e) for e in protocol.ENUMS],
        records=[_record(r) for r in protocol.records()],
    )


def board_header(design: Design, command: str) -> str:
    """board.hpp, the board's facts as C++."""
    reason = ""
    if design.manifest.receive_window != design.board.receive_window:
        reason = f"; the board's own {design.board.receive_window} do not hold one streamed sample"
    return render(
        "board.hpp.j2",
        board=design.board,
        command=command,
        receive_window=design.manifest.receive_window,
        window_reason=reason,
    )


def own_source_header(path: str, sha256: str, command: str) -> str:
    """own_source.hpp, which lets firmware/app/source_own.cpp find the user's file."""
    return render("own_source.hpp.j2", path=path, sha256=sha256, command=command)


def model_header(design: Design, command: str) -> str:
    """model.hpp, the training kernels of one model."""
    net, arena = design.graph, design.plan
    redraws_local = design.experiment.model.local_start == "redrawn" and net.n_local > 0

    def place(tensor: Any) -> str:
        return cpp_constant(tensor.name)

    def parameters(op: Op) -> dict[str, str]:
        at = "" if op.frozen else "p + "
        return {parameter.name: f"{at}{weight_constant(op, parameter)}" for parameter in op.parameters}

    def forward(call: Call) -> dict[str, str]:
        return {
            "template": call.op.template,
            "direction": "forward",
            "type": cpp_type(call.op.name) or call.op.kernel(),
            "x": place(call.x),
            "other": "" if call.other is None else place(call.other),
            "y": place(call.y),
            "bits": "" if call.bits is None else place(call.bits),
            "mask": str(call.mask).lower(),
            **parameters(call.op),
        }

    def backward(call: BackwardCall, update: str) -> dict[str, str]:
        return {
            "template": call.op.template,
            "direction": "backward",
            "type": cpp_type(call.op.name) or call.op.kernel(),
            "x": place(call.x),
            "y": place(call.y),
            "dy": place(call.dy),
            "bits": "" if call.bits is None else place(call.bits),
            "dx": place(call.dx) if call.dx is not None else place(call.dy),  # never written without dx
            "rule": update if call.update else "kernels::Hold",
            "has_dx": str(call.dx is not None).lower(),
            "mask": str(call.mask).lower(),
            **parameters(call.op),
        }

    def step(variant: Variant) -> list[dict[str, str]]:
        update = net.sgd.accumulating_kernel() if variant is Variant.GRADIENT else "Update"
        return [forward(call) if isinstance(call, Call) else backward(call, update) for call in net.backward[variant]]

    return render(
        "model.hpp.j2",
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
        layers=[{"title": c.op.title, "type": cpp_type(c.op.name), "kernel": c.op.kernel()} for c in net.forward],
        update=net.sgd.kernel(),
        update_formula=net.sgd.formula,
        loss=net.loss.kernel(net.output.size, design.experiment.model),
        loss_formula=net.loss.formula,
        input=place(net.input),
        output=place(net.output),
        target=place(net.target),
        output_gradient=place(net.output_gradient),
        forward=[forward(call) for call in net.forward],
        variants=[{"name": v.name.lower(), "doc": _VARIANT_DOC[v], "calls": step(v)} for v in net.backward],
        local_starts=[_local_start(design, p) for p in net.parameters if p.op.local],
        local_redraws=[_local_start(design, p, ", key") for p in net.parameters if p.op.local] if redraws_local else [],
    )


def frozen_header(design: Design, command: str) -> str:
    """frozen.hpp, the weights of frozen layers as C++."""

    def tensor(op: Op, parameter: Parameter) -> dict[str, Any]:
        # The shortest decimal that reads back as the same float32.
        numbers = [f"{float(str(value))!r}f" for value in design.weights[f"{op.name}.{parameter.name}"].ravel()]
        lines = [", ".join(numbers[i : i + 8]) + "," for i in range(0, len(numbers), 8)]
        return {"constant": weight_constant(op, parameter), "shape": list(parameter.shape), "lines": lines}

    return render("frozen.hpp.j2", command=command, tensors=[tensor(*each) for each in design.graph.frozen])


_VARIANT_DOC = {
    Variant.LOCAL: "One SGD step of the local part, the global part held: reconstruction.",
    Variant.GLOBAL: "One SGD step of the global part, the local part held: the update that is shared.",
    Variant.FULL: "One SGD step of the whole model: fine-tuning.",
    Variant.GRADIENT: "One gradient of the whole model, added to the sum behind the weights, which stay.",
}


def _state_note(net: Graph) -> str:
    behind = ["a velocity"] * bool(net.sgd.momentum) + ["a sum of gradients"] * net.sums_gradients
    return f"{' or '.join(behind)} behind every weight" if behind else "the weights alone"


def cpp_type(name: str) -> str:
    """``stem_conv2d1`` as ``StemConv2d1``."""
    return "".join(part.capitalize() for part in name.split("_"))


def weight_constant(op: Op, parameter: Parameter) -> str:
    """``kernel`` of ``conv2d1`` as ``kConv2d1Kernel``."""
    return cpp_constant(f"{op.name}_{parameter.name}")


def _local_start(design: Design, placed: Placed, key: str = "") -> str:
    """The call that fills one local tensor; ``key`` names the draw of random numbers, otherwise they are everybody's."""
    model, parameter = design.experiment.model, placed.parameter
    constant = weight_constant(placed.op, parameter)
    scale = f"{model.local_start_scale!r}f"
    if parameter.is_bias or model.local_start == "zeros":
        return f"local_start::zeros(p + {constant}, {parameter.size});"
    if model.local_start == "alternating":
        columns = parameter.shape[-1]
        return f"local_start::alternating(p + {constant}, {parameter.size // columns}, {columns}, {scale});"
    return f"local_start::random(p + {constant}, {parameter.size}, {constant}, {scale}{key});"


def cpp_constant(name: str) -> str:
    """``MAX_RICE`` or ``max_rice`` as ``kMaxRice``."""
    return "k" + "".join(part.capitalize() for part in name.lower().split("_"))


def _enum(enum: type[IntEnum]) -> dict[str, Any]:
    members = [{"name": cpp_constant(m.name), "value": int(m)} for m in enum]
    return {"name": enum.__name__, "members": members, "nodiscard": enum is protocol.Status}


def _record(record: type[protocol.Record]) -> dict[str, Any]:
    constants = []
    for request in protocol.REQUESTS:
        if record is request:
            constants.append({"name": "kType", "value": request.type_id})
    if record is protocol.ErrorAnswer:
        constants.append({"name": "kType", "value": protocol.ERROR_TYPE})
    kinds = record.kinds()
    return {
        "name": record.__name__,
        "doc": (record.__doc__ or "").strip(),
        "constants": constants,
        "fixed_size": record.fixed_size(),
        "fields": [_field(name, kind) for name, kind in kinds.items()],
    }


def _field(name: str, kind: protocol.Kind) -> dict[str, str]:
    if isinstance(kind, protocol.Scalar):
        method = kind.cpp.removeprefix("uint").removesuffix("_t")
        method = "f32" if method == "float" else f"u{method}"
        return {
            "declaration": f"{kind.cpp} {name} = 0;",
            "read": f"{name} = in.{method}();",
            "write": f"out.{method}({name});",
        }
    if isinstance(kind, protocol.FixedBytes):
        return {
            "declaration": f"uint8_t {name}[{kind.size}] = {{}};",
            "read": f"in.bytes({name}, sizeof {name});",
            "write": f"out.bytes({name}, sizeof {name});",
        }
    if isinstance(kind, protocol.Records):
        return {
            "declaration": f"{kind.record.__name__} {name}[{kind.count}] = {{}};",
            "read": f"for (auto& record : {name})\n      if (!record.read(in)) return false;",
            "write": f"for (const auto& record : {name}) record.write(out);",
        }
    return {
        "declaration": f"const uint8_t* {name} = nullptr;\n  size_t {name}_size = 0;",
        "read": f"{name}_size = in.left();\n    {name} = in.take({name}_size);",
        "write": f"out.bytes({name}, {name}_size);",
    }
