"""Computes RAM and flash of a model on a board before anything is compiled, and refuses a model that does not fit."""

from __future__ import annotations

import math

from .board.board_facts import STACK_BYTES, Board
from .calls import Call
from .graph import Graph
from .manifest import STACK, Memory, RamUse
from .messages.level_format import wire_dtype
from .ops import Int8Op, Op
from .options import augmentation, log_mel_facts, private_update, sample_parts, secure_sum
from .plan import Plan
from .protocol import Dtype, Variant
from .spec import Experiment, SpecError

# What a build takes without its model: fitted to builds for mps2 at -Os, rounded up. `bench memory` measures one build.
CORE_FLASH_BYTES = 8_640
CORE_RAM_BYTES = 396  # includes the bytes read from the line and the padding before the aligned arena
SELECTION_RAM_BYTES = 12  # per global layer: its end, its threshold and its number of ties
FEEDBACK_FLASH_BYTES = 600  # code of error feedback
STORE_FLASH_BYTES = 2_800  # code of a store, with the storage functions of the emulated board
STORE_STATE_FLASH_BYTES = 820  # in addition, where it keeps the state between rounds
STORE_RAM_BYTES = 56
AUTHENTICATION_FLASH_BYTES = 3_100  # code of authentication, with a key in the store
AUTHENTICATION_RAM_BYTES = 160
MEASURES_FLASH_BYTES = 400  # code of board.measures
SENSOR_FLASH_BYTES = 4_000  # code of a sensor's pipeline and of what a program of one's own calls
SECURE_FLASH_BYTES = 3_700  # code of secure aggregation: X25519, BLAKE2s, ChaCha20, and its messages
DIFFERENCE_FLASH_BYTES = 2_200  # code of a download by difference
DIFFERENCE_RAM_BYTES = 60  # the fingerprint of the version held, and the state of a difference that arrives
SOUND_FLASH_BYTES = 1_000  # code of the front end for sounds, beyond that for windows; its tables are counted in addition
PRIVACY_FLASH_BYTES = 2_000  # code of private updates; the table of their noise is counted in addition
PRIVACY_RAM_BYTES = 80
CODED_FLASH_BYTES = 1_700  # code of updates with coded values
CODED_RAM_BYTES = 40
LEVEL_UPDATE_FLASH_BYTES = 2_200  # code of updates that travel as levels
LEVEL_RAM_BYTES = 32
LEVEL_LOAD_FLASH_BYTES = 1_300  # code of weights that arrive as levels
UNMEASURED_FLASH_BYTES = 1_000  # assumed for a kernel whose op has no flash_bytes
_WIDEST_TILE = 8  # most outputs that a kernel accumulates side by side; Op.flash_bytes is measured at this width
_RUN = 4  # numbers that the Cortex-M4F's kernels load at once


class BudgetError(SpecError):
    """The model does not fit the board; the text lists what takes how many bytes."""


def memory(
    experiment: Experiment,
    board: Board,
    net: Graph,
    arena: Plan,
    window: int,
    source: str,
    *,
    frozen_bytes: int,
    sensor: int = 0,
    takes_parts: bool = False,
) -> Memory:
    """Computes the RAM and flash that the model needs.

    Args:
        experiment: The complete experiment.
        board: The board's facts.
        net: The model's graph, as it is made C++.
        arena: The plan of its arena.
        window: Bytes of the receive window.
        source: The experiment's name in errors, for instance its file.
        frozen_bytes: Bytes of flash of all frozen layers.
        sensor: Bytes of RAM for rows and samples of a sensor; 0 without one.
        takes_parts: Whether samples come in parts.

    Raises:
        BudgetError: The board has less RAM or flash than the model needs.
    """
    ram = _ram(experiment, net, arena, window, sensor, takes_parts)
    rest = _other_flash(experiment, net) + sample_parts.FLASH_BYTES * takes_parts
    floats, integers = _kernel_flash(net)
    factors = board.code_size
    code = factors.kernels * floats + factors.int8_kernels * integers + factors.rest * rest
    flash = math.ceil(code) + frozen_bytes + _table_flash(experiment, net)
    found = Memory(ram, STACK_BYTES, board.ram_bytes, flash, board.flash_bytes)
    for what, used, available in (
        ("RAM", found.ram_total, found.ram_available),
        ("flash", found.flash, found.flash_available),
    ):
        if used > available:
            raise BudgetError(_too_large(source, board, what, used, available, ram, net))
    return found


