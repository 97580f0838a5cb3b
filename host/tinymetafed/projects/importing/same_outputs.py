"""Compares the outputs of an imported network with those of the model file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.graph import Graph

from ...runs import keras_model
from ...runs.tensorflow import ModelFileError, require
from .network import Network

_TOLERANCE = 1e-3  # of the largest output: far above what rounding does, far below what a wrong layer does
_SAMPLES = 4


def check_outputs(network: Network, net: Graph, arrays: Mapping[str, npt.NDArray[np.float32]], activation: str) -> None:
    """Computes some outputs both ways.

    Args:
        network: The network, with a way to compute the file's outputs; without one nothing is compared.
        net: The graph of its experiment.
        arrays: All its weights, by LAYER.kernel and LAYER.bias.
        activation: The last activation that the experiment's loss applies, or "".

    Raises:
        ModelFileError: They differ.
    """
    if network.evaluate is None:
        return
    keras = require("keras", network.file)
    random = np.random.default_rng(1)
    samples = random.normal(0, 1, (_SAMPLES, *network.file_input)).astype(np.float32)
    samples[_SAMPLES // 2 :] *= 100  # as large as pixels
    expected = np.asarray(network.evaluate(samples), np.float64).reshape(_SAMPLES, -1)
    outputs = keras_model.build(net, arrays)(samples.reshape(_SAMPLES, *net.input.shape))
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
