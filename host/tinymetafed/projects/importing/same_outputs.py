"""Compares the outputs of an imported network with those of the model file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.graph import Graph

from ...runs import keras_model
from ...runs.tensorflow import ModelFileError, require
from .network import Network

_TOLERANCE = 1e-3  # of the largest output: far above what rounding does, far below what a wrong layer does
_SAMPLES = 4
_LARGE = 255  # the largest random integer
# Types of inputs of which samples are made; of others samples are float32.
_TYPES = ("float16", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def check_outputs(network: Network, net: Graph, arrays: Mapping[str, npt.NDArray[np.float32]], activation: str) -> None:
    """Computes some outputs both ways.

    Args:
        network: The network, with a way to compute the file's outputs; without one nothing is compared.
        net: The graph of its experiment.
        arrays: All its weights, by names such as dense1.kernel.
        activation: The last activation that the experiment's loss applies, or "".

    Raises:
        ModelFileError: They differ.
    """
    if network.evaluate is None:
        return
    keras = require("keras", network.file)
    samples = _samples(network)
    try:
        expected = np.asarray(network.evaluate(samples), np.float64).reshape(_SAMPLES, -1)
    except Exception as failure:  # Keras and TensorFlow may raise any exception
        lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(failure).splitlines()]
        reason = next((line for line in lines if line and "Exception encountered" not in line), type(failure).__name__)
        raise ModelFileError(
            f"{network.file}: TensorFlow cannot compute its outputs from an input of type {network.input_type}: {reason[:150]}"
        ) from None
    outputs = keras_model.build(net, arrays)(samples.astype(np.float32).reshape(_SAMPLES, *net.input.shape))
    outputs = keras.activations.get(activation or None)(outputs)
    given = keras.ops.convert_to_numpy(outputs).astype(np.float64).reshape(_SAMPLES, -1)
    if not np.isfinite(expected).all():
        return
    error = np.abs(given - expected).max(1) / np.maximum(np.abs(expected).max(1), 1e-30)
    if error.max() > _TOLERANCE:
        raise ModelFileError(
            f"{network.file}: the imported network would give other outputs than the file: they differ by {error.max():.1%} on "
            "random inputs; simplify the model (fewer reshapes, no shared layers), and please report it"
        )


def _samples(network: Network) -> npt.NDArray[Any]:
    """Random inputs of the file's type."""
    kind = np.dtype(network.input_type if network.input_type in _TYPES else "float32")
    shape, random = (_SAMPLES, *network.file_input), np.random.default_rng(1)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(max(limits.min, -_LARGE), min(limits.max, _LARGE), shape, kind, endpoint=True)
    if kind.kind == "b":
        return random.integers(0, 1, shape, endpoint=True).astype(kind)
    samples = random.normal(0, 1, shape)
    if not network.overflows:
        samples[_SAMPLES // 2 :] *= 100  # as large as pixels
    return samples.astype(kind)
