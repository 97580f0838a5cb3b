"""Generated models compiled for the host, once per model and session."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import int8_reference
import numpy as np

from tinymetafed_codegen import emit, graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops import Int8Op
from tinymetafed_codegen.toolchain import compiler_flags

HERE = Path(__file__).parent
# GCC's address sanitizer calls a function for each check instead of inserting code: that compiles in four fifths of the time.
CHECKS_ARE_CALLS = ["--param", "asan-instrumentation-with-call-threshold=0"]


def relu_dense(units: int, **more: Any) -> dict[str, Any]:
    return {"op": "dense", "units": units, "activation": "relu", **more}


def conv(filters: int, kernel: int, **more: Any) -> dict[str, Any]:
    return {"op": "conv2d", "filters": filters, "kernel": kernel, **more}


def dense(units: int, **more: Any) -> dict[str, Any]:
    return {"op": "dense", "units": units, **more}


def depthwise(kernel: Any, **more: Any) -> dict[str, Any]:
    return {"op": "depthwise_conv2d", "kernel": kernel, **more}


FLATTEN = {"op": "flatten"}
ANY = {"kind": "folder", "path": "."}  # a task that accepts any model; its data are not read

# Edge cases: single elements, strides, sizes not divisible by the tiles, windows larger than the image.
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
    "conv few channels and filters": {
        "input": [7, 9, 1],
        "loss": "mse",
        "layers": [
            conv(1, 3, activation="relu"),
            conv(9, 3, stride=[1, 2], activation="tanh"),
            conv(2, [2, 3], activation="relu"),
            conv(6, 1, activation="relu"),
            conv(3, 3, padding="valid", activation="tanh"),
            conv(5, [3, 2], stride=2),
            FLATTEN,
            dense(2, local=True),
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
    "conv oblong": {
        "input": [7, 4, 2],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(3, [1, 3], stride=[3, 1], activation="leaky_relu"),
            conv(9, [4, 2], stride=[1, 2]),
            FLATTEN,
            dense(2, local=True),
        ],
    },
    "depthwise": {
        "input": [8, 9, 3],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(11, 2, stride=2),
            depthwise(3, stride=2, activation="relu"),
            depthwise([2, 3], padding="valid", activation="tanh", local=True),
            FLATTEN,
            dense(3),
        ],
    },
    "separable": {
        "input": [4, 5, 2],
        "loss": "mse",
        "layers": [
            {"op": "separable_conv2d", "filters": 9, "kernel": 3, "activation": "relu"},
            {"op": "separable_conv2d", "filters": 3, "kernel": 5, "stride": 2, "local": True},
            {"op": "global_avg_pool"},
            dense(1),
        ],
    },
    "conv1d": {
        "input": [11, 3],
        "loss": "mse",
        "layers": [
            {"op": "conv1d", "filters": 10, "kernel": 4, "stride": 2, "activation": "relu"},
            {"op": "conv1d", "filters": 5, "kernel": 3, "padding": "valid", "activation": "sigmoid", "local": True},
            {"op": "global_avg_pool"},
            dense(2),
        ],
    },
    "max pool": {
        "input": [7, 6, 2],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(11, 3, activation="relu"),
            {"op": "max_pool", "size": 3, "stride": 2},
            {"op": "max_pool", "size": [2, 1], "stride": [1, 2], "padding": "same"},
            conv(3, 2),
            {"op": "max_pool", "size": [3, 1]},
            FLATTEN,
            dense(4, local=True),
        ],
    },
    "avg pool": {
        "input": [7, 6, 2],
        "loss": "mse",
        "layers": [
            conv(11, 3, activation="relu"),
            {"op": "avg_pool", "size": [7, 3]},
            conv(3, 2, padding="same"),
            {"op": "avg_pool", "size": 3, "stride": 1, "padding": "same"},
            FLATTEN,
            dense(2, local=True),
        ],
    },
    "pools of touching windows": {
        "input": [8, 8, 1],
        "loss": "mse",
        "layers": [
            conv(3, 3, activation="relu"),
            {"op": "max_pool"},
            conv(9, 1, activation="relu"),
            {"op": "avg_pool"},
            {"op": "global_avg_pool"},
            dense(1),
        ],
    },
    "every activation": {
        "input": [5],
        "loss": "huber",
        "huber_delta": 0.5,
        "layers": [
            dense(7, activation="relu6"),
            dense(6, activation="leaky_relu"),
            dense(5, activation="sigmoid"),
            dense(6, activation="tanh"),
            {"op": "leaky_relu", "slope": 0.01},
            dense(4, activation="softmax"),
            {"op": "tanh"},
            dense(9, activation="silu"),
            dense(9, activation="hard_swish"),
            {"op": "elu", "alpha": 0.5},
            dense(9, activation="gelu"),
            {"op": "leaky_relu", "slope": 0},
            dense(9),
            {"op": "gelu", "approximate": True},
            dense(9, activation="selu"),
            {"op": "prelu"},
            dense(9, activation="hard_sigmoid"),
            dense(9, activation="softplus"),
            dense(3, activation="sigmoid", local=True),
        ],
    },
    "activations of images": {
        "input": [3, 2, 2],
        "loss": "mae",
        "layers": [
            conv(3, 2, activation="softmax"),
            conv(3, 2, activation="relu6"),
            {"op": "sigmoid"},
            {"op": "relu"},
            conv(3, 1),
            {"op": "prelu", "local": True},
            {"op": "silu"},
            {"op": "global_avg_pool"},
            dense(2),
        ],
    },
    "padded by numbers": {
        "input": [6, 5, 2],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(9, 3, stride=2, padding=[[0, 1], [1, 0]], activation="relu"),
            depthwise([3, 2], stride=2, padding=[[2, 0], [0, 1]], activation="relu"),
            conv(3, [2, 1], padding=[[1, 1], [0, 0]], activation="tanh"),
            {"op": "separable_conv2d", "filters": 5, "kernel": 3, "padding": [[2, 2], [1, 2]]},
            FLATTEN,
            dense(3, local=True),
        ],
    },
    "long kernel and reshapes": {
        "input": [90],
        "loss": "mse",
        "layers": [
            {"op": "reshape", "shape": [90, 1]},
            {"op": "conv1d", "filters": 5, "kernel": 80, "stride": 4, "padding": [79, 3], "activation": "tanh"},
            {"op": "reshape", "shape": [1, 24, 5]},
            {"op": "max_pool", "size": [1, 3]},
            {"op": "reshape", "shape": [4, 2, 5]},
            depthwise(2, activation="relu6"),
            FLATTEN,
            dense(2, local=True),
        ],
    },
    "residual": {
        "input": [4, 3, 2],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(9, 3, activation="relu", name="stem"),
            conv(9, 3, activation="relu", local=True),
            conv(9, 1),
            {"op": "add", "with": "stem"},
            {"op": "relu", "name": "block"},
            depthwise(3, activation="relu"),
            {"op": "add", "with": "block"},
            {"op": "add", "with": "stem"},
            {"op": "global_avg_pool"},
            dense(3),
        ],
    },
    "residual of vectors": {
        "input": [3],
        "loss": "binary_crossentropy",
        "layers": [
            dense(5, name="first"),
            {"op": "relu"},
            dense(5, activation="tanh", name="second"),
            {"op": "add", "with": "first"},
            {"op": "add", "with": "add4"},
            {"op": "average", "with": ["first", "second"]},
            {"op": "maximum", "with": "add4"},
            {"op": "multiply", "with": ["maximum7", "second"]},
            {"op": "sigmoid"},
            {"op": "add", "with": "second"},
            dense(1, local=True),
        ],
    },
    "branches": {  # few kinds of kernels, as compiling those takes long
        "input": [5],
        "loss": "softmax_cross_entropy",
        "layers": [
            dense(42, activation="tanh"),
            {"op": "reshape", "shape": [2, 7, 3], "name": "image"},
            dense(42, **{"from": "input"}, local=True),
            {"op": "reshape", "shape": [2, 7, 3], "name": "shortcut"},
            {"op": "maximum", "with": "image"},
            {"op": "minimum", "with": ["shortcut", "maximum5"]},
            {"op": "subtract", "with": "shortcut", "name": "block"},
            {"op": "global_avg_pool"},
            dense(3, activation="sigmoid"),
            {"op": "multiply", "with": "block", "name": "excited"},
            {"op": "concatenate", "with": ["shortcut", "image"], "name": "wide"},
            {"op": "concatenate", "with": ["excited"], "from": "image", "axis": 1, "name": "long"},
            dense(14, **{"from": "input"}, activation="tanh"),
            {"op": "reshape", "shape": [2, 7, 1], "name": "per_pixel"},
            {"op": "multiply", "from": "wide", "with": "per_pixel"},
            {"op": "flatten", "name": "gated"},
            {"op": "flatten", "from": "long"},
            {"op": "concatenate", "with": "gated"},
            dense(3),
        ],
    },
    "binary labels": {"input": [4], "loss": "binary_crossentropy", "layers": [dense(7, activation="tanh"), dense(3)]},
    "momentum": {
        "input": [5, 4, 2],
        "loss": "softmax_cross_entropy",
        "momentum": 0.875,
        "layers": [conv(3, 3, stride=2, activation="relu"), FLATTEN, dense(9, activation="relu"), dense(3, local=True)],
    },
    "weight decay": {
        "input": [5, 4, 2],
        "loss": "mse",
        "weight_decay": 0.0625,
        "layers": [depthwise(3, activation="relu"), FLATTEN, dense(3, local=True)],
    },
    "momentum, decay and clipped norm": {
        "input": [4, 4, 1],
        "loss": "mse",
        "momentum": 0.5,
        "weight_decay": 0.03125,
        "clip_norm": 0.25,
        "layers": [
            conv(5, 2, activation="relu", name="low"),
            conv(5, 2, activation="relu"),
            {"op": "add", "with": "low"},
            FLATTEN,
            dense(4, activation="relu", local=True),
            dense(2),
        ],
    },
    "frozen": {
        "input": [6, 5, 2],
        "loss": "softmax_cross_entropy",
        "layers": [
            conv(9, 3, activation="relu", frozen=True, name="stem"),
            depthwise(3, activation="relu6", frozen=True),
            {"op": "add", "with": "stem"},
            {"op": "max_pool"},
            conv(5, 1, activation="tanh"),
            FLATTEN,
            dense(3, local=True),
        ],
    },
    "affine": {
        "input": [5, 3],
        "loss": "softmax_cross_entropy",
        "layers": [
            {"op": "affine", "frozen": True},
            {"op": "affine", "activation": "relu", "name": "scaled"},
            {"op": "conv1d", "filters": 11, "kernel": 3, "activation": "relu"},
            {"op": "affine", "activation": "tanh"},
            {"op": "global_avg_pool"},
            {"op": "affine", "local": True},
            dense(3),
        ],
    },
    "int8": {
        "input": [7, 6, 3],
        "loss": "softmax_cross_entropy",
        "layers": [
            {"op": "quantize", "scale": 0.02, "zero_point": 83},
            {"op": "pad_int8", "margins": [[1, 0], [2, 3]]},
            {"op": "conv2d_int8", "name": "stem", "filters": 5, "kernel": [3, 2], "stride": [2, 1], "zero_point": -128},
            {"op": "conv2d_int8", "name": "block", "filters": 7, "kernel": 1, "zero_point": 4, "range": [4, 90]},
            {"op": "max_pool_int8", "name": "pooled", "size": 3, "stride": 1, "padding": "same", "range": [-20, 127]},
            {"op": "conv2d_int8", "filters": 7, "kernel": 3, "zero_point": -3, "from": "stem"},
            {
                "op": "add_int8",
                "with": "pooled",
                "zero_point": -17,
                "range": [-17, 127],
                "factors": [[1073741824, 0], [1623821475, -2], [1098017566, -17]],
            },
            {"op": "depthwise_conv2d_int8", "kernel": 3, "stride": 2, "zero_point": 9},
            {"op": "requantize", "factor": [1500000000, 1], "zero_point": -100, "range": [-100, 60]},
            {"op": "mean_int8", "factor": [1234567890, -1], "zero_point": 11},
            {"op": "dense_int8", "units": 6, "zero_point": 2},
            {"op": "dequantize", "scale": 0.03},
            dense(4, activation="tanh"),
            dense(3, local=True),
        ],
    },
    "int8 of one row": {
        "input": [23],
        "loss": "mse",
        "layers": [
            {"op": "quantize", "scale": 0.013, "zero_point": -128},
            {"op": "reshape", "shape": [1, 23, 1]},
            {"op": "conv2d_int8", "filters": 8, "kernel": [1, 5], "padding": [[0, 0], [4, 0]], "zero_point": 0},
            {"op": "depthwise_conv2d_int8", "kernel": [1, 3], "depth_multiplier": 2, "padding": "valid", "zero_point": 1},
            {"op": "avg_pool_int8", "size": [1, 4], "stride": [1, 3], "padding": "same"},
            {"op": "flatten"},
            {"op": "dense_int8", "units": 9, "zero_point": -128},
            {"op": "dequantize", "scale": 0.05},
            dense(2),
        ],
    },
    "frozen between": {
        "input": [6, 5, 2],
        "loss": "softmax_cross_entropy",
        "trainable": ["low", "high", "top"],
        "layers": [
            {"op": "affine"},
            conv(5, 3, stride=2, activation="relu", name="low"),
            depthwise(3, activation="relu"),
            {"op": "affine", "activation": "relu"},
            {"op": "prelu"},
            conv(9, 2, activation="relu"),
            FLATTEN,
            relu_dense(6),
            dense(7, activation="tanh"),
            dense(4, name="high"),
            dense(3, local=True, name="top"),
        ],
    },
}


# Models built with the variant that returns one gradient; the others are built for steps only.
GRADIENTS = ["affine", "dense odd", "conv valid", "momentum, decay and clipped norm", "frozen"]


@dataclass
class Compiled:
    """A model's compiled library and its design."""

    design: Design
    folder: Path
    library: ctypes.CDLL

    def __post_init__(self) -> None:
        sizes = (ctypes.c_uint32 * 10)()
        self.library.sizes(sizes)
        (
            self.n_global,
            self.n,
            self.n_state,
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
        """Outputs of one sample; with a variant, after one training step that changes ``weights`` in place."""
        real = {"float32": "float", "float64": "double"}[weights.dtype.name]
        number = {"float": ctypes.c_float, "double": ctypes.c_double}[real]
        arena = np.full(self.arena, np.nan, weights.dtype)  # reading an unwritten place gives NaN
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


def design(model: dict[str, Any], folder: Path, *, gradient: bool = False) -> Design:
    """Designs a model; frozen layers get random weights from a file in ``folder``."""
    experiment = spec.parse({"task": ANY, "data": {"normalise": "none"}, "model": model}, "test")
    net = graph.build(experiment.model, gradient=gradient)
    if net.frozen:
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(1)
        ops = {op.name: op for op, _ in net.frozen}
        arrays = {
            f"{name}.{key}": values
            for name, op in ops.items()
            for key, values in (
                int8_reference.constants(op, random)
                if isinstance(op, Int8Op)
                else {p.name: random.normal(0, 0.5, p.shape) for p in op.parameters}
            ).items()
        }
        np.savez(folder / "frozen.npz", **arrays)
        experiment = spec.parse(
            {"task": ANY, "data": {"normalise": "none"}, "model": {**model, "weights": str(folder / "frozen.npz")}}, "test"
        )
    return design_graph(experiment, boards.load("native"), net, "test")


def compiled(name: str, tmp: Path, kernels: str = "") -> Compiled:
    """Compiles a model; ``kernels``: a folder of firmware/bench whose kernels replace the core's."""
    if (name, kernels) not in _compiled:
        folder = tmp / f"{name} {kernels}".strip().replace(" ", "-")
        first = [f"-I{find('firmware') / 'bench' / kernels}"] if kernels else []
        _compiled[name, kernels] = library(design(MODELS[name], folder, gradient=name in GRADIENTS), folder, first)
    return _compiled[name, kernels]


def library(made: Design, folder: Path, first: list[str] | None = None) -> Compiled:
    """Compiles a designed model; ``first``: compiler options before all others."""
    emit.write(made, folder, "test")
    # Hidden symbols: otherwise all libraries of a process share the frozen weights of the first with a layer of that name.
    compile_with(["g++", "-O2", "-g0", "-shared", "-fPIC", "-fvisibility=hidden", *(first or [])], folder, folder / "model.so")
    return Compiled(made, folder, ctypes.CDLL(str(folder / "model.so")))


def compile_with(compiler: list[str], folder: Path, output: Path | None, harness: str = "harness.cpp") -> None:
    core = find("firmware") / "core"
    sources = [str(HERE / harness), str(core / "prng.cpp")]
    target = ["-fsyntax-only"] if output is None else ["-o", str(output)]
    command = [compiler[0], *compiler_flags(), *compiler[1:], f"-I{folder}", f"-I{core}", *sources, *target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
