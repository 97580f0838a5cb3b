"""Simulated rooms: repeatable, distinct, physically plausible, and without a sensor that decides alone in all rooms."""

from __future__ import annotations

import numpy as np

from tinymetafed.learn.tasks import HELD_OUT, Floats, Task
from tinymetafed.learn.tasks.presence import RANGES, Presence
from tinymetafed_codegen.protocol import SampleSet

CO2, LIGHT, TEMPERATURE, MOTION, CO2_CHANGE = range(5)


def apart(x: Floats, y: Floats) -> tuple[np.ndarray, float]:
    """Direction and threshold of Fisher's linear discriminant."""
    empty, used = x[y == 0], x[y == 1]
    within = np.cov(np.concatenate([empty - empty.mean(axis=0), used - used.mean(axis=0)]).T)
    direction = np.linalg.solve(within, used.mean(axis=0) - empty.mean(axis=0))
    return direction, float(direction @ (empty.mean(axis=0) + used.mean(axis=0)) / 2)


def test_samples_are_a_function_of_seed_client_round_and_set() -> None:
    task: Task = Presence(1)
    samples = task.samples(3, 2, SampleSet.SUPPORT, 8)
    assert samples.inputs.shape == (8, 8) and samples.inputs.dtype == np.float32 and np.isfinite(samples.inputs).all()
    assert samples.targets[:, 0].tolist() == [0, 1] * 4
    np.testing.assert_array_equal(samples.inputs, task.samples(3, 2, SampleSet.SUPPORT, 20).inputs[:8])
    others = [(task, 4, 2, SampleSet.SUPPORT), (task, 3, 3, SampleSet.SUPPORT), (task, 3, 2, SampleSet.QUERY)]
    for other, client, round_, chosen in [*others, (Presence(2), 3, 2, SampleSet.SUPPORT)]:
        assert not np.isin(other.samples(client, round_, chosen, 8).inputs[:, CO2], samples.inputs[:, CO2]).any()
    test = task.test_samples(3, 2)
    assert len(test) == 100 and not np.isin(test.inputs[:, CO2], task.samples(3, 2, SampleSet.ADAPT, 200).inputs[:, CO2]).any()


def test_rooms_fill_their_ranges_and_people_breathe() -> None:
    task = Presence(1)
    rooms = [task.room(client) for client in range(400)]
    for name, (low, high) in RANGES.items():
        values = np.array([getattr(room, name) for room in rooms])
        assert low <= values.min() and values.max() <= high and np.ptp(values) > 0.95 * (high - low)
    many = [task.samples(client, 0, SampleSet.SUPPORT, 100) for client in range(50)]
    change = np.concatenate([samples.inputs[:, CO2_CHANGE] for samples in many]).reshape(-1, 2).mean(axis=0)
    assert change[0] < -0.1 and change[1] > 0.1  # CO2 falls without people and rises with them
    assert "people, used around" in task.describe(HELD_OUT)


def test_a_room_is_learnable_but_a_classifier_of_other_rooms_is_poor_in_it() -> None:
    task = Presence(1)
    sets = [task.samples(client, 0, SampleSet.SUPPORT, 400) for client in range(60)]
    every = apart(np.concatenate([s.inputs for s in sets]), np.concatenate([s.targets[:, 0] for s in sets]))
    own, foreign, signs = [], [], []
    for client in range(HELD_OUT, HELD_OUT + 60):
        known, test = task.samples(client, 0, SampleSet.ADAPT, 400), task.test_samples(client, 0)
        used = known.targets[:, 0] == 1
        signs.append(known.inputs[used].mean(axis=0) > known.inputs[~used].mean(axis=0))
        for scores, (direction, threshold) in ((own, apart(known.inputs, known.targets[:, 0])), (foreign, every)):
            scores.append(np.mean((test.inputs @ direction > threshold) == (test.targets[:, 0] == 1)))
    assert np.mean(own) > 0.9
    assert 0.5 < np.mean(foreign) < 0.7
    opposite = np.mean(signs, axis=0)
    assert all(0.2 < opposite[sensor] < 0.8 for sensor in (LIGHT, TEMPERATURE, MOTION)), "means the same in every room"
