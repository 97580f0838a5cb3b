"""What the API uses where nothing is given, and the names that an experiment may choose from; quick to import."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tinymetafed_codegen.board.board_facts import Line
from tinymetafed_codegen.loss import TARGETS

from ..experiments.search_ranges import DEFAULT_KEYS
from ..runs import TEST_URL
from .number_ranges import require

# The kinds of built-in tasks, those of spec.TASKS, whose import takes longer than `--help`; a test compares both.
TASKS = ("sine", "omniglot", "keywords", "presence", "folder")
LOSSES = tuple(TARGETS)
TUNE_RANGES: Mapping[str, str] = {key: text for key, (text, _) in DEFAULT_KEYS.items()}  # of a search by default, in words
CHECK_BOARD = "nano33ble"  # the board whose memory data are checked against
DEFAULT_DEVICES = ("native:2",)
TEST_DEVICE = TEST_URL
DEFAULT_BAUD = Line().baud
MOST_AT_ONCE = 1024  # threads, or runs
ADAPTED_TASKS = 10  # unseen clients that ``Run.adapt`` adapts


def threads_of(asked: int | None) -> int:
    """The threads that are asked for, else one for each processor. Raises UsageError for a number that is not possible."""
    require("--threads", asked, 1, MOST_AT_ONCE)
    return asked or os.cpu_count() or 1


def jobs_of(asked: int | None) -> int:
    """The runs at a time that are asked for, else one for each processor. Raises UsageError as ``threads_of``."""
    require("--jobs", asked, 1, MOST_AT_ONCE)
    return asked or os.cpu_count() or 1
