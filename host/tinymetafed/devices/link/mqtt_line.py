"""Lines to boards at an MQTT broker; all lines to one broker share a connection."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from .clock import Clock
from .link_errors import PortError, PortHeld
from .mqtt_address import ANY, PASSWORD, USER, Announcement, BrokerAddress, MqttAddress, MqttError
from .tls import CONNECT_SECONDS, TlsError, context_of, explain

QOS = 0  # exchanges repeat what is lost, so an acknowledgement of each message would only add messages
KEEP_ALIVE_SECONDS = 15  # a broker that has not answered for so long is gone
BOARD_SECONDS = 2.0  # for a board to connect again, after the host has
GATHER_SECONDS = 1.0  # for a broker to name its boards
PAUSE_SECONDS = (0.1, 1.0)  # first and longest pause between two tries of all boards to reach a broker; it doubles each time
MOST_WAITING = 1 << 20  # bytes that a line keeps unread; more is dropped, so that no board fills this machine's memory


class Broker:
    """A connection to a broker. Its network thread is paho's; ``ended`` says why it is over, "" while it is not."""

    def __init__(
        self, address: BrokerAddress, login: tuple[str, str] | None, context: ssl.SSLContext | None, clock: Clock
    ) -> None:
        """Connects.

        Args:
            address: The broker.
            login: User and password, None for neither.
            context: What the connection verifies, None without TLS.
            clock: Clock to measure time with.

        Raises:
            PortError: It cannot be reached, or refuses this host.
        """
        self.users = 0
        self.ended = ""
        self._address = address
        self._clock = clock
        self._changed = threading.Condition()
        self._accepted: ReasonCode | None = None
        self._subscribed: dict[int, list[ReasonCode]] = {}  # answers to subscriptions, by number
        self._announced: dict[str, Announcement] = {}  # by the board's topic
        self._lines: dict[str, MqttLine] = {}
        # A fresh name: a broker ends the connection of whoever had the same one.
        name = f"tinymetafed-{os.getpid()}-{secrets.token_hex(4)}"
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, reconnect_on_failure=False)
        self._client.connect_timeout = CONNECT_SECONDS
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        try:
            if login is not None:
                self._client.username_pw_set(*login)
            if context is not None:
                self._client.tls_set_context(context)
            self._client.connect(address.host, address.port, KEEP_ALIVE_SECONDS)
        except (OSError, ValueError) as error:
            raise PortError(address.url, _why_not(error, address)) from error
        self._client.loop_start()
        try:
            self._require_accepted()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def open(self, address: MqttAddress, name: str, baud: int) -> MqttLine:
        """The line to a board, once it is there. Raises PortError if it is not within BOARD_SECONDS."""
        line = MqttLine(self, address, name, baud, self._clock)
        with self._changed:
            if address.topic in self._lines:
                raise PortHeld(name, "is open already, by this program")
            self._announced.pop(address.topic, None)
            self._lines[address.topic] = line
        try:
            self._subscribe(address.state, address.up)
            line.most = self._await_board(address, name)
        except BaseException:
            self.leave(address)
            raise
        return line

    def leave(self, address: MqttAddress) -> None:
        """Takes no more messages from a board."""
        with self._changed:
            del self._lines[address.topic]
        self._client.unsubscribe([address.state, address.up])

    def publish(self, topic: str, payload: bytes) -> None:
        """Sends one message; after the end of the connection nothing."""
        self._client.publish(topic, payload, QOS)

    def boards(self, search: MqttAddress) -> dict[str, bool]:
        """The boards below a topic, and whether each is connected to the broker.

        Args:
            search: An address whose last level is ANY.

        Returns:
            Whether it is connected, by the board's topic, sorted.
        """
        self._subscribe(search.state)
        self._wait(lambda: False, GATHER_SECONDS)
        self._client.unsubscribe(search.state)
        above = search.topic.removesuffix(ANY)
        with self._changed:
            found = {topic: said.there for topic, said in self._announced.items() if topic.startswith(above)}
        return dict(sorted((topic, there) for topic, there in found.items() if "/" not in topic.removeprefix(above)))

    # --- Waiting for the network thread ---

    def _wait(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Whether ``happened()`` within so many seconds, and before the connection has ended."""
        until = self._clock.monotonic() + seconds
        with self._changed:
            while not happened():
                left = until - self._clock.monotonic()
                if left <= 0 or self.ended:
                    return False
                self._clock.wait(self._changed, left)
        return True

    def _require_accepted(self) -> None:
        self._wait(lambda: self._accepted is not None, CONNECT_SECONDS)
        reason = self._accepted
        if reason is None:
            how = "hung up" if self.ended else f"has not answered within {CONNECT_SECONDS:g} s"
            raise PortError(self._address.url, f"{how}; is it an MQTT broker, and of MQTT 3.1.1?")
        if reason.is_failure:
            raise PortError(
                self._address.url,
                f"the broker refuses this host ({reason}); set {USER} and {PASSWORD}, or give ?login=FILE, and look into the "
                "broker's log",
            )

    def _subscribe(self, *topics: str) -> None:
        """Subscribes, after which the broker sends what it keeps there. Raises PortError if it refuses."""
        _, number = self._client.subscribe([(topic, QOS) for topic in topics])
        if number is None or not self._wait(lambda: number in self._subscribed, CONNECT_SECONDS):
            raise PortError(self._address.url, self.ended or f"has not answered within {CONNECT_SECONDS:g} s")
        for topic, reason in zip(topics, self._subscribed.pop(number), strict=True):
            if reason.is_failure:
                raise PortError(self._address.url, f"the broker does not let this user read {topic}; allow it there")

    def _await_board(self, address: MqttAddress, name: str) -> int:
        """Bytes that the board takes in one message."""

        def is_there() -> bool:
            said = self._announced.get(address.topic)
            return said is not None and said.there

        if self._wait(is_there, BOARD_SECONDS):
            return self._announced[address.topic].most
        if self.ended:
            raise PortError(name, self.ended)
        if address.topic in self._announced:
            raise PortError(name, "the board is not connected to its broker; check its power and its network")
        above = address.topic.rpartition("/")[0]
        others = self.boards(address.at(f"{above}/{ANY}")) if above else {}
        if others.get(address.topic):  # it has come meanwhile
            return self._announced[address.topic].most
        beside = ", ".join(topic for topic, there in others.items() if there and address.is_board(topic)) or "none"
        raise PortError(
            name, f"no board has announced itself at the topic {address.topic}; boards next to it: {beside}; check the topic"
        )

    # --- In the network thread ---

    def _on_connect(self, client: paho.Client, data: object, flags: object, reason: ReasonCode, properties: object) -> None:
        with self._changed:
            self._accepted = reason
            self._changed.notify_all()

    def _on_disconnect(self, client: paho.Client, data: object, flags: object, reason: ReasonCode, properties: object) -> None:
        with self._changed:
            self.ended = f"the connection to the broker was lost ({reason}); it is tried again; see whether the broker runs"
            lines = list(self._lines.values())
            self._changed.notify_all()
        for line in lines:
            line.fail(self.ended)

    def _on_subscribe(
        self, client: paho.Client, data: object, number: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        with self._changed:
            self._subscribed[number] = reasons
            self._changed.notify_all()

    def _on_message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        topic, _, kind = message.topic.rpartition("/")
        with self._changed:
            line = self._lines.get(topic)
            said = Announcement.parse(bytes(message.payload)) if kind == "state" else None
            if said is not None:
                self._announced[topic] = said
                self._changed.notify_all()
        if line is None:
            return
        if kind == "up" and not message.retain:  # a kept one is nobody's answer
            line.receive(bytes(message.payload))
        elif said is not None and not said.there and not message.retain:
            line.fail("the board has left its broker; check its power and its network")


class MqttLine:
    """An open line to a board at a broker. A message has a whole frame, or a part of one that is too long for the board."""

    def __init__(self, broker: Broker, address: MqttAddress, name: str, baud: int, clock: Clock) -> None:
        self.name = name
        self.baud = baud
        self.most = 1  # bytes of a message to the board
        self._broker = broker
        self._address = address
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._failure = ""
        self._closed = False

    def read(self, timeout: float) -> bytes:
        """See Transport."""
        with self._changed:
            if not self._waiting:
                self._check()
                self._clock.wait(self._changed, max(timeout, 0.0))
            if not self._waiting:
                self._check()
            data = bytes(self._waiting)
            self._waiting.clear()
        return data

    def write(self, data: bytes) -> None:
        """See Transport."""
        with self._changed:
            self._check()
        for at in range(0, len(data), self.most):
            self._broker.publish(self._address.down, data[at : at + self.most])

    def close(self) -> None:
        """See Transport."""
        if not self._closed:
            self._closed = True
            self.fail("is closed")
            self._broker.leave(self._address)
            BROKERS.release(self._broker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def receive(self, data: bytes) -> None:
        """Takes the bytes of a message, unless too many are unread."""
        with self._changed:
            if len(self._waiting) + len(data) <= MOST_WAITING:
                self._waiting += data
                self._changed.notify_all()

    def fail(self, why: str) -> None:
        """Ends the line: reading raises this error once all bytes have been read."""
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()

    def _check(self) -> None:
        if self._failure:
            raise PortError(self.name, self._failure)


@dataclass
class _Absence:
    """A broker that could not be reached: ``text`` says why, and until ``until`` nobody tries again."""

    text: str
    pause: float
    until: float


class Brokers:
    """The connections of this process, one per broker; each ends with its last line.

    A broker that cannot be reached is asked ever more rarely.
    """

    def __init__(self) -> None:
        """No connection yet."""
        self._there: dict[BrokerAddress, Broker] = {}
        self._absent: dict[BrokerAddress, _Absence] = {}
        self._lock = threading.Lock()

    def join(self, address: BrokerAddress, clock: Clock) -> Broker:
        """The connection to a broker; ``release`` it in the end. Raises PortError."""
        with self._lock:  # the others wait for the one that connects
            broker = self._there.get(address)
            if broker is None or broker.ended:
                broker = self._there[address] = self._connect(address, clock)
            broker.users += 1
            return broker

    def release(self, broker: Broker) -> None:
        """Ends the connection if nobody else has it."""
        with self._lock:
            broker.users -= 1
            if broker.users > 0:
                return
            self._there = {address: other for address, other in self._there.items() if other is not broker}
        broker.close()

    def _connect(self, address: BrokerAddress, clock: Clock) -> Broker:
        try:  # files of this machine, which may be right at the next try
            login, context = address.credentials(), None if address.tls is None else context_of(address.tls)
        except (MqttError, TlsError) as error:
            raise PortError(address.url, str(error)) from error
        absence = self._absent.get(address)
        if absence is not None and clock.monotonic() < absence.until:
            raise PortError(address.url, absence.text)
        try:
            broker = Broker(address, login, context, clock)
        except PortError as error:
            pause = PAUSE_SECONDS[0] if absence is None else min(2 * absence.pause, PAUSE_SECONDS[1])
            self._absent[address] = _Absence(error.text, pause, clock.monotonic() + pause)
            raise
        self._absent.pop(address, None)
        return broker


BROKERS = Brokers()


def open_line(address: MqttAddress, name: str, baud: int, clock: Clock) -> MqttLine:
    """Opens the line to a board. Raises PortError, which names the board or the broker."""
    try:
        broker = BROKERS.join(address.broker, clock)
    except PortError as error:
        raise PortError(name, error.text) from error
    try:
        return broker.open(address, name, baud)
    except BaseException:
        BROKERS.release(broker)
        raise


def boards_below(search: MqttAddress, clock: Clock) -> dict[str, bool]:
    """See ``Broker.boards``. Raises PortError."""
    broker = BROKERS.join(search.broker, clock)
    try:
        return broker.boards(search)
    finally:
        BROKERS.release(broker)


def _send_at_once(client: paho.Client, data: object, connection: Any) -> None:
    """Each message is sent when it is written, not gathered with others."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(error: Exception, address: BrokerAddress) -> str:
    """Why a broker cannot be reached, and what to do."""
    if isinstance(error, ssl.SSLError) and address.tls is not None:
        return explain(error, address.tls)
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "no broker listens there; start it, or check host and port"
    if isinstance(error, OSError):
        return f"the broker cannot be reached ({error}); check host, port and network"
    return str(error)
