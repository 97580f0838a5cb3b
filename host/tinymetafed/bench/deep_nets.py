"""Networks of the kinds that people train on boards, 5 to 20 layers deep, whose arenas are planned."""

from __future__ import annotations

from collections.abc import Callable

from tinymetafed_codegen import graph
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.section import TomlTable, TomlValue
from tinymetafed_codegen.spec import ModelSpec

Layer = TomlTable


def built(shape: list[int], layers: list[Layer]) -> Graph:
    """The graph of some layers that read an input of this shape."""
    given = {"input": shape, "layers": layers, "loss": "softmax_cross_entropy"}
    return graph.build(ModelSpec.model_validate(given | {"init": "he", "local_start": "random", "local_start_scale": 0.1}))


def conv(filters: int, kernel: int = 3, stride: int = 1, activation: str | None = "relu", **more: TomlValue) -> Layer:
    """A convolution, with a ReLU unless the activation is None."""
    given: Layer = {"op": "conv2d", "filters": filters, "kernel": kernel, "stride": stride}
    return given | ({} if activation is None else {"activation": activation}) | more


def depthwise(stride: int = 1, activation: str = "relu", **more: TomlValue) -> Layer:
    """A depthwise convolution of 3x3."""
    given: Layer = {"op": "depthwise_conv2d", "kernel": 3, "stride": stride, "activation": activation}
    return given | more


def head(pooled: bool = True) -> list[Layer]:
    """Ten classes of an image."""
    return [{"op": "global_avg_pool" if pooled else "flatten"}, {"op": "dense", "units": 10}]


def plain(depth: int) -> Graph:
    """Convolutions in a chain."""
    layers = [conv(8 + 4 * (i // 4), stride=2 if i % 5 == 4 else 1) for i in range(depth - 2)]
    return built([32, 32, 3], layers + head(pooled=False))


def separable(depth: int) -> Graph:
    """Depthwise convolutions, each with one of 1x1 behind it."""
    layers, filters = [conv(8, stride=2)], 8
    while len(layers) < depth - 2:
        stride = 2 if len(layers) % 6 == 5 else 1
        filters = min(64, stride * filters)
        layers += [depthwise(stride), conv(filters, 1)]
    return built([48, 48, 3], layers + head())


def residual(depth: int) -> Graph:
    """Blocks of two convolutions with their input added, and a stride of 2 now and then."""
    layers, filters, block = [conv(16, name="block0")], 16, 0
    while len(layers) < depth - 2:
        before, block = f"block{block}", block + 1
        if len(layers) % 7 >= 5:
            filters = 16 + 8 * block
            layers += [conv(filters, stride=2, name=f"block{block}")]
            continue
        layers += [conv(filters), conv(filters, activation=None), {"op": "add", "with": before}]
        layers += [{"op": "relu", "name": f"block{block}"}]
    return built([16, 16, 3], layers + head(pooled=False))


def inverted(depth: int) -> Graph:
    """Blocks of MobileNetV2: 1x1 to four times the channels, depthwise, 1x1 back, and the block's input added."""
    layers, filters, block = [conv(8, stride=2, name="block0")], 8, 0
    while len(layers) < depth - 2:
        before, block = f"block{block}", block + 1
        stride = 2 if block % 3 == 0 else 1
        layers += [conv(4 * filters, 1), depthwise(stride)]
        filters += 4 * (stride == 2)
        if stride == 2:
            layers += [conv(filters, 1, activation=None, name=f"block{block}")]
        else:
            layers += [conv(filters, 1, activation=None), {"op": "add", "with": before, "name": f"block{block}"}]
    return built([48, 48, 3], layers + head())


def pools(depth: int) -> Graph:
    """Convolutions with pools of both kinds between them."""
    layers: list[Layer] = []
    for i in range((depth - 1) // 2):
        pool: Layer = {"op": "max_pool" if i % 2 else "avg_pool", "size": 2}
        layers += [conv(8 * (i + 1)), pool if i < 4 else conv(16, 1)]
    return built([32, 32, 3], layers + head(pooled=False))


def split(depth: int) -> Graph:
    """Two branches side by side, joined, and again two branches."""
    layers = [conv(8, name="join0")]
    for i in range((depth - 3) // 3):
        of: Layer = {"from": f"join{i}"}
        layers += [conv(8, name=f"left{i}") | of, conv(4, 1, name=f"right{i}") | of]
        layers += [{"op": "concatenate", "with": f"left{i}", "name": f"join{i + 1}"}]
    return built([20, 20, 1], layers + head())


KINDS: dict[str, Callable[[int], Graph]] = {
    each.__name__: each for each in (plain, separable, residual, inverted, pools, split)
}
