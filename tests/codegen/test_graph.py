"""Graph and plan: shapes, fused ReLU, backward only as deep as needed, and an arena in which nothing collides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed_codegen import graph, plan, spec
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
        (28, 3, 2, "same", 14, 0),  # Keras pads one row after, none before
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
    assert (op.pad_top, op.pad_left) == (pad, pad)


def test_relu_melts_into_the_layer_before_it() -> None:
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
        ([conv(kernel=5, padding="valid"), {"op": "flatten"}, dense(1)], [4, 4, 1], "mse", "does not fit into 4x4"),
        ([conv()], [4, 4, 1], "mse", "add a flatten layer"),
        ([dense(1)], [1], "softmax_cross_entropy", "at least 2 outputs"),
        ([dense(2, activation="relu")], [1], "mse", "ends in a ReLU"),
        ([dense(60_000), dense(60_000)], [60_000], "mse", "more than the 1048576"),
    ],
)
def test_models_that_cannot_work_are_named(layers: list[dict[str, Any]], input_: list[int], loss: str, expected: str) -> None:
    with pytest.raises(spec.SpecError, match=r"net\.toml") as caught:
        graph.build(model(layers, input_, loss), "net.toml")
    assert expected in str(caught.value)


layer_lists = st.lists(
    st.one_of(
        st.builds(dense, st.integers(1, 40), activation=st.sampled_from(["relu", None]), local=st.booleans()),
        st.just({"op": "relu"}),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(layers=layer_lists, size=st.integers(1, 300), image=st.booleans(), stride=st.integers(1, 3))
def test_live_tensors_never_share_memory(layers: list[dict[str, Any]], size: int, image: bool, stride: int) -> None:
    front = [conv(stride=stride, activation="relu"), conv(), {"op": "flatten"}] if image else []
    net = graph.build(model([*front, *layers, dense(2)], [size % 12 + 1, size % 7 + 1, 2] if image else [size]))
    made = plan.plan(net)
    names = {slot.tensor.name for slot in made.slots}
    for calls in net.backward.values():
        for call in calls:
            assert {t.name for t in (call.x, call.dy, call.dx) if t is not None} <= names
    for i, one in enumerate(made.slots):
        assert one.offset >= 0 and one.end <= made.floats and one.offset % plan.ALIGNMENT == 0
        for other in made.slots[i + 1 :]:
            if one.first <= other.last and other.first <= one.last:
                assert one.end <= other.offset or other.end <= one.offset, f"{one} and {other} collide"
    assert made.floats >= plan.HISTOGRAM_WORDS
