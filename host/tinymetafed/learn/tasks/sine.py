"""The task ``sine``: every client is a sine wave of its own; boards compute the samples themselves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import CLIENTS, RunSpec, SineTask, TaskShapes

from .. import prng
from . import UNLIMITED, Floats, Samples, Task

DEFAULTS = SineTask(kind="sine")
TEST_POINTS = 100
LOWEST_X, X_SPAN = np.float32(-5.0), np.float32(10.0)
_GRID = np.linspace(LOWEST_X, LOWEST_X + X_SPAN, TEST_POINTS, dtype=np.float32)


class Wave(NamedTuple):
    """A client's wave: amplitude, phase in radians, frequency in radians per unit of x."""

    amplitude: np.float32
    phase: np.float32
    frequency: np.float32


class Sine(Task):
    """y = amplitude * sin(frequency * x + phase), x in [-5, 5]; each is drawn uniformly from its range in the experiment.

    By default amplitude is in [0.1, 5], phase in [0, π], and frequency is 1 (Finn et al. 2017, 5.1). The file source_sine.cpp
    in firmware/app implements the same task. Amplitude, phase, frequency and x are bit-identical. The board computes the sine
    with a float32 polynomial and the host in float64, so y agrees only within float32 rounding.
    """

    spec: SineTask

    def __init__(self, seed: int, clients: int = CLIENTS, spec: SineTask = DEFAULTS) -> None:
        super().__init__(spec, spec.shapes, seed, clients)
        self.adapt_limit = UNLIMITED
        self._grids: dict[int, Samples] = {}  # test samples by client: each is tested many times

    @classmethod
    def open(cls, spec: SineTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Creates the task; there are no data to read."""
        return cls(run.seed, run.clients or CLIENTS, spec)

    def wave(self, client: int) -> Wave:
        """A client's wave."""
        (amplitude, other), (phase, _) = prng.draw(self.seed, client, 0, Stream.CLIENT_TASK, np.arange(2, dtype=np.uint32))
        spec = self.spec
        return Wave(_within(spec.amplitude, amplitude), _within(spec.phase, phase), _within(spec.frequency, other))

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """``count`` fresh points of the client's wave, x uniform."""
        words, _ = prng.draw(self.seed, client, round, Stream(sample_set), np.arange(count, dtype=np.uint32))
        return self._on_wave(client, LOWEST_X + X_SPAN * prng.uniform(words))

    def test_samples(self, client: int, round: int) -> Samples:
        """An even grid of 100 points over [-5, 5], the same in every round."""
        if client not in self._grids:
            self._grids[client] = self._on_wave(client, _GRID)
        return self._grids[client]

    def describe(self, client: int) -> str:
        """The wave's formula."""
        wave = self.wave(client)
        x = "x" if wave.frequency == 1 else f"{wave.frequency:.2f} x"
        return f"y = {wave.amplitude:.2f} sin({x} + {wave.phase:.2f})"

    def _on_wave(self, client: int, x: Floats) -> Samples:
        amplitude, phase, frequency = (np.float64(value) for value in self.wave(client))
        y = amplitude * np.sin(frequency * x.astype(np.float64) + phase)
        return Samples(x[:, None], y.astype(np.float32)[:, None])


def _within(drawn_from: tuple[float, float], word: np.uint32) -> np.float32:
    """The number of a random word in a range, in the float32 arithmetic of boards."""
    low, high = np.float32(drawn_from[0]), np.float32(drawn_from[1])
    return np.float32(low + (high - low) * prng.uniform(np.array([word]))[0])
