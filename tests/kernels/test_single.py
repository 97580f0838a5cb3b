"""The simulation's own kernels, of a single client and of one in each lane, have the bits of the core's."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from compiled_model import FLATTEN, HERE, MODELS, depthwise, design

from tinymetafed.simulation.vector_units import VectorUnit, vector_units
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops.conv2d import Conv2d
from tinymetafed_codegen.ops.dense import Dense
from tinymetafed_codegen.ops.depthwise_conv2d import DepthwiseConv2d
from tinymetafed_codegen.ops.op import Op
from tinymetafed_codegen.toolchain import compiler_flags

# Compiling takes long, so these are models of different strides, paddings, borders, channels and filters.
TESTED = (
    "conv 1x1 image",
    "conv kernel larger than image",
    "conv oblong",
    "conv on top of relu",
    "conv stride 2 same",
    "conv1d",
    "dense local first",
    "dense odd",
    "depthwise",
    "long kernel and reshapes",
    "padded by numbers",
)
# Several vectors of channels, groups of pixels, and kernels whose sums fit into the registers and do not.
WIDE_DEPTHWISE = {
    "input": [6, 17, 21],
    "loss": "mse",
    "layers": [
        depthwise(3, activation="relu"),
        depthwise(5, stride=2, activation="relu"),
        depthwise([1, 12]),
        FLATTEN,
        {"op": "dense", "units": 1},
    ],
}
# Kernels of squares of every vector, which are turned and changed at once: with each kind of update.
SQUARES = {"input": [32], "loss": "mse", "layers": [{"op": "dense", "units": units} for units in (32, 48, 16)]}
RULES = ("Plain", "DecayAndMomentum", "Sum")  # of the updates, in turn


def layers(folder: Path) -> list[Op]:
    """The models' layers that have kernels of their own for a single client, each shape once."""
    found = {}
    models = {**{name: MODELS[name] for name in TESTED}, "wide depthwise": WIDE_DEPTHWISE, "squares": SQUARES}
    for name, model in models.items():
        for call in design(model, folder / name).graph.forward:
            if isinstance(call.op, Conv2d | Dense | DepthwiseConv2d):
                found[call.op.cpp_type()] = call.op
    return list(found.values())


def table(tested: list[Op]) -> str:
    """The text of layers.hpp: each layer's kernels and sizes, with the kinds of updates in turn."""
    names, rows = [], []
    for n, op in enumerate(tested):
        names.append(f"using Layer{n} = {op.cpp_type()};")
        weights = [parameter.size for parameter in op.parameters]
        rule = f"{RULES[n % len(RULES)]}<{sum(weights)}>, {str(n % 2 == 0).lower()}"
        passes = [f"kPasses<float, {space}::Layer{n}, {rule}>" for space in ("tmf::model", "tmf")]
        passes.append("{}" if isinstance(op, DepthwiseConv2d) else f"kPasses<Floats, tmf::in_lanes::Layer{n}, {rule}>")
        sizes = [math.prod(op.input_shape), math.prod(op.output_shape), *weights]
        rows.append(f'  {{"{op.cpp_type()}", {", ".join([*passes, *map(str, sizes)])}}},')
    # The same name is that of a single client's kernels in tmf::model, of the core's in tmf, and of those of a client per lane.
    spaces = [line for space in ("tmf::model", "tmf", "tmf::in_lanes") for line in (f"namespace {space} {{", *names, "}")]
    return "\n".join([*spaces, "const Layer kLayers[] = {", *rows, "};", ""])


@dataclass(frozen=True)
class Machine:
    """How programs are compiled for a processor, and run on this one."""

    compiler: str
    run: tuple[str, ...] = ()

    def unit(self) -> VectorUnit:
        """A vector unit of the processor that has several lanes."""
        if self.run:
            return VectorUnit("neon", 4)
        return next((unit for unit in vector_units().values() if unit.lanes > 1), VectorUnit("generic", 4))


MACHINES = {
    "this": Machine("g++"),
    "AArch64": Machine("aarch64-linux-gnu-g++", ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_simulated_clients_have_the_bits_of_the_core(machine: Machine, tmp_path: Path) -> None:
    for tool in (machine.compiler, *machine.run[:1]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    unit, tested = machine.unit(), layers(tmp_path)
    assert {type(op).__name__ for op in tested} >= {"Conv1d", "Conv2d", "Dense", "DepthwiseConv2d"}
    (tmp_path / "layers.hpp").write_text(table(tested))
    (tmp_path / "op_headers.hpp").write_text("")
    (tmp_path / "board.hpp").write_text("namespace tmf::board { constexpr int kFloatRegisters = 16; }\n")
    firmware = find("firmware")
    include = [f"-I{path}" for path in (tmp_path, firmware / "sim" / "single", firmware / "sim", firmware / "core")]
    flags = ["-O0", *unit.flags, f"-DTMF_LANES={unit.lanes}", "-Wno-psabi", "-g0"]  # most of the test is the compiler's time
    command = [machine.compiler, *compiler_flags(), *include, *flags, str(HERE / "single.cpp"), "-o", str(tmp_path / "single")]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    done = subprocess.run([*machine.run, tmp_path / "single"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"other bits:\n{done.stdout}{done.stderr}"
