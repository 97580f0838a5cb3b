"""The task ``sine``: every client is a sine wave with its own amplitude and phase; boards compute the samples themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import CLIENTS, RunSpec, SineTask, TaskShapes

from .. import prng
from . import UNLIMITED, Floats, Samples, Task

DEFAULTS = SineTask(kind="sine")
TEST_POINTS = 100
LOWEST_X, X_SPAN = np.float32(-5.0), np.float32(10.0)
LOWEST_AMPLITUDE, AMPLITUDE_SPAN = np.float32(0.1), np.float32(4.9)
PHASE_SPAN = np.float32(3.14159274)
_GRID = np.linspace(LOWEST_X, LOWEST_X + X_SPAN, TEST_POINTS, dtype=np.float32)


class Sine(Task):
    """y = amplitude * sin(x + phase), amplitude in [0.1, 5], phase in [0, π], x in [-5, 5] (Finn et al. 2017, 5.1).

    firmware/app/source_sine.cpp implements the same task. Amplitude, phase and x are bit-identical. The board computes the sine
    with a float32 polynomial and the host in float64, so y agrees only within float32 rounding.
    """

    def __init__(self, seed: int, clients: int = CLIENTS, spec: SineTask = DEFAULTS) -> None:
        super().__init__(spec, spec.shapes, seed, clients)
        self.adapt_limit = UNLIMITED
        self._grids: dict[int, Samples] = {}  # test samples by client: each is tested many times

    @classmethod
    def open(cls, spec: SineTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Creates the task; there are no data to read."""
        return cls(run.seed, run.clients or CLIENTS, spec)

    def wave(self, client: int) -> tuple[np.float32, np.float32]:
        """Amplitude and phase (radians) of a client's wave."""
        amplitude, phase = prng.draw(self.seed, client, 0, Stream.CLIENT_TASK, np.arange(1, dtype=np.uint32))
        return (
            LOWEST_AMPLITUDE + AMPLITUDE_SPAN * prng.uniform(amplitude)[0],
            PHASE_SPAN * prng.uniform(phase)[0],
        )

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
        amplitude, phase = self.wave(client)
        return f"y = {amplitude:.2f} sin(x + {phase:.2f})"

    def _on_wave(self, client: int, x: Floats) -> Samples:
        amplitude, phase = self.wave(client)
        y = np.float64(amplitude) * np.sin(x.astype(np.float64) + np.float64(phase))
        return Samples(x[:, None], y.astype(np.float32)[:, None])
