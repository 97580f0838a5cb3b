"""Hashes of what TensorFlow Lite computes in each layer of small int8 networks, for comparisons where it is not installed.

tests/golden/int8 has the networks, as converted and as imported, and the hashes. With TensorFlow this records them again:

    .venv/bin/python tests/kernels/recorded_int8.py
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden" / "int8"
HASHES = FOLDER / "hashes.json"
NETWORKS = ("pools", "activations", "means", "denses")  # of test_int8_tensorflow: together they have every operator
_SAMPLES = 3
_DIGITS = 16  # of each hash


def samples(size: int) -> list[Any]:
    """The inputs of the recorded outputs, int8 [size] each."""
    random = np.random.default_rng(4)
    return [random.integers(-128, 128, size).astype(np.int8) for _ in range(_SAMPLES)]


def hashes(outputs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A hash for each layer of its outputs for all samples, one mapping of layers to int8 arrays per sample."""
    return {
        layer: hashlib.sha256(b"".join(each[layer].tobytes() for each in outputs)).hexdigest()[:_DIGITS] for layer in outputs[0]
    }


def recorded() -> dict[str, dict[str, str]]:
    """The recorded hashes by network and layer."""
    found: dict[str, dict[str, str]] = json.loads(HASHES.read_text())
    return found


def _record() -> None:
    import pytest
    import test_int8_tensorflow as compared

    shutil.rmtree(FOLDER, ignore_errors=True)
    made = {}
    for name in NETWORKS:
        folder = FOLDER / name
        folder.mkdir(parents=True)
        compared.convert(getattr(compared, name), folder / "net.tflite", "int8")
        with pytest.MonkeyPatch.context() as patched:
            model = compared.imported(folder / "net.tflite", folder, patched)
        shutil.rmtree(folder / "code")
        reference = compared.Reference(folder / "net.tflite")
        layers = [call.op.name for call in model.compiled.design.graph.forward if call.y.int8]
        inputs = samples(model.compiled.design.graph.input.size)
        made[name] = hashes([dict(zip(layers, reference.outputs(x), strict=True)) for x in inputs])
    HASHES.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    sys.path += [str(FOLDER.parents[1] / folder) for folder in (".", "kernels")]
    _record()
