"""Sine clients: published ranges, bit-identical values on boards, independent sets, and an infinite score for divergence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.learn import prng
from tinymetafed.learn.tasks import HELD_OUT, Task, is_held_out
from tinymetafed.learn.tasks.sine import Sine
from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import SineTask, SpecError

clients = st.integers(0, 2 * HELD_OUT)
words = st.integers(0, 2**32 - 1)


@given(words, clients, st.integers(0, 100_000), st.sampled_from(SampleSet))
def test_waves_and_points_lie_in_the_published_ranges(seed: int, client: int, round: int, sample_set: SampleSet) -> None:
    task = Sine(seed)
    amplitude, phase, _ = task.wave(client)
    samples = task.samples(client, round, sample_set, 16)
    assert np.float32(0.1) <= amplitude <= 5 and 0 <= phase <= np.float32(np.pi)
    assert samples.inputs.dtype == samples.targets.dtype == np.float32
    assert samples.inputs.shape == samples.targets.shape == (16, 1)
    assert np.all(np.abs(samples.inputs) <= 5)
    np.testing.assert_allclose(samples.targets, amplitude * np.sin(samples.inputs + phase), atol=1e-5)


def test_amplitude_phase_and_x_follow_the_boards_float32_arithmetic() -> None:
    task, client, round = Sine(seed=7), HELD_OUT + 3, 12
    u, v = prng.draw(7, client, 0, Stream.CLIENT_TASK, np.array([0]))
    unit = np.float32(2.0**-24)
    amplitude = np.float32(0.1) + np.float32(4.9) * (np.float32(u[0] >> 8) * unit)
    phase = np.float32(3.14159274) * (np.float32(v[0] >> 8) * unit)
    assert task.wave(client) == (amplitude, phase, 1)
    samples = task.samples(client, round, SampleSet.QUERY, 5)
    for i in range(5):
        u, _ = prng.draw(7, client, round, Stream.QUERY, np.array([i]))
        assert samples.inputs[i, 0] == np.float32(-5) + np.float32(10) * (np.float32(u[0] >> 8) * unit)


def test_ranges_are_filled() -> None:
    waves = np.array([Sine(1).wave(client) for client in range(2000)])
    assert waves[:, 0].min() < 0.2 and waves[:, 0].max() > 4.9 and abs(waves[:, 0].mean() - 2.55) < 0.1
    assert waves[:, 1].min() < 0.05 and waves[:, 1].max() > 3.09 and abs(waves[:, 1].mean() - np.pi / 2) < 0.1


def test_ranges_are_those_of_the_experiment() -> None:
    spec = SineTask(kind="sine", amplitude=(2, 3), phase=(-1, 1), frequency=(0.5, 2))
    waves = np.array([Sine(1, spec=spec).wave(client) for client in range(2000)])
    for column, (low, high) in zip(waves.T, (spec.amplitude, spec.phase, spec.frequency), strict=True):
        margin = 0.02 * (high - low)
        assert low <= column.min() < low + margin and high - margin < column.max() <= high
    assert np.abs(np.corrcoef(waves.T)[np.triu_indices(3, 1)]).max() < 0.1
    amplitude, phase, frequency = waves[7]
    samples = Sine(1, spec=spec).samples(7, 0, SampleSet.SUPPORT, 8)
    np.testing.assert_allclose(samples.targets, amplitude * np.sin(frequency * samples.inputs + phase), atol=1e-5)
    fixed = Sine(1, spec=SineTask(kind="sine", amplitude=(2, 2), frequency=(3, 3))).wave(9)
    assert (fixed.amplitude, fixed.frequency) == (2, 3)
    assert "sin(3.00 x + " in Sine(1, spec=SineTask(kind="sine", frequency=(3, 3))).describe(0)


def test_a_range_that_ends_below_its_beginning_is_refused_by_key() -> None:
    with pytest.raises(SpecError, match=r"e.toml: task.frequency = \[2, 1\] ends below its beginning"):
        SineTask(kind="sine", frequency=(2, 1)).check("e.toml")


def test_sets_and_rounds_differ_and_more_samples_begin_with_fewer() -> None:
    task = Sine(1)
    drawn = {
        task.samples(5, round, sample_set, 8).inputs.tobytes()
        for round in range(3)
        for sample_set in (SampleSet.SUPPORT, SampleSet.QUERY, SampleSet.ADAPT)
    }
    assert len(drawn) == 9
    few, many = (task.samples(5, 0, SampleSet.ADAPT, count).inputs for count in (4, 16))
    np.testing.assert_array_equal(few, many[:4])


def test_the_test_grid_is_even_and_fixed() -> None:
    test = Sine(1).test_samples(HELD_OUT, 0)
    np.testing.assert_allclose(test.inputs[:, 0], -5 + 10 * np.arange(100) / 99, atol=1e-6)
    np.testing.assert_array_equal(test.inputs, Sine(2).test_samples(3, 9).inputs)


def test_score_is_the_mean_squared_error_and_infinite_for_divergence() -> None:
    task = Sine(1)
    test = task.test_samples(0, 0)
    assert task.score(test.targets, test) == 0
    assert task.score(test.targets + np.float32(2), test) == pytest.approx(4, rel=1e-6)
    assert task.score(np.full_like(test.targets, np.nan), test) == float("inf")
    assert task.score(np.full_like(test.targets, 3e38), test) < float("inf")  # squares are computed in float64
    with pytest.raises(ValueError, match=r"expected \(100, 1\)"):
        task.score(test.targets[:, 0], test)


def test_it_is_a_task_and_describes_its_wave() -> None:
    task: Task = Sine(1)
    amplitude, phase, _ = Sine(1).wave(4)
    assert task.describe(4) == f"y = {amplitude:.2f} sin(x + {phase:.2f})"
    assert not is_held_out(HELD_OUT - 1) and is_held_out(HELD_OUT)
