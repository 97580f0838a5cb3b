"""Generated models compiled for the host, once per model and session."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen import boards, generate, graph, spec
from tinymetafed_codegen.locate import find

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti"]
ARM = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os"]


def relu_dense(units: int, **more: Any) -> dict[str, Any]:
    return {"op": "dense", "units": units, "activation": "relu", **more}


def conv(filters: int, kernel: int, **more: Any) -> dict[str, Any]:
    return {"op": "conv2d", "filters": filters, "kernel": kernel, **more}


def dense(units: int, **more: Any) -> dict[str, Any]:
    return {"op": "dense", "units": units, **more}


# Awkward on purpose: single elements, strides, sizes that no tile divides, kernels larger than the image.
MODELS: dict[str, dict[str, Any]] = {
    "dense 1x1": {"input": [1], "loss": "mse", "layers": [dense(1)]},
    "dense odd": {"input": [7], "loss": "mse", "layers": [relu_dense(13), relu_dense(9), dense(3, local=True)]},
    "dense local first": {
        "input": [3],
        "loss": "softmax_cross_entropy",
        "layers": [relu_dense(11, local=True), relu_dense(8), dense(4)],
    },
    "conv 1x1 image": {
        "input": [1, 1, 1],
        "loss": "mse",
        "layers": [conv(1, 1), {"op": "flatten"}, dense(2, local=True)],
    },
    "conv stride 2 same": {
        "input": [5, 7, 3],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(5, 3, stride=2, activation="relu"),
            conv(9, 3, stride=2, activation="relu"),
            {"op": "flatten"},
            dense(3, local=True),
        ],
    },
    "conv valid": {
        "input": [6, 5, 2],
        "loss": "mse",
        "layers": [
            conv(3, 2, padding="valid", activation="relu"),
            conv(10, 3, stride=2, padding="valid", local=True),
            {"op": "flatten"},
            dense(2),
        ],
    },
    "conv kernel larger than image": {
        "input": [2, 3, 1],
        "loss": "softmax_cross_entropy",
        "layers": [conv(4, 5, activation="relu"), conv(3, 4, stride=3), {"op": "flatten"}, dense(2, local=True)],
    },
    "relu of its own": {
        "input": [4, 4, 2],
        "loss": "mse",
        "layers": [{"op": "relu"}, conv(3, 3), {"op": "flatten"}, {"op": "relu"}, dense(5), {"op": "relu"}, dense(1)],
    },
    "conv on top of relu": {
        "input": [9, 9, 1],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(8, 3, stride=2, activation="relu"),
            {"op": "relu"},
            conv(16, 3, stride=2, padding="valid"),
            {"op": "relu"},
            {"op": "flatten"},
            dense(17),
            {"op": "relu"},
            dense(5, local=True),
        ],
    },
}


@dataclass
class Compiled:
    """A model's library and what the generator decided about it."""

    design: generate.Design
    folder: Path
    library: ctypes.CDLL

    def __post_init__(self) -> None:
        sizes = (ctypes.c_uint32 * 9)()
        self.library.sizes(sizes)
        (
            self.n_global,
            self.n,
            self.n_in,
            self.n_out,
            self.n_target,
            self.arena,
            self.at_in,
            self.at_target,
            self.at_out,
        ) = sizes

    def run(
        self,
        weights: np.ndarray[Any, Any],
        x: Any,
        target: Any = None,
        variant: int | None = None,
        rate: float = 0.0,
        limit: float = 0.0,
    ) -> Any:
        """Outputs of one sample; with a variant, one training step first, in place."""
        real = {"float32": "float", "float64": "double"}[weights.dtype.name]
        number = {"float": ctypes.c_float, "double": ctypes.c_double}[real]
        arena = np.full(self.arena, np.nan, weights.dtype)  # whoever reads what nobody wrote spoils the result
        arena[self.at_in : self.at_in + self.n_in] = np.ravel(x)
        if target is not None:
            arena[self.at_target : self.at_target + self.n_target] = target
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (weights, arena)]
        if variant is None:
            getattr(self.library, f"forward_{real}")(*pointers)
        else:
            getattr(self.library, f"step_{real}")(variant, *pointers, number(rate), number(limit))
        return arena[self.at_out : self.at_out + self.n_out].copy()


_compiled: dict[tuple[str, str], Compiled] = {}


def design(model: dict[str, Any]) -> generate.Design:
    raw = {"task": {"kind": "sine"}, "model": model}
    experiment = spec.parse(raw, "test")
    return generate.settle(experiment, boards.load("native"), graph.build(experiment.model), "test")


def compiled(name: str, tmp: Path, kernels: str = "") -> Compiled:
    """A model's library; ``kernels`` from that folder of firmware/bench in place of the core's."""
    if (name, kernels) not in _compiled:
        settled = design(MODELS[name])
        folder = tmp / f"{name} {kernels}".strip().replace(" ", "-")
        generate.write(settled, folder, "test")
        library = folder / "model.so"
        first = [f"-I{find('firmware') / 'bench' / kernels}"] if kernels else []
        compile_with(["g++", "-O2", "-shared", "-fPIC", *first], folder, library)
        _compiled[name, kernels] = Compiled(settled, folder, ctypes.CDLL(str(library)))
    return _compiled[name, kernels]


def compile_with(compiler: list[str], folder: Path, output: Path | None) -> None:
    core = find("firmware") / "core"
    sources = [str(HERE / "harness.cpp"), str(core / "prng.cpp")]
    target = ["-fsyntax-only"] if output is None else ["-o", str(output)]
    command = [*compiler, *FLAGS, f"-I{folder}", f"-I{core}", *sources, *target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
