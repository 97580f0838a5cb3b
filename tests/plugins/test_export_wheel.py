"""From recordings to a sketch with an installed wheel: train, export for Arduino, compile, and the host's predictions."""

from __future__ import annotations

from pathlib import Path

import exported
import pytest
from installed_wheel import WheelVenv


@pytest.mark.parametrize("model", list(exported.MODELS))
def test_a_trained_model_becomes_a_sketch_that_predicts_as_the_host(wheel_venv: WheelVenv, tmp_path: Path, model: str) -> None:
    exported.write_clients(tmp_path / "people")
    exported.write_experiment(tmp_path, model)
    wheel_venv.tinymetafed(tmp_path, "simulate", f"{model}.toml", "--out", "run")
    made = tmp_path / "libraries" / "Steps"
    asked = ("export", "run", "--client", "person4", "--format", "arduino", "-o", made)
    assert wheel_venv.tinymetafed(tmp_path, *asked) == ""
    test = exported.printed(exported.build(made, made / "test" / "self_test.cpp"))
    assert test == (made / "test" / "expected.txt").read_text()
    sketch = made / "examples" / "StepsModelSelfTest" / "StepsModelSelfTest.ino"
    assert exported.printed(exported.build_sketch(made, sketch)).endswith("same as on the host\n")
