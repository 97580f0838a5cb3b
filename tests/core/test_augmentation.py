"""Random changes of samples: the bits of a NumPy reference, in place, whether inputs are floats or bytes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from small_runs import omniglot

from tinymetafed.learn import prng
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.options import augmentation, optional_headers
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.toolchain import compiler_flags

Floats = npt.NDArray[np.float32]
one, two = np.float32(1), np.float32(2)

SOURCE = """
#include "augmentation.hpp"
#include "{core}/prng.cpp"
extern "C" void change(void* inputs, int bytes, uint32_t seed, uint32_t client, uint32_t round, uint32_t step) {{
  if (bytes) tmf::augmentation::change(static_cast<uint8_t*>(inputs), {{seed, client, round}}, step);
  else tmf::augmentation::change(static_cast<float*>(inputs), {{seed, client, round}}, step);
}}
"""


def windows(*overrides: str) -> Experiment:
    """Windows of two sensors with three axes each, normalised by channel."""
    raw: dict[str, Any] = {
        "task": {"kind": "folder", "path": "none"},
        "data": {"normalise": "standard", "shift": [0.0] * 6, "scale": [0.1, 0.2, 0.5, 1.0, 2.0, 4.0]},
        "model": {"input": [9, 6], "loss": "softmax_cross_entropy", "layers": [{"op": "flatten"}, {"op": "dense", "units": 2}]},
        "augment": {key: float(value) for key, value in (each.split("=") for each in overrides)},
    }
    return spec.parse(raw, "windows")


class Compiled:
    """The firmware's code for one experiment."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.experiment = experiment
        headers = optional_headers.augmentation_headers(design_of(experiment, "test"), "pytest")
        for name, text in (
            headers | {"protocol.hpp": emit.protocol_header("pytest"), "status.hpp": emit.status_header("")}
        ).items():
            (folder / name).write_text(text)
        core = find("firmware") / "core"
        (folder / "change.cpp").write_text(SOURCE.format(core=core))
        flags = [*compiler_flags(), "-O1", "-g0", "-shared", "-fPIC", f"-I{folder}", f"-I{core}"]
        subprocess.run(["g++", *flags, str(folder / "change.cpp"), "-o", str(folder / "change.so")], check=True)
        self._library = ctypes.CDLL(str(folder / "change.so"))

    def __call__(self, inputs: npt.NDArray[Any], *key: int) -> npt.NDArray[Any]:
        """Changed inputs of step ``key[3]`` of client ``key[1]`` in round ``key[2]`` of a run with seed ``key[0]``."""
        changed = inputs.copy()
        self._library.change(ctypes.c_void_p(changed.ctypes.data), changed.dtype == np.uint8, *map(ctypes.c_uint32, key))
        return changed


class Reference:
    """The same by NumPy, written from the section's description."""

    def __init__(self, experiment: Experiment, seed: int, client: int, round: int, step: int) -> None:
        self.keys, self.experiment = experiment.augment, experiment
        counter = np.uint32(augmentation.STREAM << 24 | step)
        high, low = prng.threefry((seed, client), round, counter)
        self._key, self._number = (int(high), int(low)), 0

    def words(self) -> tuple[int, int]:
        high, low = prng.threefry(self._key, self._number, 0)
        self._number += 1
        return int(high), int(low)

    def change(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        keys, x = self.keys, inputs.copy()
        if keys.shift or keys.time_shift:
            down, right = (word * (2 * most + 1) // 2**32 - most for word, most in zip(
                self.words(), (keys.shift, keys.shift or keys.time_shift), strict=True))  # fmt: skip
            moved = np.zeros_like(x)
            rows, columns = x.shape[:2]
            moved[max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = x[
                max(-down, 0) : rows + min(-down, 0), max(-right, 0) : columns + min(-right, 0)
            ]
            x = moved
        for axis, most in ((0, keys.frequency_mask), (1, keys.time_mask)):
            if most:
                width_word, place_word = self.words()
                width = width_word * (most + 1) // 2**32
                first = place_word * (x.shape[axis] - width + 1) // 2**32
                x[(slice(None),) * axis + (slice(first, first + width),)] = 0
        if keys.rotation or keys.scale:
            drawn = [two * word - one for word in prng.uniform([*self.words(), *self.words()])]
            if keys.rotation:
                a, b, c = (np.float32(augmentation.tangent(self.experiment)) * each for each in drawn[:3])
                n = two / (one + (a * a + b * b + c * c))
                matrix = [
                    [one - n * (b * b + c * c), n * (a * b - c), n * (a * c + b)],
                    [n * (a * b + c), one - n * (a * a + c * c), n * (b * c - a)],
                    [n * (a * c - b), n * (b * c + a), one - n * (a * a + b * b)],
                ]
                across = x.reshape(-1, 3)
                x = np.stack([row[0] * across[:, 0] + row[1] * across[:, 1] + row[2] * across[:, 2] for row in matrix], axis=1)
                x = x.reshape(inputs.shape)
                assert np.allclose(np.linalg.det(np.array(matrix, np.float64)), 1, atol=1e-5)
            if keys.scale:
                x = x * (one + np.float32(keys.scale) * drawn[3])
        if factors := augmentation.jitter(self.experiment):
            words = np.array([word for _ in range(-(-x.size // 2)) for word in self.words()][: x.size], np.uint32)
            noise = words.view(np.uint8).reshape(-1, 4).sum(axis=1).astype(np.int64).astype(np.float32) - np.float32(510)
            by_channel = np.resize(np.array(factors, np.float32), x.size)
            x = x + (noise * by_channel).reshape(x.shape)
        return x


IMAGES = omniglot("augment.shift=3")
SPECTROGRAMS = spec.load(
    find("examples/digits.toml"), ["augment.time_shift=4", "augment.frequency_mask=6", "augment.time_mask=5"]
)
WINDOWS = windows("rotation=30", "scale=0.2", "jitter=0.1")


@pytest.mark.parametrize("experiment", [IMAGES, SPECTROGRAMS, WINDOWS], ids=["images", "spectrograms", "windows"])
def test_changed_inputs_have_the_bits_of_the_reference(experiment: Experiment, tmp_path: Path) -> None:
    compiled, shape = Compiled(experiment, tmp_path), experiment.model.input
    random = np.random.default_rng(1)
    levels = random.integers(1, 256, shape).astype(np.uint8)
    inputs = random.normal(0, 9, shape).astype(np.float32)
    seen = set()
    for key in [(1, client, round, step) for client in (0, 1 << 20) for round in (0, 7) for step in range(9)]:
        changed = compiled(inputs, *key)
        assert changed.tobytes() == Reference(experiment, *key).change(inputs).tobytes(), key
        if experiment.augment.moves:  # bytes as the floats that they stand for
            assert compiled(levels, *key).astype(np.float32).tobytes() == compiled(levels.astype(np.float32), *key).tobytes()
        seen.add(changed.tobytes())
    assert len(seen) > 15  # of 36 steps; shifts of 3 pixels are 49


def test_jitter_has_the_standard_deviation_that_it_says(tmp_path: Path) -> None:
    compiled = Compiled(windows("jitter=0.1"), tmp_path)
    noise = np.concatenate([compiled(np.zeros((9, 6), np.float32), 1, 2, 3, step) for step in range(800)])
    np.testing.assert_allclose(noise.std(axis=0) * [0.1, 0.2, 0.5, 1.0, 2.0, 4.0], 0.1, rtol=0.04)
    assert abs(noise.mean(axis=0) * [0.1, 0.2, 0.5, 1.0, 2.0, 4.0]).max() < 0.006
