"""Every op's gradients against finite differences, training against plain NumPy, and equal bits under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from compiled_model import ARM, MODELS, Compiled, compile_with, compiled

from tinymetafed_codegen.graph import trains
from tinymetafed_codegen.protocol import Variant

pytestmark = pytest.mark.xdist_group("kernels")


@pytest.fixture(params=sorted(MODELS), scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(request.param, tmp_path_factory.getbasetemp())


def example(model: Compiled, seed: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    weights = random.normal(0, 0.5, model.n)
    x = random.normal(0, 1, model.n_in)
    if model.design.graph.loss.class_target:
        return weights, x, np.array([random.integers(model.n_out)], float)
    return weights, x, random.normal(0, 1, model.n_target)


def trained(model: Compiled, variant: Variant) -> Any:
    """Which weights this variant may move."""
    mask = np.zeros(model.n, bool)
    for placed in model.design.graph.parameters:
        mask[placed.offset : placed.offset + placed.parameter.size] = trains(placed.op, variant)
    return mask


def test_forward_agrees_with_numpy(model: Compiled) -> None:
    for seed in range(5):
        weights, x, _ = example(model, seed)
        expected = reference.forward(model.design.graph, weights, x)[-1].ravel()
        np.testing.assert_allclose(model.run(weights.copy(), x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", list(Variant))
def test_gradients_agree_with_finite_differences(model: Compiled, variant: Variant) -> None:
    graph = model.design.graph
    weights, x, target = example(model, 7)
    moved = weights.copy()
    model.run(moved, x, target, variant, rate=1.0)
    gradient = weights - moved
    numeric = np.zeros(model.n)
    h = 1e-6
    for i in np.flatnonzero(trained(model, variant)):
        losses = []
        for sign in (1, -1):
            nudged = weights.copy()
            nudged[i] += sign * h
            losses.append(reference.loss(graph, model.run(nudged, x), target))
        numeric[i] = (losses[0] - losses[1]) / (2 * h)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)
    if trained(model, variant).any():
        assert np.abs(numeric).max() > 1e-3, "this example would not notice a wrong gradient"


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("limit", [0.0, 0.25])
def test_ten_steps_agree_with_numpy(model: Compiled, variant: Variant, limit: float) -> None:
    graph = model.design.graph
    weights, _, _ = example(model, 3)
    single = weights.astype(np.float32)
    mask = trained(model, variant)
    rate = 0.01
    for step in range(10):
        _, x, target = example(model, 100 + step)
        x = x.astype(np.float32)
        target = target.astype(np.float32)
        model.run(single, x, target, variant, rate, limit)
        weights = weights - rate * mask * reference.gradients(graph, weights, x.astype(float), target.astype(float), limit)
    assert np.isfinite(weights).all(), "this example diverges and proves nothing"
    np.testing.assert_allclose(single, weights, rtol=2e-5, atol=2e-5)
    assert (single[~mask] == example(model, 3)[0].astype(np.float32)[~mask]).all(), "a frozen weight moved"


def test_clamp_binds(model: Compiled) -> None:
    weights, x, target = example(model, 5)
    free, held = weights.copy(), weights.copy()
    model.run(free, x, target, Variant.FULL, 1.0, 0.0)
    model.run(held, x, target, Variant.FULL, 1.0, 1e-3)
    assert np.abs(held - weights).max() < np.abs(free - weights).max()


def test_sanitized_build_gives_the_same_bits(model: Compiled, tmp_path: Path) -> None:
    program = tmp_path / "sanitized"
    sanitize = ["g++", "-O1", "-g", "-DSTANDALONE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_with(sanitize, model.folder, program)
    weights = example(model, 11)[0].astype(np.float32)
    fed = [weights.tobytes(), np.array([0.05, 1.0], "<f4").tobytes()]
    for step in range(4):
        _, x, target = example(model, 200 + step)
        fed += [x.astype("<f4").tobytes(), target.astype("<f4").tobytes()]
        for variant in Variant:
            model.run(weights, x.astype(np.float32), target.astype(np.float32), variant, np.float32(0.05), 1.0)
    done = subprocess.run([program], input=b"".join(fed), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == weights.tobytes()


def test_compiles_for_cortex_m_without_warnings(model: Compiled) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed (Debian: gcc-arm-none-eabi)")
    compile_with(["arm-none-eabi-g++", *ARM], model.folder, None)
