"""Pools of many shapes have the bits of textbook ones, for any numbers, and in lanes."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from compiled_model import HERE

from tinymetafed_codegen import ops
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops.pool import Pool
from tinymetafed_codegen.toolchain import compiler_flags

LANES = 4

Floats = npt.NDArray[np.float32]
Run = Callable[[int, Floats, Floats, bool], tuple[Floats, Floats]]


def pool(kind: str, *extents: int, **keys: object) -> Pool:
    made = ops.find(kind)
    op = made.build(made.spec.model_validate({"op": kind, **keys}), "pool", extents)
    assert isinstance(op, Pool)
    return op


# Windows that touch, overlap, leave inputs out, end at the border or reach beyond it; one channel, some, and more than a tile.
SHAPES = [
    pool(kind, *extents, size=size, stride=stride, padding=padding)
    for kind in ("max_pool", "avg_pool")
    for extents, size, stride, padding in (
        ((7, 9, 1), 2, 2, "valid"),
        ((7, 9, 1), 2, 1, "same"),
        ((7, 9, 3), 2, 3, "same"),
        ((8, 12, 1), 2, 2, "valid"),
        ((6, 8, 9), 2, 2, "valid"),
        ((7, 10, 1), 3, 2, "same"),
        ((9, 8, 5), 3, 1, "valid"),
        ((6, 6, 2), 4, 3, "same"),
        ((9, 9, 3), 4, 1, "same"),
        ((9, 11, 2), 4, 5, "valid"),
        ((3, 5, 8), [1, 2], [2, 1], "same"),
        ((20, 1, 3), [4, 1], [2, 1], "valid"),
        ((5, 5, 11), 5, 5, "same"),
        ((4, 3, 2), 9, 9, "same"),
        ((9, 13, 3), [9, 13], [1, 1], "valid"),
        ((5, 4, 6), 1, 2, "valid"),
    )
] + [pool("global_avg_pool", 7, 7, 1), pool("global_avg_pool", 5, 9)]
IDS = [f"{op.kind} {'x'.join(map(str, op.input_shape))} {op.rows.size}x{op.columns.size} {op.rows.stride}" for op in SHAPES]


def library(folder: Path, kernels: str, lanes: int) -> Run:
    firmware = find("firmware")
    (folder / "board.hpp").write_text("namespace tmf::board { constexpr int kFloatRegisters = 16; }\n", encoding="utf-8")
    cases = ", ".join(
        f"k{op.cpp_template.removesuffix('Pool')}<{', '.join(op.cpp_type().split('<', 1)[1].split(', ')[:-1])}>"
        for op in SHAPES
    )
    built = folder / f"{kernels}-{lanes}.so"
    defines = [f"-DCASES={cases}", *([f"-DLANES={lanes}"] if lanes > 1 else [])]
    theirs = [f"-I{firmware / 'bench' / 'textbook'}"] if kernels == "textbook" else []
    command = [
        "g++",
        *compiler_flags(),
        "-O0",
        "-g0",
        "-Wno-psabi",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        *defines,
        *theirs,
    ]
    subprocess.run([*command, f"-I{folder}", f"-I{firmware / 'core'}", str(HERE / "pools.cpp"), "-o", str(built)], check=True)
    loaded = ctypes.CDLL(str(built))

    def run(case: int, x: Floats, dy: Floats, relu: bool) -> tuple[Floats, Floats]:
        assert (loaded.inputs(case) * lanes, loaded.outputs(case) * lanes) == (x.size, dy.size)
        # Whatever was in these places before does not matter.
        mask = np.full(lanes * SHAPES[case].mask_floats(relu) + lanes, 7, np.float32)
        y, dx = np.full(2 * dy.size, 7, np.float32), np.full(x.size, 7, np.float32)
        loaded.run(case, *(ctypes.c_void_p(each.ctypes.data) for each in (x, dy, mask, y, dx)), int(relu))
        assert (mask[-lanes:] == 7).all(), "beyond the bits' place"
        return y, dx

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, Run]:
    """The core's kernels, textbook ones, and the core's in lanes."""
    folder = tmp_path_factory.mktemp("pools")
    return library(folder, "core", 1), library(folder, "textbook", 1), library(folder, "core", LANES)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)


def drawn(random: np.random.Generator, count: int, kind: str) -> Floats:
    """Numbers: of which many are equal, or special, or any; of a ReLU, none is below 0, -0 or NaN."""
    if kind == "special":
        return random.choice(SPECIAL, count)
    levels = random.integers(-2, 3, count) * np.float32(0.5) if kind == "ties" else random.normal(size=count)
    return np.where(levels > 0, levels, 0.0).astype(np.float32) if kind == "relu" else levels.astype(np.float32)


def bits(numbers: Floats) -> bytes:
    """All bits, of NaN as one: the sign of a NaN that is computed differs between machines."""
    return np.where(np.isnan(numbers), np.float32(np.nan), numbers).tobytes()


@pytest.mark.xdist_group("kernels pools")
@pytest.mark.parametrize("case", range(len(SHAPES)), ids=IDS)
def test_any_numbers_pool_to_the_bits_of_textbook_loops(case: int, runs: tuple[Run, Run, Run]) -> None:
    ours, textbook, in_lanes = runs
    op, random = SHAPES[case], np.random.default_rng(case)
    inputs, outputs = int(np.prod(op.input_shape)), int(np.prod(op.output_shape))
    for kind in ("any", "ties", "special", "relu"):
        x = np.stack([drawn(random, inputs, kind) for _ in range(LANES)])
        dy = np.stack([drawn(random, outputs, "special" if lane == 0 else "any") for lane in range(LANES)])
        every = [ours(case, x[lane], dy[lane], kind == "relu") for lane in range(LANES)]
        for lane, (y, dx) in enumerate(every):
            plain_y, plain_dx = textbook(case, x[lane], dy[lane], kind == "relu")
            assert (bits(y), bits(dx)) == (bits(plain_y), bits(plain_dx)), (kind, lane)
        y, dx = in_lanes(case, np.ascontiguousarray(x.T).ravel(), np.ascontiguousarray(dy.T).ravel(), kind == "relu")
        for lane, (its_y, its_dx) in enumerate(every):
            assert (bits(y[lane::LANES]), bits(dx[lane::LANES])) == (bits(its_y), bits(its_dx)), (kind, lane)