def ram_total(
    experiment: Experiment, net: Graph, arena: Plan, window: int, sensor: int = 0, *, takes_parts: bool = False
) -> int:
    """The bytes of RAM that the model needs, with the stack and without kept activations. Arguments are those of ``memory``."""
    return sum(use.size for use in _ram(experiment, net, arena, window, sensor, takes_parts))


def _ram(experiment: Experiment, net: Graph, arena: Plan, window: int, sensor: int, takes_parts: bool) -> tuple[RamUse, ...]:
    downlink = wire_dtype(experiment.strategy.downlink)
    scales = 4 * sum(not p.op.local for p in net.parameters) if downlink == Dtype.I8 else 0
    behind = 4 * (net.n_state - net.n_parameters)
    feedback = 4 * net.n_global if experiment.strategy.error_feedback else 0
    secure = secure_sum.facts(experiment, net.n_global)
    average, width = augmentation.average_facts(experiment), 1 if net.input.is_bytes else 4
    kept = 4 * net.n_local + 8 if keeps_local(experiment, net) else 0
    uses = (
        RamUse("weights", 4 * net.n_parameters),
        RamUse(_behind_weights(net), behind),
        RamUse("received weights (for the delta)", downlink.width * net.n_global + scales),
        RamUse("changes not sent yet (error feedback)", feedback),
        RamUse("local weights of the last round (kept)", kept),
        RamUse("arena", 4 * arena.floats),
        RamUse("serial receive buffer", window),
        RamUse("request and answer buffers", 2 * window),
        RamUse("store", STORE_RAM_BYTES if experiment.board.store else 0),
        RamUse("samples in parts", sample_parts.RAM_BYTES * takes_parts),
        RamUse("sensor", sensor),
        RamUse("authentication", AUTHENTICATION_RAM_BYTES if experiment.run.is_authenticated else 0),
        RamUse("private updates", PRIVACY_RAM_BYTES if experiment.privacy.is_private else 0),
        RamUse("coded updates", CODED_RAM_BYTES if experiment.strategy.codes_values else 0),
        RamUse("levels", LEVEL_RAM_BYTES if _has_levels(experiment) else 0),
        RamUse("keys of participants (secure aggregation)", 0 if secure is None else secure.ram_bytes),
        RamUse("version held (download by difference)", DIFFERENCE_RAM_BYTES if experiment.strategy.takes_differences else 0),
        RamUse("averaged predictions", 0 if average is None else average.ram_bytes(net.output.size, bytes_per_input=width)),
        RamUse("core", CORE_RAM_BYTES + SELECTION_RAM_BYTES * len(net.layer_ends)),
        RamUse(STACK, STACK_BYTES),
    )
    return tuple(use for use in uses if use.size)


def _has_levels(experiment: Experiment) -> bool:
    return experiment.strategy.uplink_levels is not None or experiment.strategy.downlink_levels is not None


def _behind_weights(net: Graph) -> str:
    return " or ".join(["velocities (momentum)"] * bool(net.sgd.momentum) + ["gradients (fedsgd)"] * net.sums_gradients)


def keeps_local(experiment: Experiment, net: Graph) -> bool:
    """Whether local weights continue from the client's last round: model.local_start = "kept"."""
    return experiment.model.local_start == "kept" and net.n_local > 0


