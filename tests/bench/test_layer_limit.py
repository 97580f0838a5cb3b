"""The limits of layers' passes, counted by hand and for tiles drawn out as sets."""

from __future__ import annotations

from typing import Any

import pytest

from tinymetafed.bench.layer_limit import limits, padded_products, products
from tinymetafed_codegen import ops
from tinymetafed_codegen.ops import Op


def layer(kind: str, *extents: int, **keys: Any) -> Op:
    made = ops.find(kind)
    return made.build(made.spec.model_validate({"op": kind, **keys}), "layer", extents)


def test_a_window_of_one_pixel_has_one_product_for_each_output_of_a_channel() -> None:
    found = limits(layer("conv2d", 8, 8, 1, filters=8, kernel=1))
    # Product 2, ReLU and store 5, and 4 pixels by 4 filters: 8 numbers for 16 products.
    assert found["forward"] == pytest.approx(2 + 5 + 8 / 16)
    # A gradient of a single channel adds 8 filters: mask and store 5 / 8; 16 pixels share a weight, but not a gradient.
    assert found["gradient"] == pytest.approx(2 + 5 / 8 + 17 / 16)
    # A weight's sum has 64 products: 4 for its move; a value is loaded for 8 filters' gradients.
    assert found["update"] == pytest.approx(2 + 4 / 64 + 9 / 8)


def test_neighbouring_windows_of_a_depthwise_layer_share_values() -> None:
    op = layer("depthwise_conv2d", 34, 34, 5, kernel=3, padding="valid")
    assert products(op) == padded_products(op) == 32 * 32 * 9 * 5
    # 16 outputs of a row and 3 elements: 18 values and 3 weights for 48 products.
    assert limits(op)["forward"] == pytest.approx(2 + 21 / 48 + 5 / 9)
    # All 9 sums: 3 new values and a gradient for each output.
    assert limits(op)["update"] == pytest.approx(2 + 4 / 9 + 4 / 1024)


def test_padding_counts_in_one_of_both_counts() -> None:
    op = layer("depthwise_conv2d", 6, 6, 64, kernel=3)
    assert (products(op), padded_products(op)) == (16 * 16 * 64, 36 * 9 * 64)  # 16 pairs of an output and a weight on each axis
    assert padded_products(layer("conv2d", 8, 8, 2, filters=3, kernel=3)) == 64 * 9 * 2 * 3
    assert padded_products(layer("dense", 7, units=2)) == 14


@pytest.mark.parametrize(("elements", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (2, 3), (4, 2)])
def test_no_tile_of_outputs_takes_fewer_loads(elements: int, stride: int) -> None:
    """Of all tiles of up to 16 sums, with inputs and weights as sets."""
    width, filters = 20, 6
    op = layer(
        "conv2d", 1, (width - 1) * stride + elements, 3, filters=filters, kernel=[1, elements], stride=stride, padding="valid"
    )
    loads = []
    for pixels in range(1, 17):
        for depth in range(1, min(filters, 16 // pixels) + 1):
            pairs = [(out * stride + element, element) for out in range(pixels) for element in range(elements)]
            values, weights = {place for place, _ in pairs}, {(element, f) for _, element in pairs for f in range(depth)}
            loads.append((len(values) + len(weights)) / (len(pairs) * depth))
    outputs = 5 * width * filters / products(op)
    assert limits(op)["forward"] == pytest.approx(2 + min(loads) + outputs)


def test_a_dense_layer_loads_each_weight_once_and_stores_new_ones() -> None:
    found = limits(layer("dense", 64, units=32))
    assert found["forward"] == pytest.approx(2 + 1 / 4 + 1 / 16 + 5 / 64)
    assert found["gradient"] == pytest.approx(2 + 1 / 4 + 1 / 16 + 5 / 32)
    assert found["update"] == pytest.approx(2 + 2 / 4 + 1 / 16 + 1 / 64)


def test_layers_without_weights_have_no_limit() -> None:
    op = layer("max_pool", 6, 6, 4)
    assert limits(op) == {}
    assert products(op) == 144
