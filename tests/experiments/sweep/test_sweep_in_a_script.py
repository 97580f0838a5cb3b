"""A sweep in a script of the user, whose lines are run once and not again in every process of the sweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import tinymetafed as tmf

print("begins")
print(tmf.sweep("sweep.toml", out="swept", jobs=2, progress=False).rows[0].after.mean)
"""

SWEEP = """
seeds = [1, 2]
[[variant]]
name = "short"
set = { run.rounds = 2, evaluation.tasks = 2, evaluation.every = 0 }
"""


def test_a_script_without_a_guard_is_run_once(tmp_path: Path) -> None:
    sine = Path(__file__).parents[3] / "examples" / "sine.toml"
    (tmp_path / "sweep.toml").write_text(f"experiment = '{sine}'\n{SWEEP}")
    (tmp_path / "script.py").write_text(SCRIPT)
    said = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("begins") == 1 and float(said.stdout.split()[-1]) > 0
