"""Kills the processes of boards when the host that started them has been killed."""

from __future__ import annotations

import subprocess
import sys
import threading

# It reads which processes start and stop; the end of its input is the end of the host.
_SCRIPT = """
trap '' INT TERM HUP
pids=' '
while read -r change pid; do
  case $change in
    start) pids="$pids$pid " ;;
    stop) pids="${pids%% $pid *} ${pids#* $pid }" ;;
  esac
done
set -- $pids
[ $# = 0 ] || kill -KILL "$@"
"""


class Watchdog:
    """A process that outlives the host and kills what the host has started and not stopped.

    Windows has none: only native boards run there, and they end when their standard input is closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform != "win32":
            self._process = subprocess.Popen(["/bin/sh", "-c", _SCRIPT], stdin=subprocess.PIPE, start_new_session=True)

    def tell(self, change: str, pid: int) -> None:
        """Notes a "start" or "stop" of process ``pid``."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{change} {pid}\n".encode())
            self._process.stdin.flush()

    def stop(self) -> None:
        """Ends it; it kills nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
