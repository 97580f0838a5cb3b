"""Designs an experiment's model on a board: makes graph, arena plan, budget, hash and manifest before any C++ is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import (
    budget,
    flash_store,
    graph,
    hash,
    kept_activations,
    layer_chain,
    plan,
    private_update,
    protocol,
    sample_source,
    secure_sum,
    sensor,
    stored_activations,
    weights_file,
)
from .boards import INSTALLED, Board, Catalogue
from .manifest import ArenaMap, ArenaTensor, FrozenTensor, LayerFacts, ModelManifest, WeightTensor
from .optional_messages import MAC_BYTES, Columns, Rows
from .spec import TARGETS, Experiment, SpecError


@dataclass(frozen=True)
class Design:
    """An experiment's model on a board: everything that the generated files are rendered from.

    ``source`` is the experiment's name in errors. ``boards`` are the boards that the model may be designed for next.
    ``weights`` are the arrays of model.weights, by names such as dense1.kernel.
    """

    experiment: Experiment
    source: str
    board: Board
    boards: Catalogue
    graph: graph.Graph
    plan: plan.Plan
    weights: dict[str, weights_file.Values]
    manifest: ModelManifest

    @property
    def model_hash(self) -> bytes:
        """The model's hash, 8 bytes; the same on every board."""
        return bytes.fromhex(self.manifest.model_hash)

    @property
    def normalisation(self) -> dict[str, weights_file.Floats]:
        """Kernel and bias of the layer that normalises the input, by their names in the weight file; empty without one."""
        return normalising_weights(self.experiment, self.graph)

    def on(self, board: Board) -> Design:
        """Designs the same model for another board. Raises BudgetError if that board is too small."""
        if board == self.board:
            return self
        return _design(self.experiment, board, self.boards, self.graph, self.plan, self.weights, self.source)


def design(experiment: Experiment, board: Board, source: str, boards: Catalogue = INSTALLED) -> Design:
    """Designs an experiment's model for a board.

    Args:
        experiment: The complete experiment.
        board: The board.
        source: The experiment's name in errors, for instance its file.
        boards: All boards that the model may be designed for later.

    Raises:
        SpecError: The model does not fit the task.
        BudgetError: The board has too little RAM or flash.
    """
    net = built(experiment, source)
    _check_task(experiment, net, source)
    return design_graph(experiment, board, net, source, boards)


def built(experiment: Experiment, source: str) -> graph.Graph:
    """The graph of an experiment's model, with every activation stored as it is. Raises SpecError."""
    strategy = experiment.strategy
    return graph.build(experiment.model, source, partial=strategy.partial, gradient=strategy.gradient, data=experiment.data)


def design_graph(experiment: Experiment, board: Board, net: graph.Graph, source: str, boards: Catalogue = INSTALLED) -> Design:
    """Like ``design``, but takes a graph that ``graph.build`` made, and does not compare it with the task."""
    net = stored_activations.arranged(net, experiment)
    return _design(experiment, board, boards, net, plan.plan(net), given_weights(experiment, net, source), source)


def given_weights(experiment: Experiment, net: graph.Graph, source: str) -> dict[str, weights_file.Values]:
    """The arrays of frozen layers and of model.weights, by names such as dense1.kernel.

    Those of the normalisation come from [data]; they are NaN as long as they are not measured, which ``emit`` refuses.

    Raises:
        SpecError: An array is wrong, or that of a frozen layer is missing.
    """
    model = experiment.model
    normalising = normalising_weights(experiment, net)
    frozen = {f"{op.name}.{p.name}": p.shape for op, p in net.frozen if f"{op.name}.{p.name}" not in normalising}
    if model.weights is None:
        if frozen:
            raise SpecError(f"{source}: model.weights is missing; it names the npz file with the frozen {', '.join(frozen)}")
        return normalising
    integers = {f"{op.name}.{p.name}": p.dtype for op, p in net.frozen if p.dtype != "float32"}
    shapes = (
        frozen | {p.name: p.parameter.shape for p in net.parameters} | {name: each.shape for name, each in normalising.items()}
    )
    where = f"{source}: model.weights = {model.weights}"
    # The weights of a run that normalised say how; running statistics begin anew.
    besides = layer_chain.NORMALISING if experiment.data.is_running else ()
    given = weights_file.read(model.weights, shapes, where, integers, besides)
    if not experiment.data.is_unmeasured:
        for name, numbers in normalising.items():
            if name in given and given[name].tobytes() != numbers.tobytes():
                raise SpecError(
                    f"{where}: '{name}' is not what data.shift and data.scale give; set these to those of the run that trained "
                    "the weights, in its experiment.toml"
                )
    for name, shape in frozen.items():
        if name not in given:
            raise SpecError(f"{source}: model.weights = {model.weights}: the frozen '{name}' of shape {list(shape)} is missing")
    return given | normalising


