"""Every activation in the forms in which files have it: imported with TensorFlow's outputs, or refused by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import reference_outputs, write
from keras_models import chain, mixed, same, save
from with_tensorflow import agree, needs_tensorflow

from tinymetafed.runs.tensorflow import ModelFileError
from tinymetafed_codegen import spec

pytestmark = [*needs_tensorflow, pytest.mark.filterwarnings("ignore")]
FUNCTIONS = ("silu", "swish", "hard_swish", "hard_silu", "hard_sigmoid", "elu", "selu", "gelu", "softplus")


def written(folder: Path) -> list[Any]:
    return list(spec.load(folder / "in" / "experiment.toml").model.layers)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in FUNCTIONS for kind in (".keras", ".h5", ".tflite")],
)
def test_activations_are_imported_by_their_names(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    layers = keras.layers
    inline = [layers.Conv2D(3, 2), layers.Activation(name), layers.Flatten(), layers.Dense(6, activation=name)]
    same(mixed(chain(keras, (4, 3, 2), *inline, layers.Dense(2))), tmp_path, kind)
    ours = {"swish": "silu", "hard_silu": "hard_swish"}.get(name, name)
    # The converter makes the factor 1/6 a part of the weights behind it.
    last = "relu6" if (name, kind) == ("hard_sigmoid", ".tflite") else ours
    assert [layer.activation for layer in written(tmp_path) if layer.op != "flatten"] == [ours, last, None]


def functional(k: Any, apply: Callable[[Any], Any]) -> Any:
    first = k.Input(shape=(4,))
    return k.Model(first, k.layers.Dense(2)(apply(k.layers.Dense(5)(first))))


FORMS: dict[str, tuple[Callable[[Any], Any], str, dict[str, Any]]] = {
    "gelu with tanh": (
        lambda k: functional(k, lambda x: k.activations.gelu(x, approximate=True)), "gelu", {"approximate": True},
    ),
    "operation silu": (lambda k: functional(k, k.ops.silu), "silu", {}),
    "operation elu": (lambda k: functional(k, lambda x: k.ops.elu(x, alpha=0.5)), "elu", {"alpha": 0.5}),
    "operation leaky relu": (lambda k: functional(k, lambda x: k.ops.leaky_relu(x, 0.3)), "leaky_relu", {"slope": 0.3}),
    "layer ELU": (lambda k: functional(k, k.layers.ELU(0.25)), "elu", {"alpha": 0.25}),
    "activation is a layer": (
        lambda k: chain(k, (4,), k.layers.Dense(5, activation=k.layers.ELU(2.0)), k.layers.Dense(2)), "elu", {"alpha": 2.0},
    ),
    "slope of 1e-7": (lambda k: functional(k, k.layers.LeakyReLU(negative_slope=1e-7)), "leaky_relu", {"slope": 1e-7}),
    "silu by hand": (lambda k: functional(k, lambda x: x * k.activations.sigmoid(x)), "silu", {}),
    "silu of layers": (
        lambda k: functional(k, lambda x: k.layers.Multiply()([k.layers.Activation("sigmoid")(x), x])), "silu", {},
    ),
    "hard swish of MobileNetV3": (
        lambda k: functional(k, lambda x: k.layers.Multiply()([k.layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0), x])),
        "hard_swish",
        {},
    ),
    "hard sigmoid of MobileNetV3": (
        lambda k: functional(k, lambda x: k.layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)), "hard_sigmoid", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".keras", ".tflite"])
@pytest.mark.parametrize("name", sorted(FORMS))
def test_other_forms_of_activations_are_imported(keras: Any, tmp_path: Path, name: str, kind: str) -> None:
    build, op, settings = FORMS[name]
    model = mixed(build(keras))
    same(model, tmp_path, kind)
    layers = written(tmp_path)
    assert [layer.op for layer in layers if layer.op != "dense"] == ([op] if settings else [])
    assert settings or layers[0].activation in (op, "relu6" if op == "hard_sigmoid" and kind == ".tflite" else op)
    for layer in layers:
        if layer.op == op:
            assert {key: getattr(layer, key) for key in settings} == pytest.approx(settings)


@pytest.mark.parametrize("kind", [".keras", ".h5", ".tflite"])
@pytest.mark.parametrize(
    ("shape", "shared"),
    [((5,), None), ((4, 3, 2), [1, 2]), ((4, 3, 2), None), ((4, 3, 2), [1]), ((4, 3, 2), [1, 2, 3]), ((6, 2), [1])],
)
def test_slopes_that_train_are_imported(
    keras: Any, tmp_path: Path, kind: str, shape: tuple[int, ...], shared: list[int] | None
) -> None:
    layers = keras.layers
    weighted = {1: layers.Dense(3), 2: layers.Conv1D(3, 2), 3: layers.Conv2D(3, 2)}[len(shape)]
    behind = [layers.PReLU(shared_axes=shared), *([layers.Flatten()] if len(shape) > 1 else []), layers.Dense(2)]
    same(mixed(chain(keras, shape, weighted, *behind)), tmp_path, kind)
    with np.load(tmp_path / "in" / "experiment.npz") as arrays:
        assert len([name for name in arrays.files if name.endswith(".slope")]) == 1


REFUSED: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "exponential": (
        lambda k: k.layers.Activation("exponential"),
        ".tflite",
        "(EXP): EXP is not supported; it is only as part of a softplus, a SELU or an ELU in",
    ),
    "scaled elu": (
        lambda k: k.layers.Lambda(lambda x: k.ops.where(x > 0, 2.0 * x, 3.0 * (k.ops.exp(x) - 1.0))),
        ".tflite",
        "import the .keras file instead, which names its activations",
    ),
    "mish": (lambda k: k.layers.Activation("mish"), ".keras", "activation 'mish' is not supported; the nearest one is 'silu'"),
    "celu": (lambda k: k.layers.Activation("celu"), ".keras", "activation 'celu' is not supported; the nearest one is 'elu'"),
    "shared channels": (lambda k: k.layers.PReLU(shared_axes=[3]), ".keras", "(PReLU): slopes of shape [4, 4, 1]; share those"),
    "mask": (
        lambda k: k.layers.Masking(),
        ".keras",
        "(Masking): Masking is not supported; leave it out, and give the model windows",
    ),
    "crop": (lambda k: k.layers.Cropping2D(1), ".tflite", "STRIDED_SLICE is not supported; crop the data instead"),
    "GRU": (lambda k: k.layers.GRU(4), ".keras", "(GRU): GRU is not supported; the nearest one is Conv1D over the window"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_stays_out_is_refused_by_name(keras: Any, tmp_path: Path, name: str) -> None:
    build, kind, expected = REFUSED[name]
    layers = keras.layers
    first = [layers.Conv2D(2, 1, name="below"), *([layers.Reshape((16, 2))] if name == "GRU" else []), build(keras)]
    file = save(chain(keras, (4, 4, 1), *first, layers.Flatten(), layers.Dense(2)), tmp_path, kind)
    with pytest.raises(ModelFileError, match=rf"net\{kind}: (layer|operator) \d+, '.+' \(") as caught:
        write(file, tmp_path / "in", loss="mse")
    assert expected in str(caught.value)


def test_the_hard_sigmoid_of_keras_2_is_refused(keras: Any, tmp_path: Path) -> None:
    file = save(chain(keras, (3,), keras.layers.Dense(3, activation="hard_sigmoid"), keras.layers.Dense(2)), tmp_path, ".h5")
    with importlib.import_module("h5py").File(file, "r+") as content:
        content.attrs["keras_version"] = "2.4.0"
    with pytest.raises(ModelFileError, match=r"net\.h5: layer 1, .* was x / 5 \+ 1/2 in Keras 2\.4\.0, which wrote the file"):
        write(file, tmp_path / "in", loss="mse")


IN_PARTS: dict[str, tuple[Callable[[Any], Callable[[Any], Any]], str, dict[str, Any]]] = {
    "softplus": (lambda k: lambda x: k.ops.log(k.ops.exp(x) + 1.0), "softplus", {}),
    "softplus, one first": (lambda k: lambda x: k.ops.log(1.0 + k.ops.exp(x)), "softplus", {}),
    "elu": (lambda k: lambda x: k.ops.where(x > 0, x, 0.7 * (k.ops.exp(x) - 1.0)), "elu", {"alpha": 0.7}),
    "mish": (lambda k: k.layers.Activation("mish"), "softplus", {}),
    "selu": (lambda k: k.layers.Activation("selu"), "selu", {}),
}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", sorted(IN_PARTS))
def test_activations_that_a_tflite_file_has_in_parts_are_joined(keras: Any, tmp_path: Path, name: str, half: bool) -> None:
    build, op, settings = IN_PARTS[name]
    model = mixed(functional(keras, build(keras)))
    file = tmp_path / "net.tflite"
    converter = importlib.import_module("tensorflow").lite.TFLiteConverter.from_keras_model(model)
    if half:
        tensorflow = importlib.import_module("tensorflow")
        converter.optimizations, converter.target_spec.supported_types = (
            [tensorflow.lite.Optimize.DEFAULT],
            [tensorflow.float16],
        )
    file.write_bytes(converter.convert())
    notes = write(file, tmp_path / "in", loss="mse")
    inputs = np.random.default_rng(2).normal(0, 1, (3, 4)).astype(np.float32)
    agree(reference_outputs(tmp_path / "in", inputs), model(inputs), 1e-3 if half else 1e-5)
    (layer,) = (each for each in written(tmp_path) if op in (each.op, getattr(each, "activation", None)))
    assert {key: getattr(layer, key) for key in settings} == pytest.approx(settings, rel=1e-3 if half else 1e-6)
    assert any("softplus of numbers above 88" in note for note in notes) == (op == "softplus")


@pytest.mark.parametrize("name", ["softplus", "selu", "elu", "mish"])
@pytest.mark.parametrize("causal", [False, True])
def test_activations_in_parts_behind_a_sequence_are_joined(keras: Any, tmp_path: Path, name: str, causal: bool) -> None:
    layers = keras.layers
    options = {"padding": "causal", "dilation_rate": 2} if causal else {}
    first, activation = keras.Input(shape=(10, 3)), layers.ELU(0.5) if name == "elu" else layers.Activation(name)
    behind = activation(layers.Conv1D(4, 3, **options)(first))
    model = mixed(keras.Model(first, layers.Dense(2)(layers.Flatten()(layers.Conv1D(2, 3, activation="selu")(behind)))))
    if name == "mish":
        write(save(model, tmp_path, ".tflite"), tmp_path / "in", loss="mse")
        inputs = np.random.default_rng(2).normal(0, 1, (3, 10, 3)).astype(np.float32)
        agree(reference_outputs(tmp_path / "in", inputs), model(inputs))
    else:
        same(model, tmp_path, ".tflite")


def test_a_part_that_something_else_reads_is_refused(keras: Any, tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        power = keras.ops.exp(x)
        return keras.ops.log(power + 1.0) + power

    file = save(mixed(functional(keras, build)), tmp_path, ".tflite")
    with pytest.raises(ModelFileError, match=r"net\.tflite: operator \d+, '.*' \(EXP\): EXP is not supported"):
        write(file, tmp_path / "in", loss="mse")
