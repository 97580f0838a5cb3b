"""The textbook kernels of `bench` train to the same weights: some up to rounding, others to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_model import FLATTEN, Compiled, compiled, conv, dense, depthwise, design, library
from test_kernels import each, example

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Variant

# Together these models use every textbook kernel with every kind of update, input gradient and mask.
NAMES = ["conv kernel larger than image", "conv oblong", "conv stride 2 same", "conv1d", "dense odd", "momentum"]


@pytest.mark.parametrize("name", each(NAMES))
def test_textbook_kernels_train_to_the_same_weights(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    ours, theirs = compiled(name, folder), compiled(name, folder, kernels="textbook")
    assert ours.library is not theirs.library
    start = example(ours, 3)[0].astype(np.float32)
    for variant in ours.design.graph.backward:
        weights, plain = start.copy(), start.copy()
        for step in range(4):
            _, x, target = example(ours, 100 + step)
            for model, trained in ((ours, weights), (theirs, plain)):
                model.run(trained, x.astype(np.float32), target.astype(np.float32), variant, 0.01, 0.25)
        np.testing.assert_allclose(plain, weights, rtol=1e-5, atol=1e-5)
        assert variant is Variant.LOCAL or (weights != start).any(), "nothing was trained"


# Kernels whose textbook versions add in the same order, and so give the same bits.
EXACT = ("add", "affine", "avg_pool", "depthwise_conv2d", "max_pool")


def image_model(shape: list[int], *layers: dict[str, Any]) -> dict[str, Any]:
    """A model over images of this shape: the given layers, the last of which gives a vector, then a local dense layer."""
    return {"input": shape, "loss": "mse", "layers": [*layers, dense(2, local=True)]}


AFFINE, RELU = {"op": "affine"}, {"op": "relu"}
# Tiles at both borders with others between them, rows of 10 to 19 pixels, strides and margins that leave an odd number, a
# kernel as wide as the image, windows that overlap, end at the border or reach beyond it.
SHAPES: dict[str, dict[str, Any]] = {
    "depthwise wide": image_model(
        [3, 37, 3],
        AFFINE,
        RELU,
        depthwise(3, activation="relu"),
        depthwise([2, 3], stride=[1, 2]),
        depthwise([3, 2], stride=3, padding=[[2, 0], [0, 1]]),
        FLATTEN,
    ),
    "depthwise narrow": image_model(
        [6, 15, 2],
        conv(11, 1, activation="relu", name="low"),
        depthwise(5, activation="relu"),
        {"op": "add", "with": "low"},
        depthwise([1, 15]),
        depthwise(3, stride=2, padding="valid"),
        FLATTEN,
    ),
    "depthwise equal tiles": image_model(
        [7, 24, 3],
        AFFINE,
        RELU,
        depthwise(3, activation="relu"),
        depthwise([3, 2], padding=[[1, 1], [1, 0]]),
        depthwise(3, stride=2, activation="relu"),
        depthwise([1, 5]),
        depthwise([2, 1], activation="relu"),
        FLATTEN,
    ),
    "depthwise long tiles": image_model(
        [4, 19, 2],
        AFFINE,
        RELU,
        depthwise(3, activation="relu"),
        depthwise([1, 4], padding="valid", activation="relu"),
        depthwise(3, activation="relu"),
        depthwise([3, 4], padding=[[1, 1], [0, 0]], activation="relu"),
        depthwise(3),
        depthwise([2, 3], padding=[[1, 0], [0, 0]], activation="relu"),
        depthwise(5),
        depthwise([1, 3], padding="valid"),
        depthwise(3, activation="relu"),
        FLATTEN,
    ),
    "depthwise small": image_model(
        [8, 21, 3],
        AFFINE,
        RELU,
        depthwise(3, stride=2, activation="relu"),
        depthwise([3, 1], stride=[2, 1]),
        depthwise(3, activation="relu"),
        depthwise([1, 9]),
        depthwise([3, 2], padding=[[1, 2], [1, 0]], stride=[1, 2]),
        FLATTEN,
    ),
    "pools": image_model(
        [9, 12, 3],
        AFFINE,
        {"op": "max_pool", "size": 3, "stride": [1, 2], "padding": "same"},
        conv(9, 1, activation="relu"),
        {"op": "max_pool", "size": [1, 2]},
        {"op": "avg_pool", "size": 2, "stride": 1},
        {"op": "max_pool", "size": [4, 1], "stride": 2},
        {"op": "global_avg_pool"},
    ),
}


# With 32 registers for floats, small depthwise kernels stay in registers.
HELD = ("depthwise equal tiles", "depthwise long tiles", "depthwise small", "depthwise wide")
REGISTERS = [*((shape, 16) for shape in sorted(SHAPES)), *((shape, 32) for shape in HELD)]


@pytest.fixture(params=REGISTERS, ids=lambda of: f"{of[0]}, {of[1]} registers", scope="module")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Compiled]:
    """A model with the core's kernels, and with textbook ones for the ops of EXACT alone."""
    shape, registers = request.param
    folder = tmp_path_factory.mktemp("exact")
    plain = folder / "plain" / "kernels"
    plain.mkdir(parents=True)
    for name in EXACT:
        (plain / f"{name}.hpp").symlink_to(find("firmware") / "bench" / "textbook" / "kernels" / f"{name}.hpp")
    made = design(SHAPES[shape], folder)
    textbook = library(made, folder / "textbook", [f"-I{plain.parent}"])
    board = (folder / "textbook" / "board.hpp").read_text(encoding="utf-8")
    assert "kFloatRegisters = 16;" in board
    (folder / "registers").mkdir()
    text = board.replace("kFloatRegisters = 16;", f"kFloatRegisters = {registers};")
    (folder / "registers" / "board.hpp").write_text(text, encoding="utf-8")
    return library(made, folder / "core", [f"-I{folder / 'registers'}"]), textbook


@pytest.mark.xdist_group("kernels exact")
def test_some_textbook_kernels_give_the_same_bits(both: tuple[Compiled, Compiled]) -> None:
    ours, plain = both
    for variant in ours.design.graph.backward:
        weights = example(ours, 3)[0].astype(np.float32)
        expected = weights.copy()
        for step in range(4):
            _, x, target = (array.astype(np.float32) for array in example(ours, 100 + step))
            outputs = [model.run(p, x, target, variant, 0.01, 0.25) for model, p in ((ours, weights), (plain, expected))]
            assert outputs[0].tobytes() == outputs[1].tobytes()
        assert weights.tobytes() == expected.tobytes()


@pytest.mark.xdist_group("kernels exact")
def test_equal_values_signed_zeros_and_nan_pool_to_the_same_bits(both: tuple[Compiled, Compiled]) -> None:
    ours, plain = both
    random = np.random.default_rng(5)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan], np.float32)
    start = example(ours, 3)[0].astype(np.float32)
    start[: ours.design.graph.parameters[0].parameter.size] = 1  # an affine layer that changes nothing
    for use in (special[:4], special[:6], special):
        x, target = random.choice(use, ours.n_in), np.zeros(ours.n_target, np.float32)
        for variant in ours.design.graph.backward:
            weights, expected = start.copy(), start.copy()
            outputs = [model.run(p, x, target, variant, 0.01, 1.0) for model, p in ((ours, weights), (plain, expected))]
            assert outputs[0].tobytes() == outputs[1].tobytes()
            for trained in (weights, expected):
                trained[np.isnan(trained)] = np.nan  # a product of two NaN has the sign of either
            assert weights.tobytes() == expected.tobytes()
