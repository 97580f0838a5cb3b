"""Models whose import once gave other outputs, another loss or a false refusal: now as in TensorFlow, or refused by name."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import reference_outputs as outputs
from imported import write
from with_tensorflow import agree, needs_tensorflow

from tinymetafed.runs.tensorflow import ModelFileError, require
from tinymetafed_codegen import spec

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def keras() -> Any:
    module = require("keras", "the test")
    module.utils.clear_session()
    return module


def ones(model: Any) -> Any:
    """Gives every kernel ones and every bias zeros."""
    model.set_weights([np.zeros(w.shape) if w.ndim == 1 else np.ones(w.shape) for w in model.get_weights()])
    return model


def mixed(model: Any) -> Any:
    """Gives every weight a random value; variances are above 0."""
    random = np.random.default_rng(3)
    model.set_weights(
        [random.uniform(0.3, 1, v.shape) if "variance" in v.name else random.normal(0, 0.5, v.shape) for v in model.weights]
    )
    return model


def chain(k: Any, shape: tuple[int, ...], *layers: Any) -> Any:
    return k.Sequential([k.Input(shape=shape), *layers])


def save(model: Any, folder: Path, kind: str) -> Path:
    """The model as a file of a format."""
    file = folder / f"net{kind}"
    if kind == "":
        model.export(str(file), verbose=False)
    elif kind == ".tflite":
        file.write_bytes(importlib.import_module("tensorflow").lite.TFLiteConverter.from_keras_model(model).convert())
    else:
        model.save(file)
    return file


def same(model: Any, folder: Path, kind: str, **options: Any) -> list[str]:
    """Imports a model and compares its outputs with those of Keras; returns the notes."""
    notes = write(save(model, folder, kind), folder / "in", loss=options.pop("loss", "mse"), **options)
    inputs = np.random.default_rng(2).normal(0, 1, (3, *model.inputs[0].shape[1:])).astype(np.float32)
    agree(outputs(folder / "in", inputs), model(inputs))
    return notes


AXES_OF_ONE: dict[str, tuple[Callable[[Any], Any], float]] = {
    "turned": (
        lambda k: chain(
            k, (1, 3, 1), k.layers.Conv2D(1, 1), k.layers.Reshape((3, 1, 1)), k.layers.Conv2D(1, (3, 1), padding="same"),
            k.layers.Flatten(), k.layers.Dense(1),
        ),
        14,
    ),
    "upright input": (
        lambda k: chain(
            k, (3, 1), k.layers.Reshape((3, 1, 1)), k.layers.Conv2D(1, (1, 3), padding="same"), k.layers.Flatten(),
            k.layers.Dense(1),
        ),
        6,
    ),
    "image to sequence": (
        lambda k: chain(
            k, (3, 1, 1), k.layers.Conv2D(1, (3, 1), padding="same"), k.layers.Reshape((3, 1)),
            k.layers.Conv1D(1, 3, padding="same"), k.layers.Flatten(), k.layers.Dense(1),
        ),
        34,
    ),
    "softmax over one row": (
        lambda k: chain(
            k, (1, 3, 1), k.layers.Conv2D(1, 1), k.layers.Reshape((1, 3)), k.layers.Softmax(), k.layers.Flatten(),
            k.layers.Dense(1),
        ),
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".keras", ".h5", ".tflite", ""], ids=["keras", "h5", "tflite", "SavedModel"])
@pytest.mark.parametrize("name", sorted(AXES_OF_ONE))
def test_axes_of_size_one_count(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    build, expected = AXES_OF_ONE[name]
    write(save(ones(build(keras)), tmp_path, kind), tmp_path / "in", loss="mse")
    given = outputs(tmp_path / "in", np.array([[1, 2, 3]]))
    np.testing.assert_allclose(given.ravel(), [expected], rtol=1e-6)


def two_inputs_inside(k: Any, form: str) -> Any:
    p, q = k.Input(shape=(1,), name="p"), k.Input(shape=(1,), name="q")
    total = k.layers.Add()([k.layers.Dense(1, name="of_p")(p), q])
    inner = k.Model({"p": p, "q": q} if form == "dict" else [p, q], total)
    x = k.Input(shape=(1,))
    z = k.layers.Dense(1, name="bottom")(x)
    y = k.layers.Dense(1, name="ten")(z)
    call = {"list": [y, z], "dict": {"q": z, "p": y}, "dict to list": {"q": z, "p": y}}[form]
    return k.Model(x, inner(call))


@pytest.mark.parametrize("form", ["list", "dict", "dict to list"])
@pytest.mark.parametrize("kind", [".keras", ".h5"])
def test_a_nested_model_gets_its_inputs_in_order(keras: Any, tmp_path: Path, form: str, kind: str) -> None:
    model = two_inputs_inside(keras, form)
    values = iter([[[1.0]], [0.0], [[10.0]], [0.0], [[3.0]], [0.5]])
    for name in ("bottom", "ten", "of_p"):
        layer = model.get_layer(name) if name != "of_p" else model.layers[-1].get_layer("of_p")
        layer.set_weights([np.array(next(values)), np.array(next(values))])
    assert float(model(np.array([[1.0]]))[0, 0]) == 31.5
    same(model, tmp_path, kind)


def test_a_nested_model_may_have_two_outputs(keras: Any, tmp_path: Path) -> None:
    a = keras.Input(shape=(3,))
    hidden = keras.layers.Dense(3)(a)
    inner = keras.Model(a, [hidden, keras.layers.Dense(3)(hidden)])
    x = keras.Input(shape=(3,))
    low, high = inner(keras.layers.Dense(3)(x))
    same(mixed(keras.Model(x, keras.layers.Dense(2)(keras.layers.Add()([high, low])))), tmp_path, ".keras")


def test_an_unused_output_of_a_nested_model_is_left_out(keras: Any, tmp_path: Path) -> None:
    a = keras.Input(shape=(3,))
    hidden = keras.layers.Dense(3)(a)
    inner = keras.Model(a, [keras.layers.Dense(4)(hidden), hidden])
    x = keras.Input(shape=(3,))
    same(mixed(keras.Model(x, keras.layers.Dense(2)(inner(x)[1]))), tmp_path, ".keras")


def test_operations_of_keras_are_read_or_refused_by_name(keras: Any, tmp_path: Path) -> None:
    x = keras.Input(shape=(12,))
    y = keras.layers.Conv2D(2, 2)(keras.ops.reshape(x, (-1, 2, 6, 1)))
    y = y + keras.layers.Conv2D(2, 1)(y)
    same(mixed(keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(y)))), tmp_path, ".keras")
    keras.Model(x, keras.layers.Dense(2)(keras.ops.exp(x))).save(tmp_path / "exp.keras")
    with pytest.raises(ModelFileError, match=r"exp\.keras: layer 1, 'exp.*' \(Exp\): the operation Exp of keras.ops is not"):
        write(tmp_path / "exp.keras", tmp_path / "other", loss="mse")


def compiled(k: Any, loss: Any, last: str | None, units: int = 3) -> Any:
    model = chain(k, (4,), k.layers.Dense(5), k.layers.Dense(units, activation=last))
    model.compile(loss=loss(k.losses) if callable(loss) else loss, optimizer="sgd")
    return model


CARRIED: list[tuple[Any, str | None, str, str | None]] = [
    ("mse", "softmax", "mse", "softmax"),
    ("mae", "sigmoid", "mae", "sigmoid"),
    (["mse"], "tanh", "mse", "tanh"),
    ("categorical_crossentropy", "softmax", "softmax_cross_entropy", None),
    ("sparse_categorical_crossentropy", "softmax", "softmax_cross_entropy", None),
    (lambda losses: losses.CategoricalCrossentropy(from_logits=True), None, "softmax_cross_entropy", None),
    (lambda losses: losses.CategoricalCrossentropy(), "softmax", "softmax_cross_entropy", None),
    (lambda losses: losses.MeanSquaredError(), None, "mse", None),
    ("huber", None, "huber", None),
]


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("case", range(len(CARRIED)))
def test_the_loss_of_the_file_is_carried_over(keras: Any, tmp_path: Path, case: int, kind: str) -> None:
    loss, last, name, activation = CARRIED[case]
    write(save(compiled(keras, loss, last), tmp_path, kind), tmp_path / "in")
    model = spec.load(tmp_path / "in" / "experiment.toml").model
    layer: Any = model.layers[-1]
    assert (model.loss, layer.activation) == (name, activation)


REFUSED: list[tuple[Any, str | None, str]] = [
    (lambda losses: losses.Huber(delta=0.5), None, "Huber: the file does not say its delta"),
    ("categorical_crossentropy", "sigmoid", "takes the outputs of a softmax, the last layer is a sigmoid"),
    ("categorical_crossentropy", None, "takes the outputs of a softmax, the last layer is a dense"),
    ("binary_crossentropy", "softmax", "takes the outputs of a sigmoid, the last layer is a softmax"),
    (lambda losses: losses.BinaryCrossentropy(from_logits=True), "sigmoid", "takes logits, the last layer is a sigmoid"),
    (lambda losses: losses.CategoricalCrossentropy(label_smoothing=0.2), "softmax", "(label_smoothing=0.2): smoothed labels"),
    (
        lambda losses: losses.CategoricalFocalCrossentropy(),
        "softmax",
        "CategoricalFocalCrossentropy: not supported; the nearest one is softmax_cross_entropy, choose with --loss",
    ),
    (lambda losses: losses.SparseCategoricalCrossentropy(ignore_class=0), "softmax", "a class that is left out"),
    ("mean_squared_logarithmic_error", None, "the nearest one is mse"),
    ("log_cosh", None, "the nearest one is huber"),
    ("hinge", "tanh", "the nearest one is binary_crossentropy"),
    ("kl_divergence", "softmax", "the nearest one is softmax_cross_entropy"),
]


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_a_loss_that_trains_to_something_else_is_refused_by_name(keras: Any, tmp_path: Path, case: int, kind: str) -> None:
    loss, last, expected = REFUSED[case]
    file = save(compiled(keras, loss, last), tmp_path, kind)
    with pytest.raises(ModelFileError) as caught:
        write(file, tmp_path / "in")
    if "ignore_class" not in expected and not (kind == ".h5" and expected.startswith("a class")):
        assert expected in str(caught.value) and "net" in str(caught.value)
    write(file, tmp_path / "chosen", loss="mse")


def test_a_delta_in_the_file_is_carried_over(keras: Any, tmp_path: Path) -> None:
    """Keras 2 wrote it into .h5 files; Keras 3 leaves it out."""
    file = save(compiled(keras, "huber", None), tmp_path, ".h5")
    with importlib.import_module("h5py").File(file, "r+") as content:
        config = json.loads(content.attrs["training_config"])
        config["loss"] = [{"class_name": "Huber", "config": {"delta": 0.25, "name": "huber_loss"}}]
        content.attrs["training_config"] = json.dumps(config)
    write(file, tmp_path / "in")
    model = spec.load(tmp_path / "in" / "experiment.toml").model
    assert (model.loss, model.huber_delta) == ("huber", 0.25)


def test_what_trains_differently_is_said(keras: Any, tmp_path: Path) -> None:
    model = chain(
        keras, (3,), keras.layers.Dense(4, use_bias=False, name="bare"),
        keras.layers.Dense(4, kernel_regularizer="l2", kernel_constraint="max_norm", name="held"), keras.layers.Dense(2),
    )  # fmt: skip
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    notes = "\n".join(same(model, tmp_path, ".keras", loss=None))
    assert "'bare' (Dense): has no bias in the file; here it has one" in notes
    assert "'held' (Dense): its regulariser (L2) is left out" in notes
    assert "'held' (Dense): its constraint (MaxNorm) is left out" in notes
    assert "momentum is left out; for the same set model.momentum = 0.9" in notes


def test_a_layer_used_twice_in_tflite_is_said(keras: Any, tmp_path: Path) -> None:
    x = keras.Input(shape=(3,))
    shared = keras.layers.Dense(3, activation="relu")
    notes = same(mixed(keras.Model(x, keras.layers.Dense(2)(shared(shared(x))))), tmp_path, ".tflite")
    assert any("has the weights of 'dense1' in the file; here 'dense2' is a layer of its own" in note for note in notes)


def strip_names(file: Path) -> None:
    """Removes the names of all tensors, as converters for small devices do."""
    schema = require("tensorflow.lite.python.schema_py_generated", "the test")
    flatbuffers = importlib.import_module("flatbuffers")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file.read_bytes(), 0))
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    file.write_bytes(bytes(builder.Output()))


def test_a_file_without_names_is_read(keras: Any, tmp_path: Path) -> None:
    model = mixed(chain(keras, (4, 4, 1), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)))
    file = save(model, tmp_path, ".tflite")
    strip_names(file)
    write(file, tmp_path / "in", loss="mse")
    inputs = np.random.default_rng(2).normal(0, 1, (3, 4, 4, 1)).astype(np.float32)
    agree(outputs(tmp_path / "in", inputs), model(inputs))


def skip(k: Any, *layers: Any) -> Any:
    x = k.Input(shape=(4,))
    y = low = k.layers.Dense(3)(x)
    for layer in layers:
        y = layer(y)
    return k.Model(x, k.layers.Dense(2)(k.layers.Activation("tanh")(k.layers.Add()([y, low]))))


def shared_relu(k: Any) -> Any:
    x, relu = k.Input(shape=(4,)), k.layers.ReLU()
    return k.Model(x, k.layers.Dense(2)(relu(k.layers.Dense(3)(relu(k.layers.Dense(3)(x))))))


VALID: dict[str, Callable[[Any], Any]] = {
    "image from rows": lambda k: chain(
        k, (6, 5), k.layers.Reshape((6, 5, 1)), k.layers.Conv2D(2, 3), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "image from a vector": lambda k: chain(
        k, (20,), k.layers.Reshape((20, 1, 1)), k.layers.Conv2D(3, 1), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "mean of a sequence from an image": lambda k: chain(
        k, (4, 2, 1), k.layers.Conv2D(1, 1), k.layers.Reshape((4, 2)), k.layers.GlobalAveragePooling1D(), k.layers.Dense(1)
    ),
    "sum of two dense layers": lambda k: skip(k, k.layers.Dense(3)),
    "normalisation behind a flatten": lambda k: chain(
        k, (4, 4, 1), k.layers.Conv2D(2, 3), k.layers.Flatten(), k.layers.BatchNormalization(), k.layers.Dense(2)
    ),
    "normalisation behind a pool": lambda k: chain(
        k, (6, 6, 1), k.layers.Conv2D(2, 3), k.layers.MaxPooling2D(2), k.layers.BatchNormalization(), k.layers.Conv2D(2, 2),
        k.layers.Flatten(), k.layers.Dense(2),
    ),
    "normalisation behind a relu": lambda k: chain(
        k, (4,), k.layers.Dense(3, activation="relu"), k.layers.BatchNormalization(), k.layers.Dense(2)
    ),
    "normalisation before all": lambda k: chain(k, (5,), k.layers.BatchNormalization(), k.layers.Dense(2)),
    "normalisation before zeros": lambda k: chain(
        k, (5, 5, 2), k.layers.Conv2D(3, 2, activation="relu"), k.layers.BatchNormalization(),
        k.layers.Conv2D(2, 3, padding="same"), k.layers.Flatten(), k.layers.Dense(2),
    ),
    "normalisation of a sequence": lambda k: chain(
        k, (7, 2), k.layers.BatchNormalization(), k.layers.Conv1D(3, 3, padding="same"), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "rescaled and reshaped": lambda k: chain(
        k, (20,), k.layers.Rescaling(0.5, offset=1.0), k.layers.Reshape((5, 4, 1)), k.layers.Conv2D(2, 3, padding="same"),
        k.layers.Flatten(), k.layers.Dense(2),
    ),
    "zeros": lambda k: chain(
        k, (5, 5, 1), k.layers.ZeroPadding2D(1), k.layers.Conv2D(2, 3), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "identity": lambda k: chain(k, (4,), k.layers.Dense(3), k.layers.Identity(), k.layers.Dense(2)),
    "shared relu": shared_relu,
    "slopes": lambda k: chain(
        k, (4,), k.layers.Dense(3), k.layers.LeakyReLU(negative_slope=0.0), k.layers.Dense(3),
        k.layers.LeakyReLU(negative_slope=1e-7), k.layers.Dense(3), k.layers.LeakyReLU(negative_slope=1.0), k.layers.Dense(2),
    ),
    "dense along the last axis": lambda k: chain(
        k, (4, 3), k.layers.Dense(5, activation="relu"), k.layers.Dense(2), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "dense on one row": lambda k: chain(
        k, (4, 3), k.layers.Conv1D(2, 2), k.layers.Reshape((1, 3, 2)), k.layers.Dense(5), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "dense on pixels": lambda k: chain(k, (4, 3, 2), k.layers.Dense(5), k.layers.Flatten(), k.layers.Dense(2)),
    "zeros before a stride": lambda k: chain(
        k, (8, 8, 3), k.layers.ZeroPadding2D(((0, 1), (0, 1))), k.layers.Conv2D(4, 3, strides=2, use_bias=False),
        k.layers.BatchNormalization(), k.layers.ReLU(6.0), k.layers.ZeroPadding2D(((0, 1), (0, 1))),
        k.layers.DepthwiseConv2D(3, strides=2), k.layers.GlobalAveragePooling2D(), k.layers.Dense(2),
    ),
    "zeros on both sides before a stride": lambda k: chain(
        k, (4, 4, 1), k.layers.ZeroPadding2D(1), k.layers.Conv2D(1, 3, strides=2), k.layers.Flatten(), k.layers.Dense(2)
    ),
    "zeros around a sequence": lambda k: chain(
        k, (9, 2), k.layers.ZeroPadding1D((2, 1)), k.layers.Conv1D(3, 4, strides=2, padding="same"), k.layers.Flatten(),
        k.layers.Dense(2),
    ),
    "causal": lambda k: chain(
        k, (9, 2), k.layers.Conv1D(3, 4, padding="causal"), k.layers.GlobalAveragePooling1D(), k.layers.Dense(2)
    ),
    "pools of a sequence": lambda k: chain(
        k, (17, 2), k.layers.Conv1D(3, 3), k.layers.MaxPooling1D(2), k.layers.Conv1D(4, 2, activation="relu"),
        k.layers.AveragePooling1D(3, strides=2, padding="same"), k.layers.GlobalMaxPooling1D(), k.layers.Dense(2),
    ),
    "largest of all pixels": lambda k: chain(
        k, (5, 4, 2), k.layers.Conv2D(3, 2), k.layers.GlobalMaxPooling2D(), k.layers.Dense(2)
    ),
    "depthwise sequence": lambda k: chain(
        k, (12, 3), k.layers.DepthwiseConv1D(3, strides=2, padding="same", activation="relu"), k.layers.SeparableConv1D(4, 3),
        k.layers.Flatten(), k.layers.Dense(2),
    ),
    "raw audio": lambda k: chain(
        k, (400, 1), k.layers.Conv1D(4, 80, strides=4), k.layers.BatchNormalization(), k.layers.ReLU(),
        k.layers.MaxPooling1D(4), k.layers.Flatten(), k.layers.Dense(2),
    ),
    "kept axes": lambda k: chain(
        k, (5, 4, 2), k.layers.Conv2D(3, 2), k.layers.GlobalAveragePooling2D(keepdims=True), k.layers.Conv2D(4, 1),
        k.layers.Reshape((4,)), k.layers.Dense(2),
    ),
    "reshape in the middle": lambda k: chain(
        k, (4, 4, 2), k.layers.Conv2D(3, 1), k.layers.Reshape((2, 8, 3)), k.layers.Conv2D(2, 2), k.layers.Flatten(),
        k.layers.Dense(2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize("name", sorted(VALID))
def test_valid_models_are_imported(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    same(mixed(VALID[name](keras)), tmp_path, kind)


FROZEN: dict[str, Callable[[Any], Any]] = {
    "dilation": lambda k: k.layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
    "groups": lambda k: k.layers.Conv2D(4, 3, groups=2, strides=2),
    "multiplier": lambda k: k.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "rescaled channels": lambda k: k.layers.Rescaling([0.5, 2.0], offset=[1.0, -1.0]),
}


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, ".keras") for name in FROZEN), ("groups", ".tflite"), ("multiplier", ".tflite")]
)
def test_frozen_layers_may_have_zeros_in_their_kernels(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    layers = [FROZEN[name](keras), keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    same(mixed(chain(keras, (7, 6, 2), *layers)), tmp_path, kind, freeze="1")


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


@pytest.mark.parametrize("kind", [".keras", ".h5", ".tflite"])
@pytest.mark.parametrize("given", ["int32", "uint8", "int8"])
def test_an_input_of_integers_takes_the_same_numbers_as_float32(keras: Any, tmp_path: Path, given: str, kind: str) -> None:
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = mixed(keras.Sequential([keras.Input((20,), dtype=given), keras.layers.Reshape((5, 4, 1)), *layers]))
    notes = write(save(model, tmp_path, kind), tmp_path / "in", loss="mse")
    assert notes[0] == f"the input is {given} in the file; here samples are float32, with the same numbers"
    inputs = np.random.default_rng(2).integers(0, 127, (3, 20))
    agree(outputs(tmp_path / "in", inputs.astype(np.float32)), model(inputs.astype(given)))


def test_a_file_that_keras_cannot_compute_is_refused_in_one_line(keras: Any, tmp_path: Path) -> None:
    layers = [keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    file = save(keras.Sequential([keras.Input((5, 4, 1), dtype="int32"), *layers]), tmp_path, ".keras")
    with pytest.raises(ModelFileError, match=r"net\.keras: TensorFlow cannot compute .* type int32: [^\n\x1b]*\Z"):
        write(file, tmp_path / "in", loss="mse")


def test_a_normalisation_that_was_adapted_is_read(keras: Any, tmp_path: Path) -> None:
    scaled = keras.layers.Normalization()
    scaled.adapt(np.random.default_rng(1).normal(3, 2, (50, 4)))
    notes = same(chain(keras, (4,), scaled, keras.layers.Dense(3), keras.layers.Dense(2)), tmp_path, ".keras")
    assert notes[0].endswith("(Normalization): becomes a layer 'affine', frozen")


def test_half_precision_weights_are_read(keras: Any, tmp_path: Path) -> None:
    tensorflow = importlib.import_module("tensorflow")
    model = mixed(chain(keras, (6, 6, 1), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)))
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tensorflow.float16]
    (tmp_path / "half.tflite").write_bytes(converter.convert())
    write(tmp_path / "half.tflite", tmp_path / "in", loss="mse")
    inputs = np.random.default_rng(2).normal(0, 1, (3, 6, 6, 1)).astype(np.float32)
    agree(outputs(tmp_path / "in", inputs), model(inputs), tolerance=2e-3)


def test_files_of_keras_2_are_read(keras: Any, tmp_path: Path) -> None:
    h5py = importlib.import_module("h5py")
    model = mixed(chain(
        keras, (6, 6, 2), keras.layers.DepthwiseConv2D(3, name="dw"), keras.layers.SeparableConv2D(2, 2, name="sep"),
        keras.layers.Flatten(), keras.layers.Dense(2),
    ))  # fmt: skip
    file = save(model, tmp_path, ".h5")
    with h5py.File(file, "r+") as content:
        config = json.loads(content.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] in ("dw", "sep"):
                layer["config"]["groups"] = 1
        content.attrs["model_config"] = json.dumps(config)
    write(file, tmp_path / "in", loss="mse")
    inputs = np.random.default_rng(2).normal(0, 1, (3, 6, 6, 2)).astype(np.float32)
    agree(outputs(tmp_path / "in", inputs), model(inputs))


def test_import_ends_with_a_design_of_its_own(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    three = chain(keras, (4, 4, 1), layers.Rescaling([1.0, 2.0, 3.0]), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2))
    with pytest.raises(ModelFileError, match=r"\(Rescaling\): .*3"):
        write(save(three, tmp_path, ".keras"), tmp_path / "in", loss="mse", freeze="1")
    heads = chain(keras, (4,), layers.Dense(3, activation="sigmoid"))
    with pytest.raises(ModelFileError, match=r"model\.loss"):
        write(save(heads, tmp_path, ".keras"), tmp_path / "in", loss="binary_crossentropy")
    assert not list((tmp_path / "in").iterdir()), "a refused model must leave no file"


def test_large_weights_travel_as_float32(keras: Any, tmp_path: Path) -> None:
    model = chain(keras, (3,), keras.layers.Dense(4), keras.layers.Dense(2))
    weights = model.get_weights()
    weights[0][0, 0] = 1e5
    model.set_weights(weights)
    notes = same(model, tmp_path, ".keras")
    assert any("weights of up to 100000 do not fit float16" in note for note in notes)
    assert spec.load(tmp_path / "in" / "experiment.toml").strategy.downlink == "f32"


def test_only_weights_that_train_are_limited(keras: Any, tmp_path: Path) -> None:
    model = chain(keras, (1100,), keras.layers.Dense(1000, name="large"), keras.layers.Dense(2))
    file = save(model, tmp_path, ".keras")
    with pytest.raises(ModelFileError, match=r"more than the 1048576 .*; freeze more of the first layers with --freeze"):
        write(file, tmp_path / "in", loss="mse")
    write(file, tmp_path / "in", loss="mse", freeze="1")


@pytest.mark.parametrize(
    ("activation", "nearest"),
    [("mish", "silu"), ("softsign", "tanh"), ("celu", "elu"), ("log_softmax", "softmax"), ("log_sigmoid", "sigmoid")],
)
def test_the_nearest_activation_is_the_one_of_the_nearest_meaning(
    keras: Any, tmp_path: Path, activation: str, nearest: str
) -> None:
    file = save(chain(keras, (3,), keras.layers.Dense(3, activation=activation), keras.layers.Dense(1)), tmp_path, ".keras")
    with pytest.raises(ModelFileError, match=f"activation '{activation}' is not supported; the nearest one is '{nearest}'"):
        write(file, tmp_path / "in", loss="mse")
