"""Layers over int8 against TensorFlow Lite's reference kernels, byte for byte, on every layer of published networks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_model import Int8Model, compile_apart

from tinymetafed.projects.importing import written_experiment as importing
from tinymetafed.projects.importing.network import INT8_WEIGHTED, Layer
from tinymetafed_codegen import boards, design, protocol, spec

tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install -e '.[models]'")
MODELS = Path(str(__import__("os").environ.get("TINYMETAFED_TEST_DATA", ""))) / "models"


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
    settled = design.design(spec.load(folder / "net.toml"), boards.load("native"), "test")
    return compile_apart(settled, folder / "code")


class Reference:
    """TensorFlow Lite's interpreter with its reference kernels, which keeps the output of every operator."""

    def __init__(self, file: Path) -> None:
        lite = tensorflow.lite
        with warnings.catch_warnings():  # that the class will be moved to another package
            warnings.simplefilter("ignore")
            self.interpreter = lite.Interpreter(
                str(file),
                experimental_op_resolver_type=lite.experimental.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
        self.interpreter.allocate_tensors()
        self.source = self.interpreter.get_input_details()[0]

    def outputs(self, x: Any) -> list[Any]:
        """The input and every operator's output for one sample, except changes of shape."""
        self.interpreter.set_tensor(self.source["index"], np.reshape(x, self.source["shape"]))
        self.interpreter.invoke()
        made = [
            int(operator["outputs"][0])
            for operator in self.interpreter._get_ops_details()
            if operator["op_name"] not in ("RESHAPE", "SOFTMAX")
        ]
        return [self.interpreter.get_tensor(each).ravel().copy() for each in (self.source["index"], *made)]


@pytest.mark.parametrize("name", ["mlperf_kws_int8", "mlperf_vww_int8", "mlperf_resnet8_int8", "micro_speech_int8", "mlperf_ad01_int8", "hello_world_int8"])
def test_every_layer_of_a_published_network_is_equal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MODELS / f"{name}.tflite"
    if not file.is_file():
        pytest.skip(f"no {file}: TINYMETAFED_TEST_DATA has to name a folder with it")
    model, reference = imported(file, tmp_path, monkeypatch), Reference(file)
    scale, zero_point = reference.source["quantization"]
    random = np.random.default_rng(1)
    for _ in range(3):
        quantised = random.integers(-128, 128, reference.source["shape"][1:], np.int8)
        sample = (np.float32(scale) * (quantised.astype(np.float32) - np.float32(zero_point))).astype(np.float32)
        ours = [(name, values) for name, values in model.tensors(sample).items() if values.dtype == np.int8]
        for (layer, given), expected in zip(ours, reference.outputs(quantised), strict=True):
            assert given.tobytes() == expected.tobytes(), f"{layer}: {(given != expected).sum()} of {given.size} bytes differ"
