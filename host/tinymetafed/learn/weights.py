"""The global weights on the server: where they start and what names their bits."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.weights import read

from . import prng

Floats = npt.NDArray[np.float32]


def initial(manifest: ModelManifest, seed: int, init: str) -> Floats:
    """Global weights float32[n_global] in manifest order: uniform in ±limit, biases 0.

    The limit is √(6 / (fan_in + fan_out)) for "glorot" (Glorot and Bengio 2010), √(6 / fan_in) for "he" (He et al. 2015).
    What the experiment's ``model.weights`` holds is taken from there. Raises SpecError if that file has changed for the worse.
    """
    weights = np.zeros(manifest.n_global, np.float32)
    shapes = {tensor.name: tensor.shape for tensor in manifest.parameters}
    shapes |= {tensor.name: tensor.shape for tensor in manifest.frozen}
    given = read(manifest.weights_file, shapes, "manifest") if manifest.weights_file else {}
    for tensor in manifest.global_tensors:
        if tensor.name in given:
            weights[tensor.place] = given[tensor.name].ravel()
            continue
        if tensor.is_bias:
            continue
        fans = tensor.fan_in + (tensor.fan_out if init == "glorot" else 0)
        limit = np.float32(math.sqrt(6 / fans))
        places = np.arange(tensor.offset, tensor.offset + tensor.size)
        words, _ = prng.draw(seed, 0, 0, Stream.INITIAL_WEIGHTS, places)
        weights[places] = limit * (np.float32(2) * prng.uniform(words) - np.float32(1))
    return weights


def local_start(manifest: ModelManifest, kind: str, scale: float) -> dict[str, Floats]:
    """Where a reconstruction starts, by tensor: the local ones in their shapes; twin of firmware/core/local_start.hpp.

    Of starts that differ between clients or rounds, the one before the first round.
    """
    start: dict[str, Floats] = {}
    for tensor in manifest.local_tensors:
        values = np.zeros(tensor.size, np.float32)
        if kind != "zeros" and not tensor.is_bias:
            places = np.arange(tensor.size)
            if kind == "alternating":
                rows, columns = np.divmod(places, tensor.shape[-1])
                values[:] = np.where((rows + columns) % 2, -np.float32(scale), np.float32(scale))
            else:
                words, _ = prng.draw(0, 0, 0, Stream.LOCAL_START, tensor.offset + places)
                values[:] = np.float32(scale) * (np.float32(2) * prng.uniform(words) - np.float32(1))
        start[tensor.name] = values.reshape(tensor.shape)
    return start


def sha256(weights: Floats) -> str:
    """Names the weights' bits: SHA-256 of float32 little-endian in manifest order."""
    return hashlib.sha256(weights.astype("<f4").tobytes()).hexdigest()
