"""What the API uses where nothing is given, and the names that an experiment may choose from; quick to import."""

from __future__ import annotations

import os

from tinymetafed_codegen import spec
from tinymetafed_codegen.board_facts import Line
from tinymetafed_codegen.ops import LOSSES as _LOSSES

from ..runs import TEST_URL

TASKS = tuple(spec.TASKS)
LOSSES = tuple(_LOSSES)
CHECK_BOARD = "nano33ble"  # the board whose memory data are checked against
DEFAULT_DEVICES = ("native:2",)
TEST_DEVICE = TEST_URL
DEFAULT_BAUD = Line().baud
ADAPTED_TASKS = 10  # unseen clients that ``Run.adapt`` adapts


def threads_of(asked: int | None) -> int:
    """The threads that are asked for, else one for each processor."""
    return asked or os.cpu_count() or 1
