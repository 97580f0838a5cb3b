"""A device's round for tests of the plan, as in the sine example."""

from __future__ import annotations

from tinymetafed.experiments.plan import DeviceRound

DEVICE = DeviceRound(
    bytes_down=2400.0,
    bytes_up=830.0,
    samples_down=0.0,
    samples_up=0.0,
    loads=5.0,
    samples=0.0,
    pulls=1.0,
    others=2.0,
    loads_at_once=2,
    samples_at_once=1,
    pulls_wait=False,
    weights=1120,
    weight_bytes=2,
    entries=560,
    entry_bytes=1,
)