def normalising_weights(experiment: Experiment, net: graph.Graph) -> dict[str, weights_file.Floats]:
    """Kernel and bias of the layer that normalises by constants, by their names in the weight file; empty without one."""
    if not experiment.data.is_normalised or experiment.data.is_running or net.forward[0].op.name != layer_chain.NORMALISE:
        return {}
    unknown = (math.nan,) * net.input.shape[-1]
    kernel, bias = kernel_and_bias(experiment.data.shift or unknown, experiment.data.scale or unknown)
    return dict(zip(layer_chain.NORMALISING, (kernel, bias), strict=True))


def kernel_and_bias(shift: Sequence[float], scale: Sequence[float]) -> tuple[weights_file.Floats, weights_file.Floats]:
    """float32 kernel and bias with which x * kernel + bias is (x - shift) * scale, one number of each per channel."""
    shifts, scales = np.array(shift, np.float64), np.array(scale, np.float64)
    return scales.astype(np.float32), (-shifts * scales).astype(np.float32)


def _check_task(experiment: Experiment, net: graph.Graph, source: str) -> None:
    """Raises SpecError where the model's input, outputs or loss are not those of the task."""
    wanted = experiment.task.shapes
    has = net.shapes
    needs = wanted or has
    # A task without shapes takes any model; its data have one label per sample.
    targets = {TARGETS[wanted.loss]} if wanted else set(TARGETS.values())
    if not wanted and has.outputs != 1:
        targets -= {"labels"}
    losses = [name for name in TARGETS if TARGETS[name] in targets]
    for what, fits, expected, given in (
        ("model.input", has.input == needs.input, list(needs.input), list(has.input)),
        ("outputs of the last layer", has.outputs == needs.outputs, needs.outputs, has.outputs),
        ("model.loss", has.loss in losses, " or ".join(losses), has.loss),
    ):
        if not fits:
            raise SpecError(f"{source}: task '{experiment.task.kind}' needs {what} = {expected}, the model has {given}")


