"""How much of a processor processes take, by a measure that is the same on an idle and on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from clocks import wait_until

WINDOW_SECONDS = 0.5  # of processor time that the competitor is given


def cpu_seconds(pid: int) -> float:
    """Processor time that the threads of a process have had, to the nanosecond."""
    return sum(int(tasks.read_text().split()[0]) for tasks in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def used_seconds(pid: int) -> float:
    """Processor time that a process has had, its threads that have ended included; counted in hundredths of a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pids: Iterable[int]) -> float:
    """Processor time of the processes together, as a share of what one that never rests is given meanwhile.

    A busy machine gives both less. What they were still at when they were last asked something is waited for: it is
    measured again as long as that makes it less.
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
