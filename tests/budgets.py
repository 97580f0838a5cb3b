"""The budget of the kernels: cost of each example's training step on mps2, measured and stored in budgets.toml.

`python tests/budgets.py` measures again and replaces that file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from small_runs import Quiet

from tinymetafed.bench import keeping_nothing, kernel_cost, layer_grid
from tinymetafed.bench.costs import compiler
from tinymetafed.bench.layer_grid import Row
from tinymetafed.bench.targets import RATIO
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find

BOARD = "mps2"
MODELS = ("sine", "omniglot", "bench-conv")
FILE = Path(__file__).with_name("budgets.toml")
UPDATE = ".venv/bin/python tests/budgets.py"
TOLERANCE = 0.02
_HEAD = f"# What training takes on {BOARD}, by example, to within 2 %. Written by `{UPDATE}`; do not edit.\n\n"


def written() -> dict[str, Any]:
    """The figures in budgets.toml."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def measured(model: str) -> dict[str, int]:
    """Instructions per step of each variant, bytes of flash of the firmware, bytes of RAM of weights and arena."""
    path = find(f"examples/{model}.toml")
    experiment = keeping_nothing(spec.load(path, ()))
    built = build_firmware(design_of(experiment, str(path)), BOARD)
    cost = kernel_cost.measure(experiment, boards.load(BOARD), built, Quiet())
    manifest = built.manifest
    return {
        **{f"{variant}_instructions": count for variant, count in cost.instructions.items()},
        "flash_bytes": built.flash_bytes,
        "weights_and_arena_bytes": 4 * (manifest.n_parameters + manifest.arena.floats),
    }


def worst_layers(rows: Sequence[Row]) -> dict[str, float]:
    """Instructions per multiplication of the passes of layers that take more than 1.25 of the limit, or that have no limit."""
    return {
        f"{row.title}: {name}": round(cell.instructions, 2)
        for row in rows
        for name, cell in row.passes.items()
        if cell.ratio is None or cell.ratio > RATIO
    }


def slower_layers(allowed: dict[str, float], rows: Sequence[Row]) -> list[str]:
    """One line per pass that has changed by more than the tolerance; others may take up to 1.25 of the limit."""
    found = {f"{row.title}: {name}": cell for row in rows for name, cell in row.passes.items()}
    lines = [f"{name} {found[name].instructions:.2f}: no budget" for name in worst_layers(rows) if name not in allowed]
    lines += [f"{name}: not in the grid" for name in sorted(allowed.keys() - found.keys())]
    for name in sorted(allowed.keys() & found.keys()):
        old, new = allowed[name], found[name].instructions
        if abs(new - old) > TOLERANCE * old:
            lines.append(f"{name} {old:.2f} -> {new:.2f} ({new / old - 1:+.1%})")
    return lines


def beyond(model: str, allowed: dict[str, int], found: dict[str, int]) -> list[str]:
    """One line per figure that has changed by more than the tolerance, up or down."""
    lines = []
    for name in sorted({*allowed, *found}):
        old, new = allowed.get(name, 0), found.get(name, 0)
        if abs(new - old) > TOLERANCE * old:
            change = f"{new / old - 1:+.1%}" if old else "new"
            lines.append(f"{model}: {name.replace('_', ' ')} {old:,} -> {new:,} ({change})")
    return lines


if __name__ == "__main__":
    figures = {
        "compiler": compiler(BOARD),
        **{model: measured(model) for model in MODELS},
        "layers": worst_layers(layer_grid.measure(BOARD, Quiet()).rows),
    }
    FILE.write_text(_HEAD + tomli_w.dumps(figures), encoding="utf-8")
