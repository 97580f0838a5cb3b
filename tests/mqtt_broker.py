"""A real MQTT broker for tests, and boards at it: bridges that join a native process's TCP port with the board's topics."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
import pytest
from clocks import HUNG_SECONDS, wait_until
from paho.mqtt.enums import CallbackAPIVersion

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: no MQTT broker here")
HELD_SECONDS = 0.05  # a message that the next one overtakes waits for so long, where none comes


class Mosquitto:
    """The broker, on a free port of this machine, until the end of the ``with`` block."""

    def __init__(self, folder: Path, *settings: str) -> None:
        """Takes lines of its configuration; without any, everybody may connect."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = folder / "broker.log"
        self._file = folder / "broker.conf"
        lines = (f"listener {self.port} 127.0.0.1", "user root", *(settings or ("allow_anonymous true",)))
        self._file.write_text("\n".join([*lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._file)], stdout=log, stderr=log)
        wait_until(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(HUNG_SECONDS)
            self._process = None

    def wait_for(self, *topics: str) -> None:
        """Waits until the broker keeps a message at each of these topics."""
        missing = set(topics)
        seen = paho.Client(CallbackAPIVersion.VERSION2)
        seen.on_message = lambda client, data, message: missing.discard(message.topic)
        seen.on_connect = lambda client, *_: [client.subscribe(topic) for topic in topics]
        seen.connect("127.0.0.1", self.port)
        seen.loop_start()
        try:
            wait_until(lambda: not missing)
        finally:
            seen.disconnect()
            seen.loop_stop()

    def restart(self) -> None:
        """Ends it without a word to anybody, and starts it again; it has forgotten everything."""
        self.stop()
        self.start()

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Messages:
    """Passes messages on, of which some are lost, doubled, or overtaken by the next one; from a seed."""

    def __init__(self, rate: float, seed: int) -> None:
        self.happened = {"lost": 0, "doubled": 0, "overtaken": 0}
        self.passed = 0
        self._rate = rate
        self._random = random.Random(seed)
        self._held: list[bytes] = []
        self._lock = threading.Lock()

    def suffer(self, message: bytes) -> list[bytes]:
        """The messages that arrive now."""
        with self._lock:
            self.passed += 1
            lost, doubled, overtaken = (self._random.random() < self._rate for _ in self.happened)
            for name, hit in zip(self.happened, (lost, doubled, overtaken), strict=True):
                self.happened[name] += hit
            now = [] if lost else [message] * (1 + doubled)
            if overtaken:
                self._held += now
                return []
            return [*now, *self._release()]

    def release(self) -> list[bytes]:
        """What was to be overtaken, if nothing has come since."""
        with self._lock:
            return self._release()

    def _release(self) -> list[bytes]:
        held, self._held = self._held, []
        return held


class BridgedBoard(threading.Thread):
    """Joins a native board's TCP port with its topics, as a board's own client of MQTT does."""

    def __init__(self, line: str, broker: Mosquitto, topic: str, *, most: int = 1024, rate: float = 0.0, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.down, self.up = Messages(rate, seed), Messages(rate, seed + 1)
        self.topic = topic
        self._socket = socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2])))
        self._socket.settimeout(HELD_SECONDS)
        self._writing = threading.Lock()
        self._ending = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"board-{topic.replace('/', '-')}")
        self._client.will_set(f"{topic}/state", "off 0", retain=True)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: (
            client.subscribe(f"{topic}/down"),
            client.publish(f"{topic}/state", f"on {most}", retain=True),
        )
        self._client.on_message = lambda client, data, message: self._to_board(self.down.suffer(message.payload))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self.start()

    def run(self) -> None:
        pending = b""
        while not self._ending:
            try:
                if not (data := self._socket.recv(4096)):
                    return
            except TimeoutError:
                data = b""
            *frames, pending = (pending + data).split(b"\0")
            answers = [answer for frame in frames for answer in self.up.suffer(frame + b"\0")]
            for answer in answers if data else self.up.release():
                self._client.publish(f"{self.topic}/up", answer)
            if not data:
                self._to_board(self.down.release())

    def _to_board(self, messages: list[bytes]) -> None:
        with self._writing:
            for message in messages:
                self._socket.sendall(message)

    def close(self, *, politely: bool = True) -> None:
        """Ends it; without politeness the broker tells its last will."""
        self._ending = True
        if politely:
            self._client.publish(f"{self.topic}/state", "off 0", retain=True).wait_for_publish(HUNG_SECONDS)
            self._client.disconnect()
        else:
            connection = self._client.socket()
            assert connection is not None
            self._client._reconnect_on_failure = False
            connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        self.join(HUNG_SECONDS)
        self._socket.close()
