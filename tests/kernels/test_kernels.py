"""Every op's gradients against finite differences, training against NumPy, and equal bits under the sanitizers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from compiled_model import CHECKS_ARE_CALLS, GRADIENTS, MODELS, Compiled, compile_with, compiled, design, library

from tinymetafed.learn.weights import initial, local_start
from tinymetafed.simulation.vector_units import choose
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.calls import trains
from tinymetafed_codegen.protocol import Variant

# Compiling takes long, so these are one model for each memory access pattern.
SOME = ("branches", "conv oblong", "conv valid", "depthwise", "every activation", "frozen", "pools of touching windows")
# With them, one for each way to end a step and for the ops over int8 and of normalisation: what `make test` runs.
USUAL = {*SOME, "affine", "int8", "momentum, decay and clipped norm"}


def each(names: Iterable[str]) -> list[Any]:
    """A parameter per model; a group per model, so that it is compiled once for all its tests."""
    return [
        pytest.param(name, marks=[pytest.mark.xdist_group(f"kernels {name}"), *[pytest.mark.exhaustive] * (name not in USUAL)])
        for name in names
    ]


EACH_MODEL = each(sorted(MODELS))
SOME_MODELS = each(SOME)


@pytest.fixture(params=EACH_MODEL, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(request.param, tmp_path_factory.getbasetemp())


def example(model: Compiled, seed: int) -> tuple[Any, Any, Any]:
    """Weights followed by velocities of 0, a sample and its targets."""
    random = np.random.default_rng(seed)
    weights = np.concatenate([random.normal(0, 0.5, model.n), np.zeros(model.n_state - model.n)])
    x = random.normal(0, 1, model.n_in)
    loss = model.design.graph.loss
    if loss.targets == "class":
        return weights, x, np.array([random.integers(model.n_out)], float)
    if loss.targets == "labels":
        return weights, x, random.integers(0, 2, model.n_target).astype(float)
    return weights, x, random.normal(0, 1, model.n_target)


def trained(model: Compiled, variant: Variant) -> Any:
    """Mask of the weights that this variant trains."""
    mask = np.zeros(model.n, bool)
    for placed in model.design.graph.parameters:
        mask[placed.offset : placed.offset + placed.parameter.size] = trains(placed.op, variant)
    return mask


def test_forward_agrees_with_numpy(model: Compiled) -> None:
    for seed in range(5):
        weights, x, _ = example(model, seed)
        expected, _ = reference.run(model.design.graph, weights, model.design.weights, x)
        np.testing.assert_allclose(model.run(weights.copy(), x), expected, rtol=1e-12, atol=1e-12)


STEPS = (Variant.LOCAL, Variant.GLOBAL, Variant.FULL)


@pytest.mark.parametrize("variant", STEPS)
def test_gradients_agree_with_finite_differences(model: Compiled, variant: Variant) -> None:
    net, asked = model.design.graph, model.design.experiment.model
    if asked.clip_norm:
        pytest.skip("a clipped gradient is not that of the loss; NumPy clips the same below")
    weights, x, target = example(model, 7)
    moved = weights.copy()
    model.run(moved, x, target, variant, rate=1.0)
    gradient = (weights - moved)[: model.n] - asked.weight_decay * trained(model, variant) * weights[: model.n]
    numeric = np.zeros(model.n)
    h = 1e-6
    for i in np.flatnonzero(trained(model, variant)):
        losses = []
        for sign in (1, -1):
            nudged = weights.copy()
            nudged[i] += sign * h
            losses.append(reference.loss(net, asked.huber_delta, model.run(nudged, x), target))
        numeric[i] = (losses[0] - losses[1]) / (2 * h)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)
    if trained(model, variant).any():
        assert np.abs(numeric).max() > 1e-3, "this example would not notice a wrong gradient"


@pytest.mark.parametrize("variant", STEPS)
@pytest.mark.parametrize("limit", [0.0, 0.25])
def test_ten_steps_agree_with_numpy(model: Compiled, variant: Variant, limit: float) -> None:
    net, asked = model.design.graph, model.design.experiment.model
    weights = example(model, 3)[0]
    single = weights.astype(np.float32)
    start = single[: model.n].copy()
    weights, velocity = weights[: model.n], np.zeros(model.n)
    mask = trained(model, variant)
    rate = 0.01
    for step in range(10):
        _, x, target = example(model, 100 + step)
        x = x.astype(np.float32)
        target = target.astype(np.float32)
        model.run(single, x, target, variant, rate, limit)
        gradient = reference.gradients(
            net, asked, model.design.weights, weights, x.astype(float), target.astype(float), limit, variant
        )
        velocity = asked.momentum * velocity + rate * mask * (gradient + asked.weight_decay * weights)
        weights = weights - velocity
    assert np.abs(weights).max() < 100, "this example diverges and proves nothing"
    np.testing.assert_allclose(single[: model.n], weights, rtol=2e-5, atol=2e-5)
    assert (single[: model.n][~mask] == start[~mask]).all(), "a weight changed that this variant does not train"


@pytest.mark.parametrize("name", each(GRADIENTS))
@pytest.mark.parametrize("limit", [0.0, 0.25])
def test_gradients_are_summed_and_weights_stay(name: str, limit: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = compiled(name, tmp_path_factory.getbasetemp())
    net, asked = model.design.graph, model.design.experiment.model
    start, rate, total = example(model, 3)[0].astype(np.float32), 0.01, np.zeros(model.n)
    single, weights = start.copy(), start[: model.n].astype(float)
    for step in range(10):
        _, x, target = (array.astype(np.float32) for array in example(model, 100 + step))
        model.run(single, x, target, Variant.GRADIENT, rate, limit)
        total += rate * asked.weight_decay * weights + rate * reference.gradients(
            net, asked, model.design.weights, weights, x.astype(float), target.astype(float), limit, Variant.GRADIENT
        )
    assert single[: model.n].tobytes() == start[: model.n].tobytes()
    np.testing.assert_allclose(single[model.n :], total, rtol=2e-5, atol=2e-6)
    assert np.abs(total).max() > 1e-3, "this example would not notice gradients that are not summed"


def test_clamp_limits_the_update(model: Compiled) -> None:
    weights, x, target = example(model, 5)
    free, held = weights.copy(), weights.copy()
    model.run(free, x, target, Variant.FULL, 1.0, 0.0)
    model.run(held, x, target, Variant.FULL, 1.0, 1e-3)
    assert np.abs(held - weights).max() < np.abs(free - weights).max()


@pytest.mark.parametrize("model", SOME_MODELS, indirect=True)
def test_sanitized_build_gives_the_same_bits(model: Compiled, tmp_path: Path) -> None:
    program = tmp_path / "sanitized"
    sanitize = ["-DSTANDALONE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *CHECKS_ARE_CALLS]
    compile_with(["g++", "-O1", "-g1", *sanitize], model.folder, program)
    weights = example(model, 11)[0].astype(np.float32)
    fed = [weights.tobytes(), np.array([0.05, 1.0], "<f4").tobytes()]
    for step in range(4):
        _, x, target = example(model, 200 + step)
        fed += [x.astype("<f4").tobytes(), target.astype("<f4").tobytes()]
        for variant in model.design.graph.backward:
            model.run(weights, x.astype(np.float32), target.astype(np.float32), variant, np.float32(0.05), 1.0)
    done = subprocess.run([program], input=b"".join(fed), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == weights.tobytes()


def test_each_lane_of_a_vector_trains_to_the_scalar_bits(model: Compiled, tmp_path: Path) -> None:
    unit = choose(None)  # as for a simulation on this machine
    lanes = unit.lanes
    library = tmp_path / "lanes.so"
    # Vector arguments pass only between inlined functions of one unit, so the calling convention does not matter.
    # Hidden symbols: otherwise the frozen weights may be those of a library that this process loaded before.
    flags = ["-O2", *unit.flags, "-g0", "-shared", "-fPIC", "-fvisibility=hidden", f"-DLANES={lanes}", "-Wno-psabi"]
    compile_with(["g++", *flags], model.folder, library, "lanes.cpp")
    vectors = ctypes.CDLL(str(library))
    examples = [example(model, 300 + lane) for lane in range(lanes)]
    scalars = [weights.astype(np.float32) for weights, _, _ in examples]
    rates = (0.01 * np.arange(1, lanes + 1)).astype(np.float32)
    weights = aligned(model.n_state, lanes)
    weights[:] = np.stack(scalars, axis=1)
    vectors.start_local(pointer(weights))
    for scalar in scalars:
        model.library.start_local_float(pointer(scalar))
    arena = aligned(model.arena, lanes)
    for step in range(3):
        samples = [example(model, 400 + step * lanes + lane)[1:] for lane in range(lanes)]
        for variant in model.design.graph.backward:
            arena[:] = np.nan
            for lane, (x, target) in enumerate(samples):
                arena[model.at_in : model.at_in + model.n_in, lane] = x
                arena[model.at_target : model.at_target + model.n_target, lane] = target
            vectors.step(int(variant), pointer(weights), pointer(arena), pointer(rates), ctypes.c_float(0.5))
            for lane, (x, target) in enumerate(samples):
                model.run(scalars[lane], x.astype(np.float32), target.astype(np.float32), variant, rates[lane], 0.5)
    np.testing.assert_array_equal(weights.view(np.uint32), np.stack(scalars, axis=1).view(np.uint32))
    assert np.isfinite(weights).all()


def aligned(rows: int, lanes: int) -> Any:
    """A float32 array [rows, lanes] aligned for vectors of ``lanes`` lanes."""
    raw = np.zeros(rows * lanes + lanes, np.float32)
    first = -(raw.ctypes.data // 4) % lanes
    return raw[first : first + rows * lanes].reshape(rows, lanes)


def pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


def test_compiles_for_cortex_m_without_warnings(model: Compiled) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed (Debian: gcc-arm-none-eabi)")
    compile_with(["arm-none-eabi-g++", *boards.load("mps2").machine_flags, "-Os"], model.folder, None)


def test_slopes_start_at_a_quarter(tmp_path: Path) -> None:
    layers = [{"op": "prelu", "local": True}, {"op": "prelu"}]
    manifest = design({"input": [4, 3], "loss": "mse", "layers": [*layers, {"op": "flatten"}]}, tmp_path).manifest
    assert initial(manifest, 1, "he").tolist() == [0.25] * 3
    assert [tensor.tolist() for tensor in local_start(manifest, "random", 0.3).values()] == [[0.25] * 3]


@pytest.mark.parametrize("kind", ["alternating", "random", "zeros", "redrawn"])
def test_an_affine_layer_starts_as_the_identity(kind: str, tmp_path: Path) -> None:
    layers = [{"op": "affine", "local": True}, {"op": "affine"}]
    model: dict[str, Any] = {"input": [4, 3], "loss": "mse", "layers": [*layers, {"op": "flatten"}], "local_start": kind}
    built = library(design(model, tmp_path), tmp_path)
    manifest = built.design.manifest
    weights = np.full(built.n_state, 7, np.float32)
    weights[: built.n_global] = initial(manifest, 1, "he")
    built.library.start_local_float(pointer(weights))
    for name, tensor in local_start(manifest, kind, 0.3).items():
        place = next(each.place for each in manifest.parameters if each.name == name)
        assert (weights[place] == tensor).all()
    x = np.linspace(-2, 2, 12).astype(np.float32)
    assert built.run(weights, x).tobytes() == x.tobytes()
