"""A user's file that derives from the public classes is checked by `mypy --strict` against the installed wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from installed_wheel import WheelVenv

from tinymetafed_codegen.locate import find

STRATEGY = '''
"""The median of the updates, and rounds that train the whole network."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import tinymetafed as tmf


class Median(tmf.Strategy):
    """g ← g + share · α · median(Δ)."""

    def training(self) -> tuple[tmf.Phase, ...]:
        spec = self.spec
        return (self.phase(tmf.Variant.FULL, tmf.SampleSet.QUERY, spec.global_passes, spec.global_learning_rate),)

    def update(
        self, weights: npt.NDArray[np.float32], deltas: Sequence[tmf.Sparse], round_: int
    ) -> npt.NDArray[np.float32]:
        updates = np.stack([delta.dense(self.n_global) for delta in deltas])
        moved = weights + np.float32(self.options.get("share", 1.0)) * self.alpha(round_) * np.median(updates, axis=0)
        return np.asarray(moved, np.float32)
'''
TASK = re.findall(r"(?ms)^```python\n(.*?)^```$", find("docs/own-task.md").read_text(encoding="utf-8"))[0]
WRONG_STRATEGY = STRATEGY.replace("-> npt.NDArray[np.float32]:", "-> list[float]:").replace(
    "np.asarray(moved, np.float32)", "[0.5]"
)
WRONG_TASK = TASK.replace("count: int) -> tmf.Samples:", "count: str) -> tmf.Samples:")


def mypy(folder: Path, wheel_venv: WheelVenv, name: str, text: str) -> subprocess.CompletedProcess[str]:
    """Checks a file of its own: mypy would take the former result for a text of the same length, written in the same second."""
    (folder / name).write_text(text.lstrip(), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", wheel_venv.python, name]
    return subprocess.run(command, cwd=folder, env=wheel_venv.variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("right", "wrong"), [(STRATEGY, WRONG_STRATEGY), (TASK, WRONG_TASK)], ids=["strategy", "task"])
def test_a_subclass_is_checked_strictly(tmp_path: Path, wheel_venv: WheelVenv, right: str, wrong: str) -> None:
    done = mypy(tmp_path, wheel_venv, "right.py", right)
    assert done.returncode == 0, done.stdout + done.stderr
    done = mypy(tmp_path, wheel_venv, "wrong.py", wrong)
    assert done.returncode == 1 and "incompatible with" in done.stdout, done.stdout
