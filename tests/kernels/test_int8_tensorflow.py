"""Layers over int8 against TensorFlow Lite's reference kernels, byte for byte, on every layer of published networks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recorded_int8
from int8_model import Int8Model, compile_apart
from with_tensorflow import needs_tensorflow

from tinymetafed.projects.importing import written_experiment as importing
from tinymetafed.projects.importing.network import INT8_WEIGHTED, Layer
from tinymetafed_codegen import design, protocol, spec
from tinymetafed_codegen.board import boards

pytestmark = needs_tensorflow
MODELS = Path(os.environ.get("TINYMETAFED_TEST_DATA", ".")) / "models"
PUBLISHED = ["mlperf_kws", "mlperf_vww", "mlperf_resnet8", "mlperf_ad01", "micro_speech", "hello_world"]


def tensorflow() -> Any:
    import tensorflow as imported_here  # only where a test needs it: it takes seconds

    return imported_here


def published(name: str) -> Path:
    """The file of a published network; the test is skipped without it."""
    file = MODELS / f"{name}_int8.tflite"
    if not file.is_file():
        pytest.skip(f"no {file}: TINYMETAFED_TEST_DATA has to name a folder with it")
    return file


def imported(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Int8Model:
    """The network of a file with all its layers over int8, and a dense layer on top that trains."""
    monkeypatch.setattr(protocol, "MAX_RECEIVE_WINDOW", 1 << 20)  # no sample of these tests is sent
    network = importing.read(file)
    last = [i for i, layer in enumerate(network.layers) if layer.op in INT8_WEIGHTED][-1]
    del network.layers[last + 1 :]
    top = network.layers[-1]
    ones = {".kernel": np.ones((*top.shape, 1)), ".bias": np.zeros(1)}
    network.layers.append(Layer("a test", "head", {"op": "dense", "units": 1}, [top], ones, shape=(1,)))
    count = sum(layer.op in INT8_WEIGHTED for layer in network.layers)
    importing.write(network, folder / "net.toml", "folder", "mse", freeze=str(count))
    made = design.design(spec.load(folder / "net.toml"), boards.load("native"), "test")
    return compile_apart(made, folder / "code")


class Reference:
    """TensorFlow Lite's interpreter with its reference kernels, which keeps the output of every operator."""

    def __init__(self, file: Path) -> None:
        lite = tensorflow().lite
        with warnings.catch_warnings():  # that the class will be moved to another package
            warnings.simplefilter("ignore")
            self.interpreter = lite.Interpreter(
                str(file),
                experimental_op_resolver_type=lite.experimental.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
        self.interpreter.allocate_tensors()
        self.source = self.interpreter.get_input_details()[0]
        kinds = {each["index"]: each["dtype"] for each in self.interpreter.get_tensor_details()}
        made = [
            int(operator["outputs"][0])
            for operator in self.interpreter._get_ops_details()
            if operator["op_name"] not in ("RESHAPE", "SOFTMAX")
        ]
        self.int8_tensors = [each for each in (self.source["index"], *made) if kinds[each] == np.int8]

    def random_sample(self, random: np.random.Generator) -> tuple[Any, Any]:
        """A sample as the file takes it, and in float32. Numbers in float32 lie between those of int8, and beyond them."""
        shape = self.source["shape"][1:]
        if self.source["dtype"] == np.float32:
            sample = random.normal(0.4, 2, shape).astype(np.float32)
            return sample, sample
        scale, zero_point = self.source["quantization"]
        quantised = random.integers(-128, 128, shape, np.int8)
        return quantised, np.float32(scale) * (quantised.astype(np.float32) - np.float32(zero_point))

    def outputs(self, x: Any) -> list[Any]:
        """The values of ``int8_tensors`` for one sample: the input and every operator's output, except changes of shape."""
        self.interpreter.set_tensor(self.source["index"], np.reshape(x, self.source["shape"]))
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(each).ravel().copy() for each in self.int8_tensors]


