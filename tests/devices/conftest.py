"""Sessions with fake devices, closed again whatever a test does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fake_device import Connect, FakeDevice

from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(deadline=…, retries=…, greet=True, **fake)`` gives a fake device and a session with it."""
    with ExitStack() as stack:

        def start(*, deadline: float = 0.05, retries: int = 8, greet: bool = True, **fake: Any) -> tuple[FakeDevice, Session]:
            device = FakeDevice(**fake)
            stack.callback(device.close)
            transport = open_transport(device.url, baud=4_000_000)  # no line: next to no time is added for it
            session = stack.enter_context(Session(transport, deadline=deadline, retries=retries))
            if greet:
                session.window = device.window
            return device, session

        yield start
