"""Measures the project's own networks and writes one document with tables and a picture."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import jinja2

from tinymetafed_codegen import __version__, plan, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import built
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from . import (
    activation_cost,
    adaptation_cost,
    augment_cost,
    command_cost,
    deep_nets,
    downlink_cost,
    in_qemu,
    kernel_cost,
    layer_grid,
    level_cost,
    line_cost,
    run_cost,
    sample_cost,
    seed_cost,
    simulation_cost,
    suite_cost,
    targets,
    uplink_cost,
)
from .activation_cost import ActivationCosts
from .adaptation_cost import AdaptationCost
from .augment_cost import AugmentCost
from .command_cost import CommandCost
from .downlink_cost import DownlinkCost
from .kernel_cost import TEXTBOOK, Comparison, StepCost
from .layer_grid import Grid
from .level_cost import LevelCost
from .line_cost import WireCost
from .run_cost import RunCost
from .sample_cost import SampleCost
from .seed_cost import SeedCost
from .simulation_cost import SimulationCost
from .suite_cost import SuiteCost
from .uplink_cost import UplinkCost

EXAMPLES = ("sine", "bench-conv", "omniglot")
LEVELS = ("-O2", "-O3")  # in addition to the board's own
SIMULATED = ("sine", "bench-conv", "bench-separable")
SEEDED = "omniglot"  # the network whose runs of several seeds fill lanes
DEPTH = 20  # layers of the networks whose arenas are planned beside those of the examples
MANY = {"sine": 100_000}  # clients of a round that is simulated, too
UPLINKS = {"sine": False, "omniglot": True}  # networks whose updates are measured; whether they need data in files
DOWNLOADED = "sine"  # the network whose run is simulated for its downloads: its data are in no file
# Networks whose samples change, the shapes of their inputs, and keys of [augment] and [predict].
CHANGED = (
    ("omniglot", "28x28", ("augment.shift=2",)),
    ("digits", "32x20", ("augment.time_shift=2", "augment.frequency_mask=4", "augment.time_mask=3")),
    ("activity", "50x6", ("augment.rotation=15", "augment.scale=0.1", "augment.jitter=0.3")),
    ("omniglot", "28x28", ("predict.average=5",)),
)
KEEPING = ("bench-conv", "omniglot")  # networks of whose samples a board keeps activations
CACHED = ("nano33ble",)  # boards whose instruction cache is off at reset; the port switches it on
STORING_LESS = ("bench-separable",)  # networks of activations that can be packed or computed again
STEP = "full"  # the variant that trains every weight
DOCUMENT, PICTURE = "costs.md", "costs.svg"
_TEMPLATES = Path(__file__).parent / "templates"

# Units of the picture.
LABELS, CELL, BAR, TOP, ROW, THICK = 130, 184, 104, 46, 56, 16


@dataclass(frozen=True)
class Costs:
    """All measurements on one board. ``own``: the board's own optimization. ``kernels``: by network, then optimization."""

    board: str
    own: str
    kernels: dict[str, dict[str, Comparison]]
    grid: Grid
    simulation: dict[str, SimulationCost]
    wire: WireCost
    compiler: str
    adaptation: dict[str, AdaptationCost]
    augmentation: tuple[tuple[str, AugmentCost], ...]
    uplink: dict[str, UplinkCost]
    levels: dict[str, LevelCost]
    downlink: DownlinkCost
    activations: dict[str, ActivationCosts]
    arenas: dict[str, ArenaBytes]
    samples: tuple[SampleCost, ...]
    commands: CommandCost
    runs: RunCost
    seeds: SeedCost
    tests: SuiteCost | None

    def as_json(self) -> dict[str, Any]:
        """The JSON value that ``bench all --json`` prints."""
        kernels = {net: {level: each.as_json() for level, each in levels.items()} for net, levels in self.kernels.items()}
        return {**asdict(self), "kernels": kernels}


@dataclass(frozen=True)
class FullStep:
    """A training step that trains every weight; cycles are 0 where they could not be estimated."""

    instructions_per_step: int
    cycles_low: int
    cycles_high: int
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int

    @classmethod
    def of(cls, cost: StepCost) -> Self:
        """The variant of ``cost`` that trains every weight."""
        return cls(
            instructions_per_step=cost.instructions_per_step[STEP],
            cycles_low=0 if cost.cycles_low is None else cost.cycles_low[STEP],
            cycles_high=0 if cost.cycles_high is None else cost.cycles_high[STEP],
            flash_bytes=cost.flash_bytes,
            ram_bytes=cost.ram_bytes,
            stack_bytes=cost.stack_bytes,
        )


