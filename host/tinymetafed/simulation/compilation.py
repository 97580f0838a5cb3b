"""Compiles an experiment's kernels for this machine into a shared library, which is cached."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen import emit
from tinymetafed_codegen.abi import simulation_abi_cpp
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.files import locked, write_if_changed
from tinymetafed_codegen.host_library import SHARED, run_compiler, shared_library
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.options.sample_source import own_source
from tinymetafed_codegen.toolchain import build_root, compiler_flags, require_tools

from .vector_units import VectorUnit

BOARD = "native"  # the board whose receive window determines the counted bytes
_COMMAND = "tinymetafed simulate"  # named as their origin in the generated files


def compile_kernels(design: Design, unit: VectorUnit, kernels: str | None = None) -> Path:
    """Compiles a design's kernels into a shared library, unless there is one of the same sources and flags.

    Args:
        design: The experiment's model on BOARD.
        unit: The vector unit to compile for.
        kernels: A folder of firmware/bench whose kernels replace the core's; None for the core's.

    Returns:
        The library's path.

    Raises:
        BuildError: The compiler is missing or failed.
        SpecError: The experiment's files cannot be used.
    """
    require_tools(boards.load(BOARD))
    tree = root() / "firmware"
    task_source = tree / "app" / f"source_{design.manifest.sample_source}.cpp"
    folder = build_root() / design.manifest.model_hash / "simulation"
    generated = folder / "generated"
    # A single client fills the lanes with independent sums; without lanes, the core's kernels are as fast.
    single = [tree / "sim" / "single"] if unit.lanes > 1 else []
    replaced = [tree / "bench" / kernels] if kernels else single
    include = [f"-I{path}" for path in [generated, *replaced, tree / "core"]]
    command = ["g++", *compiler_flags(), *include, "-O2", *unit.flags, f"-DTMF_LANES={unit.lanes}"]
    # GCC warns of the ABI of vector arguments, which does not matter: no vector is passed between libraries.
    # -fno-tree-slp-vectorize: what gains from vectors is written in them. The compiler would join two of them into a wider one,
    # and a load of what was stored in parts waits until it is in the cache.
    # -g0: debugging information takes a sixth of the compiler's time.
    command += ["-Wno-psabi", "-fno-tree-slp-vectorize", "-g0", *SHARED, "-pthread"]
    core = [tree / "core" / f"{name}.cpp" for name in ("delta_codec", "half", "prng")]
    entropy = [tree / "port" / BOARD / "entropy.cpp"] if design.experiment.privacy.is_private else []
    command += [str(path) for path in [tree / "sim" / "simulate.cpp", *core, *entropy, task_source]]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        emit.write(design.reading_floats(), generated, _COMMAND)
        write_if_changed(generated / "simulation_abi.hpp", simulation_abi_cpp.simulation_abi_header(_COMMAND))
        files = [file for part in (tree / "core", tree / "sim", *replaced) for file in sorted(part.rglob("*.[hc]pp"))]
        files += [
            *sorted(generated.glob("*.hpp")),
            *entropy,
            task_source,
            *_included_by(own_source(design.experiment), include),
        ]
        return shared_library(folder / unit.name, command, files, f"the simulation of {design.source}")


def _included_by(own: Path | None, include: Sequence[str]) -> list[Path]:
    """A user's sample source and all files that it includes; none without one."""
    if own is None:
        return []
    rule = run_compiler(["g++", *compiler_flags(), *include, "-M", str(own)], str(own))
    return [Path(name) for name in shlex.split(rule.partition(":")[2].replace("\\\n", " "))]