def _other_flash(experiment: Experiment, net: Graph) -> int:
    """Bytes of all code but the kernels'."""
    keeps_state = keeps_local(experiment, net) or experiment.strategy.error_feedback
    has_sensor = experiment.board.sensor is not None
    parts = [
        augmentation.flash_bytes(experiment),
        FEEDBACK_FLASH_BYTES * experiment.strategy.error_feedback,
        (STORE_FLASH_BYTES + STORE_STATE_FLASH_BYTES * keeps_state) * experiment.board.store,
        SENSOR_FLASH_BYTES * has_sensor,
        SOUND_FLASH_BYTES * (has_sensor and log_mel_facts.of_experiment(experiment, "") is not None),
        PRIVACY_FLASH_BYTES * (private_update.facts(experiment, net.n_global) is not None),
        AUTHENTICATION_FLASH_BYTES * experiment.run.is_authenticated,
        SECURE_FLASH_BYTES * experiment.privacy.secure_aggregation,
        MEASURES_FLASH_BYTES * experiment.board.measures,
        CODED_FLASH_BYTES * experiment.strategy.codes_values,
        LEVEL_UPDATE_FLASH_BYTES * (experiment.strategy.uplink_levels is not None),
        LEVEL_LOAD_FLASH_BYTES * (experiment.strategy.downlink_levels is not None),
        DIFFERENCE_FLASH_BYTES * experiment.strategy.takes_differences,
    ]
    return CORE_FLASH_BYTES + sum(parts)


def _table_flash(experiment: Experiment, net: Graph) -> int:
    """Bytes of tables besides a model's weights, the same on every board."""
    heard = log_mel_facts.of_experiment(experiment, "") if experiment.board.sensor is not None else None
    private = private_update.facts(experiment, net.n_global)
    return (0 if heard is None else heard.flash) + (0 if private is None else private.table_bytes)


def _kernel_flash(net: Graph) -> tuple[int, int]:
    """Bytes of all kernels in float32, and of those in int8; calls that differ only in their tensors share one."""
    kernels: dict[tuple[str, int, int, *tuple[bool, ...]], Op] = {}
    backward = [(call, variant is Variant.GRADIENT) for variant, calls in net.backward.items() for call in calls]
    passes = dict.fromkeys(call for variant in (None, *net.backward) for call in net.forward_of(variant))
    for call, sums in [*((call, False) for call in passes), *backward]:
        op = call.op
        inputs, outputs = (shape[-1] if op.tiled else 0 for shape in (op.input_shape, op.output_shape))
        if isinstance(call, Call):
            kernels[(op.cpp_type(), 0, outputs, call.saved_mask is not None)] = op
            if op.observes:
                kernels[(op.cpp_type(), 1, outputs)] = op
            continue
        fused = op.fuses_backward  # one loop does both, so other variants share neither
        variant = (call.update, call.dx is not None, call.masks_input) if fused else ()
        if call.dx is not None:
            kernels[(op.cpp_type(), 1, inputs, call.masks_input, *variant)] = op
        if call.update:
            kernels[(op.cpp_type(), 2, inputs if fused else outputs, sums, *variant)] = op
    sizes = [(isinstance(op, Int8Op), _unrolled(op, size, _measured(op, part))) for (_, part, size, *_), op in kernels.items()]
    return sum(size for is_int8, size in sizes if not is_int8), sum(size for is_int8, size in sizes if is_int8)


def _measured(op: Op, part: int) -> int:
    measured = op.code_bytes()
    return measured[part] if part < len(measured) else UNMEASURED_FLASH_BYTES


def _unrolled(op: Op, size: int, flash: int) -> int:
    """Flash of a kernel with ``size`` outputs: half of a tiled kernel grows with the sums of the full and the last tile."""
    if not op.tiled:
        return flash
    sums = size if size <= _WIDEST_TILE else _WIDEST_TILE + size % _WIDEST_TILE
    grown = flash * (_WIDEST_TILE + sums) // (2 * _WIDEST_TILE)
    return grown if size % _RUN else round(op.flash_of_whole_runs * grown)


def _too_large(source: str, board: Board, what: str, used: int, available: int, ram: tuple[RamUse, ...], net: Graph) -> str:
    lines = [f"{source}: the model needs about {used:,} bytes of {what}, {board.title} ({board.name}) has {available:,}"]
    lines += [f"  {use.size:>12,}  {use.purpose}" for use in sorted(ram, key=lambda use: -use.size)]
    lines += ["  largest parameters:"]
    largest = sorted(net.parameters, key=lambda p: -p.parameter.size)[:3]
    lines += [f"  {4 * p.parameter.size:>12,}  {p.name} {list(p.parameter.shape)}" for p in largest]
    lines += ["make the largest layers smaller, or choose a larger board"]
    return "\n".join(lines)
