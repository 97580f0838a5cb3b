"""Boards whose first layer reads bytes end on the weights of the simulation, whose layers read float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import Quiet, needs_qemu

from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.spec import Experiment

FIRST = {
    "depthwise": '{ op = "depthwise_conv2d", kernel = 3, activation = "relu" }',
    "depthwise 5x5": '{ op = "depthwise_conv2d", kernel = 5, stride = 2 }',
    "max pool": '{ op = "max_pool", size = 3, stride = 2, padding = "same" }',
    "avg pool": '{ op = "avg_pool" }',
}


def images(folder: Path, first: str) -> Experiment:
    """Three clients with noise in bytes, brighter by class, which travels in parts and is normalised."""
    (folder / "data").mkdir()
    draws = np.random.default_rng(7)
    labels = np.arange(12) % 3
    for name in ("ann", "ben", "cleo"):
        x = draws.integers(0, 150, (12, 45, 37, 3)) + 50 * labels[:, None, None, None]
        np.savez(folder / "data" / name, x=x.astype(np.uint8), y=labels)
    file = folder / "images.toml"
    file.write_text(
        f"""
[task]
kind = "folder"
path = "data"
support = 3
query = 3
adapt = 3
dtype = "uint8"
[model]
input = [45, 37, 3]
loss = "softmax_cross_entropy"
layers = [
  {first},
  {{ op = "conv2d", filters = 5, kernel = 3, stride = 2, activation = "relu" }},
  {{ op = "flatten" }},
  {{ op = "dense", units = 3, local = true }},
]
[run]
rounds = 2
[strategy]
alpha_max = 0.001
global_learning_rate = 0.01
[evaluation]
tasks = 1
"""
    )
    return spec.load(file)


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize("first", FIRST)
def test_boards_end_on_the_weights_of_the_simulation(first: str, tmp_path: Path) -> None:
    setup = set_up(images(tmp_path, FIRST[first]), "test", None)
    assert design_of(setup.experiment, "test").reads_bytes
    simulated = training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    for url in ("native:1", "qemu:1"):
        result = training.train(setup, [url], ["native:1"], tmp_path / url, Quiet())
        assert result.weights_sha256 == simulated.weights_sha256
