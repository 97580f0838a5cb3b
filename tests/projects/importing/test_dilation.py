"""Dilated convolutions: sequences that train, and others that are read where they are frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from imported import write
from keras_models import chain, mixed, same
from with_tensorflow import needs_tensorflow

from tinymetafed.runs.tensorflow import ModelFileError
from tinymetafed_codegen import spec

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]
DILATED: dict[str, tuple[tuple[int, ...], Callable[[Any], list[Any]]]] = {
    "same": ((12, 2), lambda k: [k.layers.Conv1D(4, 3, dilation_rate=2, padding="same", activation="relu")]),
    "valid": ((12, 2), lambda k: [k.layers.Conv1D(4, 3, dilation_rate=3, activation="tanh")]),
    "causal, doubled": (
        (16, 2), lambda k: [k.layers.Conv1D(3, 3, dilation_rate=d, padding="causal", activation="relu") for d in (1, 2, 4, 8)],
    ),
    "depthwise": ((12, 2), lambda k: [k.layers.DepthwiseConv1D(3, dilation_rate=2, padding="same")]),
    "separable": ((12, 2), lambda k: [k.layers.SeparableConv1D(3, 3, dilation_rate=2, padding="same", activation="relu")]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize("name", list(DILATED))
def test_dilated_sequences_train(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    shape, layers = DILATED[name]
    same(mixed(chain(keras, shape, *layers(keras), keras.layers.Flatten(), keras.layers.Dense(2))), tmp_path, kind)
    made: Any = spec.load(tmp_path / "in" / "experiment.toml").model.layers
    assert not any(getattr(each, "frozen", False) for each in made), "all layers train"


FIRST_LAYERS: dict[str, tuple[Callable[[Any], Any], list[int]]] = {
    "Conv1D": (lambda k: k.layers.Conv1D(8, 3, dilation_rate=2, padding="same"), [25, 2, 3]),
    "causal": (lambda k: k.layers.Conv1D(4, 2, dilation_rate=5, padding="causal"), [10, 5, 3]),
    "depthwise": (lambda k: k.layers.DepthwiseConv1D(3, padding="same"), [1, 50, 3]),
    "dilated depthwise": (lambda k: k.layers.DepthwiseConv1D(3, dilation_rate=2, padding="same"), [25, 2, 3]),
    "separable": (lambda k: k.layers.SeparableConv1D(4, 3), [1, 50, 3]),
    "pool": (lambda k: k.layers.MaxPooling1D(2), [1, 50, 3]),
}


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize("name", list(FIRST_LAYERS))
def test_a_sequence_stays_the_input_of_a_first_layer_over_images(
    keras: Any, tmp_path: Path, name: str, kind: str, rescaled: bool
) -> None:
    build, shape = FIRST_LAYERS[name]
    rescaling = [keras.layers.Rescaling(0.5, 1)] if rescaled else []
    same(mixed(chain(keras, (50, 3), *rescaling, build(keras), keras.layers.Flatten(), keras.layers.Dense(2))), tmp_path, kind)
    model = spec.load(tmp_path / "in" / "experiment.toml").model
    first: Any = next(each for each in model.layers if each.op == "reshape")
    assert model.input == (50, 3) and list(first.shape) == shape


@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((9, 2), lambda k: k.layers.Conv1D(4, 3, dilation_rate=2, padding="same")),
        ((12, 2), lambda k: k.layers.Conv1D(4, 4, dilation_rate=2, padding="same")),
        ((9, 8, 2), lambda k: k.layers.Conv2D(4, 3, dilation_rate=(2, 3))),
        ((7, 6, 2), lambda k: k.layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")),
    ],
)
def test_other_dilated_convolutions_are_read_where_frozen(
    keras: Any, tmp_path: Path, shape: tuple[int, ...], build: Callable[[Any], Any], kind: str
) -> None:
    model = mixed(chain(keras, shape, build(keras), keras.layers.Flatten(), keras.layers.Dense(2)))
    same(model, tmp_path, kind, freeze="1")
    with pytest.raises(
        ModelFileError, match=r"dilation.* is supported in frozen layers only.* --freeze, or build it"
    ) as caught:
        write(tmp_path / f"net{kind}", tmp_path / "trained", loss="mse")
    assert ("a multiple of its dilation" in str(caught.value)) == (len(shape) == 2)
