"""Random small Keras models, functional, nested and reshaped: an import has TensorFlow's outputs, or is refused by name."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import reference_outputs, write
from with_tensorflow import needs_tensorflow

from tinymetafed.runs.tensorflow import ModelFileError, require

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]
MODELS, PER_TEST = 300, 30
KINDS = (".keras", ".keras", ".h5", ".tflite")
NEWER = ("silu", "elu", "gelu", "hard_sigmoid", "hard_swish", "selu", "softplus")
# The models of a test in which nothing was refused would prove as little as those in which all were.
FEWEST_IMPORTED = PER_TEST // 2


class Builder:
    """Builds one model from random numbers."""

    def __init__(self, keras: Any, seed: int) -> None:
        self.keras, self.layers, self.random = keras, keras.layers, np.random.default_rng(seed)

    def pick(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def model(self) -> Any:
        shape = self.pick((6,), (12,), (8, 2), (12, 1), (1, 3), (3, 1, 1), (1, 4, 2), (6, 5, 2), (5, 4, 1), (4, 6, 3))
        x = first = self.keras.Input(shape=shape)
        x = self.stack(x, int(self.random.integers(2, 7)), depth=0)
        if len(x.shape) > 2:
            x = self.layers.Flatten()(x)
        return self.randomised(self.keras.Model(first, self.layers.Dense(2)(x)))

    def stack(self, x: Any, count: int, depth: int) -> Any:
        """Some layers on a tensor, with merges and branches between them."""
        made = [x]
        for _ in range(count):
            x = self.nested(x) if depth == 0 and self.random.random() < 0.15 else self.one(x)
            made.append(x)
            if self.random.random() < 0.4:
                made.append(x := self.merged(x, made))
        return x

    def merged(self, x: Any, made: list[Any]) -> Any:
        """A tensor with an earlier one of the same shape, with another layer on the same tensor, or times one factor each."""
        layers, shape = self.layers, x.shape[1:]
        equal = [other for other in made[:-1] if other.shape == x.shape]
        beside = self.pick(*made)
        if not equal or self.random.random() < 0.3:
            equal = [layers.Reshape(shape)(layers.Dense(math.prod(shape))(layers.Flatten()(beside)))]
        kind = self.random.random()
        if kind < 0.25 and len(shape) > 1:
            pool = layers.GlobalAveragePooling2D if len(shape) == 3 else layers.GlobalMaxPooling1D
            factors = layers.Dense(shape[-1], activation="sigmoid")(pool(keepdims=self.pick(True, False))(x))
            return layers.Multiply()([x, factors] if self.random.random() < 0.5 else [factors, x])
        if kind < 0.45:
            return layers.Concatenate(axis=int(self.random.integers(1, len(x.shape))))([self.pick(*equal), x])
        merge = self.pick(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum)()
        third = [self.pick(*equal)] if self.random.random() < 0.3 and not isinstance(merge, layers.Subtract) else []
        pair = [x, self.pick(*equal)]
        return merge([*(pair if self.random.random() < 0.5 else reversed(pair)), *third])

    def nested(self, x: Any) -> Any:
        """The same as a model of its own, with one input or with two."""
        inner = self.keras.Input(shape=x.shape[1:])
        if self.random.random() < 0.3:
            other = self.keras.Input(shape=x.shape[1:])
            y = self.one(inner)
            if y.shape == other.shape:
                return self.keras.Model([inner, other], self.layers.Add()([y, other]))([self.layers.Activation("tanh")(x), x])
        return self.keras.Model(inner, self.stack(inner, 2, depth=1))(x)

    def one(self, x: Any) -> Any:
        """One random layer that takes a tensor of this shape."""
        layers, shape = self.layers, tuple(x.shape[1:])
        size = int(self.random.integers(1, 4))
        activation = "mish" if self.random.random() < 0.02 else self.pick(None, "relu", "tanh", "relu6", "sigmoid", *NEWER)
        common = {"activation": activation, "use_bias": self.pick(True, False)}
        window = {"padding": self.pick("same", "valid"), "strides": self.pick(1, 1, 2)}
        if window["padding"] == "valid":
            size = min(size, *shape[:-1]) if len(shape) > 1 else size
        if self.random.random() < 0.25:
            return self.padded_or_normalised(x, size)
        anywhere = [
            lambda: layers.BatchNormalization() if self.random.random() < 0.3 else layers.Activation("sigmoid"),
            lambda: self.pick(layers.ReLU(), layers.LeakyReLU(), layers.Softmax(), layers.Activation("tanh"), layers.ReLU(6.0)),
            lambda: self.pick(
                layers.ELU(0.5), layers.PReLU(shared_axes=[1] if len(shape) > 1 else None), layers.LeakyReLU(1e-7)
            ),
            lambda: self.pick(layers.Dropout(0.1), layers.Identity()),
            lambda: layers.Reshape(self.factors(math.prod(shape))),
            lambda: layers.Reshape(
                (*shape[:-1], 1, shape[-1]) if len(shape) == 2 else tuple(n for n in shape if n != 1) or (1,)
            ),
            lambda: layers.Dense(self.pick(3, 6), **common),
        ]
        sequence = [
            lambda: layers.Conv1D(self.pick(2, 4), size, **window, **common),
            lambda: layers.Conv1D(3, size, padding="causal", **common),
            lambda: layers.DepthwiseConv1D(size, **window, **common),
            lambda: layers.SeparableConv1D(3, size, **window, **common),
            lambda: self.pick(layers.MaxPooling1D, layers.AveragePooling1D)(size, **window),
            lambda: self.pick(layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D)(keepdims=self.pick(True, False)),
        ]
        image = [
            lambda: layers.Conv2D(self.pick(2, 3), size, **window, **common),
            lambda: layers.Conv2D(2, self.window(shape), padding=window["padding"], **common),
            lambda: layers.DepthwiseConv2D(size, **window, **common),
            lambda: layers.SeparableConv2D(3, size, **window, **common),
            lambda: self.pick(layers.MaxPooling2D, layers.AveragePooling2D)(size, **window),
            lambda: self.pick(layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D)(keepdims=self.pick(True, False)),
        ]
        return self.pick(*anywhere, *[[], sequence * 2, image * 2][len(shape) - 1])()(x)

    def padded_or_normalised(self, x: Any, size: int) -> Any:
        """A layer with weights behind zeros or before a normalisation."""
        layers, rank = self.layers, len(x.shape) - 1
        if rank == 1:
            return layers.BatchNormalization()(layers.Dense(self.pick(3, 6), use_bias=self.pick(True, False))(x))
        convolution = layers.Conv1D if rank == 2 else layers.Conv2D
        if self.random.random() < 0.5:
            return layers.BatchNormalization(scale=self.pick(True, False))(convolution(3, size, padding="same")(x))
        zeros = self.pick((1, 1), (0, 1), (2, 0))
        padding = layers.ZeroPadding1D(zeros) if rank == 2 else layers.ZeroPadding2D((zeros, self.pick((1, 1), (0, 1))))
        return convolution(3, 3, strides=self.pick(1, 2), padding="same")(padding(x))

    def window(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return int(self.random.integers(1, shape[0] + 1)), int(self.random.integers(1, shape[1] + 1))

    def factors(self, size: int) -> tuple[int, ...]:
        """A random shape of one to three axes with this number of values."""
        found: list[int] = []
        for _ in range(int(self.random.integers(0, 3))):
            factor = self.pick(*[n for n in range(1, size + 1) if size % n == 0])
            found.append(factor)
            size //= factor
        return (*found, size)

    def randomised(self, model: Any) -> Any:
        """Weights that keep the values near 1; variances are above 0."""
        model.set_weights([
            self.random.uniform(0.5, 1.5, v.shape)
            if "variance" in v.path
            else self.random.normal(0, 1, v.shape) / max(np.sqrt(math.prod(v.shape[:-1])), 1)
            for v in model.weights
        ])  # fmt: skip
        return model


def saved(model: Any, file: Path) -> Path:
    if file.suffix == ".tflite":
        file.write_bytes(importlib.import_module("tensorflow").lite.TFLiteConverter.from_keras_model(model).convert())
    else:
        model.save(file)
    return file


@pytest.mark.parametrize("first", range(0, MODELS, PER_TEST))
def test_random_models_have_equal_outputs_or_are_refused(tmp_path: Path, first: int) -> None:
    keras = require("keras", "the test")
    imported = 0
    for seed in range(first, first + PER_TEST):
        keras.utils.clear_session()
        model = Builder(keras, seed).model()
        kind = KINDS[seed % len(KINDS)]
        inputs = np.random.default_rng(seed).normal(0, 1, (2, *model.inputs[0].shape[1:])).astype(np.float32)
        expected = keras.ops.convert_to_numpy(model(inputs))
        try:
            write(saved(model, tmp_path / f"{seed}{kind}"), tmp_path / str(seed), loss="mse")
        except ModelFileError as error:
            assert f"{seed}{kind}: " in str(error), "a refusal names the file"
            assert "other outputs than the file" not in str(error), f"seed {seed}: read wrongly: {error}"
            continue
        given = reference_outputs(tmp_path / str(seed), inputs)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * scale, err_msg=f"seed {seed}, {kind}")
        imported += 1
    assert imported >= FEWEST_IMPORTED
