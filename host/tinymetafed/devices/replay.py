"""Prepares the recordings that boards replay as their sensor: a file of rows for each board."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen.design import Design

from .device_urls import DeviceSpec
from .link.link_errors import LaunchError

Recordings = Callable[[DeviceSpec], Sequence[bytes]]  # the content of each file that a URL's boards replay
_MAGIC = b"TMFR"
_LARGEST_LABEL = (1 << 15) - 1


def recordings_of(design: Design) -> Recordings:
    """Prepares recordings for the boards of an experiment.

    Args:
        design: The experiment's model.

    Returns:
        A function that reads the recordings of a device URL, one per board, as firmware/app/sensor_replayed.cpp reads them. It
        raises DataError where a file cannot be used, and LaunchError where the firmware has no sensor, or clients are too few.
    """
    from ..learn.tasks.own_data.replayed import sensor_rows, sound_rows  # here because other devices start sooner without it

    def read(spec: DeviceSpec) -> list[bytes]:
        assert spec.replay is not None
        facts, task = design.manifest.sensor, design.experiment.task
        if facts is None:
            raise LaunchError(
                f"device '{spec.url}': its firmware has no sensor to replay; set board.sensor in {Path(design.source).name}, "
                "or leave replay= out"
            )
        if not spec.replay.exists():
            raise LaunchError(f"{spec.replay}: no such file or folder; replay= names a recording, or a folder of them")
        if task.own_files is None or facts.sound:
            clients = sound_rows(spec.replay, task)
        else:
            clients = sensor_rows(spec.replay, task.own_files, facts.channels, max(2, design.manifest.output_size))
        if spec.replay.is_file():
            clients *= spec.count
        if len(clients) < spec.count:
            raise LaunchError(
                f"{spec.replay}: the recordings of {len(clients)} client(s) for {spec.count} boards; each board replays one "
                "client: start fewer boards, or name one file for all"
            )
        return [_file(each.values, each.labels, each.after_gap) for each in clients[: spec.count]]

    return read


def _file(values: np.ndarray, labels: np.ndarray, after_gap: np.ndarray) -> bytes:
    """Rows as a board reads them: float32 numbers, an int16 label, an int16 that is 1 after a gap; little-endian."""
    channels = values.shape[1]
    rows = np.empty(len(values), np.dtype([("values", "<f4", (channels,)), ("label", "<i2"), ("after_gap", "<i2")]))
    rows["values"], rows["label"], rows["after_gap"] = values, np.minimum(labels, _LARGEST_LABEL), after_gap
    return _MAGIC + struct.pack("<I", channels) + rows.tobytes()
