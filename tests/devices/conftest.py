"""Fixtures that connect sessions with fake devices, and close sessions and fleets after the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from clocks import FakeClock
from fake_device import Connect, FakeBoard, FakeLine
from stand_ins import MADE

from tinymetafed.devices.link.session import Session


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(deadline=…, retries=…, greet=True, **fake)`` returns a fake board and a session, on a fake clock."""
    with ExitStack() as stack:

        def start(*, deadline: float = 0.05, retries: int = 8, greet: bool = True, **fake: Any) -> tuple[FakeBoard, Session]:
            clock = FakeClock()
            board = FakeBoard(clock=clock, **fake)
            line = FakeLine(board, clock)
            session = stack.enter_context(Session(line, deadline=deadline, retries=retries, clock=clock))
            if greet:
                session.window = board.window
            return board, session

        yield start


@pytest.fixture(autouse=True)
def _fleets_closed() -> Iterator[None]:
    """Ends the searches of all fleets of stand-ins that a test has made."""
    yield
    for made in MADE:
        with made:
            pass
    MADE.clear()
