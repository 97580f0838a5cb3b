"""A sweep in a script of the user, whose lines are run once and not again in every process of the sweep."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tinymetafed.experiments.sweep.process_start import start

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


class Started(BaseProcess):
    """A process that calls a function where it should start."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def start(self) -> None:
        self._call()


def test_threads_that_start_processes_at_the_same_time_leave_the_main_module_as_it_is() -> None:
    main, inside, first_is_done = sys.modules["__main__"], threading.Event(), threading.Event()

    def second() -> None:
        start(Started(lambda: (inside.set(), first_is_done.wait())))

    thread = threading.Thread(target=second)
    start(Started(lambda: (thread.start(), inside.wait(0.2))))  # the second is inside meanwhile only if it may be
    first_is_done.set()
    thread.join()
    assert sys.modules["__main__"] is main and inside.is_set()
