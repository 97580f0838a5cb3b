"""Drives Debian's Chromium without a window through its DevTools protocol, over a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A browser with one page."""

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of = to, of
        self._ids = itertools.count(1)
        self._buffer = b""
        self.console: list[str] = []  # errors that the page reported, a refusal by its policy among them
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def show(self, url: str, width: int, height: int, scheme: str) -> None:
        """Loads a page in a window of that size, light or dark."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, of a promise what it gives."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Returns when a JavaScript condition is true; the page itself looks every 20 ms, at most 3000 times."""
        look = f"const look = () => ({condition}) || !left-- ? done({condition}) : setTimeout(look, 20)"
        waiting = f"new Promise(done => {{ let left = 3000; {look}; look(); }})"
        assert self.value(waiting), f"{condition}: not so; {self.console}"

    def screenshot(self, file: Path, height: int = 0) -> None:
        """Saves what the window shows, or the page's first ``height`` pixels."""
        asked: dict[str, Any] = {}
        if height:
            clip = {"x": 0, "y": 0, "width": self.value("innerWidth"), "height": height, "scale": 1}
            asked = {"clip": clip, "captureBeyondViewport": True}
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", **asked)["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        asked = {"id": number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            if answer.get("method") == "Log.entryAdded":
                self.console.append(answer["params"]["entry"]["text"])
            elif answer.get("method") == "Runtime.exceptionThrown":
                self.console.append(str(answer["params"]["exceptionDetails"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._of, 1 << 16)
            assert got, "the browser has ended"
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser in a folder of its own, which ends with the ``with``."""
    assert CHROMIUM is not None
    their_in, to = os.pipe()
    of, their_out = os.pipe()

    def connect() -> None:
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (their_in, their_out)]
        for number, each in enumerate(high, 3):
            os.dup2(each, number)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, close_fds=False, preexec_fn=connect)
        os.close(their_in)
        os.close(their_out)
        try:
            yield Browser(to, of)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to)
            os.close(of)
