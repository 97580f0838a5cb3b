"""The share of a processor that processes use, measured so that an idle and a busy machine give the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from clocks import wait_until

WINDOW_SECONDS = 0.5  # processor time of the busy process that it compares with


def cpu_seconds(pid: int) -> float:
    """Processor time of the threads of a process, to the nanosecond."""
    return sum(int(tasks.read_text().split()[0]) for tasks in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def used_seconds(pid: int) -> float:
    """Processor time of a process, ended threads included, in steps of a hundredth of a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # the process has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pids: Iterable[int]) -> float:
    """Processor time of the processes together, as a share of that of a process that is always busy.

    A busy machine gives both less. The processes may still be finishing earlier work, so the measurement is repeated
    as long as the share falls.
    """
    processes = list(pids)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as competitor:
        try:
            lowest = float("inf")
            while (found := _window(processes, competitor.pid)) < 0.7 * lowest:
                lowest = found
            return min(lowest, found)
        finally:
            competitor.kill()


def _window(processes: list[int], competitor: int) -> float:
    before, began = sum(map(cpu_seconds, processes)), cpu_seconds(competitor)
    wait_until(lambda: cpu_seconds(competitor) - began >= WINDOW_SECONDS)
    return (sum(map(cpu_seconds, processes)) - before) / (cpu_seconds(competitor) - began)
