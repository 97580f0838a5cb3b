"""The estimate that refuses a model before it is compiled is never below what the linked firmware takes of the flash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from compiled_model import MODELS, design

from tinymetafed import bench
from tinymetafed_codegen.spec import OmniglotTask


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
@pytest.mark.parametrize("name", ["dense local first", "conv stride 2 same", "depthwise", "max pool", "momentum", "frozen"])
def test_the_estimate_holds_for_awkward_sizes(name: str, tmp_path: Path) -> None:
    streamed = design(MODELS[name], tmp_path).experiment.model_copy(update={"task": OmniglotTask(kind="omniglot")})
    program, manifest = bench._program(streamed, "mps2", None, tmp_path / "build")
    table = subprocess.run(["arm-none-eabi-size", program], check=True, capture_output=True, text=True).stdout
    text, data, *_ = (int(field) for field in table.splitlines()[1].split()[:3])
    assert text + data <= manifest["flash_estimate"] <= 1.4 * (text + data)
