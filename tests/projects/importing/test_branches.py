"""Models with branches and merges, as keras.applications has them: imported from every format with TensorFlow's outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from imported import write
from keras_models import chain, mixed, same, save
from with_tensorflow import needs_tensorflow

from tinymetafed.runs.tensorflow import ModelFileError
from tinymetafed_codegen import spec

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]


def normalised(k: Any, x: Any, activation: float | None = None) -> Any:
    x = k.layers.BatchNormalization()(x)
    return x if activation is None else k.layers.ReLU(activation)(x)


def inverted_residual(k: Any, x: Any, expansion: int, filters: int, stride: int) -> Any:
    """A block of MobileNetV2."""
    channels = x.shape[-1]
    y = normalised(k, k.layers.Conv2D(expansion * channels, 1, use_bias=False)(x), 6.0)
    if stride == 2:
        y = k.layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
    padding = "same" if stride == 1 else "valid"
    y = normalised(k, k.layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False)(y), 6.0)
    y = normalised(k, k.layers.Conv2D(filters, 1, use_bias=False)(y))
    return k.layers.Add()([x, y]) if stride == 1 and channels == filters else y


def mobilenet_v2(k: Any) -> Any:
    first = k.Input(shape=(8, 8, 2))
    x = normalised(k, k.layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False)(first), 6.0)
    for filters, stride in ((3, 1), (4, 2), (4, 1), (4, 1)):
        x = inverted_residual(k, x, 2, filters, stride)
    return k.Model(first, k.layers.Dense(2)(k.layers.GlobalAveragePooling2D()(x)))


def residual_with_shortcut(k: Any) -> Any:
    """The blocks of MLPerf Tiny's ResNet8."""
    first = k.Input(shape=(8, 8, 2))
    x = normalised(k, k.layers.Conv2D(3, 3, padding="same")(first), None)
    x = k.layers.Activation("relu")(x)
    for filters, stride in ((3, 1), (4, 2)):
        y = k.layers.Activation("relu")(normalised(k, k.layers.Conv2D(filters, 3, strides=stride, padding="same")(x)))
        y = normalised(k, k.layers.Conv2D(filters, 3, padding="same")(y))
        if stride == 2:
            x = k.layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        x = k.layers.Activation("relu")(k.layers.Add()([x, y]))
    x = k.layers.Flatten()(k.layers.AveragePooling2D(4)(x))
    return k.Model(first, k.layers.Dense(2)(x))


def excited(k: Any, form: str) -> Any:
    """Squeeze and excitation in the forms in which it is written."""
    first = k.Input(shape=(6, 5, 2))
    x = k.layers.Conv2D(4, 3, activation="relu")(first)
    y = k.layers.GlobalAveragePooling2D(keepdims=form == "kept axes")(x)
    if form in ("reshaped", "reshaped behind"):
        y = k.layers.Reshape((1, 1, 4))(y) if form == "reshaped" else y
    if form in ("kept axes", "reshaped"):
        y = k.layers.Conv2D(4, 1, activation="sigmoid")(k.layers.Conv2D(2, 1, activation="relu")(y))
    else:
        y = k.layers.Dense(4, activation="sigmoid")(k.layers.Dense(2, activation="relu")(y))
    if form == "reshaped behind":
        y = k.layers.Reshape((1, 1, 4))(y)
    x = x * y if form == "reshaped behind" else k.layers.Multiply()([y, x] if form == "kept axes" else [x, y])
    return k.Model(first, k.layers.Dense(2)(k.layers.Flatten()(k.layers.Conv2D(3, 2)(x))))


def inception(k: Any) -> Any:
    """Branches side by side, the first ones on the input."""
    first = k.Input(shape=(6, 6, 2))
    x = k.layers.Concatenate()([
        k.layers.Conv2D(2, 1, activation="relu")(first),
        k.layers.Conv2D(3, 3, padding="same", activation="relu")(first),
        k.layers.Conv2D(1, 1)(k.layers.MaxPooling2D(3, strides=1, padding="same")(first)),
        first,
    ])  # fmt: skip
    x = k.layers.Concatenate(axis=1)([k.layers.Conv2D(2, 2)(x), k.layers.Conv2D(2, 2, strides=(2, 1))(x)])
    x = k.layers.Concatenate(axis=-2)([x, k.layers.Activation("tanh")(x)])
    return k.Model(first, k.layers.Dense(2)(k.layers.Flatten()(x)))


def merged_vectors(k: Any) -> Any:
    first = k.Input(shape=(5,))
    a, b, c = (k.layers.Dense(4, activation=each)(first) for each in ("tanh", "relu", None))
    layers = k.layers
    found = [
        layers.Add()([a, b, c, a]), layers.Average()([a, b, c]), layers.Maximum()([c, a, b]), layers.Minimum()([a, c]),
        layers.Multiply()([a, b, c]), layers.Subtract()([a, c]),
    ]  # fmt: skip
    return k.Model(first, layers.Dense(2)(layers.Concatenate()(found)))


