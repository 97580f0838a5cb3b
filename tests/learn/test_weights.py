"""Initial weights: Glorot's and He's limits, zero biases, determined by the seed, and equal bits in every version."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from small_runs import manifest, omniglot, sine

from tinymetafed.learn.weights import initial, sha256
from tinymetafed_codegen.manifest import ModelManifest

SINE = manifest(sine())
OMNIGLOT = manifest(omniglot())


@pytest.mark.parametrize("init", ["glorot", "he"])
@pytest.mark.parametrize("model", [SINE, OMNIGLOT], ids=["sine", "omniglot"])
def test_kernels_fill_their_limits_evenly_and_biases_are_zero(model: ModelManifest, init: str) -> None:
    weights = initial(model, 3, init)
    assert weights.shape == (model.n_global,) and weights.dtype == np.float32
    for tensor in model.global_tensors:
        part = weights[tensor.offset : tensor.offset + tensor.size]
        if tensor.name.endswith(".bias"):
            assert not part.any()
            continue
        fan_in = math.prod(tensor.shape[:-1])
        fan_out = tensor.shape[-1] * math.prod(tensor.shape[:-2])
        limit = math.sqrt(6 / (fan_in + fan_out)) if init == "glorot" else math.sqrt(6 / fan_in)
        assert np.abs(part).max() <= np.float32(limit)
        assert np.abs(part).max() > 0.8 * limit
        assert abs(part.mean()) < 4 * limit / math.sqrt(3 * part.size)
        assert part.std() == pytest.approx(limit / math.sqrt(3), rel=0.3)
        assert np.unique(part).size > 0.98 * part.size


def test_only_the_global_part_is_the_servers() -> None:
    names = [tensor.name for tensor in OMNIGLOT.global_tensors]
    assert names == [f"conv2d{i}.{part}" for i in (1, 2, 3) for part in ("kernel", "bias")]
    assert sum(tensor.size for tensor in OMNIGLOT.global_tensors) == OMNIGLOT.n_global < OMNIGLOT.n_parameters


def test_the_seed_decides() -> None:
    assert (initial(SINE, 1, "glorot") == initial(SINE, 1, "glorot")).all()
    assert (initial(SINE, 1, "glorot") != initial(SINE, 2, "glorot")).any()


def test_the_first_weights_of_the_sine_example_never_change() -> None:
    # A change here makes every published run's weights_sha256 irreproducible.
    golden = "6e3c4a7fa506384ec2a37b9d5133e485d6f750440bdc728b8014e55a7a100d66"
    assert sha256(initial(SINE, 1, "glorot")) == golden


def test_the_hash_names_bits_not_values() -> None:
    zero = np.zeros(3, np.float32)
    assert sha256(zero) != sha256(-zero)
    assert sha256(zero) == sha256(zero.astype(">f4"))


def test_what_a_file_holds_is_where_training_starts(tmp_path: Path) -> None:
    given = np.arange(32, dtype=np.float32)
    np.savez(tmp_path / "start.npz", **{"dense2.bias": given, "dense3.bias": np.ones(1)})  # dense3 is local: never loaded
    path = tmp_path / "start.npz"
    weights = initial(manifest(sine(f"model.weights={path}")), 1, "glorot")
    expected = initial(SINE, 1, "glorot")
    bias = next(tensor for tensor in SINE.parameters if tensor.name == "dense2.bias")
    expected[bias.offset : bias.offset + 32] = given
    assert np.array_equal(weights, expected)
