"""A row of a sensor, and the names of its columns, fit into one answer of a board, however many there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import spec
from tinymetafed_codegen.optional_messages.sensor_messages import Columns, Rows
from tinymetafed_codegen.protocol import payload_capacity


@pytest.mark.parametrize("channels", [3, 100, 251, 252, 255, 300, 1000])
@pytest.mark.parametrize("named", [False, True])
def test_an_answer_has_room_for_a_row_and_for_its_columns(tmp_path: Path, channels: int, named: bool) -> None:
    (tmp_path / "sensor.cpp").write_text("class Sensor {};\n")
    names = [f"température {i}" for i in range(channels)]
    task = {"kind": "folder", "path": "data", "dtype": "uint8"} | ({"features": names, "label": "what"} if named else {})
    layers = [{"op": "dense", "units": 2}]
    data = {
        "task": task,
        "data": {"normalise": "none"},
        "model": {"input": [channels], "loss": "softmax_cross_entropy", "layers": layers},
        "board": {"sensor": str(tmp_path / "sensor.cpp")},
    }
    manifest = design_of(spec.parse(data, "test"), "test", "nano33ble").manifest
    assert manifest.sensor is not None
    room = payload_capacity(manifest.receive_window)
    assert Rows.fixed_size() + 2 + 4 * channels <= room
    assert Columns.fixed_size() + len(",".join(manifest.sensor.columns).encode()) <= room
