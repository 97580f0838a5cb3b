"""Import of quantised TensorFlow Lite files: int8 layers below, float32 layers that train on top, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import outputs
from with_tensorflow import needs_tensorflow

from tinymetafed import ModelFileError, import_model
from tinymetafed_codegen import design, spec
from tinymetafed_codegen.board import boards

pytestmark = needs_tensorflow
KEYWORDS = Path(os.environ.get("TINYMETAFED_TEST_DATA", ".")) / "models" / "mlperf_kws_int8.tflite"
needs_keywords = pytest.mark.skipif(not KEYWORDS.is_file(), reason="TINYMETAFED_TEST_DATA has no models/mlperf_kws_int8.tflite")


def kinds(file: Path) -> list[str]:
    return [layer.op for layer in spec.load(file).model.layers]


def of_the_file(file: Path, x: Any, tensor: int) -> Any:
    """A tensor of TensorFlow Lite's reference kernels in float32, and the limits of int8 in its scale."""
    import tensorflow as tf

    reference = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(
        str(file), experimental_op_resolver_type=reference, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    scale, zero_point = source["quantization"]
    quantised = np.clip(np.round(x / scale) + zero_point, -128, 127).astype(np.int8)
    interpreter.set_tensor(source["index"], quantised.reshape(source["shape"]))
    interpreter.invoke()
    scale, zero_point = next(each["quantization"] for each in interpreter.get_tensor_details() if each["index"] == tensor)
    values = scale * (interpreter.get_tensor(tensor).ravel().astype(np.float64) - zero_point)
    return values, scale * (-128 - zero_point), scale * (127 - zero_point)


@needs_keywords
@pytest.mark.parametrize("freeze", [None, "9", "5", "1", "0"])
def test_layers_that_train_compute_in_float32_what_the_file_does(freeze: str | None, tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.toml"
    import_model(KEYWORDS, experiment, freeze=freeze)
    count = 9 if freeze is None else int(freeze)
    below = [kind for kind in kinds(experiment) if kind.endswith("conv2d_int8") or kind == "dense_int8"]
    above = [kind for kind in kinds(experiment) if kind in ("conv2d", "depthwise_conv2d", "dense")]
    assert (len(below), len(above)) == (count, 10 - count)
    x = np.random.default_rng(1).normal(0, 6, 490).astype(np.float32)  # small: int8 does not clamp, which float32 never does
    logits, *limits = of_the_file(KEYWORDS, x, 33)  # the input of the softmax
    error = np.abs(np.clip(outputs(tmp_path, [x])[0], *limits) - logits).max()
    assert error < (0.51 if count == 9 else 12) * 0.145, "more than the steps of int8, which layers in float32 do not round to"


@needs_keywords
def test_a_new_last_layer_has_its_own_number_of_outputs(tmp_path: Path) -> None:
    notes = import_model(KEYWORDS, tmp_path / "net.toml", outputs=4)
    experiment = spec.load(tmp_path / "net.toml")
    made = design.design(experiment, boards.load("nano33ble"), "test")
    assert made.graph.output.shape == (4,) and made.manifest.n_global == 64 * 4 + 4
    with np.load(tmp_path / "net.npz") as arrays:
        assert not [name for name in arrays if name.startswith("dense10")]
        assert {str(arrays[name].dtype) for name in arrays} == {"int8", "int32"}
    assert any("replaced by a layer of 4 units with random weights" in note for note in notes)
    assert made.graph.frozen_bytes < 30_000 < made.manifest.memory.flash < 60_000


def test_outputs_replaces_a_float_layer_too(tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    net = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    net.save(tmp_path / "net.keras")
    import_model(tmp_path / "net.keras", tmp_path / "net.toml", outputs=2, freeze="1")
    assert design.design(spec.load(tmp_path / "net.toml"), boards.load("native"), "test").graph.output.shape == (2,)
    with pytest.raises(ModelFileError, match="--outputs replaces a last dense layer that trains, not a conv2d"):
        keras.Sequential([keras.Input((6, 6, 1)), layers[0], keras.layers.GlobalAveragePooling2D()]).save(tmp_path / "b.keras")
        import_model(tmp_path / "b.keras", tmp_path / "b.toml", loss="mse", outputs=2)


def converted(body: Callable[[Any, Any], Any], file: Path, dtype: str = "int8") -> Path:
    """A small quantised network with a dense layer on top."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    first = tf.keras.Input(batch_shape=(1, 6, 5, 2))
    top = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(body(tf.keras.layers, first)))
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(first, top))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    random = np.random.default_rng(2)
    converter.representative_dataset = lambda: ([random.normal(0, 1, (1, 6, 5, 2)).astype(np.float32)] for _ in range(8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(dtype)
    file.write_bytes(converter.convert())
    return file


def residual(layers: Any, x: Any) -> Any:
    y = layers.Conv2D(2, 3, padding="same", activation="relu")(x)
    z = layers.Conv2D(2, 3, padding="same")(y)
    return layers.Add()([y, layers.Conv2D(2, 1)(z)])


@pytest.mark.parametrize(
    ("body", "dtype", "options", "said"),
    [
        (lambda k, x: k.Conv2D(2, 3)(x), "uint8", {}, "neither float32 nor int8; convert with inference_input_type = tf.int8"),
        (lambda k, x: k.Conv2D(2, 3)(k.Activation("tanh")(x)), "int8", {}, "TANH.*behind all frozen layers only"),
        (lambda k, x: k.Conv2D(2, 3)(k.LeakyReLU(0.1)(x)), "int8", {}, "LEAKY_RELU over int8 is not supported"),
        (lambda k, x: k.Conv2D(2, 2, dilation_rate=2)(x), "int8", {}, "dilation"),
        (residual, "int8", {"freeze": "2"}, "expected one; freeze more or fewer layers"),
        (residual, "int8", {"freeze": "4"}, "all 4 layers with weights would be frozen"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(
    body: Any, dtype: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = converted(body, tmp_path / "net.tflite", dtype)
    with pytest.raises(ModelFileError, match=said) as refused:
        import_model(file, tmp_path / "net.toml", loss="mse", **options)
    assert "\n" not in str(refused.value) and str(file) in str(refused.value)
    assert not (tmp_path / "net.toml").exists()


def test_a_residual_block_is_frozen_whole_or_trains_whole(tmp_path: Path) -> None:
    file = converted(residual, tmp_path / "net.tflite")
    found = {}
    for freeze in ("3", "1", "0"):
        folder = tmp_path / freeze
        folder.mkdir()
        import_model(file, folder / "experiment.toml", loss="mse", freeze=freeze)
        found[freeze] = kinds(folder / "experiment.toml")
    assert found["3"][-4:] == ["add_int8", "flatten", "dequantize", "dense"]
    assert found["1"] == ["quantize", "conv2d_int8", "dequantize", "conv2d", "conv2d", "add", "flatten", "dense"]
    assert found["0"] == ["conv2d", "conv2d", "conv2d", "add", "flatten", "dense"]
    x = np.random.default_rng(3).normal(0, 0.5, (5, 60))
    below, mixed, above = (outputs(tmp_path / freeze, x) for freeze in found)
    np.testing.assert_allclose(below, above, atol=0.15)
    np.testing.assert_allclose(mixed, above, atol=0.15)
