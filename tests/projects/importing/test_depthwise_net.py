"""A depthwise network from Keras with 100,000 weights, most of them frozen in flash, trains within 256 KB of RAM."""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import write
from small_runs import Quiet, needs_qemu
from with_tensorflow import needs_tensorflow

from tinymetafed.devices.running import build_firmware
from tinymetafed.federation.meta_test import Collapsed
from tinymetafed.runs import store, training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design

pytestmark = [*needs_tensorflow, needs_qemu]
CLASSES = 5


def network(keras: Any) -> Any:
    """MobileNet's blocks for images of 28x28, and a head of three dense layers."""
    layers = keras.layers
    x = first = keras.Input(shape=(28, 28, 1))
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for filters, strides in ((32, 1), (64, 2), (128, 1), (256, 2), (128, 1)):
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(first, layers.Dense(CLASSES, activation="softmax")(x))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> spec.Experiment:
    """An experiment with the imported network, all convolutions frozen, and random images of three clients."""
    keras = importlib.import_module("keras")
    keras.utils.clear_session()  # numbers the names of layers from the start again
    keras.utils.set_random_seed(1)
    folder: Path = tmp_path_factory.mktemp("depthwise")
    model = network(keras)
    model.save(folder / "net.keras")
    frozen = [layer.name for layer in model.layers if "conv2d" in layer.name]
    write(folder / "net.keras", folder, freeze=frozen[-1])
    (folder / "data").mkdir()
    random = np.random.default_rng(1)
    strokes = random.uniform(0, 1, (CLASSES, 28, 28, 1))
    for client in ("alice", "bob", "carol"):
        labels = np.tile(np.arange(CLASSES), 2)
        drawings = strokes[labels] + random.normal(0, 0.1, (len(labels), 28, 28, 1))
        np.savez(folder / "data" / f"{client}.npz", x=drawings.astype(np.float32), y=labels)
    # the shortest round possible, as the emulated board is slow
    once = [
        f"{key}=1" for key in ("run.rounds", "evaluation.tasks", *(f"strategy.{each}_passes" for each in ("local", "global")))
    ]
    once += ["adaptation.local_passes=1", "adaptation.full_passes=1"]
    samples = [f"task.{each}={CLASSES}" for each in ("support", "query", "adapt")]
    return spec.load(folder / "experiment.toml", ["task.held_out=['carol']", *once, *samples])


def test_most_weights_are_in_flash_and_the_rest_fits_in_ram(experiment: spec.Experiment) -> None:
    for board in ("mps2", "nano33ble"):
        manifest = design(experiment, boards.load(board), "test").manifest
        frozen = sum(tensor.size for tensor in manifest.frozen)
        assert manifest.n_parameters >= 20_000 and 95_000 < frozen + manifest.n_parameters < 110_000
        assert manifest.memory.ram_total < 256 * 1024 and 4 * frozen < manifest.memory.flash < 1024 * 1024
        assert [tensor.name for tensor in manifest.parameters if tensor.part == "local"] == [
            "dense2.kernel",
            "dense2.bias",
        ]


def test_a_round_on_the_emulated_board_ends_on_the_weights_of_the_native_one(
    experiment: spec.Experiment, tmp_path: Path
) -> None:
    ended = []
    for url in ("qemu:1", "native:1"):
        out = tmp_path / url.partition(":")[0]
        setup = set_up(experiment, "test", None)
        with suppress(Collapsed):  # raised after the round is stored: training this short collapses
            training.train(setup, [url], ["native:1"], out, Quiet())
        run = store.read_run(out)
        ended.append(run.rounds[-1].weights_sha256)
        assert run.rounds[0].contributions[0].status == "accepted" and run.rounds[0].update_norm > 0
    assert ended[0] == ended[1]


def test_codegen_estimates_no_less_than_is_linked(experiment: spec.Experiment) -> None:
    built = build_firmware(design_of(experiment, "test"), "mps2")
    manifest = built.manifest
    assert built.ram_bytes <= manifest.memory.ram_total - manifest.memory.stack <= 1.05 * built.ram_bytes
    assert built.flash_bytes <= manifest.memory.flash <= 1.05 * built.flash_bytes
