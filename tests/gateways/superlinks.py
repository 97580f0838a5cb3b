"""Flower's SuperLink as a process of a test, and gateways that connect to it from threads of the test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clocks import wait_until

import tinymetafed as tmf

PROGRAM = Path(sys.executable).parent / "flower-superlink"


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink; ``log`` is what it prints."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def superlink(folder: Path, words: Sequence[str] = ("--insecure",), port: int = 0) -> Iterator[SuperLink]:
    """Starts a SuperLink on a free port, or on ``port``, and waits until it answers."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    log = folder / f"superlink-{port}.log"
    quiet = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(folder)}
    command = [str(PROGRAM), *words, "--isolation", "process", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=quiet, cwd=folder) as process:
        try:
            wait_until(lambda: _answers(port) or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield SuperLink(f"127.0.0.1:{port}", log, process)
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


class RunningGateway(threading.Thread):
    """``tmf.gateway`` in a thread; ``said`` are its events, ``error`` what ended it."""

    def __init__(self, experiment: tmf.Experiment, address: str, name: str, devices: str, **options: object) -> None:
        super().__init__(daemon=True)
        self.said: list[str] = []
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self._asked = (experiment, [devices])
        self._options = {"superlink": address, "name": name, "insecure": True, **options}

    def run(self) -> None:
        try:
            tmf.gateway(*self._asked, stop=self.stop, progress=self._event, **self._options)  # type: ignore[arg-type]
        except BaseException as error:
            self.error = error

    def _event(self, event: tmf.ProgressEvent) -> None:
        if event.event:
            self.said.append(event.event)


@contextmanager
def gateways(*running: RunningGateway) -> Iterator[None]:
    """Runs gateways, and stops them."""
    for gateway in running:
        gateway.start()
    try:
        yield
    finally:
        for gateway in running:
            gateway.stop.set()
        for gateway in running:
            gateway.join()