def merged_sequences(k: Any) -> Any:
    first = k.Input(shape=(9, 2))
    x = k.layers.Conv1D(3, 3, padding="same", activation="relu")(first)
    gate = k.layers.Conv1D(1, 1, activation="sigmoid")(x)  # one factor per step
    y = k.layers.Multiply()([x, gate])
    y = k.layers.Concatenate(axis=1)([y, k.layers.Subtract()([x, y])])
    factors = k.layers.Dense(3)(k.layers.GlobalMaxPooling1D()(y))
    y = k.layers.Average()([k.layers.Multiply()([factors, y]), y])
    return k.Model(first, k.layers.Dense(2)(k.layers.GlobalAveragePooling1D()(y)))


def operations(k: Any) -> Any:
    first = k.Input(shape=(4,))
    a, b = k.layers.Dense(3)(first), k.layers.Dense(3, activation="tanh")(first)
    c = k.ops.concatenate([a * b, a - b, k.ops.maximum(a, b), k.ops.minimum(b, a)], axis=-1)
    c = 2 * (1.5 - c) / 4 + 0.25 - 1
    return k.Model(first, k.layers.Dense(2)(k.layers.Dense(4, activation="relu")(c)))


MODELS: dict[str, Callable[[Any], Any]] = {
    **{f.__name__: f for f in (mobilenet_v2, residual_with_shortcut, inception, merged_vectors, merged_sequences, operations)},
    **{
        f"excited, {form}": lambda k, form=form: excited(k, form)
        for form in ("kept axes", "dense", "reshaped", "reshaped behind")
    },
}


WITH_OPERATIONS = ("operations", "excited, reshaped behind")  # Keras itself cannot load these from .h5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in sorted(MODELS)
        for kind in (".keras", ".h5", ".tflite")
        if kind != ".h5" or name not in WITH_OPERATIONS
    ],
)
def test_branches_are_imported(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    same(mixed(MODELS[name](keras)), tmp_path, kind)


def test_the_experiment_says_where_a_branch_begins(keras: Any, tmp_path: Path) -> None:
    write(save(residual_with_shortcut(keras), tmp_path, ".keras"), tmp_path / "in", loss="mse")
    layers: Any = spec.load(tmp_path / "in" / "experiment.toml").model.layers
    assert any(layer.from_ for layer in layers)


def test_a_softmax_before_the_last_flatten_goes_into_the_loss(keras: Any, tmp_path: Path) -> None:
    layers = [keras.layers.GlobalAveragePooling2D(keepdims=True), keras.layers.Conv2D(3, 1), keras.layers.Flatten()]
    model = mixed(chain(keras, (4, 4, 2), keras.layers.Conv2D(2, 3), *layers, keras.layers.Softmax()))  # as in MobileNetV3
    notes = write(save(model, tmp_path, ".keras"), tmp_path / "in")
    assert any("the last softmax is left out, softmax_cross_entropy applies it itself" in note for note in notes)


REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "samples": (lambda k, x: k.layers.Concatenate(axis=0)([x, x]), "axis = 0 joins samples; join their values along another"),
    "shapes": (lambda k, x: k.layers.Add()([x, k.layers.GlobalAveragePooling2D()(x)]), "add expects two equal shapes, not"),
    "names": (
        lambda k, x: k.layers.Add()([x, k.layers.GlobalAveragePooling2D(name="mean", keepdims=True)(x)]),
        "not [4, 4, 2] and [1, 1, 2] of 'mean' (its first input is 'below'); build the model so that their shapes fit, or use",
    ),
    "axes": (lambda k, x: k.layers.Multiply()([x, k.layers.MaxPooling2D((4, 1))(x)]), "one factor per channel"),
    "dot": (lambda k, x: k.layers.Dot(3)([x, x]), "Dot is not supported; the nearest one is Mul"),
    "operation": (lambda k, x: x / (x + 1), "the operation TrueDivide of keras.ops is not supported here"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_stays_out_is_refused_by_name(keras: Any, tmp_path: Path, name: str) -> None:
    build, expected = REFUSED[name]
    first = keras.Input(shape=(4, 4, 2))
    y = keras.layers.Flatten()(build(keras, keras.layers.Conv2D(2, 1, name="below")(first)))
    file = save(keras.Model(first, keras.layers.Dense(2)(y)), tmp_path, ".keras")
    with pytest.raises(ModelFileError, match=r"net\.keras: layer \d+, '.+' \(") as caught:
        write(file, tmp_path / "in", loss="mse")
    assert expected in str(caught.value)
