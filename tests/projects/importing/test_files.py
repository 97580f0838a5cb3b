"""Keras files, SavedModels and TensorFlow Lite files of every op: equal outputs in our kernels, and errors by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import outputs, write
from with_tensorflow import agree, needs_tensorflow

from tinymetafed import cli
from tinymetafed.projects.importing import written_experiment
from tinymetafed.runs.tensorflow import ModelFileError
from tinymetafed_codegen import spec

pytestmark = needs_tensorflow


def randomise(model: Any) -> Any:
    """Gives every weight a random value; variances are above 0."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            randomise(layer)
            continue
        variables = layer.weights
        values = [random.uniform(0.3, 1, v.shape) if "var" in v.name else random.normal(0, 0.4, v.shape) for v in variables]
        if values and type(layer).__name__ not in ("Dropout",):
            layer.set_weights(values)
    return model


def image(keras: Any) -> Any:
    """A convolutional network in the order of MobileNet's blocks, with every layer that is folded, and a skip connection."""
    layers = keras.layers
    x = first = keras.Input(shape=(9, 8, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    skip = x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.LeakyReLU()(x)
    x = layers.SpatialDropout2D(0.2)(x)
    x = layers.Add()([skip, x])
    x = layers.SeparableConv2D(5, (2, 3), activation="tanh")(x)
    x = layers.MaxPooling2D((2, 1), padding="same")(x)
    x = layers.AveragePooling2D(2, strides=1, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(9, activation="leaky_relu")(x)
    return keras.Model(first, layers.Dense(4)(x))


def valid(keras: Any) -> Any:
    """Windows without padding, windows that are not square, a depth multiplier on one channel, global average pooling."""
    layers = keras.layers
    return keras.Sequential([
        keras.Input(shape=(9, 11, 1)),
        layers.DepthwiseConv2D((2, 3), depth_multiplier=4, strides=2, activation="sigmoid"),
        layers.SeparableConv2D(7, 2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu6"),
        layers.MaxPooling2D(2, strides=1),
        layers.DepthwiseConv2D(2, use_bias=False),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, use_bias=False, activation="relu"),
        layers.Dense(2),
    ])  # fmt: skip


def sequence(keras: Any) -> Any:
    """1-D convolutions."""
    layers = keras.layers
    return keras.Sequential([
        keras.Input(shape=(11, 3)),
        layers.Conv1D(6, 4, strides=2, padding="same", activation="relu"),
        layers.Conv1D(5, 3),
        layers.BatchNormalization(),
        layers.Activation("sigmoid"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2),
    ])  # fmt: skip


def vector(keras: Any) -> Any:
    """Dense layers with every activation, a nested model, two adds, and sums of three."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input(shape=(5,)), layers.Dense(6, activation="tanh"), layers.Dropout(0.1)])
    first = keras.Input(shape=(5,))
    x = inner(first)
    a = x = layers.Dense(6, activation="relu6")(x)
    b = x = layers.Dense(6, activation=layers.LeakyReLU(negative_slope=0.1))(x)
    x = layers.Dense(6, activation="softmax")(x)
    x = layers.Add()([x, b, a])
    x = layers.ReLU(negative_slope=0.25)(x)
    return keras.Model(first, layers.Dense(3, activation="sigmoid")(x))


def reshaped(keras: Any) -> Any:
    """An image as a flat input, first layers that do not train, and a softmax at the end."""
    layers = keras.layers
    frozen = keras.Sequential([keras.Input(shape=(6, 4, 2)), layers.Conv2D(3, 2), layers.BatchNormalization()])
    frozen.trainable = False
    first = keras.Input(shape=(48,))
    x = frozen(layers.Reshape((6, -1, 2))(first))
    x = layers.Reshape((-1,))(layers.Softmax()(x))
    return keras.Model(first, layers.Dense(3)(layers.Dense(5)(x)))


MODELS: dict[str, Callable[[Any], Any]] = {f.__name__: f for f in (image, valid, sequence, vector, reshaped)}
FREEZE = {"image": "1"}


def saved(model: Any, kind: str, folder: Path) -> Path:
    """The file of the model in a format."""
    file = folder / f"net{kind}"
    if kind == "":
        model.export(str(file), verbose=False)
    elif kind == ".tflite":
        tensorflow = importlib.import_module("tensorflow")
        file.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(model).convert())
    else:
        model.save(file)
    return file


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [".keras", ".h5", ".tflite", ""], ids=["keras", "h5", "tflite", "SavedModel"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_imported_model_gives_the_same_outputs(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    model = randomise(MODELS[name](keras))
    write(saved(model, kind, tmp_path), tmp_path / "in", loss="mse", freeze=FREEZE.get(name))
    inputs = np.random.default_rng(2).normal(0, 1, (3, *model.inputs[0].shape[1:])).astype(np.float32)
    if name == "image":
        inputs *= 255
    agree(outputs(tmp_path / "in", inputs), model(inputs))


def test_the_experiment_reads_like_the_model(keras: Any, tmp_path: Path) -> None:
    model = reshaped(keras)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    notes = write(saved(model, ".keras", tmp_path), tmp_path / "in")
    loaded = spec.load(tmp_path / "in" / "experiment.toml").model
    layers: Any = loaded.layers
    assert loaded.input == (6, 4, 2) and loaded.loss == "softmax_cross_entropy"
    assert [each.op for each in layers] == ["conv2d", "flatten", "dense", "dense"]
    assert layers[0].frozen and layers[0].activation == "softmax" and layers[0].padding == "valid" and layers[3].local
    assert len(notes) == 1 and "(BatchNormalization): folded into 'conv2d'" in notes[0]


def sequential(keras: Any, shape: tuple[int | None, ...], *layers: Any) -> Any:
    return keras.Sequential([keras.Input(shape=shape), *layers])


def two_inputs(keras: Any) -> Any:
    a, b = keras.Input(shape=(3,)), keras.Input(shape=(3,))
    return keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Add()([a, b])))


def two_outputs(keras: Any) -> Any:
    a = keras.Input(shape=(3,))
    return keras.Model(a, [keras.layers.Dense(1)(a), keras.layers.Dense(2)(a)])


def used_twice(keras: Any) -> Any:
    a = keras.Input(shape=(3,))
    dense = keras.layers.Dense(3, name="again")
    return keras.Model(a, dense(dense(a)))


def not_a_number(keras: Any) -> Any:
    model = sequential(keras, (3,), keras.layers.Dense(2, name="bad"))
    model.layers[0].set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    return model


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lstm": (
        lambda k: sequential(k, (5, 3), k.layers.LSTM(4, name="memory")),
        "layer 1, 'memory' (LSTM): LSTM is not supported; the nearest one is Conv1D over the window",
    ),
    "near": (
        lambda k: sequential(k, (8, 8, 1), k.layers.Conv2DTranspose(2, 3)),
        "Conv2DTranspose is not supported; the nearest one is Conv2D",
    ),
    "padding layer": (
        lambda k: sequential(k, (8, 8, 1), k.layers.ZeroPadding2D(), k.layers.AveragePooling2D(2), k.layers.Conv2D(1, 1)),
        "read by 'average_pooling2d' (avg_pool); zeros are supported directly before a convolution",
    ),
    "activation": (
        lambda k: sequential(k, (3,), k.layers.Dense(2, activation="mish")),
        "activation 'mish' is not supported; the nearest",
    ),
    "dilation": (
        lambda k: sequential(k, (8, 8, 1), k.layers.Conv2D(2, 3, dilation_rate=2)),
        "dilation_rate = (2, 2) is supported in frozen layers only",
    ),
    "groups": (lambda k: sequential(k, (8, 8, 4), k.layers.Conv2D(4, 3, groups=2)), "groups = 2 is supported in frozen"),
    "multiplier": (
        lambda k: sequential(k, (8, 8, 4), k.layers.DepthwiseConv2D(3, depth_multiplier=2)),
        "depth_multiplier = 2 is supported in frozen layers only",
    ),
    "channels first": (
        lambda k: sequential(k, (4, 8, 8), k.layers.Conv2D(2, 3, data_format="channels_first")),
        "build it with 'channels_last'",
    ),
    "dynamic": (lambda k: sequential(k, (None, None, 1), k.layers.Conv2D(2, 3, name="c")), "'c': input shape [None, None, 1]"),
    "unbuilt": (lambda k: k.Sequential([k.layers.Dense(2)]), "no input shape"),
    "two inputs": (two_inputs, "2 inputs, expected one"),
    "two outputs": (two_outputs, "2 outputs, expected one"),
    "used twice": (used_twice, "layer 2, 'again' (Dense): used more than once"),
    "not a number": (not_a_number, "layer 1, 'bad' (Dense): its weights hold a NaN"),
    "relu": (lambda k: sequential(k, (3,), k.layers.ReLU(threshold=0.5)), "threshold = 0.5, expected 0"),
    "largest": (lambda k: sequential(k, (3,), k.layers.Dense(3), k.layers.ReLU(max_value=5)), "max_value = 5"),
    "axis": (
        lambda k: sequential(k, (4, 4, 2), k.layers.Conv2D(2, 3), k.layers.BatchNormalization(axis=1)),
        "axis = 1; build it with axis=-1",
    ),
    "reshape": (
        lambda k: sequential(k, (4, 4, 2), k.layers.Conv2D(2, 1), k.layers.Reshape((2, 2, 4, 2)), k.layers.Softmax()),
        "to [2, 2, 4, 2]; a tensor has at most three axes",
    ),
    "concatenation": (
        lambda k: sequential(k, (3,), k.layers.Dense(3), k.layers.LayerNormalization()),
        "BatchNormalization behind",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_unsupported_layers_are_refused_with_layer_and_file(keras: Any, tmp_path: Path, name: str) -> None:
    build, expected = REFUSED[name]
    build(keras).save(tmp_path / "net.keras")
    with pytest.raises(ModelFileError) as caught:
        write(tmp_path / "net.keras", tmp_path / "in", loss="mse")
    assert expected in str(caught.value) and "net.keras" in str(caught.value)


AUGMENTATIONS: dict[str, Callable[[Any], Any]] = {
    "RandomFlip": lambda k: k.layers.RandomFlip(),
    "RandomRotation": lambda k: k.layers.RandomRotation(0.1),
    "RandomZoom": lambda k: k.layers.RandomZoom(0.2),
    "RandomTranslation": lambda k: k.layers.RandomTranslation(0.1, 0.1),
    "RandomContrast": lambda k: k.layers.RandomContrast(0.2),
    "RandomBrightness": lambda k: k.layers.RandomBrightness(0.2),
    "RandomCrop": lambda k: k.layers.RandomCrop(8, 8),
    "CenterCrop": lambda k: k.layers.CenterCrop(8, 8),
    "Resizing": lambda k: k.layers.Resizing(8, 8),
    "GaussianNoise": lambda k: k.layers.GaussianNoise(0.1),
    "RandomHue": lambda k: k.Sequential([k.layers.RandomHue(0.1)]),
    "RandomGrayscale": lambda k: k.layers.RandomGrayscale(dtype="mixed_float16"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentation_is_left_out_with_a_note(keras: Any, tmp_path: Path, name: str) -> None:
    layers = [AUGMENTATIONS[name](keras), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    sequential(keras, (8, 8, 3), *layers).save(tmp_path / "net.keras")
    notes = write(tmp_path / "net.keras", tmp_path / "in", loss="mse")
    loaded = spec.load(tmp_path / "in" / "experiment.toml").model
    assert [each.op for each in loaded.layers] == ["conv2d", "flatten", "dense"] and loaded.input == (8, 8, 3)
    assert len(notes) == 1 and notes[0].startswith("layer ") and f"({name}): left out" in notes[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda k: k.layers.RandomCrop(6, 6), "(RandomCrop): RandomCrop is not supported; crop the data"),
        (lambda k: k.layers.CenterCrop(6, 6), "(CenterCrop): CenterCrop is not supported; crop the data"),
        (lambda k: k.layers.Resizing(4, 4), "(Resizing): Resizing is not supported; resize the data"),
        (lambda k: k.layers.AutoContrast(), "(AutoContrast): AutoContrast is not supported; change the data"),
    ],
)
def test_layers_that_change_images_in_inference_are_refused(
    keras: Any, tmp_path: Path, build: Callable[[Any], Any], expected: str
) -> None:
    layers = [build(keras), keras.layers.Flatten(), keras.layers.Dense(2)]
    sequential(keras, (8, 8, 3), *layers).save(tmp_path / "net.keras")
    with pytest.raises(ModelFileError) as caught:
        write(tmp_path / "net.keras", tmp_path / "in", loss="mse")
    assert expected in str(caught.value) and "layer 1, " in str(caught.value)


def custom_classes(keras: Any) -> tuple[type, type]:
    """A layer and a model of classes that Keras cannot find when it loads them."""

    class Doubling(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.only = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.only(x)

    return Doubling, Own


def mystery(x: Any) -> Any:
    """An activation that Keras does not have."""
    return x * 0.5


CUSTOM: dict[str, tuple[Callable[[Any], Any], str]] = {
    "layer": (
        lambda k: sequential(k, (3,), k.layers.Dense(2), custom_classes(k)[0](name="twice")),
        "layer 2, 'twice' (Doubling): custom layers are not supported; build the model with layers of keras.layers, or",
    ),
    "registered": (
        lambda k: sequential(k, (3,), k.saving.register_keras_serializable("own")(custom_classes(k)[0])(name="twice")),
        "layer 1, 'twice' (Doubling): ",
    ),
    "nested": (
        lambda k: sequential(k, (3,), sequential(k, (3,), k.layers.Dense(2), custom_classes(k)[0](name="twice"))),
        "layer 3, 'twice' (Doubling): custom layers are not supported",
    ),
    "lambda": (
        lambda k: sequential(k, (3,), k.layers.Dense(2), k.layers.Lambda(lambda x: x * 2, name="half")),
        "layer 2, 'half' (Lambda): Lambda layers are not supported; build the model with layers of keras.layers, or",
    ),
    "activation": (
        lambda k: sequential(k, (3,), k.layers.Dense(2, activation=mystery, name="odd")),
        "layer 1, 'odd' (Dense): the custom activation 'mystery' is not supported",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("name", sorted(CUSTOM))
def test_layers_that_need_python_are_named(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    build, expected = CUSTOM[name]
    build(keras).save(tmp_path / f"net{kind}")
    keras.saving.get_custom_objects().clear()
    with pytest.raises(ModelFileError) as caught:
        written_experiment.read(tmp_path / f"net{kind}")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_of_a_class_of_its_own_is_named(keras: Any, tmp_path: Path) -> None:
    model = custom_classes(keras)[1]()
    model(np.zeros((1, 3), np.float32))
    model.save(tmp_path / "net.keras")
    with pytest.raises(
        ModelFileError, match=r"net\.keras: Own is neither Sequential nor Functional; save it with model\.export"
    ):
        written_experiment.read(tmp_path / "net.keras")


def test_a_file_that_keras_cannot_load_is_named(keras: Any, tmp_path: Path) -> None:
    for content in (b"", b"nonsense", b"PK\3\4 no archive"):
        (tmp_path / "net.keras").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"net\.keras: Keras cannot load it: .*save it again"):
            written_experiment.read(tmp_path / "net.keras")


def converted(model: Any, prepare: Callable[[Any], None] = lambda converter: None) -> bytes:
    converter = importlib.import_module("tensorflow").lite.TFLiteConverter.from_keras_model(model)
    prepare(converter)
    return bytes(converter.convert())


def quantise_weights(converter: Any) -> None:
    converter.optimizations = [importlib.import_module("tensorflow").lite.Optimize.DEFAULT]


def quantise_to_half(converter: Any) -> None:
    quantise_weights(converter)
    converter.target_spec.supported_types = [importlib.import_module("tensorflow").float16]


def test_partly_quantised_files_are_refused(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(
        converted(sequential(keras, (64,), keras.layers.Dense(64), keras.layers.Dense(2)), quantise_weights)
    )
    said = r"net\.tflite: operator 0.*: neither float32 nor int8; convert the model again, whole in int8 with"
    with pytest.raises(ModelFileError, match=said):
        written_experiment.read(tmp_path / "net.tflite")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda k: sequential(k, (5, 5, 1), k.layers.Conv2D(2, 3), k.layers.UpSampling2D()), "is not supported; leave an Up"),
        (
            lambda k: sequential(k, (5, 5, 1), k.layers.ZeroPadding2D(3), k.layers.Conv2D(2, 3)),
            "zeros around its input, as many as its kernel",
        ),
        (lambda k: sequential(k, (None, 8, 1), k.layers.Conv2D(2, 3)), "of shape [-1, 8, 1], but sizes must be known"),
        (two_inputs, "2 inputs, expected one"),
        (
            lambda k: sequential(k, (6, 6, 2), k.layers.DepthwiseConv2D(3, depth_multiplier=2)),
            "depth multiplier 2 is supported",
        ),
        (not_a_number, "its weights hold a NaN"),
    ],
)
def test_unsupported_operators_are_refused(keras: Any, tmp_path: Path, build: Callable[[Any], Any], expected: str) -> None:
    (tmp_path / "net.tflite").write_bytes(converted(build(keras)))
    with pytest.raises(ModelFileError) as caught:
        write(tmp_path / "net.tflite", tmp_path / "in", loss="mse")
    assert expected in str(caught.value) and "net.tflite" in str(caught.value)


def test_damaged_files_are_refused_or_read(keras: Any, tmp_path: Path) -> None:
    whole = converted(sequential(keras, (4, 4, 1), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)))
    random = np.random.default_rng(3)
    refused = 0
    for trial in range(150):
        content = bytearray(whole)
        content[random.integers(8, len(content))] = random.integers(256)
        (tmp_path / "net.tflite").write_bytes(bytes(content) if trial % 3 else whole[: random.integers(8, len(whole))])
        try:
            written_experiment.read(tmp_path / "net.tflite")
        except ModelFileError as error:
            refused += "net.tflite" in str(error)
    assert 20 < refused < 150


def test_a_folder_that_is_no_saved_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match="folder: unknown format; expected"):
        written_experiment.read(tmp_path / "folder")
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="folder: TensorFlow cannot convert it"):
        written_experiment.read(tmp_path / "folder")


def test_the_command_prints_notes_and_the_next_step(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image(keras).save(tmp_path / "net.keras")
    arguments = ["import", str(tmp_path / "net.keras"), "-o", str(tmp_path / "e.toml"), "--freeze", "1", "--loss", "mse"]
    monkeypatch.setattr("sys.argv", ["tinymetafed", *arguments, "--task", "folder"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 0 and "tinymetafed codegen" in said.out and "(Rescaling): folded into 'conv2d'" in said.err
    assert spec.load(tmp_path / "e.toml").task.kind == "folder"