def require_equal_layers(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, samples: int = 3) -> None:
    """Compares all layers over int8 on random samples."""
    model, reference = imported(file, folder, monkeypatch), Reference(file)
    random = np.random.default_rng(1)
    for _ in range(samples):
        given, sample = reference.random_sample(random)
        ours = {layer: values for layer, values in model.tensors(sample).items() if values.dtype == np.int8}
        for (layer, values), expected in zip(ours.items(), reference.outputs(given), strict=True):
            assert values.tobytes() == expected.tobytes(), f"{layer}: {(values != expected).sum()} of {values.size} differ"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_of_a_published_network_is_equal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_equal_layers(published(name), tmp_path, monkeypatch)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_of_a_published_network_is_equal_in_tflite_micro(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the first dense layer: TensorFlow Lite Micro rounds twice where the reference kernel of that one rounds once."""
    reason = "tflite-micro is not installed: the extra [models] brings it"
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason=reason)
    file = published(name)
    model, reference = imported(file, tmp_path, monkeypatch), Reference(file)
    keep = runtime.InterpreterConfig.kPreserveAllTensors
    micro = runtime.Interpreter.from_file(str(file), arena_size=1 << 22, intrepreter_config=keep)
    kinds = {call.op.name: call.op.kind for call in model.compiled.design.graph.forward}
    random = np.random.default_rng(2)
    for _ in range(3):
        given, sample = reference.random_sample(random)
        micro.set_input(np.reshape(given, reference.source["shape"]), 0)
        micro.invoke()
        ours = {layer: values for layer, values in model.tensors(sample).items() if values.dtype == np.int8}
        for (layer, values), tensor in zip(ours.items(), reference.int8_tensors, strict=True):
            expected = np.ravel(micro.GetTensor(tensor, 0)["tensor_data"])
            error = np.abs(values.astype(int) - expected)
            assert error.max() <= (kinds[layer] == "dense_int8"), f"{layer}: {(error > 0).sum()} of {values.size} differ"
            if error.any():
                break  # what follows has other inputs


@pytest.mark.parametrize("name", recorded_int8.NETWORKS)
def test_the_recorded_outputs_are_those_of_tensorflow_lite(name: str) -> None:
    reference, kept = Reference(recorded_int8.FOLDER / name / "net.tflite"), recorded_int8.recorded()[name]
    inputs = recorded_int8.samples(int(np.prod(reference.source["shape"])))
    assert recorded_int8.hashes([dict(zip(kept, reference.outputs(x), strict=True)) for x in inputs]) == kept


def pools(k: Any, x: Any) -> Any:
    x = k.layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = k.layers.Conv2D(6, 3, strides=2, activation="relu6")(x)
    x = k.layers.MaxPooling2D(2, strides=1, padding="same")(x)
    return k.layers.AveragePooling2D((2, 3), strides=2, padding="same")(x)


def activations(k: Any, x: Any) -> Any:
    x = k.layers.ReLU()(x)
    first = k.layers.DepthwiseConv2D((3, 2), strides=2, padding="same")(x)
    second = k.layers.ReLU(6.0)(first)
    return k.layers.Add()([k.layers.MaxPooling2D(3, strides=1, padding="same")(first), second])


def means(k: Any, x: Any) -> Any:
    x = k.layers.Conv2D(5, (2, 3), padding="valid")(x)
    x = k.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return k.layers.Conv2D(7, 1, activation="relu")(x)


def mean_without_axes(k: Any, x: Any) -> Any:
    return k.layers.Dense(9, activation="relu")(k.layers.GlobalAveragePooling2D()(k.layers.Conv2D(5, 3)(x)))


def multiplier(k: Any, x: Any) -> Any:
    x = k.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")(x)
    return k.layers.Conv2D(4, 1, use_bias=False)(x)


def branches(k: Any, x: Any) -> Any:
    stem = k.layers.Conv2D(5, 3, padding="same", activation="relu")(x)
    left = k.layers.Conv2D(7, 3, strides=2, padding="same")(stem)
    right = k.layers.Conv2D(7, 1, strides=2, padding="same")(stem)
    return k.layers.ReLU()(k.layers.Add()([left, right]))


def convert(body: Callable[[Any, Any], Any], file: Path, dtype: str) -> None:
    """Writes a small quantised network whose inputs and outputs have the dtype."""
    tf = tensorflow()
    tf.keras.utils.set_random_seed(3)
    first = tf.keras.Input(batch_shape=(1, 9, 8, 3))
    top = tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(body(tf.keras, first)))
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(first, top))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    random = np.random.default_rng(2)
    converter.representative_dataset = lambda: ([random.normal(0.4, 1, (1, 9, 8, 3)).astype(np.float32)] for _ in range(20))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(dtype)
    file.write_bytes(converter.convert())


def denses(k: Any, x: Any) -> Any:
    x = k.layers.Dense(11, activation="relu")(k.layers.Flatten()(x))
    return k.layers.Dense(9, activation="relu6")(x)


def sequences(k: Any, x: Any) -> Any:
    x = k.layers.Conv1D(5, 3, strides=2, activation="relu")(k.layers.Reshape((72, 3))(x))
    return k.layers.MaxPooling1D(2)(k.layers.Conv1D(4, 3, padding="same")(x))


@pytest.mark.parametrize("body", [pools, activations, means, mean_without_axes, multiplier, branches, denses, sequences])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_every_layer_of_a_converted_network_is_equal(
    body: Callable[[Any, Any], Any], dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(body, tmp_path / "net.tflite", dtype)
    require_equal_layers(tmp_path / "net.tflite", tmp_path, monkeypatch, samples=10)
