"""Networks for tests of the arena: those that are measured, 5 to 20 layers deep, and others, also random ones."""

from __future__ import annotations

import random

from tinymetafed.bench.deep_nets import KINDS, Layer, built, conv, depthwise, head
from tinymetafed_codegen.graph import Graph

__all__ = ["KINDS", "drawn", "two_heads"]


def two_heads() -> Graph:
    """Two branches over one depthwise convolution: two local layers, and after them a global one.

    The backward pass comes to the global one first; where only local layers train, it leaves that out.
    """
    layers = [conv(16), depthwise(name="trunk"), conv(24, 3, local=True), conv(8, 1, local=True, name="own")]
    layers += [conv(8, 1) | {"from": "trunk"}, {"op": "concatenate", "with": "own"}, conv(4, 1)]
    return built([16, 16, 3], layers + head())


def drawn(seed: int) -> Graph:
    """A random network: convolutions, pools, activations, layers that read two earlier ones, and a few local layers."""
    draw = random.Random(seed)
    size = draw.choice([12, 16, 24, 32])
    shape = [size, size, draw.choice([1, 3])]
    layers: list[Layer] = []
    outputs: list[tuple[str, int, int]] = []  # name, size and channels
    channels = shape[2]
    for i in range(draw.randint(4, 18)):
        kind, stride = draw.choice("cccdddpaemo"), draw.choice([1, 1, 1, 2]) if size > 3 else 1
        alike = [name for name, *of in outputs[:-1] if of == [size, channels]]
        if kind == "c":
            channels, size = draw.choice([4, 8, 16]), -(-size // stride)
            layer = conv(channels, draw.choice([1, 3]), stride, draw.choice(["relu", "sigmoid", None]))
        elif kind == "d":
            size = -(-size // stride)
            layer = depthwise(stride, draw.choice(["relu", "sigmoid"]))
        elif kind == "p" and size >= 4:
            size //= 2
            layer = {"op": draw.choice(["max_pool", "avg_pool"]), "size": 2}
        elif kind == "m" and alike:
            layer = {"op": draw.choice(["add", "multiply", "maximum"]), "with": draw.choice(alike)}
        elif kind == "o" and outputs:
            other, wide = draw.choice([(name, wide) for name, of, wide in outputs if of == size] or [("", 0)])
            if not other:
                continue
            channels += wide
            layer = {"op": "concatenate", "with": other}
        elif kind == "e":
            layer = {"op": "affine"}
        else:
            layer = {"op": draw.choice(["sigmoid", "relu6", "silu", "hard_swish"])}
        if kind in "cde" and draw.random() < 0.2:
            layer |= {"local": True}
        layers.append(layer | {"name": f"layer{i}"})
        outputs.append((f"layer{i}", size, channels))
    return built(shape, layers + head())
