"""Every op against TensorFlow: outputs, losses, every gradient, ten SGD steps, and the exported file in TFLite Micro."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import reference
from compiled_model import MODELS, Compiled, compiled
from test_kernels import example, trained
from with_tensorflow import agree, needs_tensorflow

from tinymetafed.projects.importing import tflite_file
from tinymetafed.runs import keras_model
from tinymetafed_codegen.protocol import Variant

pytestmark = needs_tensorflow
RATE = 0.01


# Keras has no layers over int8; test_int8_tensorflow.py compares them with TensorFlow Lite.
IN_KERAS = sorted(name for name in MODELS if not name.startswith("int8"))


@pytest.fixture(params=IN_KERAS, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(request.param, tmp_path_factory.getbasetemp())


def built(model: Compiled, weights: Any, dtype: str, batch: int | None = None) -> Any:
    """The Keras model with these weights."""
    return keras_model.build(
        model.design.graph, reference.unpack(model.design.graph, weights, model.design.weights), batch, dtype
    )


def variables(model: Compiled, network: Any) -> list[Any]:
    """The variables of the Keras model, in the order of our weights."""
    found = []
    for placed in model.design.graph.parameters:
        names = [parameter.name for parameter in placed.op.parameters]
        found.append(network.get_layer(placed.op.name).weights[names.index(placed.parameter.name)])
    return found


def loss(model: Compiled, network: Any, x: Any, target: Any, dtype: str) -> Any:
    """The loss of one sample in Keras."""
    losses = importlib.import_module("keras").losses
    asked = model.design.experiment.model
    outputs = network(x.reshape(1, *model.design.graph.input.shape).astype(dtype))
    wanted = target.reshape(1, -1).astype(dtype)
    match asked.loss:
        case "mse":
            return losses.mean_squared_error(wanted, outputs)[0]
        case "mae":
            return losses.mean_absolute_error(wanted, outputs)[0]
        case "huber":
            return losses.huber(wanted, outputs, asked.huber_delta)[0]
        case "binary_crossentropy":
            return losses.binary_crossentropy(wanted, outputs, from_logits=True)[0]
    assert asked.loss == "softmax_cross_entropy"
    return losses.sparse_categorical_crossentropy(wanted[0], outputs, from_logits=True)[0]


def flat(values: list[Any]) -> Any:
    return np.concatenate([np.ravel(np.asarray(value)) for value in values])


def test_outputs_loss_and_gradients_agree(model: Compiled) -> None:
    asked = model.design.experiment.model
    if asked.clip_norm:
        pytest.skip("clips the gradients of outputs, which Keras does not; NumPy does the same in test_kernels.py")
    tensorflow = importlib.import_module("tensorflow")
    weights, x, target = example(model, 7)
    network = built(model, weights, "float64")
    agree(model.run(weights.copy(), x), network(x.reshape(1, *model.design.graph.input.shape)))
    with tensorflow.GradientTape() as tape:
        expected = loss(model, network, x, target, "float64")
    ours = reference.loss(model.design.graph, asked.huber_delta, model.run(weights.copy(), x), target)
    agree([ours], [float(expected)])
    for placed, gradient in zip(model.design.graph.parameters, tape.gradient(expected, variables(model, network)), strict=True):
        span = slice(placed.offset, placed.offset + placed.parameter.size)
        for variant in (Variant.FULL, Variant.GLOBAL, Variant.LOCAL):
            if trained(model, variant)[span].all():
                moved = weights.copy()
                model.run(moved, x, target, variant, rate=1.0)
                agree((weights - moved)[span] - asked.weight_decay * weights[span], gradient)


def test_ten_sgd_steps_agree(model: Compiled) -> None:
    asked = model.design.experiment.model
    if asked.clip_norm:
        pytest.skip("clips the gradients of outputs, which Keras does not; NumPy does the same in test_kernels.py")
    tensorflow = importlib.import_module("tensorflow")
    weights = example(model, 3)[0].astype(np.float32)
    start = weights.copy()
    network = built(model, weights, "float32")
    ours = variables(model, network)
    sgd = importlib.import_module("keras").optimizers.SGD(RATE, momentum=asked.momentum)
    for step in range(10):
        _, x, target = example(model, 100 + step)
        with tensorflow.GradientTape() as tape:
            value = loss(model, network, x, target, "float32")
        gradients = tape.gradient(value, ours)
        sgd.apply([gradient + asked.weight_decay * w for gradient, w in zip(gradients, ours, strict=True)], ours)
        model.run(weights, x.astype(np.float32), target.astype(np.float32), Variant.FULL, RATE)
    agree(weights[: model.n], flat(ours))
    assert np.abs(weights - start).max() > 1e-3, "nothing trained"


def test_the_exported_network_gives_the_same_in_tflite_micro(model: Compiled) -> None:
    micro = pytest.importorskip("tflite_micro", reason="tflite-micro is not installed: the extra [models] brings it")
    weights, x, _ = example(model, 5)
    weights, x = weights.astype(np.float32), x.astype(np.float32)
    content = keras_model.tflite_file(built(model, weights, "float32", batch=1))
    if any(call.op.kind in ("gelu", "selu") for call in model.design.graph.forward):  # TensorFlow Lite has them, Micro does not
        agree(
            model.run(weights, x), tflite_file.reference_outputs(content, "test", [x.reshape(model.design.graph.input.shape)])
        )
        return
    interpreter = micro.runtime.Interpreter.from_bytes(content)
    interpreter.set_input(x.reshape(1, *model.design.graph.input.shape), 0)
    interpreter.invoke()
    agree(model.run(weights, x), interpreter.get_output(0))