# The columns of the picture.
MEASURES: dict[str, Callable[[FullStep], int]] = {
    "instructions": lambda step: step.instructions_per_step,
    "cycles, low estimate": lambda step: step.cycles_low,
    "flash, bytes": lambda step: step.flash_bytes,
    "static RAM, bytes": lambda step: step.ram_bytes,
    "deepest stack, bytes": lambda step: step.stack_bytes,
}


@dataclass(frozen=True)
class LevelRow:
    """A network at one optimization in the document's tables, with generated (``ours``) and textbook kernels (``theirs``)."""

    net: str
    level: str
    ours: FullStep
    theirs: FullStep


@dataclass(frozen=True)
class Bar:
    """One bar of the picture with its figure; the longer bar of a pair has the full length."""

    x: int
    y: int
    width: float
    kind: str  # "generated" or "textbook"
    figure: str


def nets() -> dict[str, Experiment]:
    """The measured networks by name. Raises SpecError."""
    return {**{name: _example(name) for name in EXAMPLES}, "presence": line_cost.presence()}


def _example(name: str) -> Experiment:
    return spec.load(find(f"examples/{name}.toml"))


def augmentation(board: str, observer: Observer) -> tuple[tuple[str, AugmentCost], ...]:
    """What changed samples cost, each with the name of its network and the shape of its input. Raises as ``measure``."""
    return tuple(
        (f"{name}, {shape}", augment_cost.measure(spec.load(find(f"examples/{name}.toml"), keys), name, board, observer))
        for name, shape, keys in CHANGED
    )


@dataclass(frozen=True)
class ArenaBytes:
    """Bytes of an arena placed first-fit and as it is, and the most that is in use at one step, below which none can be."""

    first_fit: int
    arena: int
    in_use: int


def arenas() -> dict[str, ArenaBytes]:
    """The arenas of all examples, and of deep networks, by name. Raises SpecError."""
    nets = {file.stem: built(spec.load(file), file.name) for file in sorted(find("examples").glob("*.toml"))}
    nets |= {f"{kind}, {DEPTH} layers": make(DEPTH) for kind, make in deep_nets.KINDS.items()}
    return {name: _arena(net) for name, net in nets.items()}


def _arena(net: Graph) -> ArenaBytes:
    made = plan.plan(net)
    return ArenaBytes(4 * plan.first_fit_floats(net), 4 * made.floats, 4 * made.live_floats)


def compiler(board: str) -> str:
    """Name and version of the compiler of a board's firmware, on which all counts depend."""
    command = [f"{boards.load(board).toolchain_prefix}g++", "-dumpfullversion"]
    return f"{command[0]} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"


