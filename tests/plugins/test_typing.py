"""A user's file that derives from the public classes is checked by `mypy --strict` against the installed wheel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

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


def shown(page: str) -> str:
    """The first Python file of a page."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", find(page).read_text(encoding="utf-8"))[0]


TASK, OP = shown("docs/own-task.md"), shown("docs/own-op.md")
WRONG_STRATEGY = STRATEGY.replace("-> npt.NDArray[np.float32]:", "-> list[float]:").replace(
    "np.asarray(moved, np.float32)", "[0.5]"
)
WRONG_TASK = TASK.replace("count: int) -> tmf.Samples:", "count: str) -> tmf.Samples:")
WRONG_OP = OP.replace("def cpp_type(self) -> str:", "def cpp_type(self) -> bytes:").replace(
    'return f"kernels', 'return b"kernels'
)


def test_subclasses_are_checked_strictly(tmp_path: Path, wheel_venv: WheelVenv) -> None:
    right = {"strategy": STRATEGY, "task": TASK, "op": OP}
    wrong = {"wrong_strategy": WRONG_STRATEGY, "wrong_task": WRONG_TASK, "wrong_op": WRONG_OP}
    texts = right | wrong
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text.lstrip(), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", wheel_venv.python]
    done = wheel_venv.run(tmp_path, *command, *(f"{name}.py" for name in texts))
    assert done.returncode == 1, done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {line.partition(":")[0] for line in errors} == {f"{name}.py" for name in wrong}, done.stdout
    for name in wrong:
        assert any(line.startswith(f"{name}.py:") and "incompatible with" in line for line in errors), done.stdout
