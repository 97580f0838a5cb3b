"""The task ``presence``: every client is a simulated room; a model tells from sensors whether somebody is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import CLIENTS, PresenceTask, RunSpec, TaskShapes

from .. import prng
from . import HELD_OUT, UNLIMITED, Floats, Samples, Task, is_held_out
from .recorded_room import Period, RecordedRoom, read_room

SENSORS: tuple[str, ...] = PresenceTask.model_fields["sensors"].default
TEST_MOMENTS = 100
DEFAULTS = PresenceTask(kind="presence")
OUTDOOR_PPM = 420.0
DRAWS = 32  # random numbers set aside for one moment; a moment uses fewer
EXHALED_PPM_M3 = 18_000.0  # 18 litres of CO2 per person and hour, in ppm · m³

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Room:
    """The properties of a room, in m³, air changes per hour, people, lux, °C and ppm."""

    volume: float
    air_changes: float
    people: float
    middle_of_use: float  # hour of the day; at night for a bedroom
    daylight: float  # through its windows at noon
    blinds: float  # share of the daylight that people in the room block
    lamp: float
    lamp_when_used: float  # probabilities that it is on
    lamp_when_empty: float
    warmth: float  # set point of the heating
    warming: float  # caused by people in the room: their heater, or below 0 their air conditioning
    motion_when_used: float  # share of minutes with motion; low if people are asleep
    motion_when_empty: float  # high if there is a corridor behind a glass door
    co2_offset: float
    co2_drift: float  # over the months of observation, like temperature_drift
    light_gain: float
    temperature_offset: float
    temperature_drift: float


# Lowest and highest value of each uniform draw. The ranges are wide, so that no sensor alone decides in all rooms.
RANGES = {
    "volume": (30, 300),
    "air_changes": (0.5, 6),
    "people": (1, 4),
    "middle_of_use": (0, 24),
    "daylight": (20, 600),
    "blinds": (0, 0.9),
    "lamp": (60, 400),
    "lamp_when_used": (0, 1),
    "lamp_when_empty": (0, 1),
    "warmth": (18, 24),
    "warming": (-3, 3),
    "motion_when_used": (0.05, 0.9),
    "motion_when_empty": (0.05, 0.9),
    "co2_offset": (-200, 500),
    "co2_drift": (-150, 150),
    "light_gain": (0.4, 1.6),
    "temperature_offset": (-2, 2),
    "temperature_drift": (-1, 1),
}


class Presence(Task):
    """Binary classification of moments in a room, empty (0) or occupied (1), in turn.

    A moment has the values of the sensors and their changes over ten minutes. It lies some time after people came or left, so
    that CO2 and temperature still approach their steady states. Rooms differ in size, ventilation, hours of use, windows and
    lamps, and their sensors differ in offset and drift.

    With ``task.unseen = "recorded"`` held-out client t is a period of a real room, number t modulo their count. It is tested on
    100 moments of that period, and adapts with moments of the others; every t draws others.
    """

    spec: PresenceTask

    def __init__(
        self, seed: int, clients: int = CLIENTS, spec: PresenceTask = DEFAULTS, recorded: RecordedRoom | None = None
    ) -> None:
        super().__init__(spec, spec.shapes, seed, clients)
        self.adapt_limit = UNLIMITED
        self.class_names = ("empty", "occupied")
        places = [SENSORS.index(sensor) for sensor in spec.sensors]
        self._features = [*places, *(len(SENSORS) + place for place in places)]
        self._recorded = recorded
        if recorded is not None:
            self._periods = [_recorded_samples(period, spec.sensors) for period in recorded.periods]
            self.unseen_clients = len(self._periods)
            self.adapt_limit = 2 * min(len(pool) for period in range(len(self._periods)) for pool in self._elsewhere(period))
            self.validation_clients = 0
            self.unit = "room"
            self.data_sha256, self.notes = recorded.sha256, recorded.notes

    @classmethod
    def open(cls, spec: PresenceTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Creates the task, and reads the recording of a real room where it has one. Raises DataError."""
        recorded = read_room(data, spec.sensors) if spec.unseen == "recorded" else None
        return cls(run.seed, run.clients or CLIENTS, spec, recorded)

    def room(self, client: int) -> Room:
        """The room of a client."""
        words, _ = prng.draw(self.seed, client, 0, Stream.CLIENT_TASK, np.arange(len(RANGES)))
        shares = prng.uniform(words).tolist()
        ranges = zip(RANGES.items(), shares, strict=True)
        return Room(**{name: low + (high - low) * share for (name, (low, high)), share in ranges})

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """``count`` fresh moments of the client's room; in a recorded one different ones, of periods that it is not tested on.

        Raises ValueError for more moments than a recorded room has.
        """
        if self._recorded is not None and is_held_out(client):
            return self._drawn(self._elsewhere(self._period(client)), client, round, Stream(sample_set), count)
        occupied = np.arange(count) % 2
        inputs = _measured(self.room(client), occupied, _Draws(self.seed, client, round, Stream(sample_set), count))
        return Samples(inputs[:, self._features], occupied.astype(np.float32)[:, None])

    def test_samples(self, client: int, round: int) -> Samples:
        """100 moments, from a random stream of their own."""
        if self._recorded is not None and is_held_out(client):
            return self._drawn(self._periods[self._period(client)], client, round, Stream.TEST, TEST_MOMENTS)
        return self.samples(client, round, SampleSet.TEST, TEST_MOMENTS)

    def samples_to_score(self, client: int, adapted: int) -> Samples:
        """The test samples; of a recorded room all moments of its period, most of them empty."""
        if self._recorded is None or not is_held_out(client):
            return self.test_samples(client, 0)
        empty, occupied = self._periods[self._period(client)]
        targets = np.repeat(np.array([0, 1], np.float32), [len(empty), len(occupied)])
        return Samples(np.concatenate([empty, occupied]), targets[:, None])

    def units(self, client: int) -> Sequence[str]:
        """The room; all periods of the recorded one are one."""
        return ("the office",) if self._recorded is not None else super().units(client)

    def describe(self, client: int) -> str:
        """The room's size, ventilation, people and hours of use; of a recorded room the period."""
        if self._recorded is not None and is_held_out(client):
            return f"an office, {self._recorded.periods[self._period(client)].name}"
        room = self.room(client)
        return (
            f"{room.volume:.0f} m³, {room.air_changes:.1f} air changes per hour, {room.people:.0f} people, "
            f"used around {room.middle_of_use:.0f}:00"
        )

    def _period(self, client: int) -> int:
        return (client - HELD_OUT) % len(self._periods)

    def _elsewhere(self, period: int) -> tuple[Floats, Floats]:
        """The empty and the occupied moments of all periods but this one."""
        others = [pools for i, pools in enumerate(self._periods) if i != period]
        return np.concatenate([empty for empty, _ in others]), np.concatenate([occupied for _, occupied in others])

    def _drawn(self, pools: tuple[Floats, Floats], client: int, round: int, stream: Stream, count: int) -> Samples:
        """Different moments, empty and occupied ones in turn."""
        if count > 2 * min(map(len, pools)):
            raise ValueError(f"{count} moments; at most {2 * min(map(len, pools))}")
        order = prng.permutation(self.seed, client, round, stream, sum(map(len, pools)))
        n_empty = len(pools[0])
        chosen = pools[0][order[order < n_empty]][: -(-count // 2)], pools[1][order[order >= n_empty] - n_empty][: count // 2]
        inputs = np.empty((count, *self.input_shape), np.float32)
        inputs[0::2], inputs[1::2] = chosen
        return Samples(inputs, (np.arange(count, dtype=np.float32) % 2)[:, None])


def _recorded_samples(period: Period, sensors: Sequence[str]) -> tuple[Floats, Floats]:
    """The features of a period's empty moments, and of its occupied ones, float32 [moments, 2 · sensors]."""
    values = [scaled(sensor, period.values[:, i]) for i, sensor in enumerate(sensors)]
    changes = [scaled_change(sensor, period.changes[:, i]) for i, sensor in enumerate(sensors)]
    features = np.stack([*values, *changes], axis=1).astype(np.float32)
    return features[~period.occupied], features[period.occupied]


class _Draws:
    """Random numbers for ``count`` moments; every call returns new ones."""

    def __init__(self, seed: int, client: int, round: int, stream: Stream, count: int) -> None:
        calls, moments = np.arange(DRAWS), DRAWS * np.arange(count)
        words = prng.draw(seed, client, round, stream, moments + calls[:, None])
        first, second = (prng.uniform(word).astype(np.float64) for word in words)
        self._pairs = zip(first, second, strict=True)

    def uniform(self) -> Numbers:
        """Uniform in [0, 1), float64 [count]."""
        first: Numbers = next(self._pairs)[0]
        return first

    def noise(self) -> Numbers:
        """Noise of mean 0 and standard deviation 1, within ±2.45, float64 [count]: the scaled sum of two uniform numbers."""
        first, second = next(self._pairs)
        return np.asarray((first + second - 1) * np.sqrt(6))


def _measured(room: Room, occupied: NDArray[np.int64], draws: _Draws) -> Floats:
    """The features of moments in a room.

    Args:
        room: The room.
        occupied: 1 for an occupied moment and 0 for an empty one, int64 [moments].
        draws: Random numbers for the moments.

    Returns:
        float32 [moments, 8].
    """
    used = occupied == 1
    since = 3 * draws.uniform() ** 2  # hours since somebody came or the last one left
    just_now = since < 1 / 6  # within the ten minutes over which changes are measured
    people = room.people * (0.5 + draws.uniform())
    drift = draws.uniform()

    # In well-mixed air, CO2 approaches exponentially the steady state in which ventilation removes what people exhale.
    steady = people * EXHALED_PPM_M3 / (room.volume * room.air_changes)
    steady = 2500 * steady / (2500 + steady)  # people open a window in bad air
    before = 0.6 * steady * draws.uniform() ** 2
    left = np.exp(-room.air_changes * since)
    co2 = np.where(used, steady + (before - steady) * left, steady * left)
    co2_change = np.where(used, steady - before, -steady) * left * (1 - np.exp(-room.air_changes / 6))
    co2 += OUTDOOR_PPM + room.co2_offset + room.co2_drift * drift + 25 * draws.noise()

    hour = room.middle_of_use + np.where(used, 0, 12) + 4 * draws.noise()
    sun = np.maximum(0, np.cos((hour - 13) * np.pi / 12)) * (0.3 + 0.7 * draws.uniform())  # 1 at 13:00 under a clear sky
    daylight = room.daylight * sun * np.where(used, 1 - room.blinds * draws.uniform(), 1)
    lamp = room.lamp * (draws.uniform() < np.where(used, room.lamp_when_used, room.lamp_when_empty))
    switched = np.where(used, lamp, -room.lamp * room.lamp_when_used)
    light = room.light_gain * (daylight + lamp) + 5 * draws.noise()

    warm_up = np.exp(-since / 1.5)
    warmed = room.warming * np.where(used, 1 - warm_up, warm_up)
    temperature = room.warmth + 2 * sun + warmed + room.temperature_offset + room.temperature_drift * drift

    motion = np.where(used, room.motion_when_used, room.motion_when_empty)
    begun = np.where(just_now, np.where(used, motion, -motion), 0)

    features = (
        scaled("CO2", co2),
        scaled("light", light),
        scaled("temperature", temperature + 0.4 * draws.noise()),
        2 * np.clip(motion + 0.15 * draws.noise(), 0, 1) - 1,
        scaled_change("CO2", co2_change + 35 * draws.noise()),
        scaled_change("light", room.light_gain * np.where(just_now, switched, 0) + 15 * draws.noise()),
        scaled_change("temperature", np.where(used, warm_up, -warm_up) * room.warming * 0.1 + 0.1 * draws.noise()),
        np.clip(begun + 0.25 * draws.noise(), -1, 1),
    )
    return np.stack(features, axis=1).astype(np.float32)


def scaled(sensor: str, value: Numbers) -> Numbers:
    """A sensor's value in ppm, lux or °C, scaled to about -1 to 1."""
    match sensor:
        case "CO2":
            return (value - 800) / 400
        case "light":
            return value / 300 - 1
    return (value - 22) / 3


def scaled_change(sensor: str, change: Numbers) -> Numbers:
    """A change over ten minutes in ppm, lux or °C, scaled to about -1 to 1."""
    match sensor:
        case "CO2":
            return change / 60
        case "light":
            return change / 100
    return 4 * change
