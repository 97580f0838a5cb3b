"""One experiment and one board to a folder of C++ and a manifest: spec, graph, plan, budget, emit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import emit, graph, plan, protocol, weights
from .boards import STACK_BYTES, Board
from .ops import LOSSES, Sgd
from .protocol import Variant
from .spec import Experiment, FolderTask, ModelSpec, SpecError, TaskShapes

# Raised whenever the same model would train to other bits: kernels, exp, sin, random numbers, order of sums.
ARITHMETIC_VERSION = 1
SOURCES = {
    "sine": "sine",
    "omniglot": "streamed",
    "keywords": "streamed",
    "presence": "streamed",
    "folder": "streamed",
}  # task kind -> firmware/app/source_NAME.cpp
CPP_SUFFIXES = (".cpp", ".cc", ".cxx")
STREAMED_BYTES_PER_INPUT = {"omniglot": 1, "keywords": 1}  # grey levels; anything else would travel as float32

# Fitted to builds for mps2 at -Os, rounded up: what a build takes beside its model (bench memory has a build's own figures).
CORE_FLASH_BYTES = 8_300
CORE_RAM_BYTES = 332  # the padding before an aligned arena among them
SELECTION_RAM_BYTES = 12  # of a layer: where it ends, its threshold and ties
FEEDBACK_FLASH_BYTES = 600  # of error feedback
# Of one kernel: forward, input gradient, and update where there are weights; of those in TILED with 8 sums side by side.
FLASH_BYTES_PER_KERNEL = {
    "dense": (320, 490, 790),
    "conv2d": (1_700, 1_700, 1_300),
    "conv1d": (1_700, 1_700, 1_300),
    "depthwise_conv2d": (520, 800, 540),
    "max_pool": (850, 400),
    "avg_pool": (640, 500),
    "global_avg_pool": (640, 500),
    "add": (60,),
    "relu": (60, 60),
    "relu6": (60, 60),
    "leaky_relu": (60, 60),
    "sigmoid": (120, 60),
    "tanh": (220, 60),
    "softmax": (170, 100),
    "clip_norm": (200,),
}
TILED = {"dense", "conv2d", "conv1d", "depthwise_conv2d", "max_pool", "avg_pool", "global_avg_pool"}


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
    weights: dict[str, weights.Floats]  # arrays of model.weights, by LAYER.kernel and LAYER.bias
    manifest: dict[str, Any]

    @property
    def keeps_local(self) -> bool:
        """Whether the local part goes on from its client's last round."""
        return _keeps_local(self.experiment, self.graph)


