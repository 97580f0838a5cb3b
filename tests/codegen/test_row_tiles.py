"""Tiles of small depthwise kernels cover every row, the kernels take them, and their code fits into the flash that is left."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tinymetafed_codegen import ops
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops import row_tiles
from tinymetafed_codegen.ops.depthwise_conv2d import DepthwiseConv2d
from tinymetafed_codegen.ops.row_tiles import RowTiles, Tiling
from tinymetafed_codegen.ops.window import Axis
from tinymetafed_codegen.toolchain import compiler_flags

CORE = find("firmware") / "core"
CHANNELS = (1, 3, 8, 64)
SQUARES = [(n, stride) for n in range(3, 41) for stride in (1, 2)]


def layer(rows: int, columns: int, channels: int, stride: int, kernel: int = 3) -> DepthwiseConv2d:
    made = ops.find("depthwise_conv2d")
    keys = {"op": "depthwise_conv2d", "kernel": kernel, "stride": stride, "activation": "relu"}
    built = made.build(made.spec.model_validate(keys), "layer", (rows, columns, channels))
    assert isinstance(built, DepthwiseConv2d)
    return built


def tiles_of(axis: Axis, channels: int) -> RowTiles:
    found = row_tiles.chosen(axis, axis, channels)
    assert found is not None
    return found


@pytest.mark.parametrize("channels", CHANNELS)
def test_all_passes_of_a_layer_fit_into_three_kilobytes(channels: int) -> None:
    sizes = {(n, stride): sum(layer(n, n, channels, stride).code_bytes()) for n, stride in SQUARES}
    assert {shape: size for shape, size in sizes.items() if size > row_tiles.MOST_BYTES} == {}


def test_wider_tiles_are_chosen_where_more_flash_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = Axis.build(24, 3, 1, "same")
    usual = tiles_of(axis, 8)
    monkeypatch.setattr(row_tiles, "MOST_BYTES", 2_500)
    lean = tiles_of(axis, 8)
    assert sum(lean.code_bytes) <= 2_500 < sum(usual.code_bytes) and lean.instructions > usual.instructions
    monkeypatch.setattr(row_tiles, "MOST_BYTES", 100)  # for which there are none
    least = tiles_of(axis, 8)
    assert sum(least.code_bytes) < sum(lean.code_bytes)


def test_large_kernels_have_no_tiles_of_their_own() -> None:
    axis = Axis.build(14, 5, 1, "same")
    assert row_tiles.chosen(axis, axis, 8) is None
    assert "kernels::NoTiles" in layer(14, 14, 8, 1, kernel=5).cpp_type()


def test_the_kernels_take_every_choice(tmp_path: Path) -> None:
    """The conditions on tiles in Python are those of the C++: else a layer would silently fall back to slower code."""
    axes = [Axis.build(n, size, stride, padding) for n in (1, 3, 7, 9, 13, 20, 23) for size, stride, padding in (
        (3, 1, "same"), (3, 2, "same"), (2, 1, "same"), (2, 2, (1, 1)), (3, 1, (2, 0)), (1, 1, "valid"),
    )]  # fmt: skip
    lines = ['#include "kernels/depthwise_conv2d.hpp"', "using namespace tmf;", "using namespace tmf::kernels;"]
    for axis in [*axes, *(Axis.build(n, 3, s, "valid") for n in (5, 12, 21) for s in (1, 2))]:
        kind, tiles = axis.cpp_type(), tiles_of(axis, 8).cpp_type()
        lines += [
            f"static_assert(is_held<float, {kind}, {kind}>() && {tiles}::Forward<Outputs<{kind}>>::kCover &&",
            f"              {tiles}::Gradient<Inputs<{kind}>>::kCover && {tiles}::Summed<Outputs<{kind}>>::kFill);",
        ]
    (tmp_path / "board.hpp").write_text("namespace tmf::board { constexpr int kFloatRegisters = 32; }\n", encoding="utf-8")
    (tmp_path / "tiles.cpp").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["g++", *compiler_flags(), "-fsyntax-only", f"-I{tmp_path}", f"-I{CORE}", str(tmp_path / "tiles.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


PASSES = {
    "forward": "forward(x, kernel, bias, y)",
    "gradient": "backward<Hold, true, true>(x, dy, dx, kernel, bias, 0.5f)",
    "update": "backward<Sgd<>, false, false>(x, dy, dx, kernel, bias, 0.5f)",
}
FURTHER = [
    pytest.param(*shape, marks=pytest.mark.exhaustive)
    for shape in (
        (16, 8, 1),
        (23, 8, 1),
        (29, 8, 1),
        (22, 8, 2),
        (14, 8, 2),
        (38, 8, 2),
        (6, 64, 1),
        (12, 32, 1),
        (39, 64, 1),
        (22, 1, 1),
    )
]
CALL_BYTES = 20  # of a function that does nothing but call a pass


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
@pytest.mark.parametrize(("n", "channels", "stride"), [(9, 3, 2), (24, 8, 1), *FURTHER])
def test_compiled_passes_are_no_longer_than_the_estimate(n: int, channels: int, stride: int, tmp_path: Path) -> None:
    op = layer(n, n, channels, stride)
    sizes = [compiled_bytes(op, call, tmp_path) for call in PASSES.values()]
    total = sum(op.code_bytes())
    assert 0.85 * total <= sum(sizes) <= total <= row_tiles.MOST_BYTES


def compiled_bytes(op: DepthwiseConv2d, call: str, folder: Path) -> int:
    """Bytes of code of a pass for a Cortex-M4F, compiled as kernels always are."""
    arguments = "float* x, float* dx, float* y, float* dy, float* kernel, float* bias"
    (folder / "board.hpp").write_text("namespace tmf::board { constexpr int kFloatRegisters = 32; }\n", encoding="utf-8")
    source = folder / "layer.cpp"
    source.write_text(
        '#include "math.hpp"\n#pragma GCC optimize("O2")\n#include <kernels/depthwise_conv2d.hpp>\n#include <kernels/sgd.hpp>\n'
        f"using namespace tmf;\nusing namespace tmf::kernels;\nvoid run({arguments}) {{ {op.cpp_type()}::{call}; }}\n",
        encoding="utf-8",
    )
    flags = ["-Os", *compiler_flags("mps2"), "-w", "-g0"]
    folders = [f"-I{folder}", f"-I{CORE.parent / 'port' / 'cortex_m4'}", f"-I{CORE}"]
    compiled = folder / "layer.o"
    subprocess.run(["arm-none-eabi-g++", *flags, *folders, "-c", str(source), "-o", str(compiled)], check=True)
    listed = subprocess.run(["arm-none-eabi-size", "-A", str(compiled)], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[1]) for line in listed.splitlines() if line.startswith((".text", ".rodata"))) - CALL_BYTES


def test_a_tiling_counts_pixels_that_are_computed_again() -> None:
    forward = tiles_of(Axis.build(23, 3, 1, "same"), 8).forward
    assert isinstance(forward, Tiling) and (23 - forward.first) % forward.width != 0
