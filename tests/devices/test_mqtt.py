"""Boards at a real MQTT broker: a run with bad messages, and a broker, a board, a user or a password that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from clocks import HUNG_SECONDS, LOOK_SECONDS, EventClock, FakeClock, SlowClock, wait_until
from mqtt_broker import BridgedBoard, Mosquitto, needs_broker
from paho.mqtt.enums import CallbackAPIVersion
from small_runs import needs_board, sine
from test_tls import Authority, needs_openssl

import tinymetafed as tmf
from tinymetafed.api.progress import ProgressEvent
from tinymetafed.devices.device_urls import DeviceUrlError, parse, require_secure
from tinymetafed.devices.found_boards import found_boards
from tinymetafed.devices.link import mqtt_line
from tinymetafed.devices.link.clock import SYSTEM_CLOCK, Clock
from tinymetafed.devices.link.link_errors import LinkError, PortError, PortHeld
from tinymetafed.devices.link.mqtt_line import BROKERS, PAUSE_SECONDS, Brokers
from tinymetafed.devices.link.transport import Transport, open_transport
from tinymetafed_codegen.errors import UsageError

BOARDS = 3
RATE = 0.05  # of the messages in each direction: so many are lost, doubled, and overtaken


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as started:
        yield started


# --- Runs ---


@needs_broker
@needs_board("native")
@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize("security", ["none", "authenticated"])
def test_bad_messages_and_a_broker_that_restarts_end_on_the_simulations_weights(
    broker: Mosquitto, security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYMETAFED_KEYS", str(tmp_path / "keys.toml"))
    secured = (f"run.security={security}", *(["board.store=true"] if security == "authenticated" else []))
    experiment = tmf.Experiment(sine("run.rounds=8", "evaluation.tasks=2", "evaluation.every=0", *secured), "sine")
    events: list[str] = []

    def watch(now: ProgressEvent) -> None:
        events.extend(filter(None, [now.event]))
        if (now.stage, now.done, now.note, now.event) == ("meta-training", 4, "", ""):
            broker.restart()

    with tmf.started(experiment, [f"native:{BOARDS}?line=tcp"], progress=False) as lines, ExitStack() as stack:
        bridges: list[BridgedBoard] = []
        for i, line in enumerate(lines.values()):
            bridges.append(BridgedBoard(line, broker, f"lab/{i}", rate=RATE, seed=10 * i))
            stack.callback(bridges[-1].close)
            if security == "authenticated":
                tmf.enroll(f"mqtt://127.0.0.1:{broker.port}/lab/{i}", f"board {i}", insecure=True)
        url, trusted = f"mqtt://127.0.0.1:{broker.port}/lab/+", security == "none"
        trained = tmf.train(experiment, [url], out=tmp_path / "run", insecure=trusted, progress=watch)
        for happened in ([bridge.down.happened for bridge in bridges], [bridge.up.happened for bridge in bridges]):
            assert all(sum(each[kind] for each in happened) > 0 for kind in ("lost", "doubled", "overtaken")), happened
    simulated = tmf.simulate(experiment, out=tmp_path / "simulated", progress=False)
    assert trained.weights_sha256 == simulated.weights_sha256
    assert any("the connection to the broker was lost" in event for event in events), events
    assert any("answers again" in event for event in events), events


@needs_broker
@needs_board("native")
@pytest.mark.usefixtures("built_once")
def test_a_run_whose_broker_stays_away_stops_and_is_continued_to_the_same_weights(broker: Mosquitto, tmp_path: Path) -> None:
    experiment = tmf.Experiment(sine("run.rounds=8", "evaluation.tasks=2", "evaluation.every=0"), "sine")

    def watch(now: ProgressEvent) -> None:
        if (now.stage, now.done, now.note, now.event) == ("meta-training", 4, "", ""):
            broker.stop()

    with tmf.started(experiment, ["native:1?line=tcp"], progress=False) as lines:
        board = BridgedBoard(*lines.values(), broker, "lab/a")
        url, out = f"mqtt://127.0.0.1:{broker.port}/lab/a", tmp_path / "run"
        with pytest.raises(LinkError, match=rf"no device is left: {url}: no broker listens there"):
            tmf.train(experiment, [url], out=out, insecure=True, progress=watch)
        broker.start()
        wait_until(lambda: is_reached(url))
        continued = tmf.resume(out, insecure=True, progress=False)
        board.close()
    assert continued.weights_sha256 == tmf.simulate(experiment, progress=False).weights_sha256


# --- What is at the broker ---


class Board:
    """A board's client at the broker that echoes what it is sent."""

    def __init__(self, broker: Mosquitto, topic: str, most: int = 100) -> None:
        self.topic = topic
        self.messages: list[bytes] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.will_set(f"{topic}/state", "off 0", retain=True)
        self._client.on_message = self._echo
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe(f"{topic}/down")
        self._client.publish(f"{topic}/state", f"on {most}", retain=True)
        self._client.loop_start()

    def _echo(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        self.messages.append(bytes(message.payload))
        client.publish(f"{self.topic}/up", message.payload)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish and wait until the broker has it: without its acknowledgement (QoS 1) a message may still be on its way."""
        self._client.publish(f"{self.topic}/{topic}", payload, qos=1, retain=retain).wait_for_publish(HUNG_SECONDS)

    def vanish(self) -> None:
        """Its power fails: the broker tells its last will."""
        connection = self._client.socket()
        assert connection is not None
        self._client.loop_stop()
        connection.close()


def opened(broker: Mosquitto, topic: str, options: str = "", clock: Clock | None = None) -> Transport:
    return open_transport(f"mqtt://127.0.0.1:{broker.port}/{topic}{options}", clock=clock or SlowClock())


def read(line: Transport, size: int) -> bytes:
    came = b""
    while len(came) < size:
        came += line.read(HUNG_SECONDS)
    return came


@needs_broker
def test_frames_go_in_messages_that_the_board_can_take_and_all_lines_share_a_connection(broker: Mosquitto) -> None:
    boards = [Board(broker, f"lab/{i}") for i in range(3)]
    data = bytes(range(256)) * 2
    with opened(broker, "lab/0") as line, opened(broker, "lab/1") as other:
        assert len(BROKERS._there) == 1
        line.write(data)
        assert read(line, len(data)) == data and other.read(0.0) == b""
        assert [len(message) for message in boards[0].messages] == [100] * 5 + [12]
        with pytest.raises(PortHeld, match="is open already"):
            opened(broker, "lab/0")
    assert not BROKERS._there
    boards[0].say("up", b"kept from another day", retain=True)
    with opened(broker, "lab/0") as line:  # the broker sends it first
        line.write(b"asked")
        assert line.read(HUNG_SECONDS) == b"asked"


@needs_broker
def test_a_board_that_floods_its_topic_fills_no_memory(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_line, "MOST_WAITING", 2000)
    board = Board(broker, "lab/a")
    with opened(broker, "lab/a") as line:
        for _ in range(50):
            board.say("up", bytes(100))
        line.write(b"end")
        wait_until(lambda: board.messages)
        wait_until(lambda: len(line._waiting) == 2000)  # type: ignore[attr-defined]
        assert len(line.read(HUNG_SECONDS)) == 2000


@needs_broker
def test_a_board_that_leaves_ends_its_line_and_can_be_opened_again_when_it_is_back(broker: Mosquitto) -> None:
    board = Board(broker, "lab/a")
    with opened(broker, "lab/a") as line:
        board.vanish()
        with pytest.raises(PortError, match=r"/lab/a: the board has left its broker; check its power and its network"):
            line.read(HUNG_SECONDS)
        with pytest.raises(PortError, match="has left its broker"):
            line.write(b"x")
    with pytest.raises(PortError, match="the board is not connected to its broker"):
        opened(broker, "lab/a", clock=SkippingClock(board="lab/a"))
    Board(broker, "lab/a")
    with opened(broker, "lab/a") as line:
        line.write(b"again")
        assert line.read(HUNG_SECONDS) == b"again"


def is_reached(url: str) -> bool:
    try:
        open_transport(url).close()
    except PortError:
        return False
    return True


class SkippingClock(FakeClock):
    """Stands still until the broker has answered and told what it keeps of certain topics; then the time is over.

    ``board``: the topic of a board that is opened, if the broker knows it; ``beside``: those of all boards below a topic.
    """

    def __init__(self, *, board: str = "", beside: Sequence[str] = ()) -> None:
        super().__init__()
        self._kept = {mqtt_line.BOARD_SECONDS: {board} - {""}, mqtt_line.GATHER_SECONDS: set(beside)}

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        told = {topic for broker in BROKERS._there.values() for topic in broker._announced}
        if seconds in self._kept and self._kept[seconds] <= told:
            super().wait(changed, seconds)
            return
        self.waits += 1
        assert self.waits < HUNG_SECONDS / LOOK_SECONDS, "hung: the broker has not told what the test waits for"
        changed.wait(LOOK_SECONDS)


@needs_broker
def test_a_wrong_topic_is_named_with_the_boards_beside_it(broker: Mosquitto) -> None:
    for name in ("hall", "kitchen"):
        Board(broker, f"lab/{name}")
    with pytest.raises(PortError, match=r"announced itself at the topic lab/kitchn; boards next to it: lab/hall, lab/kitchen"):
        opened(broker, "lab/kitchn", clock=SkippingClock(beside=["lab/hall", "lab/kitchen"]))


@needs_broker
def test_all_boards_below_a_topic(broker: Mosquitto) -> None:
    for name in ("hall", "kitchen"):
        Board(broker, f"lab/{name}")
    Board(broker, "lab/deeper/one").say("state", b"nonsense", retain=True)
    Board(broker, "lab/gone").vanish()
    place, events = f"mqtt://127.0.0.1:{broker.port}", []
    wait_until(lambda: b"off 0" in kept(broker, "lab/gone/state"))
    specs = parse([f"{place}/lab/kitchen", f"{place}/lab/+@esp32dev", "native:1"])
    found = found_boards(specs, SkippingClock(beside=["lab/hall", "lab/kitchen", "lab/gone"]), events.append)
    assert [(spec.url, spec.declared) for spec in found] == [
        (f"{place}/lab/kitchen", None), (f"{place}/lab/hall", "esp32dev"), ("native:1", None),
    ]  # fmt: skip
    assert events == [f"{place}/lab/gone: is not connected to the broker, so the run continues without it"]
    with pytest.raises(PortError, match=r"/attic/\+: no board is connected to the broker below this topic; switch"):
        found_boards(parse([f"{place}/attic/+"]), SkippingClock())
    with pytest.raises(UsageError, match="means all boards below a topic"):
        tmf.board_status(f"{place}/lab/+", insecure=True)


STRAY = ("lab/" + "x" * 66, "lab/a?b", "lab/a?ca=theirs.pem", "lab/k\u00fcche", "lab/\x1b[2J", "lab/")


def test_topics_where_no_board_can_be_are_left_out_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    announced, events = {"lab/a": True, **dict.fromkeys(STRAY, True), "lab/\x1b[2K": False}, list[str]()
    monkeypatch.setattr(mqtt_line, "boards_below", lambda search, clock: announced)
    search = parse(["mqtts://host/lab/+?ca=ours.pem"])
    (found,) = found_boards(search, SYSTEM_CLOCK, events.append)
    assert found.url == "mqtts://host:8883/lab/a?ca=ours.pem" and found.found
    (said,) = events
    assert said.startswith("mqtts://host:8883/lab/+: ") and "'lab/a?b'" in said and " and 4 more;" in said
    announced = dict.fromkeys(["lab/\x1b[2J"], True)
    with pytest.raises(PortError, match="no board is connected to the broker below this topic; switch"):
        found_boards(search, SYSTEM_CLOCK, events.append)
    assert r"'lab/\x1b[2J'" in events[-1] and all(event.isprintable() for event in events)


def kept(broker: Mosquitto, topic: str) -> list[bytes]:
    """The message that the broker keeps at a topic."""
    found: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda client, data, message: found.append(bytes(message.payload))
    client.connect("127.0.0.1", broker.port)
    client.subscribe(topic)
    client.loop_start()
    wait_until(lambda: found)
    client.disconnect()
    client.loop_stop()
    return found


# --- Who may use it ---


@needs_broker
def test_user_and_password_are_the_environments_or_a_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("host:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, timeout=HUNG_SECONDS)
    with Mosquitto(tmp_path, f"password_file {passwords}", "allow_anonymous false") as broker:
        refused = "the broker refuses this host"
        with pytest.raises(PortError, match=refused):
            opened(broker, "lab/a")
        monkeypatch.setenv("TINYMETAFED_MQTT_USER", "host")
        monkeypatch.setenv("TINYMETAFED_MQTT_PASSWORD", "wrong")
        monkeypatch.setattr(mqtt_line, "BROKERS", Brokers())  # which has not been refused yet
        with pytest.raises(PortError, match=refused) as found:
            opened(broker, "lab/a")
        assert "wrong" not in str(found.value)
        login = tmp_path / "login"
        login.write_text("host\nsecret\n")
        with pytest.raises(PortError, match=r"others may read it; `chmod 600"):
            opened(broker, "lab/a", f"?login={login}")
        login.chmod(0o600)
        with pytest.raises(PortError, match="no board has announced itself"):  # which only a client of the broker knows
            opened(broker, "lab/a", f"?login={login}", clock=SkippingClock())


@needs_broker
@needs_openssl
def test_a_broker_over_tls_is_verified(broker: Mosquitto, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("ours", "theirs", "broker")]
    for folder in folders:
        folder.mkdir()
    ours, theirs = (Authority(folder, folder.name).make() for folder in folders[:2])
    ours.sign("broker")
    files = (f"certfile {ours.folder / 'broker.crt'}", f"keyfile {ours.folder / 'broker.key'}", "allow_anonymous true")
    with Mosquitto(folders[2], *files) as secured:
        place = f"mqtts://localhost:{secured.port}"
        with pytest.raises(PortError, match="no board has announced itself"):  # which only a client of the broker knows
            open_transport(f"{place}/lab/a?ca={ours.file}", clock=SkippingClock())
        with pytest.raises(PortError, match=rf"^{place}/lab/a: its certificate is .*theirs.pem does not know"):
            open_transport(f"{place}/lab/a?ca={theirs.file}")
        with pytest.raises(PortError, match=r"ca=nowhere.pem: cannot be read"):
            open_transport(f"{place}/lab/a?ca=nowhere.pem")
    with pytest.raises(PortError, match=rf"^mqtts://localhost:{broker.port}/lab/a: "):
        open_transport(f"mqtts://localhost:{broker.port}/lab/a?ca={ours.file}")


def test_a_broker_that_is_not_there_is_named_and_asked_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tries: list[float] = []
    clock = FakeClock()
    connect = paho.Client.connect

    def counted(client: paho.Client, *where: object, **how: object) -> object:
        tries.append(clock.now)
        return connect(client, *where, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(paho.Client, "connect", counted)
    while clock.now < 120.0:
        with pytest.raises(PortError, match=rf"^mqtt://127.0.0.1:{port}/lab/a: no broker listens there; start it"):
            open_transport(f"mqtt://127.0.0.1:{port}/lab/a", clock=clock)
        clock.now += 0.05
    pauses = [later - sooner for sooner, later in pairwise(tries)]
    assert [round(pause, 1) for pause in pauses[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert all(PAUSE_SECONDS[1] - 0.01 < pause < PAUSE_SECONDS[1] + 0.1 for pause in pauses[4:]) and len(pauses) > 10


def test_a_server_that_is_no_broker_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        accepted = threading.Event()
        clock = EventClock(accepted.is_set)

        def hang_up() -> None:
            server.accept()[0].close()
            accepted.set()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(PortError, match=rf"^mqtt://127.0.0.1:{port}/lab/a: .*is it an MQTT broker"):
            open_transport(f"mqtt://127.0.0.1:{port}/lab/a", clock=clock)


# --- URLs ---


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mqtt://host", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host/", "expected mqtt://HOST/TOPIC"),
        ("mqtt:///lab/a", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host:port/lab", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host/lab/a?", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host/lab/a?user=me", "expected mqtt://HOST/TOPIC"),
        ("mqtt://me:secret@host/lab/a", "a user or password in a URL is seen by everybody on this machine"),
        ("mqtt://host/+", "is not a topic of boards"),
        ("mqtt://host/+/a", "is not a topic of boards"),
        ("mqtt://host/lab/a+", "is not a topic of boards"),
        ("mqtt://host/lab//a", "is not a topic of boards"),
        (f"mqtt://host/{'a' * 65}", "the topic has 65 characters, expected up to 64"),
        ("mqtt://host/lab/a?ca=x.pem", "ca=, cert= and key= are for mqtts://"),
        ("mqtts://host/lab/a?key=x.pem", "name its file too"),
        ("mqtt://host/lab/a@esp32dvv", "no board 'esp32dvv'; did you mean 'esp32dev'?"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, why: str) -> None:
    with pytest.raises(DeviceUrlError) as refused:
        parse([url])
    assert why in str(refused.value)


def test_options_come_behind_the_board() -> None:
    (spec,) = parse(["mqtts://host/lab/a@esp32dev?ca=a b.pem&login=x"])
    assert (spec.url, spec.declared, spec.is_search) == ("mqtts://host/lab/a?ca=a b.pem&login=x", "esp32dev", False)


@pytest.mark.parametrize("url", ["mqtt://host/lab/a", "mqtts://host/lab/a?ca=x", "mqtt://localhost/lab/+", "MQTT://host/lab/a"])
def test_boards_at_a_broker_must_be_authenticated(url: str) -> None:
    with pytest.raises(DeviceUrlError, match="everybody who may use the broker could answer in place of a board"):
        require_secure([url], "none", insecure=False)
    require_secure([url], "none", insecure=True)
    require_secure([url], "authenticated", insecure=False)


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinymetafed.devices.link.mqtt_line", None)
    with pytest.raises(LinkError, match=r"needs the library paho-mqtt; `pip install 'tinymetafed\[mqtt\]'`"):
        open_transport("mqtt://host/lab/a")
    with pytest.raises(LinkError, match="needs the library paho-mqtt"):
        found_boards(parse(["mqtt://host/lab/+"]), SYSTEM_CLOCK)