def measure(board: str, observer: Observer, data: Path | None = None) -> Costs:
    """Measures networks at several optimizations, single layers, simulations, the line, updates, whole runs.

    Args:
        board: An emulated board.
        observer: Is told of progress.
        data: Folder of Omniglot's archives; None to leave out what needs them.

    Returns:
        The figures.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    own = in_qemu(board).optimization or ""
    chosen = nets()
    return Costs(
        board=board,
        own=own,
        kernels={
            name: {
                level: kernel_cost.kernels(experiment, name, board, observer, None if level == own else level)
                for level in dict.fromkeys((own, *LEVELS))
            }
            for name, experiment in chosen.items()
        },
        grid=layer_grid.measure(board, observer),
        simulation={
            name: simulation_cost.simulation(_example(name), name, None, 1, observer, MANY.get(name)) for name in SIMULATED
        },
        wire=line_cost.wire(None, "", observer),
        compiler=compiler(board),
        downlink=downlink_cost.downlink_cost(chosen[DOWNLOADED], DOWNLOADED, None, observer),
        adaptation={name: adaptation_cost.adaptation(chosen[name], name, board, observer) for name in KEEPING},
        uplink={
            name: uplink_cost.measure(chosen[name], name, board, data if needs_data else None, observer)
            for name, needs_data in UPLINKS.items()
            if data is not None or not needs_data
        },
        levels={
            name: level_cost.measure(chosen[name], name, board, data if needs_data else None, observer)
            for name, needs_data in UPLINKS.items()
            if data is not None or not needs_data
        },
        augmentation=augmentation(board, observer),
        activations={name: activation_cost.activations(_example(name), name, board, observer) for name in STORING_LESS},
        arenas=arenas(),
        samples=sample_cost.measure(board, observer),
        commands=command_cost.measure(observer),
        runs=run_cost.measure(observer),
        seeds=seed_cost.measure(chosen[SEEDED], SEEDED, observer),
        tests=suite_cost.last(),
    )


def all_targets(costs: Costs) -> list[targets.Target]:
    """The rows of all areas."""
    arenas = {name: each.arena / each.in_use for name, each in costs.arenas.items()}
    steps = {net: levels[costs.own].generated.instructions_per_step for net, levels in costs.kernels.items()}
    return [
        *targets.of_kernels(costs.grid.rows, layer_grid.code_bytes()),
        *targets.of_adaptation(costs.adaptation, steps),
        *targets.of_flash(_flash_slowdown()),
        *targets.of_memory(costs.samples, arenas),
        *targets.of_activations(costs.activations),
        *targets.of_wire(costs.uplink, costs.downlink),
        *targets.of_host(costs.commands, costs.runs, costs.tests),
        *targets.of_simulation(costs.simulation),
        *targets.of_simulated_runs(costs.runs, costs.seeds),
    ]


def _flash_slowdown() -> dict[str, tuple[float, float]]:
    """By board with an instruction cache of its own, which the firmware switches on."""
    known = {name: boards.load(name).estimates for name in CACHED}
    return {name: each.flash_slowdown for name, each in known.items() if each is not None}


def write(costs: Costs, folder: Path) -> tuple[Path, Path]:
    """Writes the document and its picture into ``folder`` and returns their paths. Raises OSError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    default = {name: levels[costs.own] for name, levels in costs.kernels.items()}
    facts = {
        **vars(costs),
        "version": __version__,
        "rows": [row for name, levels in costs.kernels.items() for row in _rows(name, levels, costs.own)],
        "estimate": next(iter(default.values())).estimate,
        "picture": PICTURE,
        "step": STEP,
        "cells": [_cells(row) for row in costs.grid.rows],
        "targets": all_targets(costs),
    }
    drawn = {
        "bars": bars(default),
        "names": [(name, TOP + i * ROW + THICK) for i, name in enumerate(default)],
        "measures": [(title, LABELS + i * CELL) for i, title in enumerate(MEASURES)],
        "width": LABELS + len(MEASURES) * CELL,
        "height": TOP + len(default) * ROW,
        "thick": THICK,
        "own": costs.own,
        "board": costs.board,
    }
    made = folder / DOCUMENT, folder / PICTURE
    for path, values in zip(made, (facts, drawn), strict=True):
        write_if_changed(path, environment.get_template(f"{path.name}.j2").render(values))
    return made


# Up to which multiple of the limit a cell has which colour.
_HEAT = ((1.25, "🟩"), (1.5, "🟨"), (2.0, "🟧"), (float("inf"), "🟥"))


def _cells(row: layer_grid.Row) -> list[str]:
    """The cells of a layer in the document's table: title, then instructions, limit, cycles and textbook of each pass."""
    found = [row.title]
    for name in layer_grid.PASSES:
        cell = row.passes.get(name)
        if cell is None:
            found += ["", "", "", ""]
            continue
        heat = "" if cell.ratio is None else next(colour for most, colour in _HEAT if cell.ratio <= most) + " "
        limit = "" if cell.limit is None else f"{cell.limit:.2f}"
        low, high = cell.cycles
        found += [f"{heat}{cell.instructions:.2f}", limit, f"{low:.1f}–{high:.1f}", f"{cell.textbook:.1f}"]
    return found


def bars(default: Mapping[str, Comparison]) -> list[Bar]:
    """Two bars for every network and measure, the one for generated kernels above that for textbook kernels."""
    found = []
    for i, compared in enumerate(default.values()):
        ours, theirs = _both(compared)
        for j, figure in enumerate(MEASURES.values()):
            both = {"generated": figure(ours), TEXTBOOK: figure(theirs)}
            for k, (kind, value) in enumerate(both.items()):
                width = round(BAR * value / max(both.values()), 1)
                found.append(Bar(LABELS + j * CELL, TOP + i * ROW + k * (THICK + 4), width, kind, f"{value:,}"))
    return found


def _both(compared: Comparison) -> tuple[FullStep, FullStep]:
    assert compared.textbook is not None  # all ops of these networks have textbook versions
    return FullStep.of(compared.generated), FullStep.of(compared.textbook)


def _rows(name: str, levels: Mapping[str, Comparison], own: str) -> list[LevelRow]:
    """A network's rows in the tables: the board's own optimization, -O2, and the one with the fewest instructions."""
    best = min(levels, key=lambda level: levels[level].generated.instructions_per_step[STEP])
    return [
        LevelRow(
            name,
            level + (", the board's own" if level == own else "") + (", the best" if level == best else ""),
            *_both(levels[level]),
        )
        for level in dict.fromkeys((own, "-O2", best))
    ]
