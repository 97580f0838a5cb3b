"""Kernels of dilated, grouped and multiplied convolutions as those of plain ones: the same weights with zeros between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(kernel: Any, dilation: Sequence[int]) -> Any:
    """The kernel of a dilated convolution, [*window, inputs, outputs], with zeros between its weights."""
    window = kernel.shape[: len(dilation)]
    shape = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    wide = np.zeros((*shape, *kernel.shape[len(dilation) :]), kernel.dtype)
    wide[tuple(slice(None, None, step) for step in dilation)] = kernel
    return wide


def spread_groups(kernel: Any, groups: int) -> Any:
    """The kernel of a grouped convolution, [*window, inputs / groups, filters], over all inputs."""
    if groups == 1:
        return kernel
    *window, inputs, filters = kernel.shape
    wide = np.zeros((*window, inputs * groups, filters), kernel.dtype)
    for group in range(groups):
        outputs = slice(group * filters // groups, (group + 1) * filters // groups)
        wide[..., group * inputs : (group + 1) * inputs, outputs] = kernel[..., outputs]
    return wide


def spread_channels(kernel: Any) -> Any:
    """The kernel of a depthwise convolution, [*window, channels, multiplier], as [*window, channels, channels * multiplier]."""
    *window, channels, multiplier = kernel.shape
    return spread_groups(kernel.reshape(*window, 1, channels * multiplier), channels)
