"""One experiment and one board to a folder of C++ and a manifest: spec, graph, plan, budget, emit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import emit, graph, plan, protocol
from .boards import STACK_BYTES, Board
from .spec import Experiment, FolderTask, ModelSpec, SpecError, TaskShapes

# Raised whenever the same model would train to other bits: kernels, exp, sin, random numbers, order of sums.
ARITHMETIC_VERSION = 1
SOURCES = {"sine": "sine", "omniglot": "streamed", "folder": "streamed"}  # task kind -> firmware/app/source_NAME.cpp
CPP_SUFFIXES = (".cpp", ".cc", ".cxx")
STREAMED_BYTES_PER_INPUT = {"omniglot": 1}  # grey levels; anything else would travel as float32

# Measured on mps2 at -Os, rounded up: what a build takes beside its model (see bench memory for one build's own figures).
CORE_FLASH_BYTES = 8_700
CORE_RAM_BYTES = 320
FLASH_BYTES_PER_CALL = {"dense": 260, "conv2d": 580, "relu": 60}


class BudgetError(SpecError):
    """A model that does not fit the board; the text is the map of who takes what."""


@dataclass(frozen=True)
class Design:
    """All that was decided before anything is printed."""

    experiment: Experiment
    board: Board
    graph: graph.Graph
    plan: plan.Plan
    downlink: protocol.Dtype
    receive_window: int
    model_hash: bytes
    manifest: dict[str, Any]


def design(experiment: Experiment, board: Board, source: str) -> Design:
    """Settles an experiment on a board. Raises SpecError, or BudgetError when the board is too small."""
    net = graph.build(experiment.model, source)
    wanted = experiment.task.shapes
    has = TaskShapes(net.input.shape, net.output.size, net.loss.name)
    whats = ("model.input", "outputs of the last layer", "model.loss")
    for what, expected, given in zip(whats, wanted or has, has, strict=True):
        if expected != given:
            texts = [str(list(x) if isinstance(x, tuple) else x) for x in (expected, given)]
            raise SpecError(f"{source}: task '{experiment.task.kind}' needs {what} = {texts[0]}, the model has {texts[1]}")
    return settle(experiment, board, net, source)


def settle(experiment: Experiment, board: Board, net: graph.Graph, source: str) -> Design:
    """Settles memory and budget of a model, whatever its task. Raises SpecError, BudgetError."""
    arena = plan.plan(net)
    window = _receive_window(experiment, board, net)
    if window > protocol.MAX_RECEIVE_WINDOW:
        raise SpecError(
            f"{source}: one sample of model.input = {list(net.input.shape)} or its outputs take {window:,} bytes in one "
            f"message, the protocol allows {protocol.MAX_RECEIVE_WINDOW:,}; make the input or the last layer smaller"
        )
    downlink = protocol.Dtype[experiment.strategy.downlink.upper()]
    digest = model_hash(experiment, net)
    ram = _ram(net, arena, downlink, window)
    flash = (
        CORE_FLASH_BYTES
        + sum(FLASH_BYTES_PER_CALL[call.op.kind] for call in net.forward)
        + sum(FLASH_BYTES_PER_CALL[call.op.kind] for calls in net.backward.values() for call in calls)
    )
    for what, used, available in (("RAM", sum(ram.values()), board.ram_bytes), ("flash", flash, board.flash_bytes)):
        if used > available:
            raise BudgetError(_too_large(source, board, what, used, available, ram, net))
    manifest = {
        "board": board.name,
        "source": "own" if own_source(experiment) else SOURCES[experiment.task.kind],
        "model_hash": digest.hex(),
        "schema_hash": protocol.schema_hash().hex(),
        "receive_window": window,
        "downlink": downlink.name,
        "input_shape": list(net.input.shape),
        "output_size": net.output.size,
        "target_size": net.target.size,
        "class_target": net.loss.class_target,
        "n_global": net.n_global,
        "n_parameters": net.n_parameters,
        "parameters": [
            {
                "name": p.name,
                "shape": list(p.parameter.shape),
                "offset": p.offset,
                "size": p.parameter.size,
                "fan_in": p.parameter.fan_in,
                "fan_out": p.parameter.fan_out,
                "part": "local" if p.op.local else "global",
            }
            for p in net.parameters
        ],
        "layers": [{"name": call.op.name, "title": call.op.title, "relu": call.op.relu} for call in net.forward],
        "arena": {
            "floats": arena.floats,
            "steps": list(arena.steps),
            "tensors": [
                {
                    "name": s.tensor.name,
                    "shape": list(s.tensor.shape),
                    "offset": s.offset,
                    "size": s.tensor.size,
                    "first": s.first,
                    "last": s.last,
                    "note": s.tensor.note,
                }
                for s in arena.slots
            ],
        },
        "ram_bytes": ram,
        "ram_total": sum(ram.values()),
        "ram_available": board.ram_bytes,
        "flash_estimate": flash,
        "flash_available": board.flash_bytes,
    }
    return Design(experiment, board, net, arena, downlink, window, digest, manifest)


def write(plan_of_record: Design, folder: Path, command: str) -> list[Path]:
    """Writes protocol.hpp, board.hpp, model.hpp, manifest.json and, for an own source, own_source.hpp; returns what changed."""
    texts = {
        "protocol.hpp": emit.protocol_header(command),
        "board.hpp": emit.board_header(plan_of_record, command),
        "model.hpp": emit.model_header(plan_of_record, command),
        "manifest.json": json.dumps(plan_of_record.manifest, indent=1) + "\n",
    }
    if own := own_source(plan_of_record.experiment):
        texts["own_source.hpp"] = emit.own_source_header(own.as_posix(), source_digest(own), command)
    return [folder / name for name, text in texts.items() if emit.write_if_changed(folder / name, text)]


def model_hash(experiment: Experiment, net: graph.Graph) -> bytes:
    """First 8 bytes of SHA-256 over all that the weights' meaning and the trained bits depend on."""
    model: ModelSpec = experiment.model
    description = {
        "arithmetic": ARITHMETIC_VERSION,
        "input": list(net.input.shape),
        "layers": [[call.op.title, call.op.kernel()] for call in net.forward],
        "parameters": [[p.name, list(p.parameter.shape), p.offset, p.op.local] for p in net.parameters],
        "loss": model.loss,
        "local_start": [model.local_start, model.local_start_scale],
        "downlink": experiment.strategy.downlink,
        "source": source_digest(own) if (own := own_source(experiment)) else SOURCES[experiment.task.kind],
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()[:8]


def own_source(experiment: Experiment) -> Path | None:
    """The user's C++ file that makes the samples on the board, which firmware/app/source_own.cpp includes."""
    task = experiment.task
    return Path(task.source) if isinstance(task, FolderTask) and task.source is not None else None


def source_digest(own: Path) -> str:
    """Hexadecimal SHA-256 of the user's sample source. Raises SpecError for what cannot be one."""
    remedy = "task.source names a C++ file that defines tmf::source::on_device() and make(), see firmware/core/source.hpp"
    try:
        content = own.read_bytes()
    except OSError as error:
        raise SpecError(f"{own}: cannot be read ({error.strerror}); {remedy}") from None
    if own.suffix not in CPP_SUFFIXES or not all(name in content for name in (b"on_device", b"make")) or b"\0" in content:
        raise SpecError(f"{own}: not a sample source in C++ ({', '.join(CPP_SUFFIXES)}); {remedy}")
    return hashlib.sha256(content).hexdigest()


def _receive_window(experiment: Experiment, board: Board, net: graph.Graph) -> int:
    """Bytes that may be under way to the board: its own fact, or more where one sample or one answer needs it."""
    per_input = STREAMED_BYTES_PER_INPUT.get(experiment.task.kind, 4)
    payloads = [
        protocol.Predict.fixed_size() + per_input * net.input.size,
        protocol.Outputs.fixed_size() + 4 * net.output.size,
    ]
    if SOURCES[experiment.task.kind] == "streamed" and not own_source(experiment):
        payloads.append(protocol.Sample.fixed_size() + 4 * net.target.size + per_input * net.input.size)
    return max(board.receive_window, -(-protocol.wire_size(max(payloads)) // 64) * 64)


def _ram(net: graph.Graph, arena: plan.Plan, downlink: protocol.Dtype, window: int) -> dict[str, int]:
    scales = 4 * sum(not p.op.local for p in net.parameters) if downlink == protocol.Dtype.I8 else 0
    return {
        "weights": 4 * net.n_parameters,
        "received weights (for the delta)": downlink.width * net.n_global + scales,
        "arena": 4 * arena.floats,
        "serial receive buffer": window,
        "request and answer buffers": 2 * window,
        "core": CORE_RAM_BYTES,
        "stack": STACK_BYTES,
    }


def _too_large(source: str, board: Board, what: str, used: int, available: int, ram: dict[str, int], net: graph.Graph) -> str:
    lines = [f"{source}: the model needs about {used:,} bytes of {what}, {board.title} ({board.name}) has {available:,}"]
    lines += [f"  {size:>12,}  {name}" for name, size in sorted(ram.items(), key=lambda item: -item[1])]
    lines += ["  largest parameters:"]
    largest = sorted(net.parameters, key=lambda p: -p.parameter.size)[:3]
    lines += [f"  {4 * p.parameter.size:>12,}  {p.name} {list(p.parameter.shape)}" for p in largest]
    lines += ["make the largest layers smaller, or choose a larger board"]
    return "\n".join(lines)
