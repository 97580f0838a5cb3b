"""Sessions with fake devices, closed again whatever a test does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from clocks import FakeClock
from fake_device import Connect, FakeBoard, FakeLine

from tinymetafed.devices.link.session import Session


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(deadline=…, retries=…, greet=True, **fake)`` gives a fake board and a session with it, on a fake clock."""
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
