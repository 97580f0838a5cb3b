"""Networks that expect bytes: the lines that a note and the experiment's comment give make image folders fit them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import write
from keras_models import chain, mixed, save
from with_tensorflow import agree, needs_tensorflow

from tinymetafed.runs import keras_model
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]


def normalised(k: Any, mean: float, deviation: float) -> Any:
    return k.layers.Normalization(mean=[mean] * 3, variance=[deviation**2] * 3)


def preprocessed(k: Any) -> Any:
    """The arithmetic of MobileNet's preprocess_input in a model."""
    first = k.Input(shape=(6, 5, 3))
    return mixed(k.Model(first, k.layers.Dense(2)(k.layers.Flatten()(k.layers.Conv2D(2, 3)(first / 127.5 - 1.0)))))


def image(*layers: Callable[[Any], Any], shape: tuple[int, ...] = (6, 5, 3)) -> Callable[[Any], Any]:
    def build(k: Any) -> Any:
        body = mixed(chain(k, shape, k.layers.Conv2D(2, 3, padding="same"), k.layers.Flatten(), k.layers.Dense(2)))
        return chain(k, shape, *(layer(k) for layer in layers), *body.layers)

    return build


BYTES: dict[str, Callable[[Any], Any]] = {
    "-1 to 1": image(lambda k: k.layers.Rescaling(1 / 127.5, -1)),
    "0 to 1": image(lambda k: k.layers.Rescaling(1 / 255)),
    "grey": image(lambda k: k.layers.Rescaling(1 / 255), shape=(6, 5, 1)),
    "mean and deviation of pixels": image(lambda k: normalised(k, 120, 60)),
    "two steps": image(lambda k: k.layers.Rescaling(1 / 255), lambda k: normalised(k, 0.45, 0.22)),
    "mean of pixels": image(lambda k: k.layers.Rescaling(1.0, [-103.9, -116.8, -123.7])),
    "behind augmentation": image(lambda k: k.layers.RandomFlip(), lambda k: k.layers.Rescaling(1 / 127.5, -1)),
    "arithmetic": preprocessed,
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "none": image(),
    "of 0 to 1": image(lambda k: k.layers.Rescaling(2, -1)),
    "mean and deviation of 0 to 1": image(lambda k: normalised(k, 0.45, 0.22)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    # The converter folds a factor alone ("0 to 1", "grey") into the weights, and an offset without padding ("arithmetic").
    [*((name, kind) for kind in (".keras", ".tflite") for name in BYTES), ("-1 to 1", ".h5")],
)
def test_the_lines_for_image_folders_make_bytes_of_their_values(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    model = BYTES[name](keras)
    notes = write(save(model, tmp_path, kind), tmp_path / "in", loss="mse")
    file = tmp_path / "in" / "experiment.toml"
    before, _, behind = file.read_text().partition("[data]\n")
    comment = behind.partition("\n\n")[0].splitlines()
    lines = [line.removeprefix("# ") for line in comment if line.startswith("# ") and " = " in line]
    (note,) = (each for each in notes if "expects bytes" in each)
    assert "image folders" in note and ", ".join(lines) in note
    file.write_text(before + "[data]\n" + "\n".join(lines) + "\n\n" + behind.partition("\n\n")[2])
    designed = design(spec.load(file), boards.load("native"), "test")
    with np.load(tmp_path / "in" / "experiment.npz") as arrays:
        weights = {**arrays, **designed.weights}
    levels = np.random.default_rng(2).integers(0, 256, (3, *model.inputs[0].shape[1:])).astype(np.float32)
    agree(keras_model.build(designed.graph, weights)(levels / 255), model(levels, training=False))


@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize("name", list(OTHERS))
def test_other_inputs_are_not_called_bytes(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    notes = write(save(OTHERS[name](keras), tmp_path, kind), tmp_path / "in", loss="mse")
    text = (tmp_path / "in" / "experiment.toml").read_text()
    assert not any("bytes" in note for note in notes) and "0 to 255" not in text


def test_sensors_of_a_wide_range_are_not_called_bytes(keras: Any, tmp_path: Path) -> None:
    model = chain(keras, (20, 3), normalised(keras, 120, 60), keras.layers.Flatten(), keras.layers.Dense(2))
    notes = write(save(model, tmp_path, ".keras"), tmp_path / "in", loss="mse")
    assert not any("bytes" in note for note in notes)


@pytest.mark.parametrize("rescaling", [(), (1 / 255,), (1 / 127.5, -1.0)])
def test_initial_weights_are_not_taken_for_folded_ones(keras: Any, tmp_path: Path, rescaling: tuple[float, ...]) -> None:
    layers = keras.layers
    for number, first in enumerate([layers.Conv2D(64, 7, strides=2), layers.Conv2D(8, 3), layers.Flatten()]):
        rescaled = [layers.Rescaling(*rescaling)] if rescaling else []
        before = [first, *rescaled] if number == 2 else [*rescaled, first]  # of a flat image the converter folds it too
        model = chain(keras, (28, 24, 3), *before, layers.Flatten(), layers.Dense(64), layers.Dense(2))
        folder = tmp_path / str(number)
        folder.mkdir()
        notes = write(save(model, folder, ".tflite"), folder / "in", loss="mse")
        assert any("expects bytes" in note for note in notes) == bool(rescaling)
