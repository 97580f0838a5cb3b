"""The textbook kernels of `bench` train to the same weights, up to rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiled_model import compiled
from test_kernels import example

from tinymetafed_codegen.protocol import Variant

# Together these models use every textbook kernel with every kind of update, input gradient and mask.
NAMES = ["conv kernel larger than image", "conv oblong", "conv stride 2 same", "conv1d", "dense odd", "momentum"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(f"kernels {name}")) for name in NAMES])
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
