"""Initial weights, global and local, and the hash that identifies global weights."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.layer_chain import NORMALISING
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.weights_file import read

from . import prng

Floats = npt.NDArray[np.float32]
_STORED = np.dtype("<f4")  # whatever the order of bytes here


def initial(manifest: ModelManifest, seed: int, init: str) -> Floats:
    """Initial global weights: uniform in ±limit, biases 0; tensors that the experiment's ``model.weights`` holds come from it.

    The limit is √(6 / (fan_in + fan_out)) for "glorot", √(6 / fan_in) for "he". Factors of an affine layer start at 1, slopes
    of a PReLU at 0.25.

    Args:
        manifest: The model.
        seed: Seed of the run.
        init: "glorot" or "he".

    Returns:
        float32[n_global] in manifest order.

    Raises:
        SpecError: The file of ``model.weights`` can no longer be used.

    Source: Glorot and Bengio 2010; He et al. 2015.
    """
    weights = np.zeros(manifest.n_global, np.float32)
    shapes = {tensor.name: tensor.shape for tensor in manifest.parameters}
    shapes |= {tensor.name: tensor.shape for tensor in manifest.frozen}
    integers = {tensor.name: tensor.dtype for tensor in manifest.frozen if tensor.dtype != "float32"}
    where = f"model.weights = {manifest.weights_file}"
    given = read(manifest.weights_file, shapes, where, integers, NORMALISING) if manifest.weights_file else {}
    for tensor in manifest.global_tensors:
        if tensor.name in given:
            weights[tensor.place] = given[tensor.name].ravel()
            continue
        if tensor.starts_at is not None:
            weights[tensor.place] = tensor.starts_at
        if tensor.is_bias or tensor.starts_at is not None:
            continue
        fans = tensor.fan_in + (tensor.fan_out if init == "glorot" else 0)
        limit = np.float32(math.sqrt(6 / fans))
        places = np.arange(tensor.offset, tensor.offset + tensor.size)
        words, _ = prng.draw(seed, 0, 0, Stream.INITIAL_WEIGHTS, places)
        weights[places] = limit * (np.float32(2) * prng.uniform(words) - np.float32(1))
    return weights


def local_start(manifest: ModelManifest, kind: str, scale: float) -> dict[str, Floats]:
    """Initial local weights, as firmware/core/local_start.hpp computes them on the device.

    Args:
        manifest: The model.
        kind: The experiment's ``model.local_start``.
        scale: The experiment's ``model.local_start_scale``.

    Returns:
        The local tensors by name, float32 in their shapes. Where the start differs between clients or rounds: that of
        client 0 in round 0.
    """
    start: dict[str, Floats] = {}
    for tensor in manifest.local_tensors:
        values = np.zeros(tensor.size, np.float32)
        if tensor.starts_at is not None:
            values[:] = tensor.starts_at  # one number, or one for each
        elif kind != "zeros" and not tensor.is_bias:
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
    """SHA-256 of the weights as little-endian float32 in manifest order."""
    return hashlib.sha256(np.ascontiguousarray(weights, _STORED).data).hexdigest()