def design(experiment: Experiment, board: Board, source: str) -> Design:
    """Settles an experiment on a board. Raises SpecError, or BudgetError when the board is too small."""
    strategy = experiment.strategy
    net = graph.build(experiment.model, source, partial=strategy.partial, gradient=strategy.gradient)
    wanted = experiment.task.shapes
    has = TaskShapes(net.input.shape, net.output.size, net.loss.name)
    needs = wanted or has
    # A folder takes any model; its last column is one label.
    targets = {LOSSES[wanted.loss].targets} if wanted else {loss.targets for loss in LOSSES.values()}
    if not wanted and has.outputs != 1:
        targets -= {"labels"}
    losses = [name for name, loss in LOSSES.items() if loss.targets in targets]
    for what, fits, expected, given in (
        ("model.input", has.input == needs.input, list(needs.input), list(has.input)),
        ("outputs of the last layer", has.outputs == needs.outputs, needs.outputs, has.outputs),
        ("model.loss", has.loss in losses, " or ".join(losses), has.loss),
    ):
        if not fits:
            raise SpecError(f"{source}: task '{experiment.task.kind}' needs {what} = {expected}, the model has {given}")
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
    given = given_weights(experiment.model, net, source)
    digest = model_hash(experiment, net, given)
    ram = _ram(experiment, net, arena, downlink, window)
    flash = (
        CORE_FLASH_BYTES
        + FEEDBACK_FLASH_BYTES * experiment.strategy.error_feedback
        + _kernel_flash(net)
        + sum(4 * parameter.size for _, parameter in net.frozen)
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
        "keeps_local": _keeps_local(experiment, net),
        "error_feedback": experiment.strategy.error_feedback,
        "layer_ends": net.layer_ends,
        "parameters": [
            {
                "name": p.name,
                "shape": list(p.parameter.shape),
                "offset": p.offset,
                "size": p.parameter.size,
                "fan_in": p.parameter.fan_in,
                "fan_out": p.parameter.fan_out,
                "part": p.op.part,
            }
            for p in net.parameters
        ],
        "frozen": [{"name": f"{op.name}.{p.name}", "shape": list(p.shape), "size": p.size} for op, p in net.frozen],
        "weights": experiment.model.weights,
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
    return Design(experiment, board, net, arena, downlink, window, digest, given, manifest)


def write(plan_of_record: Design, folder: Path, command: str) -> list[Path]:
    """Writes protocol.hpp, board.hpp, model.hpp, manifest.json and, where needed, frozen.hpp and own_source.hpp.

    Returns those that changed.
    """
    texts = {
        "protocol.hpp": emit.protocol_header(command),
        "board.hpp": emit.board_header(plan_of_record, command),
        "model.hpp": emit.model_header(plan_of_record, command),
        "manifest.json": json.dumps(plan_of_record.manifest, indent=1) + "\n",
    }
    if plan_of_record.graph.frozen:
        texts["frozen.hpp"] = emit.frozen_header(plan_of_record, command)
    if own := own_source(plan_of_record.experiment):
        texts["own_source.hpp"] = emit.own_source_header(own.as_posix(), source_digest(own), command)
    return [folder / name for name, text in texts.items() if emit.write_if_changed(folder / name, text)]


def model_hash(experiment: Experiment, net: graph.Graph, given: dict[str, weights.Floats]) -> bytes:
    """First 8 bytes of SHA-256 over all that the weights' meaning and the trained bits depend on."""
    model: ModelSpec = experiment.model
    description: dict[str, Any] = {
        "arithmetic": ARITHMETIC_VERSION,
        "input": list(net.input.shape),
        "layers": [[call.op.title, call.op.kernel()] for call in net.forward],
        "parameters": [[p.name, list(p.parameter.shape), p.offset, p.op.local] for p in net.parameters],
        "loss": model.loss,
        "local_start": [model.local_start, model.local_start_scale],
        "downlink": experiment.strategy.downlink,
        "source": source_digest(own) if (own := own_source(experiment)) else SOURCES[experiment.task.kind],
    }
    # Only what a model has, so that what others may have leaves its name alone.
    if net.sgd != Sgd(0, 0) or model.clip_norm:
        description["update"] = [net.sgd.formula, model.clip_norm]
    if experiment.strategy.gradient:
        description["sums_gradients"] = True
    if experiment.strategy.error_feedback:
        description["error_feedback"] = True
    if model.loss == "huber":
        description["loss"] = [model.loss, model.huber_delta]
    if net.frozen:
        arrays = [given[f"{op.name}.{parameter.name}"] for op, parameter in net.frozen]
        description["frozen"] = hashlib.sha256(b"".join(a.astype("<f4").tobytes() for a in arrays)).hexdigest()
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()[:8]


def given_weights(model: ModelSpec, net: graph.Graph, source: str) -> dict[str, weights.Floats]:
    """The arrays of model.weights, those of all frozen layers among them. Raises SpecError."""
    frozen = {f"{op.name}.{parameter.name}": parameter.shape for op, parameter in net.frozen}
    if model.weights is None:
        if frozen:
            raise SpecError(f"{source}: model.weights is missing, the npz file to take the frozen {', '.join(frozen)} from")
        return {}
    given = weights.read(model.weights, frozen | {p.name: p.parameter.shape for p in net.parameters}, source)
    for name, shape in frozen.items():
        if name not in given:
            raise SpecError(f"{source}: model.weights = {model.weights}: '{name}' of shape {list(shape)}, frozen, is missing")
    return given


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


def _kernel_flash(net: graph.Graph) -> int:
    """Bytes of all kernels; calls that differ only in their places share one."""
    kernels: set[tuple[str, str, int, int, *tuple[bool, ...]]] = set()
    backward = [(call, variant is Variant.GRADIENT) for variant, calls in net.backward.items() for call in calls]
    for call, sums in [*((call, False) for call in net.forward), *backward]:
        op = call.op
        inputs, outputs = (shape[-1] if op.kind in TILED else 0 for shape in (op.input_shape, op.output_shape))
        if isinstance(call, graph.Call):
            kernels.add((op.kind, op.kernel(), 0, outputs))
            continue
        fused = op.kind == "dense"  # one loop does both, so that no other variant shares either
        variant = (call.update, call.dx is not None, call.mask) if fused else ()
        if call.dx is not None:
            kernels.add((op.kind, op.kernel(), 1, inputs, call.mask, *variant))
        if call.update:
            kernels.add((op.kind, op.kernel(), 2, inputs if fused else outputs, sums, *variant))
    return sum(_unrolled(kind, size, FLASH_BYTES_PER_KERNEL[kind][part]) for kind, _, part, size, *_ in kernels)


def _unrolled(kind: str, size: int, flash: int) -> int:
    """Half of a kernel grows with the sums of its tile, to which those of the last, smaller tile are added."""
    return flash * (8 + (size if size <= 8 else 8 + size % 8)) // 16 if kind in TILED else flash


def _keeps_local(experiment: Experiment, net: graph.Graph) -> bool:
    return experiment.model.local_start == "kept" and net.n_local > 0


def _ram(experiment: Experiment, net: graph.Graph, arena: plan.Plan, downlink: protocol.Dtype, window: int) -> dict[str, int]:
    scales = 4 * sum(not p.op.local for p in net.parameters) if downlink == protocol.Dtype.I8 else 0
    return {
        "weights": 4 * net.n_parameters,
        **({_behind(net): 4 * (net.n_state - net.n_parameters)} if net.n_state > net.n_parameters else {}),
        "received weights (for the delta)": downlink.width * net.n_global + scales,
        **({"changes not sent yet (error feedback)": 4 * net.n_global} if experiment.strategy.error_feedback else {}),
        **({"local weights of the last round (kept)": 4 * net.n_local + 8} if _keeps_local(experiment, net) else {}),
        "arena": 4 * arena.floats,
        "serial receive buffer": window,
        "request and answer buffers": 2 * window,
        "core": CORE_RAM_BYTES + SELECTION_RAM_BYTES * len(net.layer_ends),
        "stack": STACK_BYTES,
    }


def _behind(net: graph.Graph) -> str:
    return " or ".join(["velocities (momentum)"] * bool(net.sgd.momentum) + ["gradients (fedsgd)"] * net.sums_gradients)


def _too_large(source: str, board: Board, what: str, used: int, available: int, ram: dict[str, int], net: graph.Graph) -> str:
    lines = [f"{source}: the model needs about {used:,} bytes of {what}, {board.title} ({board.name}) has {available:,}"]
    lines += [f"  {size:>12,}  {name}" for name, size in sorted(ram.items(), key=lambda item: -item[1])]
    lines += ["  largest parameters:"]
    largest = sorted(net.parameters, key=lambda p: -p.parameter.size)[:3]
    lines += [f"  {4 * p.parameter.size:>12,}  {p.name} {list(p.parameter.shape)}" for p in largest]
    lines += ["make the largest layers smaller, or choose a larger board"]
    return "\n".join(lines)
