"""All measurements of the project's own nets in one document: tables that say what is exact and what is not, and a picture."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tinymetafed_codegen import boards, spec
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

from .. import __version__
from ..federation.observer import Observer
from . import in_qemu, kernel_cost, simulation_cost, wire
from .kernel_cost import TEXTBOOK

EXAMPLES = ("sine", "bench-conv", "omniglot")
LEVELS = ("-O2", "-O3")  # beside the board's own
SIMULATED = ("sine", "bench-conv")
STEP = "full"  # the variant that trains every weight
DOCUMENT, PICTURE = "costs.md", "costs.svg"
_TEMPLATES = Path(__file__).parent / "templates"

MEASURES = {  # of the picture, by their keys in what `bench kernels` gives
    "instructions_per_step": "instructions",
    "cycles_low": "cycles, low estimate",
    "flash_bytes": "flash, bytes",
    "ram_bytes": "static RAM, bytes",
    "stack_bytes": "deepest stack, bytes",
}
# Units of the picture.
LABELS, CELL, BAR, TOP, ROW, THICK = 130, 184, 104, 46, 56, 16


@dataclass(frozen=True)
class Bar:
    """One bar of the picture with its figure; the longer one of a net's two has the whole length."""

    x: int
    y: int
    width: float
    kind: str  # "generated" or "textbook"
    figure: str


def nets() -> dict[str, Experiment]:
    """The nets that are measured, by name. Raises SpecError."""
    return {**{name: spec.load(find(f"examples/{name}.toml")) for name in EXAMPLES}, "presence": wire.presence()}


def compiler(board: str) -> str:
    """The compiler of a board's firmware, on whose version every count depends."""
    command = [f"{boards.load(board).toolchain_prefix}g++", "-dumpfullversion"]
    return f"{command[0]} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"


def measure(board: str, observer: Observer) -> dict[str, Any]:
    """Every net's training step on a board at its own flags, -O2 and -O3, the simulation of two nets, and the wire.

    ``kernels``: by net, by level, what ``bench kernels`` gives. Raises BoardError, BenchError, BuildError, SpecError,
    LinkError.
    """
    own = in_qemu(board).optimization or ""
    chosen = nets()
    return {
        "board": board,
        "own": own,
        "kernels": {
            name: {
                level: kernel_cost.kernels(experiment, name, board, observer, None if level == own else level)
                for level in dict.fromkeys((own, *LEVELS))
            }
            for name, experiment in chosen.items()
        },
        "simulation": {name: simulation_cost.simulation(chosen[name], name, None, 1, observer) for name in SIMULATED},
        "wire": wire.wire(None, "", observer),
        "compiler": compiler(board),
    }


def write(figures: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Writes the document and its picture into ``folder`` and returns where they are. Raises OSError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    facts = {
        **figures,
        "version": __version__,
        "rows": [row for name, levels in figures["kernels"].items() for row in _rows(name, levels, figures["own"])],
        "estimate": next(iter(figures["kernels"].values()))[figures["own"]]["estimate"],
        "picture": PICTURE,
    }
    default = {name: levels[figures["own"]] for name, levels in figures["kernels"].items()}
    drawn = {
        "bars": bars(default),
        "names": [(name, TOP + i * ROW + THICK) for i, name in enumerate(default)],
        "measures": [(title, LABELS + i * CELL) for i, title in enumerate(MEASURES.values())],
        "width": LABELS + len(MEASURES) * CELL,
        "height": TOP + len(default) * ROW,
        "thick": THICK,
        "own": figures["own"],
        "board": figures["board"],
    }
    made = folder / DOCUMENT, folder / PICTURE
    for path, values in zip(made, (facts, drawn), strict=True):
        write_if_changed(path, environment.get_template(f"{path.name}.j2").render(values))
    return made


def bars(default: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Two bars for every net and measure, generated kernels above textbook ones."""
    found = []
    for i, figures in enumerate(default.values()):
        for j, key in enumerate(MEASURES):
            both = {kind: _figure(source, key) for kind, source in (("generated", figures), (TEXTBOOK, figures[TEXTBOOK]))}
            for k, (kind, value) in enumerate(both.items()):
                width = round(BAR * value / max(both.values()), 1)
                found.append(Bar(LABELS + j * CELL, TOP + i * ROW + k * (THICK + 4), width, kind, f"{value:,}"))
    return found


def _figure(figures: Mapping[str, Any], key: str) -> int:
    """One measure of the training step; 0 for cycles that could not be estimated."""
    value = figures.get(key, 0)
    return int(value[STEP] if isinstance(value, Mapping) else value)


def _rows(name: str, levels: Mapping[str, Mapping[str, Any]], own: str) -> list[dict[str, Any]]:
    """A net's rows of the tables: the board's own flags, -O2 and the level with the fewest instructions."""
    best = min(levels, key=lambda level: _figure(levels[level], "instructions_per_step"))
    return [
        {
            "net": name,
            "level": level + (", the board's own" if level == own else "") + (", the best" if level == best else ""),
            "ours": {key: _figure(levels[level], key) for key in (*MEASURES, "cycles_high")},
            "theirs": {key: _figure(levels[level][TEXTBOOK], key) for key in (*MEASURES, "cycles_high")},
        }
        for level in dict.fromkeys((own, "-O2", best))
    ]
