"""Designs an experiment's model on a board: makes graph, arena plan, budget, hash and manifest before any C++ is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import budget, graph, hash, layer_chain, plan, protocol, weights_file
from .board.board_facts import Board
from .board.boards import INSTALLED, Catalogue
from .manifest import ArenaMap, ArenaTensor, FrozenTensor, LayerFacts, ModelManifest, WeightTensor
from .memory import kept, stored_activations, trainable
from .messages.level_format import wire_dtype
from .optional_messages.authentication_messages import MAC_BYTES
from .optional_messages.sensor_messages import Columns, Rows
from .options import byte_input, flash_store, private_update, sample_parts, sample_source, secure_sum, sensor
from .spec import TARGETS, Experiment, SpecError


@dataclass(frozen=True)
class Design:
    """An experiment's model on a board: everything that the generated files are rendered from.

    ``source`` is the experiment's name in errors. ``boards`` are the boards that the model may be designed for next.
    ``weights`` are the arrays of model.weights, by names such as dense1.kernel. ``built`` is the graph with every activation
    stored as it is, and ``graph`` the one that stores them as the experiment says. ``lowered`` is the graph that is made C++,
    and ``plan`` its arena: that of a board whose first layer reads bytes, or ``graph`` itself; ``may_read_bytes``: whether it
    may; ``sends_bytes``: whether all inputs are bytes, so that it does where that makes the arena smaller. ``choice``: how the
    layers that train were picked, where model.trainable was a budget; ``experiment`` then names them.
    """

    experiment: Experiment
    source: str
    board: Board
    boards: Catalogue
    lowered: graph.Graph
    built: graph.Graph
    graph: graph.Graph
    plan: plan.Plan
    weights: dict[str, weights_file.Values]
    manifest: ModelManifest
    may_read_bytes: bool = True
    sends_bytes: bool = False
    choice: trainable.LayerChoice | None = None

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
        return self._again(board, self.may_read_bytes)

    def _again(self, board: Board, may_read_bytes: bool) -> Design:
        experiment, given = self.experiment, self.weights
        made = _design(experiment, board, self.boards, self.built, given, self.source, may_read_bytes=may_read_bytes)
        return dataclasses.replace(made, choice=self.choice)

    @property
    def reads_bytes(self) -> bool:
        """Whether the first layer reads bytes, so that nobody can give the firmware an input in float32."""
        return self.lowered is not self.graph

    def reading_floats(self) -> Design:
        """The same with an input in float32, for the simulation and for programs that call the model themselves.

        Raises:
            BudgetError: The board is too small for it.
        """
        return self._again(self.board, False) if self.reads_bytes else self


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
    choice = None
    if experiment.model.ram_budget is not None:
        choice = chosen_layers(experiment, board, source)
        model = experiment.model.model_copy(update={"trainable": choice.trainable})
        within = experiment.board.model_copy(update={"keep_activations": False})  # they would take RAM beyond the budget
        experiment = experiment.model_copy(update={"model": model, "board": within})
    net = built(experiment, source)
    _check_task(experiment, net, source)
    return dataclasses.replace(design_graph(experiment, board, net, source, boards), choice=choice)


def chosen_layers(experiment: Experiment, board: Board, source: str) -> trainable.LayerChoice:
    """Picks the layers that train within the budget of model.trainable; they are the same for every board.

    Args:
        experiment: The complete experiment; its model.trainable is a budget.
        board: The board, whose sensor's rows count.
        source: The experiment's name in errors.

    Raises:
        SpecError: The budget is too small; the text names the smallest that works.
    """
    usual = dataclasses.replace(board, receive_window=trainable.USUAL_RECEIVE_WINDOW)

    def ram(net: graph.Graph) -> int:
        sensed, mac_bytes = sensor.facts(experiment, usual, net, source), _mac_bytes(experiment)
        window, takes_parts = _receive_window(experiment, usual, net, sensed, mac_bytes)
        arranged = stored_activations.arranged(net, experiment)
        lowered, arena = arranged, plan.plan(arranged)
        if takes_parts and _sends_bytes(experiment, net, window, mac_bytes):
            lowered, arena = smaller_with_bytes(net, lowered, arena, again=experiment.board.memory == "least")
        rows = 0 if sensed is None else sensed.ram_bytes
        return budget.ram_total(experiment, lowered, arena, window, rows, takes_parts=takes_parts)

    return trainable.choose(experiment, source, ram)


def _mac_bytes(experiment: Experiment) -> int:
    return MAC_BYTES if experiment.run.is_authenticated else 0


def built(experiment: Experiment, source: str) -> graph.Graph:
    """The graph of an experiment's model, with every activation stored as it is. Raises SpecError."""
    strategy, model = experiment.strategy, experiment.model
    net = graph.build(model, source, partial=strategy.partial, gradient=strategy.gradient, data=experiment.data)
    return dataclasses.replace(net, keeps_input=experiment.predict.averages)


