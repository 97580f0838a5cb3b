"""Graph and plan: shapes, fused ReLU, forks, a backward pass only as deep as needed, and an arena without overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed_codegen import graph, layer_chain, ops, plan, spec
from tinymetafed_codegen.calls import BackwardCall, Call
from tinymetafed_codegen.protocol import Variant


def model(layers: list[dict[str, Any]], input_: list[int], loss: str = "mse") -> spec.ModelSpec:
    raw = {"task": {"kind": "sine"}, "model": {"input": input_, "loss": loss, "layers": layers}}
    return spec.parse(raw, "net.toml").model


def dense(units: int, **more: Any) -> dict[str, Any]:
    return {"op": "dense", "units": units, **more}


def conv(**more: Any) -> dict[str, Any]:
    return {"op": "conv2d", "filters": 4, "kernel": 3, **more}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "out", "pad"),
    [
        (28, 3, 2, "same", 14, 0),  # Keras pads one row at the end and none at the start
        (7, 3, 2, "same", 4, 1),
        (5, 3, 1, "same", 5, 1),
        (5, 2, 1, "same", 5, 0),
        (5, 3, 2, "valid", 2, 0),
        (1, 1, 1, "valid", 1, 0),
        (2, 5, 1, "same", 2, 2),
    ],
)
def test_convolution_shapes_are_those_of_keras(size: int, kernel: int, stride: int, padding: str, out: int, pad: int) -> None:
    layer = {"op": "conv2d", "filters": 2, "kernel": kernel, "stride": stride, "padding": padding}
    op: Any = graph.build(model([layer, {"op": "flatten"}, dense(1)], [size, size, 1])).forward[0].op
    assert op.output_shape == (out, out, 2)
    assert (op.rows.pad, op.columns.pad) == (pad, pad)


def test_relu_is_fused_into_the_layer_before_it() -> None:
    net = graph.build(model([dense(4), {"op": "relu"}, dense(2, activation="relu"), dense(1)], [3]))
    assert [(call.op.kind, call.op.relu) for call in net.forward] == [
        ("dense", True),
        ("dense", True),
        ("dense", False),
    ]


def test_global_weights_come_first_whatever_the_layer_order() -> None:
    net = graph.build(model([dense(4, local=True), dense(5), dense(1, local=True)], [3]))
    assert [p.name for p in net.parameters][:2] == ["dense2.kernel", "dense2.bias"]
    assert (net.n_global, net.n_local) == (4 * 5 + 5, 3 * 4 + 4 + 5 + 1)
    assert [p.offset for p in net.parameters] == [0, 20, 25, 37, 41, 46]


def test_backward_stops_at_the_lowest_layer_that_trains() -> None:
    net = graph.build(model([dense(4), dense(5), dense(1, local=True)], [3]))
    local = net.backward[Variant.LOCAL]
    assert [(call.op.name, call.update, call.dx) for call in local] == [("dense3", True, None)]
    assert [(call.op.name, call.update) for call in net.backward[Variant.GLOBAL]] == [
        ("dense3", False),
        ("dense2", True),
        ("dense1", True),
    ]
    assert net.backward[Variant.GLOBAL][-1].dx is None


@pytest.mark.parametrize(
    ("layers", "input_", "loss", "expected"),
    [
        ([dense(1, local=True)], [1], "mse", "every layer is local"),
        ([{"op": "flatten"}], [2, 2, 1], "mse", "nothing to train"),
        ([dense(3)], [2, 2, 1], "mse", "layers[0]: dense expects a vector"),
        ([conv()], [4], "mse", "layers[0]: conv2d expects [height, width, channels]"),
        ([conv(kernel=5, padding="valid"), {"op": "flatten"}, dense(1)], [4, 4, 1], "mse", "a window of 5 does not fit into 4"),
        ([conv()], [4, 4, 1], "mse", "add a flatten layer"),
        ([dense(1)], [1], "softmax_cross_entropy", "at least 2 outputs"),
        ([dense(2, activation="relu")], [1], "mse", "ends in a ReLU"),
        ([dense(60_000), dense(60_000)], [60_000], "mse", "more than the 1048576"),
        ([{"op": "conv1d", "filters": 2, "kernel": 3}], [4], "mse", "layers[0]: conv1d expects [length, channels]"),
        ([{"op": "depthwise_conv2d", "kernel": 3}], [4, 4], "mse", "depthwise_conv2d expects [height, width, channels]"),
        ([{"op": "separable_conv2d", "filters": 1, "kernel": 3}], [4], "mse", "layers[0]: depthwise_conv2d expects"),
        ([{"op": "max_pool"}], [4], "mse", "layers[0]: max_pool expects [height, width, channels], not [4]"),
        ([{"op": "avg_pool", "size": 5}], [4, 4, 1], "mse", "a window of 5 does not fit into 4"),
        ([{"op": "reshape", "shape": [3, 3]}], [2, 4], "mse", "shape = [3, 3] has 9 values, the layer before gives [2, 4]: 8"),
        ([conv(padding=[[0, 3], [0, 0]])], [4, 4, 1], "mse", "padding = [0, 3] for a window of 3: use less"),
        ([conv(padding="full")], [4, 4, 1], "mse", "expected 'same', 'valid' or [[top, bottom], [left, right]]"),
        ([conv(padding=[1, 1])], [4, 4, 1], "mse", "expected 'same', 'valid' or [[top, bottom], [left, right]]"),
        ([conv(kernel=2000)], [4, 4, 1], "mse", "less than or equal to 1024"),
        (
            [{"op": "conv1d", "filters": 2, "kernel": 3, "padding": [[0, 1], [0, 1]]}],
            [4, 1],
            "mse",
            "expected 'same', 'valid' or [before, after]",
        ),
        (
            [dense(1), {"op": "elu", "alpha": -1}],
            [1],
            "mse",
            "'model.layers[1].alpha' = -1: input should be greater than or equal",
        ),
        (
            [dense(1), {"op": "leaky_relu", "slope": 1.5}],
            [1],
            "mse",
            "'model.layers[1].slope' = 1.5: input should be less than",
        ),
        ([dense(1), {"op": "prelu", "frozen": True}], [1], "mse", "layers[1]: frozen above model.layers[0], which trains"),
        ([dense(1)] * 300, [1], "mse", "'model.layers' has 300 entries, expected at most 256"),
        ([{"op": "global_avg_pool"}], [4], "mse", "global_avg_pool expects [height, width, channels] or [length, channels]"),
        ([dense(3, name="a"), dense(3), {"op": "add", "with": "b"}], [1], "mse", "layers[2]: with = 'b': no layer"),
        ([dense(3, name="stem"), {"op": "add", "with": "stm"}], [1], "mse", "did you mean 'stem'?"),
        ([{"op": "add", "with": "dense2"}, dense(1)], [1], "mse", "there are: input"),
        ([dense(3), dense(2), {"op": "add", "with": "dense1"}], [1], "mse", "two equal shapes, not [2] and [3] of 'dense1'"),
        ([dense(3), {"op": "add", "with": []}], [1], "mse", "layers[1].with' = []: value error, expected the name of a layer"),
        ([dense(3), {"op": "add", "with": [1]}], [1], "mse", "expected the name of a layer, or a list of names"),
        ([dense(3), dense(3, **{"from": "dense3"})], [1], "mse", "layers[1]: from = 'dense3': no layer above this line"),
        ([dense(3), dense(3, **{"from": "input"})], [1], "mse", "layers[0]: no layer reads the output of 'dense1'"),
        ([dense(3, name="input")], [1], "mse", "layers[0]: the name 'input' is taken"),
        (
            [dense(3), dense(3), {"op": "subtract", "with": ["dense1", "input"]}],
            [3],
            "mse",
            "layers[2]: with = ['dense1', 'input']: subtract takes one layer",
        ),
        (
            [conv(name="a"), {"op": "max_pool"}, {"op": "multiply", "with": "a"}],
            [4, 4, 1],
            "mse",
            "one factor per channel (the last axis) or per pixel, not [2, 2, 4] and [4, 4, 4] of 'a'",
        ),
        ([conv(), {"op": "maximum", "with": "input"}], [4, 4, 1], "mse", "maximum expects two equal shapes, not [4, 4, 4] and"),
        (
            [dense(3), {"op": "concatenate", "with": "input", "axis": 1}],
            [3],
            "mse",
            "axis = 1: [3] has no such axis",
        ),
        (
            [conv(), {"op": "concatenate", "with": "input", "axis": 0}],
            [4, 4, 1],
            "mse",
            "equal but for axis 0, not [4, 4, 4] and [4, 4, 1] of 'input'",
        ),
        ([dense(3, name="a"), dense(3, name="a")], [1], "mse", "layers[1]: the name 'a' is taken"),
        ([dense(3, name="dense2"), dense(3)], [1], "mse", "layers[1]: the name 'dense2' is taken"),
        ([dense(3, name="loss")], [1], "mse", "layers[0]: the name 'loss' is taken"),
        ([dense(3, activation="relu6")], [1], "mse", "ends in a ReLU"),
        ([dense(3, activation="softmax")], [1], "softmax_cross_entropy", "applies the softmax itself"),
        ([dense(3), {"op": "softmax"}], [1], "softmax_cross_entropy", "applies the softmax itself"),
        ([dense(1, activation="sigmoid")], [1], "binary_crossentropy", "applies the sigmoid itself"),
        ([dense(3), dense(3, frozen=True)], [1], "mse", "layers[1]: frozen above model.layers[0], which trains"),
        ([dense(3, frozen=True, local=True), dense(1)], [1], "mse", "layers[0]: 'frozen' and 'local' exclude each other"),
        ([dense(3, frozen=True), dense(1, frozen=True)], [1], "mse", "nothing to train"),
        ([dense(3), {"op": "affine", "frozen": True}], [1], "mse", "layers[1]: frozen above model.layers[0], which trains"),
    ],
)
def test_invalid_models_are_refused(layers: list[dict[str, Any]], input_: list[int], loss: str, expected: str) -> None:
    with pytest.raises(spec.SpecError, match=r"net\.toml") as caught:
        graph.build(model(layers, input_, loss), "net.toml")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "out"),
    [
        (conv(kernel=[3, 1], stride=[1, 2], padding="valid"), [5, 4, 2], (3, 2, 4)),
        ({"op": "depthwise_conv2d", "kernel": 5, "stride": 2}, [2, 7, 3], (1, 4, 3)),
        ({"op": "separable_conv2d", "filters": 9, "kernel": 3, "stride": 2}, [5, 6, 2], (3, 3, 9)),
        ({"op": "conv1d", "filters": 2, "kernel": 4, "stride": 3}, [10, 1], (4, 2)),
        ({"op": "conv1d", "filters": 2, "kernel": 4, "stride": 3, "padding": "valid"}, [10, 1], (3, 2)),
        ({"op": "affine"}, [7], (7,)),
        ({"op": "affine"}, [5, 4, 3], (5, 4, 3)),
        ({"op": "max_pool"}, [5, 4, 3], (2, 2, 3)),
        ({"op": "max_pool", "size": 3, "stride": 2, "padding": "same"}, [5, 1, 3], (3, 1, 3)),
        ({"op": "avg_pool", "size": [1, 4]}, [5, 4, 3], (5, 1, 3)),
        (conv(stride=2, padding=[[0, 1], [1, 0]]), [6, 5, 2], (3, 2, 4)),
        ({"op": "conv1d", "filters": 2, "kernel": 80, "stride": 4, "padding": [3, 0]}, [101, 1], (7, 2)),
        ({"op": "separable_conv2d", "filters": 9, "kernel": 3, "padding": [[1, 1], [0, 2]]}, [5, 6, 2], (5, 6, 9)),
        ({"op": "global_avg_pool"}, [5, 4, 3], (3,)),
        ({"op": "global_avg_pool"}, [5, 3], (3,)),
        ({"op": "softmax"}, [5, 3], (5, 3)),
        ({"op": "concatenate", "with": ["input", "input"]}, [5, 3], (5, 9)),
        ({"op": "concatenate", "with": "input", "axis": 0}, [5, 4, 3], (10, 4, 3)),
        ({"op": "concatenate", "with": "input", "axis": -2}, [5, 4, 3], (5, 8, 3)),
        ({"op": "multiply", "with": "input"}, [5, 4, 3], (5, 4, 3)),
        ({"op": "subtract", "with": "input"}, [5, 4, 3], (5, 4, 3)),
    ],
)
def test_shapes_are_those_of_keras(layer: dict[str, Any], shape: list[int], out: tuple[int, ...]) -> None:
    net = graph.build(model([layer, {"op": "flatten"}, dense(1)], shape))
    assert [call.y.shape for call in net.forward][-2] == out


def test_relu_is_not_fused_where_an_add_reads_its_input() -> None:
    layers = [dense(4, name="a"), {"op": "relu", "name": "b"}, dense(4), {"op": "add", "with": "a"}, dense(1)]
    net = graph.build(model(layers, [3]))
    assert [(call.op.kind, call.op.relu) for call in net.forward[:2]] == [("dense", False), ("relu", False)]
    layers[3] = {"op": "add", "with": "b"}  # now it is fused, and its name stands for the layer before it
    net = graph.build(model(layers, [3]))
    assert net.forward[0].op.relu and net.forward[2].other == net.forward[0].y


def test_a_tensor_with_several_readers_gets_the_gradient_of_the_highest_first() -> None:
    layers = [dense(4, name="a"), dense(4, name="b"), {"op": "add", "with": "a"}, {"op": "add", "with": "a"}, dense(1)]
    net = graph.build(model(layers, [3]))
    sums = [call for call in net.backward[Variant.FULL] if isinstance(call, Call)]
    assert [(call.x.name, call.other and call.other.name) for call in sums] == [
        ("dx4", "dx4"),  # both adds pass their gradient on unchanged
        ("dx1_sum2", "dx1_from_b"),
    ]


@pytest.mark.parametrize(
    ("factor", "whole", "out"),
    [
        ([4], [3, 2, 4], (3, 2, 4)),
        ([1, 1, 4], [3, 2, 4], (3, 2, 4)),
        ([3, 2, 1], [3, 2, 4], (3, 2, 4)),
        ([1], [3, 4], (3, 4)),
        ([3, 4], [1, 4], (3, 4)),
        ([3, 4], [3, 1], (3, 4)),
    ],
)
def test_a_product_has_the_shape_of_the_larger_input(factor: list[int], whole: list[int], out: tuple[int, ...]) -> None:
    layers = [
        dense(math.prod(factor)),
        {"op": "reshape", "shape": factor, "name": "factor"},
        dense(math.prod(whole), **{"from": "input"}),
        {"op": "reshape", "shape": whole},
        {"op": "multiply", "with": "factor"},
        {"op": "flatten"},
        dense(1),
    ]
    assert graph.build(model(layers, [1])).forward[-2].y.shape == out


def test_a_branch_from_the_input_reads_it_normalised() -> None:
    layers = [dense(4), dense(4, **{"from": "input"}), {"op": "add", "with": "dense1"}, dense(1)]
    net = graph.build(model(layers, [3]), data=spec.DataSpec(normalise="standard"))
    assert net.forward[0].op.name == layer_chain.NORMALISE
    assert [call.x.name for call in net.forward[1:3]] == [net.forward[0].y.name] * 2


def test_a_maximum_saves_a_mask_only_where_a_gradient_passes() -> None:
    layers = [dense(40, name="a"), dense(40, **{"from": "input"}), {"op": "maximum", "with": "a"}, dense(1)]
    net = graph.build(model(layers, [3]))
    saved = net.forward[2].saved_mask
    assert saved is not None and saved.size == 2
    slots = {slot.tensor.name: slot for slot in plan.plan(net).slots}
    assert slots["x1"].last == slots["x2"].last == slots["x3"].first, "the inputs stay in the arena after their last use"
    frozen = [{**layer, "frozen": True} if layer["op"] == "dense" else layer for layer in layers[:3]]
    assert graph.build(model([*frozen, dense(1)], [3])).forward[2].saved_mask is None


def test_frozen_layers_have_no_weights_and_no_backward_pass() -> None:
    layers = [dense(9, frozen=True, name="a"), dense(9, frozen=True, activation="tanh"), dense(5), dense(1, local=True)]
    net = graph.build(model(layers, [3]))
    assert [p.name for p in net.parameters] == ["dense3.kernel", "dense3.bias", "dense4.kernel", "dense4.bias"]
    assert [f"{op.name}.{p.name}" for op, p in net.frozen] == ["a.kernel", "a.bias", "dense2.kernel", "dense2.bias"]
    for calls in net.backward.values():
        assert {call.op.name for call in calls} <= {"dense3", "dense4"}
    slots = {slot.tensor.name: slot for slot in plan.plan(net).slots}
    assert slots["x2"].last == slots["x3"].first, "activations of frozen layers stay in the arena after their last use"


def test_layers_that_work_in_place_take_no_memory() -> None:
    wide = dense(1000, activation="tanh")
    slots = {slot.tensor.name: slot for slot in plan.plan(graph.build(model([wide, dense(1)], [1]))).slots}
    assert slots["x1"].offset == slots["x2"].offset and slots["dx1"].offset == slots["dx2"].offset
    kept = graph.build(model([{**wide, "name": "a"}, {"op": "sigmoid"}, {"op": "add", "with": "a"}, dense(1)], [1]))
    slots = {slot.tensor.name: slot for slot in plan.plan(kept).slots}
    assert slots["x2"].offset != slots["x3"].offset, "the sigmoid overwrites an input of the add"


@pytest.mark.parametrize(
    ("pools", "most"),  # bytes; 53,344 and 64,128 if the images were kept
    [({"size": 2}, 41_552), ({"size": 3, "stride": 2}, 40_576)],
)
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_images_below_pools_are_not_kept(kind: str, pools: dict[str, int], most: int) -> None:
    pool = {"op": kind, **pools}
    layers = [conv(filters=8, activation="relu"), pool, conv(filters=16, activation="relu"), pool, {"op": "flatten"}, dense(5)]
    made = plan.plan(graph.build(model(layers, [28, 28, 1])))
    slots = {slot.tensor.name: slot for slot in made.slots}
    assert 4 * made.floats <= most
    for image, pooled in (("x1", "x2"), ("x3", "x4")):
        assert slots[image].last == slots[pooled].first, "the image stays in the arena after the pool's forward pass"
        assert 8 * slots[f"{pooled}_mask"].tensor.size <= slots[image].tensor.size * (2 if "stride" in pools else 1)


@pytest.mark.parametrize("kind", [*ops.ACTIVATIONS])
def test_activations_keep_one_tensor_at_most(kind: str) -> None:
    wide = dense(1000, name="a")
    slots = {slot.tensor.name: slot for slot in plan.plan(graph.build(model([wide, {"op": kind}, dense(1)], [1]))).slots}
    keeps_input = kind in ("silu", "hard_swish", "gelu")
    if kind != "relu":  # which is fused
        assert (slots["x1"].offset != slots["x2"].offset) == keeps_input, "y takes the place of x unless the backward reads x"
    frozen = graph.build(model([{**wide, "frozen": True}, {"op": kind}, dense(1)], [1]))
    assert plan.plan(frozen).floats <= 1004 + 128, "nothing is kept below the layers that train"


def test_pools_save_no_mask_where_nothing_needs_it() -> None:
    rest = [{"op": "flatten"}, dense(5)]
    for below in (conv(frozen=True, activation="relu"), {"op": "tanh"}):  # no layer there trains
        net = graph.build(model([below, {"op": "max_pool"}, *rest], [8, 8, 1]))
        assert all(call.saved_mask is None for call in net.forward)
    net = graph.build(model([conv(activation="tanh"), {"op": "avg_pool"}, *rest], [8, 8, 1]))
    assert all(call.saved_mask is None for call in net.forward), "the gradient of a mean does not depend on its input"


def executed(net: graph.Graph, made: plan.Plan, calls: Sequence[Call | BackwardCall], memory: list[str]) -> None:
    """Runs the calls with names as values: every call must read the value that was written for it."""

    def read(tensor: graph.Tensor) -> None:
        at = made.offset(tensor)
        assert set(memory[at : at + tensor.size]) == {tensor.name}, f"{tensor.name} is overwritten before its last reader"

    def write(tensor: graph.Tensor) -> None:
        at = made.offset(tensor)
        memory[at : at + tensor.size] = [tensor.name] * tensor.size

    def apart(tensor: graph.Tensor, other: graph.Tensor) -> bool:
        at, from_ = made.offset(tensor), made.offset(other)
        return at + tensor.size <= from_ or from_ + other.size <= at

    for call in calls:
        for tensor in call.reads:
            read(tensor)
        for written in call.writes:
            for tensor in call.reads:
                in_place = tensor in call.reusable and made.offset(tensor) == made.offset(written)
                assert in_place or apart(tensor, written), f"{call.op.kind} reads and writes one place"
            write(written)


MERGES = ["add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate"]
POINTWISE = [*ops.ACTIVATIONS]
image_layers = st.one_of(
    st.builds(conv, stride=st.integers(1, 2), activation=st.sampled_from([*POINTWISE, None]), local=st.booleans()),
    st.just({"op": "depthwise_conv2d", "kernel": 3, "activation": "relu"}),
    st.just({"op": "separable_conv2d", "filters": 4, "kernel": 3}),
    st.builds(lambda op: {"op": op, "padding": "same"}, st.sampled_from(["max_pool", "avg_pool"])),
    st.sampled_from([{"op": op} for op in [*POINTWISE, "prelu", "affine"]]),
)
vector_layers = st.one_of(
    st.builds(dense, st.sampled_from([3, 3, 17]), activation=st.sampled_from([*POINTWISE, None]), local=st.booleans()),
    st.sampled_from([{"op": op} for op in POINTWISE]),
)


@st.composite
def networks(draw: st.DrawFn) -> graph.Graph:
    """Random networks with forks wherever two shapes agree; some of the first layers are frozen."""
    layers: list[dict[str, Any]] = []
    input_ = [draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))]
    shapes: dict[str, tuple[int, ...]] = {}

    def append(layer: dict[str, Any]) -> None:
        name = f"n{len(layers)}"
        layers.append({**layer, "name": name})
        parsed = model(layers, input_).layers[-1]
        below = {"input": tuple(input_), **shapes}
        shape = below[parsed.from_] if parsed.from_ else list(below.values())[-1]
        shapes[name] = ops.build(parsed, name, shape, below)[-1].output_shape

    def branch() -> None:
        """A gate: a layer that reads an earlier one, and the product of the last layer with it, per channel or per value."""
        (last, shape), everywhere = list(shapes.items())[-1], {"input": tuple(input_), **shapes}
        source = draw(st.sampled_from([name for name, found in everywhere.items() if len(found) == len(shape)]))
        append({"op": "global_avg_pool", "from": source} if len(shape) == 3 else dense(5, **{"from": source}))
        append(dense(shape[-1], activation="sigmoid"))
        append({"op": "multiply", "with": last})

    for options, most in ((image_layers, 4), (vector_layers, 5)):
        for _ in range(draw(st.integers(0, most))):
            append(draw(options))
            last = list(shapes.values())[-1]
            if draw(st.booleans()):
                equal = st.sampled_from([name for name, shape in shapes.items() if shape == last])
                append({"op": draw(st.sampled_from(MERGES)), "with": draw(equal)})
            elif draw(st.booleans()):
                branch()
        if options is image_layers:
            append({"op": "flatten"})
    for layer in layers[: draw(st.integers(0, 3))]:
        if layer["op"] in ("dense", "conv2d", "depthwise_conv2d", "separable_conv2d", "prelu", "affine"):
            layer |= {"frozen": True, "local": False}
    spec_ = model([*layers, dense(2)], input_)
    clipped = spec_.model_copy(update={"clip_norm": draw(st.sampled_from([0.0, 1.0]))})
    return graph.build(clipped, gradient=draw(st.booleans()))


@settings(max_examples=150)
@given(net=networks())
def test_every_reader_finds_what_was_written_for_it(net: graph.Graph) -> None:
    made = plan.plan(net)
    for slot in made.slots:
        assert slot.offset >= 0 and slot.end <= made.floats and slot.offset % plan.ALIGNMENT == 0
    assert made.floats >= plan.HISTOGRAM_BINS
    for calls in net.backward.values():
        memory = [""] * made.floats
        for tensor in (net.input, net.target):
            at = made.offset(tensor)
            memory[at : at + tensor.size] = [tensor.name] * tensor.size
        executed(net, made, net.forward, memory)
        loss = Call(ops.Op("loss", (), ()), net.output, net.output_gradient, net.target)
        executed(net, made, [loss, *calls], memory)


@settings(max_examples=50)
@given(net=networks())
def test_live_tensors_never_share_memory(net: graph.Graph) -> None:
    slots = plan.plan(net).slots
    for i, one in enumerate(slots):
        for other in slots[i + 1 :]:
            apart = one.end <= other.offset or other.end <= one.offset
            handed_over = one.offset == other.offset and (one.last == other.first or other.last == one.first)
            alive_together = one.first <= other.last and other.first <= one.last
            assert apart or handed_over or not alive_together, f"{one} and {other} collide"
