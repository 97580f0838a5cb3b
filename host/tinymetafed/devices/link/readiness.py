"""Waits until a file descriptor can be read or written."""

from __future__ import annotations

import select
import sys


def ready(fd: int, timeout: float, *, writing: bool = False) -> bool:
    """Whether ``fd`` can be read (or written) within ``timeout`` seconds."""
    seconds = max(timeout, 0.0)
    if not sys.platform.startswith("linux"):  # macOS does not support poll() on terminals
        return any(select.select(() if writing else (fd,), (fd,) if writing else (), (), seconds))
    poll = select.poll()  # select() allows descriptors below 1024 only, too few for a hundred emulated boards
    poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    return bool(poll.poll(seconds * 1000))