def _design(
    experiment: Experiment,
    board: Board,
    boards: Catalogue,
    net: graph.Graph,
    arena: plan.Plan,
    given: dict[str, weights_file.Values],
    source: str,
) -> Design:
    if experiment.run.is_authenticated and board.entropy is None:
        raise SpecError(
            f"{source}: run.security = 'authenticated', but board '{board.name}' has no source of random bytes; add 'entropy' "
            f"to {board.file}, as docs/boards.md describes, or set run.security = 'none'"
        )
    mac_bytes = MAC_BYTES if experiment.run.is_authenticated else 0
    private_update.require_entropy(experiment, board, source)
    secure_sum.require_entropy(experiment, board, source)
    if experiment.board.measures and not board.measures:
        raise SpecError(
            f"{source}: board.measures = true, but the port of board '{board.name}' cannot measure; write measures.cpp for it "
            f"and set 'measures' in {board.file}, as docs/boards.md says, or leave board.measures out"
        )
    sensed = sensor.facts(experiment, board, net, source)
    window = _receive_window(experiment, board, net, sensed, mac_bytes)
    if window > protocol.MAX_RECEIVE_WINDOW:
        own = experiment.task.own_files
        of_windows = own is not None and own.window is not None
        in_bytes = own is not None and own.bytes_per_input > 1
        raise SpecError(
            f"{source}: one sample of model.input = {list(net.input.shape)} or its outputs"
            + ("" if sensed is None else ", or a row of the sensor,")
            + f" take {window:,} bytes in one message, the protocol allows {protocol.MAX_RECEIVE_WINDOW:,}; make the input or "
            "the last layer smaller"
            + (", with a lower task.window or fewer task.features" if of_windows else "")
            + (', or set task.dtype = "uint8" for pixels and other bytes, which are sent as they are' if in_bytes else "")
        )
    keeps_local, error_feedback = budget.keeps_local(experiment, net), experiment.strategy.error_feedback
    memory = budget.memory(experiment, board, net, arena, window, source, 0 if sensed is None else sensed.ram_bytes)
    kept = kept_activations.plan(experiment, net, memory)
    memory = kept_activations.with_kept(memory, kept)
    manifest = ModelManifest(
        board=board.name,
        sample_source=sample_source.name(experiment),
        model_hash=hash.model_hash(experiment, net, given).hex(),
        schema_hash=protocol.schema_hash().hex(),
        receive_window=window,
        downlink=experiment.strategy.downlink.upper(),
        input_shape=net.input.shape,
        output_size=net.output.size,
        target_size=net.target.size,
        class_target=net.loss.class_target,
        n_global=net.n_global,
        n_parameters=net.n_parameters,
        keeps_local=keeps_local,
        error_feedback=error_feedback,
        layer_ends=tuple(net.layer_ends),
        parameters=tuple(_weight_tensor(placed) for placed in net.parameters),
        frozen=tuple(FrozenTensor(f"{op.name}.{p.name}", p.shape, p.size, p.dtype) for op, p in net.frozen),
        weights_file=experiment.model.weights,
        layers=tuple(LayerFacts(call.op.name, call.op.title, call.op.relu) for call in net.forward),
        arena=ArenaMap(arena.floats, arena.steps, tuple(_arena_tensor(slot) for slot in arena.slots)),
        memory=memory,
        store=flash_store.layout(
            board,
            net,
            keeps_local=keeps_local,
            error_feedback=error_feedback,
            save_every=experiment.board.save_every,
            key_pages=flash_store.KEY_PAGES * experiment.run.is_authenticated,
            longest_payload=protocol.payload_capacity(window) - mac_bytes,
            flash=memory.flash,
            source=source,
        )
        if experiment.board.store
        else None,
        sensor=sensed,
        kept=kept,
        mac_bytes=mac_bytes,
    )
    return Design(experiment, source, board, boards, net, arena, given, manifest)


def _weight_tensor(placed: graph.PlacedParameter) -> WeightTensor:
    parameter = placed.parameter
    return WeightTensor(
        placed.name,
        parameter.shape,
        placed.offset,
        parameter.size,
        parameter.fan_in,
        parameter.fan_out,
        placed.op.part,
        parameter.starts_at,
    )


def _arena_tensor(slot: plan.Slot) -> ArenaTensor:
    tensor = slot.tensor
    return ArenaTensor(tensor.name, tensor.shape, slot.offset, tensor.floats, slot.first, slot.last, tensor.note)


def _receive_window(
    experiment: Experiment, board: Board, net: graph.Graph, sensed: sensor.SensorFacts | None, mac_bytes: int
) -> int:
    """Bytes of the receive window: that of the board's file, or more if one sample or one answer needs more."""
    task = experiment.task
    payloads = [
        protocol.Predict.fixed_size() + task.bytes_per_input * net.input.size,
        protocol.Outputs.fixed_size() + 4 * net.output.size,
    ]
    if sample_source.name(experiment) == "streamed":
        payloads.append(protocol.Sample.fixed_size() + 4 * net.target.size + task.bytes_per_input * net.input.size)
    if sensed is not None:
        payloads += [Rows.fixed_size() + sensed.row_bytes, Columns.fixed_size() + len(sensed.header.encode())]
    return max(board.receive_window, -(-protocol.wire_size(max(payloads) + mac_bytes) // 64) * 64)