def design_graph(experiment: Experiment, board: Board, net: graph.Graph, source: str, boards: Catalogue = INSTALLED) -> Design:
    """Like ``design``, but takes a graph that ``graph.build`` made, and does not compare it with the task."""
    return _design(experiment, board, boards, net, given_weights(experiment, net, source), source)


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
        if frozen and model.trainable is not None:
            raise SpecError(
                f"{source}: model.trainable = {list(model.trainable)}: the other layers stay as they are, and model.weights is "
                "missing, an npz file with their values; train all layers on a large machine and export that run: tinymetafed "
                "export RUN -o start.npz"
            )
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
                    f"{where}: '{name}' does not match data.shift and data.scale; set these to those of the run that trained "
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
    built: graph.Graph,
    given: dict[str, weights_file.Values],
    source: str,
    *,
    may_read_bytes: bool = True,
) -> Design:
    net = stored_activations.arranged(built, experiment)
    if experiment.run.is_authenticated and board.entropy is None:
        raise SpecError(
            f"{source}: run.security = 'authenticated', but board '{board.name}' has no source of random bytes; add 'entropy' "
            f"to {board.file}, as docs/boards.md describes, or set run.security = 'none'"
        )
    mac_bytes = _mac_bytes(experiment)
    private_update.require_entropy(experiment, board, source)
    secure_sum.require_entropy(experiment, board, source)
    if experiment.board.measures and not board.measures:
        raise SpecError(
            f"{source}: board.measures = true, but the port of board '{board.name}' cannot measure; write measures.cpp for it "
            f"and set 'measures' in {board.file}, as docs/boards.md says, or leave board.measures out"
        )
    sensed = sensor.facts(experiment, board, net, source)
    window, takes_parts = _receive_window(experiment, board, net, sensed, mac_bytes)
    if window > protocol.MAX_RECEIVE_WINDOW:
        what = f"the {net.output.size:,} outputs of the last layer" + ("" if sensed is None else ", or a row of the sensor,")
        raise SpecError(
            f"{source}: {what} take {window:,} bytes in one message, the protocol allows {protocol.MAX_RECEIVE_WINDOW:,}; make "
            "the last layer smaller" + ("" if sensed is None else ", or read fewer channels")
        )
    lowered, arena = net, plan.plan(net)
    sends_bytes = may_read_bytes and takes_parts and _sends_bytes(experiment, net, window, mac_bytes)
    if sends_bytes:
        lowered, arena = smaller_with_bytes(built, net, arena, again=experiment.board.memory == "least")
    keeps_local, error_feedback = budget.keeps_local(experiment, net), experiment.strategy.error_feedback
    memory = budget.memory(
        experiment,
        board,
        lowered,
        arena,
        window,
        source,
        frozen_bytes=net.frozen_bytes,
        sensor=0 if sensed is None else sensed.ram_bytes,
        takes_parts=takes_parts,
    )
    keeps = kept.plan(experiment, net, lowered, memory, takes_parts=takes_parts)
    manifest = ModelManifest(
        board=board.name,
        sample_source=sample_source.name(experiment),
        model_hash=hash.model_hash(experiment, net, given).hex(),
        schema_hash=protocol.schema_hash().hex(),
        receive_window=window,
        downlink=wire_dtype(experiment.strategy.downlink).name,
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
        memory=keeps.memory,
        store=flash_store.layout(
            board,
            net,
            keeps_local=keeps_local,
            error_feedback=error_feedback,
            save_every=experiment.board.save_every,
            key_pages=flash_store.KEY_PAGES * experiment.run.is_authenticated,
            longest_payload=protocol.payload_capacity(window) - mac_bytes,
            flash=keeps.memory.flash,
            source=source,
        )
        if experiment.board.store
        else None,
        sensor=sensed,
        kept=keeps.activations,
        kept_samples=keeps.samples,
        mac_bytes=mac_bytes,
        takes_parts=takes_parts,
    )
    return Design(experiment, source, board, boards, lowered, built, net, arena, given, manifest, may_read_bytes, sends_bytes)


def smaller_with_bytes(built: graph.Graph, net: graph.Graph, arena: plan.Plan, *, again: bool) -> tuple[graph.Graph, plan.Plan]:
    """The graph whose first layer reads bytes, and its plan, where it has one with a smaller arena; else those given.

    Args:
        built: The graph as ``graph.build`` made it.
        net: The same, as activations are stored.
        arena: The plan of ``net``.
        again: Whether activations may be computed again.
    """
    of_bytes = byte_input.reading_bytes(built)
    if of_bytes is None:
        return net, arena
    of_bytes = stored_activations.stored(of_bytes, stored_activations.chosen(of_bytes, again=again))
    less = plan.plan(of_bytes)
    return (of_bytes, less) if less.floats < arena.floats else (net, arena)


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


def _sends_bytes(experiment: Experiment, net: graph.Graph, window: int, mac_bytes: int) -> bool:
    """Whether all inputs of the board are bytes from the host that come in parts."""
    task = experiment.task
    return (
        task.bytes_per_input == 1
        and not experiment.augment.computes
        and sample_source.name(experiment) == "streamed"
        and experiment.board.sensor is None
        and not sample_parts.is_whole(net.input.size, window, mac_bytes)
    )


def _receive_window(
    experiment: Experiment, board: Board, net: graph.Graph, sensed: sensor.SensorFacts | None, mac_bytes: int
) -> tuple[int, bool]:
    """Bytes of the receive window, that of the board's file or what one message needs; whether samples come in parts."""
    size = experiment.task.bytes_per_input * net.input.size
    samples = [protocol.Predict.fixed_size() + size]
    if sample_source.name(experiment) == "streamed":
        samples.append(protocol.Sample.fixed_size() + 4 * net.target.size + size)
    answers = [protocol.Outputs.fixed_size() + 4 * net.output.size]
    if sensed is not None:
        answers += [Rows.fixed_size() + sensed.row_bytes, Columns.fixed_size() + len(sensed.header.encode())]
    if sample_parts.takes_parts(samples, board.receive_window, mac_bytes):
        answers.append(sample_parts.answer_with(net.output.size))
        return sample_parts.window_of(answers, board.receive_window, mac_bytes), True
    return sample_parts.window_of([*samples, *answers], board.receive_window, mac_bytes), False
