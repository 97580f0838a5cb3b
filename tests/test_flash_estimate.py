"""The estimate that refuses a model before compiling is never below the flash of the linked firmware."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled_model import MODELS, design
from small_runs import needs_qemu, sine

from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.boards import STACK_BYTES


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize(
    "name",
    ["affine", "branches", "dense local first", "conv stride 2 same", "depthwise", "max pool", "momentum", "frozen", "int8"],
)
def test_the_estimate_holds_for_awkward_sizes(name: str, tmp_path: Path) -> None:
    built = build_firmware(design_of(design(MODELS[name], tmp_path).experiment, name), "mps2")
    assert built.flash_bytes <= built.manifest.memory.flash <= 1.4 * built.flash_bytes


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_the_estimate_holds_for_kept_state_and_summed_gradients() -> None:
    keeping = ("strategy.error_feedback=true", "model.local_start=kept")
    for keys in (keeping, ("strategy.kind=fedsgd", *keeping)):
        built = build_firmware(design_of(sine(*keys), "sine"), "mps2")
        assert built.flash_bytes <= built.manifest.memory.flash <= 1.2 * built.flash_bytes
        assert built.ram_bytes <= built.manifest.memory.ram_total - STACK_BYTES
