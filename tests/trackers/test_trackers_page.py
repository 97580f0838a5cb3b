"""docs/trackers.md: its class is a tracker, its commands run, and what it says about both holds."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinymetafed_codegen.locate import root

PAGE = (root() / "docs" / "trackers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)


def test_the_class_of_the_page_logs_a_run_and_continues_it(tmp_path: Path) -> None:
    (text,) = [body for language, body in BLOCKS if language == "python"]
    (tmp_path / "lines.py").write_text(text, encoding="utf-8")
    (tmp_path / "examples").symlink_to(root() / "examples")
    (command,) = [body for language, body in BLOCKS if "lines.py:Lines" in body and language == "console"]

    def tinymetafed(words: list[str]) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = [sys.executable, "-m", "tinymetafed", *words]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    tinymetafed([*shlex.split(command)[1:], "--set", "evaluation.every=10", "--set", "evaluation.tasks=6"])
    file = tmp_path / "runs" / "lines" / "lines.jsonl"
    whole = file.read_text()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["round"] for line in lines] == [*range(1, 21)] and "validation/after" in lines[9]
    assert file.with_suffix(".txt").read_text().startswith("finished ")
    file.write_text("".join(whole.splitlines(keepends=True)[:7]))
    tinymetafed(["log", "runs/lines", "--log", "lines.py:Lines"])
    assert file.read_text() == whole


@pytest.mark.parametrize("extra", ["tensorboard", "mlflow", "wandb"])
def test_the_extras_of_the_page_exist(extra: str) -> None:
    project = (root() / "pyproject.toml").read_text(encoding="utf-8")
    assert f"pip install 'tinymetafed[{extra}]'" in PAGE and re.search(rf"(?m)^{extra} = \[", project)
