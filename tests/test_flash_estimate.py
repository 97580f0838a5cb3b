"""The estimate that refuses a model before compiling is never below the flash of the linked firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compiled_model import FLATTEN, MODELS, dense, design
from small_runs import needs_board, needs_qemu, sine

from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import spec
from tinymetafed_codegen.board.board_facts import STACK_BYTES

FURTHER = ("rv32", "esp32isa")

# An odd number of filters, for which the compiler unrolls most.
ODD_INT8 = {
    "input": [6, 6, 3],
    "loss": "mse",
    "layers": [
        {"op": "quantize", "scale": 0.02, "zero_point": 3},
        {"op": "conv2d_int8", "filters": 5, "kernel": 3, "zero_point": 2},
        {"op": "conv2d_int8", "filters": 5, "kernel": 3, "zero_point": 2},
        FLATTEN,
        {"op": "dequantize", "scale": 0.03},
        dense(3),
    ],
}


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize(
    "name",
    [
        "branches",
        "dense local first",
        "odd int8",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("affine", "conv stride 2 same", "depthwise", "max pool", "momentum", "frozen", "int8", "dense odd")
        ),
    ],
)
def test_the_estimate_holds_for_awkward_sizes(name: str, tmp_path: Path) -> None:
    built = build_firmware(design_of(design({**MODELS, "odd int8": ODD_INT8}[name], tmp_path).experiment, name), "mps2")
    assert built.flash_bytes <= built.manifest.memory.flash <= 1.4 * built.flash_bytes


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize(
    "first",
    [
        {"op": "depthwise_conv2d", "kernel": 3},
        *(
            pytest.param(first, marks=pytest.mark.exhaustive)
            for first in (
                {"op": "depthwise_conv2d", "kernel": 5, "stride": 2, "activation": "relu"},
                {"op": "max_pool", "size": 3, "stride": 2, "padding": "same"},
                {"op": "avg_pool"},
            )
        ),
    ],
    ids=lambda first: f"{first['op']}{first.get('kernel', '')}",
)
def test_the_estimate_holds_for_first_layers_that_read_bytes(first: dict[str, Any]) -> None:
    keys = {
        "task": {"kind": "folder", "path": "none", "held_out": ["b"], "dtype": "uint8"},
        "data": {"normalise": "standard", "shift": [0.4, 0.5, 0.6], "scale": [3.0, 4.0, 5.0]},
        "model": {
            "input": [45, 37, 3],
            "loss": "mse",
            "layers": [first, {"op": "conv2d", "filters": 8, "kernel": 3, "stride": 4}, FLATTEN, dense(3)],
        },
    }
    made = design_of(spec.parse(keys, "test"), "test")
    assert made.reads_bytes
    built = build_firmware(made, "mps2")
    assert built.flash_bytes <= built.manifest.memory.flash <= 1.4 * built.flash_bytes


@pytest.mark.parametrize(
    "board", [pytest.param(board, marks=[needs_board(board), pytest.mark.xdist_group("emulator-qemu")]) for board in FURTHER]
)
@pytest.mark.parametrize(
    "name", ["sine", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("branches", "odd int8"))]
)
def test_the_estimate_holds_on_other_instruction_sets(name: str, board: str, tmp_path: Path) -> None:
    """The factors in the board's file are those of its compiler: kernels in float32 and int8 and the rest grow differently."""
    models = {**MODELS, "odd int8": ODD_INT8}
    experiment = sine() if name == "sine" else design(models[name], tmp_path).experiment
    built = build_firmware(design_of(experiment, name), board)
    assert built.flash_bytes <= built.manifest.memory.flash <= 1.2 * built.flash_bytes


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_the_estimate_holds_for_kept_state_summed_gradients_differences_coded_leveled_and_private_masked_updates() -> None:
    keeping = ("strategy.error_feedback=true", "model.local_start=kept")
    private = ("strategy.selection=random", "privacy.clip=0.25", "privacy.noise=0.5", "run.devices_per_round=20")
    masked = ("privacy.secure_aggregation=true", *private)
    coded = ("strategy.uplink=i8", "strategy.uplink_coding=rice", "strategy.download=difference")
    leveled = ("strategy.downlink=i4", "strategy.downlink_coding=range")
    sent = ("strategy.uplink=i4", "strategy.uplink_coding=range")
    for keys in ((*keeping, *sent), ("strategy.kind=fedsgd", *keeping, *coded), (*masked, *leveled)):
        built = build_firmware(design_of(sine(*keys), "sine"), "mps2")
        assert built.flash_bytes <= built.manifest.memory.flash <= 1.2 * built.flash_bytes
        assert built.ram_bytes <= built.manifest.memory.ram_total - STACK_BYTES
