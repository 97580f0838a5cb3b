"""Addresses of boards at an MQTT broker: URLs such as mqtt://HOST/TOPIC, a board's topics, and how it announces itself."""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from .network_url import NetworkUrl
from .tls import TlsAddress

SCHEMES = {"mqtt": 1883, "mqtts": 8883}  # and their usual ports
USER, PASSWORD = "TINYMETAFED_MQTT_USER", "TINYMETAFED_MQTT_PASSWORD"  # environment variables
ANY = "+"  # MQTT's wildcard of one level: all boards below a topic
LONGEST_TOPIC = 64  # characters of a board's topic, for which its firmware has room
_EXPECTED = (
    "expected mqtt://HOST/TOPIC, or mqtts:// with ?ca=FILE, cert=FILE and key=FILE behind it, joined by &; TOPIC/+ means all "
    "boards below TOPIC, ?login=FILE a user and a password"
)
_ANNOUNCEMENT = re.compile(rb"(on|off) (\d{1,5})")


class MqttError(Exception):
    """An address that cannot be used; the text says what is wrong and what to do, without the URL."""


@dataclass(frozen=True)
class BrokerAddress:
    """A broker, and as whom it is asked: ``login`` is a file with a user and a password; None for the environment's, if any."""

    host: str
    port: int
    tls: TlsAddress | None = None
    login: Path | None = None

    @property
    def url(self) -> str:
        """The URL, without options."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{host}:{self.port}"

    def credentials(self) -> tuple[str, str] | None:
        """User and password; None for neither. Raises MqttError if the file cannot be used or others may read it."""
        if self.login is None:
            user = os.environ.get(USER)
            return None if not user else (user, os.environ.get(PASSWORD, ""))
        try:
            with self.login.open(encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not text"
            raise MqttError(f"login={self.login}: cannot be read ({why}); expected two lines, user and password") from None
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
            raise MqttError(f"login={self.login}: others may read it; `chmod 600 {self.login}`")
        if len(lines) != 2 or not lines[0]:
            raise MqttError(f"login={self.login}: expected two lines, user and password")
        return lines[0], lines[1]


@dataclass(frozen=True)
class MqttAddress:
    """A parsed mqtt:// or mqtts:// URL.

    Attributes:
        broker: The broker.
        topic: The board's topic, below which it has three of its own; its last level may be ANY.
        options: The URL from its ``?`` on, "" without options.
    """

    schemes: ClassVar[tuple[str, ...]] = tuple(SCHEMES)
    broker: BrokerAddress
    topic: str
    options: str = ""

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """Parses a URL. Raises MqttError, which says what was expected."""
        try:
            parts = NetworkUrl.parse(url, (*TlsAddress.options, "login"))
        except ValueError:
            raise MqttError(_EXPECTED) from None
        files = parts.files
        if parts.user is not None:
            raise MqttError(
                f"a user or password in a URL is seen by everybody on this machine; set {USER} and {PASSWORD}, or give "
                "?login=FILE, a file with two lines"
            )
        topic = parts.path.strip("/")
        if parts.scheme not in SCHEMES or not parts.host or not topic or parts.has_fragment:
            raise MqttError(_EXPECTED)
        *above, last = topic.split("/")
        if "" in above or ANY in "".join(above) or "#" in topic or (ANY in last and (last != ANY or not above)):
            raise MqttError(f"'{topic}' is not a topic of boards; {ANY} may be its last level only, and # nowhere")
        if len(topic) > LONGEST_TOPIC or not topic.isprintable() or not topic.isascii():
            raise MqttError(f"the topic has {len(topic)} characters, expected up to {LONGEST_TOPIC} of ASCII")
        if "key" in files and "cert" not in files:
            raise MqttError("key= is the private key of a client certificate; name its file too, cert=FILE&key=FILE")
        secured = parts.scheme == "mqtts"
        if files.keys() - {"login"} and not secured:
            raise MqttError("ca=, cert= and key= are for mqtts://")
        host, port = parts.host, parts.port or SCHEMES[parts.scheme]
        tls = TlsAddress(host, port, files.get("ca"), files.get("cert"), files.get("key")) if secured else None
        return cls(BrokerAddress(host, port, tls, files.get("login")), topic, parts.options)

    @property
    def is_search(self) -> bool:
        """Whether it means all boards below a topic."""
        return self.topic.endswith(f"/{ANY}")

    def at(self, topic: str) -> MqttAddress:
        """The same broker, another board."""
        return replace(self, topic=topic)

    def is_board(self, topic: str) -> bool:
        """Whether a board can be at a topic: others may write to the broker's topics what they like."""
        board = self.at(topic)
        try:
            return not board.is_search and MqttAddress.parse(board.url) == board
        except MqttError:
            return False

    @property
    def url(self) -> str:
        """A URL that parses to this address."""
        return f"{self.broker.url}/{self.topic}{self.options}"

    @property
    def down(self) -> str:
        """The topic of frames to the board."""
        return f"{self.topic}/down"

    @property
    def up(self) -> str:
        """The topic of frames from the board."""
        return f"{self.topic}/up"

    @property
    def state(self) -> str:
        """The topic at which the broker keeps whether the board is there."""
        return f"{self.topic}/state"


@dataclass(frozen=True)
class Announcement:
    """What a board, or the broker in its place, says at its topic of state: ``on 1024`` or ``off 0``.

    Attributes:
        there: Whether the board is connected to the broker.
        most: Bytes of payload that the board takes in one message.
    """

    there: bool
    most: int

    @classmethod
    def parse(cls, payload: bytes) -> Announcement | None:
        """The announcement in a message's payload; None if it is none."""
        match = _ANNOUNCEMENT.fullmatch(payload)
        if match is None:
            return None
        there, most = match[1] == b"on", int(match[2])
        return None if there and most == 0 else cls(there, most)


def is_mqtt(url: str) -> bool:
    """Whether a URL is that of a board at a broker."""
    scheme, has_host, _ = url.partition("://")
    return bool(has_host) and scheme.lower() in SCHEMES
