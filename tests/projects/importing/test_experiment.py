"""Networks to experiments, without TensorFlow: folding, frozen and local layers, names, and refused networks."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import outputs

from tinymetafed import cli
from tinymetafed.projects.importing import written_experiment
from tinymetafed.projects.importing.network import AFFINE, FileLoss, Layer, Network
from tinymetafed.runs.tensorflow import ModelFileError
from tinymetafed_codegen import spec
from tinymetafed_codegen.loss import LossName

RANDOM = np.random.default_rng(1)


def layer(op: str, *inputs: Layer | None, name: str = "", shapes: dict[str, Any] | None = None, **keys: Any) -> Layer:
    """A layer with random weights of the given shapes and the given inputs."""
    arrays = {suffix: RANDOM.normal(0, 0.5, shape) for suffix, shape in (shapes or {}).items()}
    return Layer(f"net.keras: layer '{name or op}'", name or op, {"op": op, **keys}, list(inputs), arrays)


def dense(below: Layer | None, inputs: int, units: int, name: str = "dense") -> Layer:
    return layer("dense", below, name=name, shapes={".kernel": (inputs, units), ".bias": (units,)}, units=units)


def conv(below: Layer | None, channels: int, filters: int, padding: str = "valid") -> Layer:
    shapes = {".kernel": (3, 2, channels, filters), ".bias": (filters,)}
    return layer("conv2d", below, name="Conv2D_1", shapes=shapes, filters=filters, kernel=[3, 2], padding=padding)


def network(shape: tuple[int, ...], *layers: Layer, loss: LossName | None = "mse") -> Network:
    return Network("net.keras", shape, list(layers), None if loss is None else FileLoss(loss, loss))


def written(net: Network, folder: Path, **options: Any) -> tuple[spec.Experiment, list[str]]:
    notes = written_experiment.write(net, folder / "experiment.toml", "folder", **options)
    return spec.load(folder / "experiment.toml"), notes


def three() -> Network:
    first = dense(None, 3, 4, "First")
    relu = layer("relu", first)
    second = dense(relu, 4, 5, "dense_1")
    third = dense(second, 5, 2, "dense_2")
    return network((3,), first, relu, second, third)


def test_what_is_written_is_an_experiment_with_the_weights_of_the_file(tmp_path: Path) -> None:
    net = three()
    loaded, notes = written(net, tmp_path)
    layers: Any = loaded.model.layers
    assert [each.name for each in layers] == ["first", "dense1", "dense2"] and notes == []
    assert [each.local for each in layers] == [False, False, True] and not any(each.frozen for each in layers)
    assert layers[0].activation == "relu" and layers[1].activation is None
    assert loaded.model.weights == str(tmp_path / "experiment.npz") and loaded.task.kind == "folder"
    with np.load(tmp_path / "experiment.npz") as arrays:
        assert set(arrays) == {f"{name}.{part}" for name in ("first", "dense1", "dense2") for part in ("kernel", "bias")}
        np.testing.assert_array_equal(arrays["dense1.kernel"], net.layers[1].arrays[".kernel"].astype(np.float32))
    text = (tmp_path / "experiment.toml").read_text()
    assert '{ op = "dense", name = "first", units = 4, activation = "relu" },' in text


@pytest.mark.parametrize(
    ("options", "frozen", "local"),
    [
        ({"freeze": "1"}, [True, False, False], [False, False, True]),
        ({"freeze": "First"}, [True, False, False], [False, False, True]),
        ({"freeze": "first"}, [True, False, False], [False, False, True]),
        ({"freeze": "2"}, [True, True, False], [False, False, False]),
        ({"local": ["dense_1"]}, [False, False, False], [False, True, False]),
        ({"local": ["dense_2", "First"]}, [False, False, False], [True, False, True]),
    ],
)
def test_layers_are_frozen_and_local_as_asked(
    tmp_path: Path, options: dict[str, Any], frozen: list[bool], local: list[bool]
) -> None:
    loaded, notes = written(three(), tmp_path, **options)
    layers: Any = loaded.model.layers
    assert [each.frozen for each in layers] == frozen and [each.local for each in layers] == local
    assert bool(notes) == (not any(local)), "a note must say that no layer is local"


def test_the_first_layers_that_do_not_train_in_the_file_are_frozen(tmp_path: Path) -> None:
    net = three()
    net.layers[0].trainable = net.layers[3].trainable = False
    loaded, _ = written(net, tmp_path)
    layers: Any = loaded.model.layers
    assert [each.frozen for each in layers] == [True, False, False]


def plain(net: Network, x: Any) -> Any:
    """Outputs in NumPy of a network of dense, flatten, affine and 'valid' conv2d layers."""
    for each in net.layers:
        arrays = each.arrays
        if each.op == AFFINE:
            x = x * arrays["scale"] + arrays["offset"]
        elif each.op == "dense":
            x = x @ arrays[".kernel"] + arrays[".bias"]
        elif each.op == "flatten":
            x = x.ravel()
        else:
            windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (0, 1))  # type: ignore[call-overload]
            kernel = arrays[".kernel"]
            if each.op == "conv2d":
                x = np.einsum("ijcrs,rscf->ijf", windows, kernel) + arrays[".bias"]
            else:
                x = np.einsum("ijcrs,rsc->ijc", windows, kernel[..., 0]) + arrays[".bias"]
    return x


def affine(below: Layer | None, channels: int | None = None) -> Layer:
    shape = () if channels is None else (channels,)
    return layer(AFFINE, below, shapes={"scale": shape, "offset": shape})


def folding(where: str) -> Network:
    """A network with affine layers; a test freezes its first layer with weights."""
    if where == "around a dense":
        layers = [affine(None, 3), dense(None, 3, 4), affine(None, 4), dense(None, 4, 3), dense(None, 3, 2)]
        shape: tuple[int, ...] = (3,)
    else:
        shapes = {".kernel": (3, 2, 2, 1), ".bias": (2,)}
        depthwise = layer("depthwise_conv2d", name="dw", shapes=shapes, kernel=[3, 2], padding="valid")
        first = depthwise if where == "around a depthwise" else conv(None, 2, 2)
        first.inputs = [None]
        layers = [affine(None), affine(None, 2), first, affine(None), affine(None, 2), layer("flatten", None)]
        layers += [dense(None, 2 * 3 * 2, 3), dense(None, 3, 2)]
        shape = (4, 4, 2)
    for below, above in itertools.pairwise(layers):
        above.inputs = [below]
    return network(shape, *layers)


@pytest.mark.parametrize("where", ["around a dense", "around a depthwise", "around a conv2d"])
def test_scales_and_offsets_are_folded_to_the_same_outputs(tmp_path: Path, where: str) -> None:
    net = folding(where)
    inputs = RANDOM.normal(0, 1, (3, *net.input))
    expected = np.stack([plain(net, x) for x in inputs])
    loaded, notes = written(net, tmp_path, freeze="1")
    assert all("folded into" in note for note in notes) and len(notes) == (2 if where == "around a dense" else 4)
    assert not any(each.op == AFFINE for each in net.layers) and loaded.model.layers
    np.testing.assert_allclose(outputs(tmp_path, inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_trainable_normalisation_is_folded_with_a_note(tmp_path: Path) -> None:
    first = dense(None, 3, 4)
    norm = affine(first, 4)
    _, notes = written(network((3,), first, norm, dense(norm, 4, 2)), tmp_path)
    assert len(notes) == 1 and "folded into 'dense', which trains from there without normalisation" in notes[0]


def test_notes_have_the_names_of_the_experiment(tmp_path: Path) -> None:
    below = layer("conv2d", None, name="conv.x-1", shapes={".kernel": (3, 2, 2, 2), ".bias": (2,)}, filters=2, kernel=[3, 2])
    below.has_bias = False
    first, second = affine(below, 2), affine(below, 2)
    second.inputs = [first]
    flat = layer("flatten", second)
    loaded, notes = written(network((4, 4, 2), below, first, second, flat, dense(flat, 32, 2, "Head_2")), tmp_path)
    names = [each.name for each in loaded.model.layers if each.op != "flatten"]
    assert names == ["conv_x1", "head2"]
    assert len(notes) == 2 and all("folded into 'conv_x1'" in note for note in notes)


def test_a_missing_bias_is_noted_with_both_names(tmp_path: Path) -> None:
    net = three()
    net.layers[2].has_bias = False
    assert written(net, tmp_path)[1] == [
        "layer 'dense_1', here 'dense1': has no bias in the file; here it has one, which begins at 0 and trains"
    ]


@pytest.mark.parametrize(("freeze", "remedy"), [("0", "add a layer with weights"), ("1", "freeze fewer layers")])
def test_a_layer_that_trains_alone_is_noted_with_what_to_do(tmp_path: Path, freeze: str, remedy: str) -> None:
    first = dense(None, 3, 3, "dense_4")
    net = network((3,), first, *([dense(first, 3, 2, "dense_5")] if freeze == "1" else []))
    _, (note,) = written(net, tmp_path, freeze=freeze)
    assert note.startswith(f"only '{'dense5' if freeze == '1' else 'dense4'}' trains, so it is global") and remedy in note


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("freeze", [None, "1"])
def test_a_scale_that_nothing_can_take_becomes_a_layer(tmp_path: Path, padding: str, freeze: str | None) -> None:
    net = normalised_twice(padding)
    scale, shift = net.layers[0].arrays["scale"], net.layers[0].arrays["offset"]
    loaded, notes = written(net, tmp_path, freeze=freeze)
    first: Any = loaded.model.layers[0]
    if (padding, freeze) == ("valid", "1"):
        assert "folded into 'conv2d1'" in notes[0] and first.op == "conv2d"
        return
    assert f"becomes a layer 'affine', {'frozen' if freeze else 'which trains'}" in notes[0]
    assert (first.op, first.frozen) == ("affine", freeze is not None)
    with np.load(tmp_path / "experiment.npz") as arrays:
        np.testing.assert_array_equal(arrays[f"{first.name}.kernel"].ravel(), scale.astype(np.float32))
        np.testing.assert_array_equal(arrays[f"{first.name}.bias"], shift.astype(np.float32))


def test_a_scaled_vector_keeps_its_input(tmp_path: Path) -> None:
    net = scaled_input()
    net.layers[0].trainable = False
    loaded, notes = written(net, tmp_path)
    layers: Any = loaded.model.layers
    assert loaded.model.input == (3,) and [each.op for each in layers] == ["affine", "dense"]
    assert layers[0].frozen and notes[0].endswith("becomes a layer 'affine', frozen")


def test_a_final_softmax_sets_the_loss_and_is_left_out(tmp_path: Path) -> None:
    net = three()
    net.layers.append(layer("softmax", net.layers[-1]))
    net.loss = None
    loaded, notes = written(net, tmp_path)
    last: Any = loaded.model.layers[-1]
    assert loaded.model.loss == "softmax_cross_entropy" and last.activation is None
    assert (
        "does not say its loss: softmax_cross_entropy, because its last layer is a softmax" in notes[0] and "logits" in notes[1]
    )


def test_a_final_softmax_stays_with_another_loss(tmp_path: Path) -> None:
    net = three()
    net.layers.append(layer("softmax", net.layers[-1]))
    last: Any = written(net, tmp_path, loss="mae")[0].model.layers[-1]
    assert last.activation == "softmax"


def test_an_add_finds_the_layer_that_it_reads(tmp_path: Path) -> None:
    first = dense(None, 3, 3, "dense")
    second = dense(first, 3, 3, "dense!")
    tanh = layer("tanh", second)
    add = layer("add", first, tanh, name="add")
    third = dense(add, 3, 1, "dense?")
    loaded, _ = written(network((3,), first, second, tanh, add, third), tmp_path)
    layers: Any = loaded.model.layers
    assert [each.name for each in layers] == ["dense", "densex2", None, "densex3"] and layers[2].with_ == ("dense",)
    assert layers[1].activation == "tanh", "no other layer reads the input of the tanh"


def test_an_activation_is_not_fused_where_another_layer_reads_its_input(tmp_path: Path) -> None:
    first = dense(None, 3, 3, "loss")
    relu = layer("relu", first)
    second = dense(relu, 3, 3, "b")
    add = layer("add", second, first)
    loaded, _ = written(network((3,), first, relu, second, add, dense(add, 3, 1, "c")), tmp_path)
    layers: Any = loaded.model.layers
    assert [each.op for each in layers] == ["dense", "relu", "dense", "add", "dense"]
    assert layers[0].name == "lossx2" and layers[3].with_ == ("lossx2",), "generated code uses the name loss itself"


def branching() -> Network:
    first = dense(None, 3, 3, "a")
    second = dense(first, 3, 3, "b")
    third = dense(first, 3, 3, "c")
    return network((3,), first, second, third, layer("add", second, third))


def adding_the_input() -> Network:
    first = dense(None, 3, 3, "a")
    add = layer("add", first, None)
    return network((3,), first, add, dense(add, 3, 3, "b"))


def test_a_branch_names_the_layer_where_it_begins(tmp_path: Path) -> None:
    layers: Any = written(branching(), tmp_path)[0].model.layers
    assert [(each.name, each.from_) for each in layers] == [("a", None), ("b", None), ("c", "a"), (None, None)]
    assert layers[3].with_ == ("b",)


def test_a_merge_may_read_the_input(tmp_path: Path) -> None:
    layers: Any = written(adding_the_input(), tmp_path)[0].model.layers
    assert layers[1].with_ == ("input",)


def scaled_input() -> Network:
    scale = affine(None)
    return network((3,), scale, dense(scale, 3, 1))


def misfit() -> Network:
    first = conv(None, 2, 3)
    return network((4, 4, 2), first, dense(first, 3, 2, "Head"))


def ending_in_relu() -> Network:
    first = dense(None, 3, 2, "Head")
    return network((3,), first, layer("relu", first))


def normalised_twice(padding: str) -> Network:
    shift = affine(None, 2)
    first = conv(shift, 2, 3, padding)
    flat = layer("flatten", first)
    head = dense(flat, 48 if padding == "same" else 18, 2, "x")
    return network((4, 4, 2), shift, first, flat, head, dense(head, 2, 1, "y"))


@pytest.mark.parametrize(
    ("net", "options", "expected"),
    [
        (three(), {"freeze": "3"}, "all 3 layers with weights would be frozen"),
        (three(), {"freeze": "nose"}, "--freeze nose: no such layer with weights; it has First, dense_1, dense_2"),
        (three(), {"freeze": "1", "local": ["First"]}, "--local First: no such layer that trains; there are dense_1, dense_2"),
        (three(), {"local": ["First", "dense_1", "dense_2"]}, "every layer is local"),
        (network((3,), dense(None, 3, 1), loss=None), {}, "does not say its loss; give one with --loss mse|mae"),
        (ending_in_relu(), {}, "net.keras: layer 'Head': the last layer ends in a ReLU"),
        (ending_in_relu(), {}, "never trains again; build it without activation"),
        (misfit(), {}, "net.keras: layer 'Head': dense expects"),
    ],
)
def test_networks_that_cannot_be_imported_are_refused_by_name(
    tmp_path: Path, net: Network, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ModelFileError) as caught:
        written(net, tmp_path, **options)
    assert expected in str(caught.value)
    assert not list(tmp_path.iterdir()), "a refused network must leave no file"


def test_many_layers_are_counted_not_printed(tmp_path: Path) -> None:
    def chained(count: int) -> Network:
        layers = [dense(None, 2, 2)]
        for _ in range(count - 1):
            layers.append(dense(layers[-1], 2, 2))
        return network((2,), *layers)

    assert len(written(chained(70), tmp_path)[0].model.layers) == 70
    with pytest.raises(ModelFileError, match=r"net.keras: 'model.layers' has 300 entries, expected at most 256$"):
        written(chained(300), tmp_path / "more")


@pytest.mark.parametrize("there", ["experiment.toml", "experiment.npz"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(ModelFileError, match=f"{there}: exists already"):
        written(three(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [there] and (tmp_path / there).read_text() == "mine"


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    for name, expected in (("net.onnx", "unknown format; expected FILE.keras"), ("none.keras", "no such file")):
        with pytest.raises(ModelFileError, match=f"{name}: {expected}"):
            written_experiment.read(tmp_path / name)
    (tmp_path / "x.tflite").write_bytes(b"no model at all")
    with pytest.raises(ModelFileError, match=r"x\.tflite: no TensorFlow Lite model"):
        written_experiment.read(tmp_path / "x.tflite")
    with pytest.raises(ModelFileError, match="expected an experiment file to write"):
        written_experiment.write(three(), tmp_path / "experiment", "folder")


def test_without_tensorflow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.keras").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setattr(sys, "argv", ["tinymetafed", "import", str(tmp_path / "net.keras"), "-o", str(tmp_path / "e.toml")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "pip install 'tinymetafed[tensorflow]'" in capsys.readouterr().err
