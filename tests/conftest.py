"""What tests of several folders share: stand-ins from link/, the NumPy reference from kernels/, one build per model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinymetafed import runner
from tinymetafed.firmware import Firmware
from tinymetafed_codegen.spec import Experiment

sys.path += [str(Path(__file__).parent / folder) for folder in ("link", "kernels")]

_built: dict[tuple[str, str], Firmware] = {}


@pytest.fixture
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model and board is built once in this process: asking PlatformIO again whether all is new takes seconds."""
    build = runner.build

    def remembered(experiment: Experiment, source: str, board: str) -> Firmware:
        key = (runner.manifest_of(experiment, source, board)["model_hash"], board)
        if key not in _built:
            _built[key] = build(experiment, source, board)
        return _built[key]

    monkeypatch.setattr(runner, "build", remembered)
