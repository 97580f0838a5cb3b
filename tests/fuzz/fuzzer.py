"""Builds and runs the fuzz harness: core, one model and a line in memory, under address and undefined-behaviour sanitizers."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymetafed_codegen import emit, graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.options import optional_headers
from tinymetafed_codegen.toolchain import compiler_flags

HARNESS = Path(__file__).with_name("fuzz.cpp")
CORPUS = Path(__file__).with_name("corpus")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
# Samples come from the host, one per message. The model is small, so that most of the time goes into messages.
STREAMED: dict[str, Any] = {
    # It keeps sets of up to 3 samples, so that some are kept and some are not.
    "task": {"kind": "omniglot", "ways": 3, "support": 1, "query": 1, "adapt": 1},
    # It has a scale per tensor and keeps state between rounds, in fuzz.cpp also in a store; the sine model uses float16 and
    # keeps none.
    "strategy": {"downlink": "i8", "error_feedback": True},
    "model": {
        "input": [5, 4, 1],
        "local_start": "kept",
        "loss": "softmax_cross_entropy",
        "layers": [
            {"op": "conv2d", "filters": 5, "kernel": 3, "stride": 2, "activation": "relu"},
            {"op": "flatten"},
            {"op": "dense", "units": 9, "activation": "relu"},
            {"op": "dense", "units": 3, "local": True},
        ],
    },
}
# A sample in float32 takes several messages, one in bytes a single one or parts.
PARTS: dict[str, Any] = {
    "task": {"kind": "folder", "path": "fuzz", "dtype": "float32"},
    "data": {"normalise": "none"},
    "strategy": {"downlink": "i8"},
    "model": {
        "input": [15, 12, 1],
        "local_start": "kept",
        "loss": "softmax_cross_entropy",
        "layers": [
            {"op": "conv2d", "filters": 3, "kernel": 3, "stride": 3, "activation": "relu"},
            {"op": "flatten"},
            {"op": "dense", "units": 3, "local": True},
        ],
    },
}
PLAIN = {"sine": 1024, "streamed": 256}  # the smallest window splits all data into many messages
WINDOWS = PLAIN | {"private": 256, "parts": 256}
PRIVATE = ["strategy.selection=random", "run.devices_per_round=20", "privacy.clip=0.25", "privacy.noise=0.5"]


def build(model: str, folder: Path, replaced: Mapping[str, Path] | None = None) -> Path:
    """Builds the stand-alone harness of a model of WINDOWS in ``folder``, which keeps the object files.

    ``replaced`` maps file names of units to other source text. Raises AssertionError with the compiler's messages.
    """
    units = [HARNESS, *generate_sources(model, folder, store=model == "streamed")]
    objects = []
    for unit in units:
        given = (replaced or {}).get(unit.name)
        target = (given.parent if given else folder) / f"{unit.stem}.o"
        if given or not target.exists():
            _run(["g++", "-DSTANDALONE", *_flags(folder), "-c", str(given or unit), "-o", str(target)])
        objects.append(str(target))
    program = (next(iter(replaced.values())).parent if replaced else folder) / "fuzz"
    _run(["g++", *SANITIZERS, *objects, "-o", str(program)])
    return program


def build_libfuzzer(model: str, folder: Path) -> Path:
    """Builds the harness for libFuzzer, clang's coverage-guided fuzzer."""
    units = [str(HARNESS), *map(str, generate_sources(model, folder, store=model == "streamed"))]
    program = folder / "libfuzzer"
    _run(["clang++", "-fsanitize=fuzzer", *_flags(folder), *units, "-o", str(program)])
    return program


def generate_sources(model: str, folder: Path, *, store: bool = False) -> list[Path]:
    """Writes protocol.hpp, board.hpp and model.hpp; returns the source files of the core and the sample source.

    ``store``: the firmware of ``streamed`` has a store, with room for one record more than it begins a slot with.
    """
    streamed = STREAMED | ({"board": {"store": True}} if store else {})
    sine = find("examples/sine.toml")
    own = {"streamed": streamed, "parts": PARTS}.get(model)
    experiment = spec.load(sine, PRIVATE * (model == "private")) if own is None else spec.parse(own, "fuzz")
    native = boards.load("native")
    assert native.storage is not None
    flash = dataclasses.replace(native.storage, page_bytes=1024, write_bytes=4, pages=12)
    board = dataclasses.replace(native, receive_window=WINDOWS[model], storage=flash)
    design = design_graph(experiment, board, graph.build(experiment.model, "fuzz"), "fuzz")
    emit.write(design, folder, "fuzz")
    (folder / "level_facts.hpp").write_text(optional_headers.level_facts_header("fuzz"))
    firmware = find("firmware")
    core = [path for pattern in ["*.cpp", *["store/*.cpp"] * store] for path in sorted((firmware / "core").glob(pattern))]
    return [*core, firmware / "app" / f"source_{design.manifest.sample_source}.cpp"]


def _flags(folder: Path) -> list[str]:
    # -Og: -O1 compiles for twice as long, and the harness runs no faster.
    return [*compiler_flags(), "-Og", "-g1", *SANITIZERS, f"-I{folder}", f"-I{find('firmware') / 'core'}"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(program: Path, *inputs: Path, executions: int = 0, seed: int = 1) -> tuple[str, dict[str, list[int]]]:
    """Runs ``inputs`` and ``executions`` random ones from ``seed``; returns the finding ("": none) and what was reached."""
    numbers = ["--seed", str(seed), "--executions", str(executions), "--finding", str(program.with_name("finding.bin"))]
    done = subprocess.run([program, *numbers, *inputs], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.stderr or f"exit {done.returncode}", {}
    return "", {name: [int(count) for count in counts] for name, *counts in map(str.split, done.stdout.splitlines())}


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=list(WINDOWS))
    parser.add_argument("folder", type=Path, help="where to build")
    parser.add_argument("--libfuzzer", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print((build_libfuzzer if arguments.libfuzzer else build)(arguments.model, arguments.folder))
