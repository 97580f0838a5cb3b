"""An ESP32's firmware for a network, run on this machine: over TCP, and at a real MQTT broker; only the chip is a stand-in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS, wait_until
from mqtt_broker import Mosquitto, needs_broker
from sketches import FLAGS, run, write_library
from small_runs import Quiet, sine

import tinymetafed as tmf
from tinymetafed.devices.link.link_errors import LinkError, PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards, network_header
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import NETWORK_VARIABLE, compiler_flags

HERE = Path(__file__).parent
EXPERIMENT = sine("run.rounds=4", "evaluation.tasks=2", "evaluation.every=0")
WIFI = '#define TMF_WIFI_NAME "lab"\n#define TMF_WIFI_PASSWORD "of the lab"\n'
NUMBER = 'static_cast<uint16_t>(atoi(getenv("TEST_PORT")))'
NETWORKS = {
    "tcp": f"{WIFI}#define TMF_TCP_PORT {NUMBER}\n",
    "mqtt": f'{WIFI}#define TMF_MQTT_HOST "127.0.0.1"\n#define TMF_MQTT_PORT {NUMBER}\n#define TMF_MQTT_TOPIC "lab/esp"\n',
}


def build(folder: Path, network: str) -> Path:
    """The firmware of the board esp32dev as a process of this machine."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    board = boards.load("esp32dev")
    made = design(EXPERIMENT, board, "test")
    emit.write(made, folder, "pytest")
    (folder / network_header.HEADER).write_text(network)
    firmware = find("firmware")
    files = [*sorted((firmware / "core").glob("*.cpp"))]
    files += [path for port in board.ports for path in sorted(board.port_folder(port).glob("*.cpp"))]
    files += [
        firmware / "app" / "sketch.cpp",
        firmware / "app" / f"source_{made.manifest.sample_source}.cpp",
        HERE / "core.cpp",
    ]
    folders = (folder, firmware / "core", firmware / "app", firmware / "port" / "arduino", HERE / "esp32dev", HERE / "network")
    includes = [f"-I{path}" for path in folders]
    command = ["g++", "-O0", *compiler_flags(), *includes, *map(str, files), "-pthread", "-o", str(folder / "firmware")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "firmware"


@contextmanager
def running(program: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "TEST_PORT": str(port)}
    with subprocess.Popen([program], stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith(b"pty ")  # set up
            yield process
        finally:
            process.kill()
            process.wait(HUNG_SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def train(url: str, out: Path) -> str:
    setup = set_up(EXPERIMENT, str(HERE / "experiment.toml"), None)
    return training.train(setup, [url], ["native:1"], out, Quiet()).weights_sha256


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the weights of a native process."""
    return train("native:1", tmp_path_factory.mktemp("reference") / "run")


@pytest.mark.usefixtures("patient")
def test_a_board_on_tcp_trains_to_the_same_weights_and_takes_the_host_that_came_last(reference: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"socket://127.0.0.1:{port}"
    with running(build(tmp_path, NETWORKS["tcp"]), port), open_transport(url) as vanished:
        Session(vanished).hello(HUNG_SECONDS)  # and never says that it has gone
        assert train(f"{url}@esp32dev", tmp_path / "run") == reference
        with pytest.raises(LinkError, match="the line went away"):
            Session(vanished).hello(HUNG_SECONDS)


@pytest.fixture(scope="module")
def at_broker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("mqtt"), NETWORKS["mqtt"])


@needs_broker
@pytest.mark.usefixtures("patient")
def test_a_board_at_a_broker_trains_to_the_same_weights_and_comes_back_after_it(
    at_broker: Path, reference: str, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path) as broker, running(at_broker, broker.port):
        url = f"mqtt://127.0.0.1:{broker.port}/lab/esp"
        wait_until(lambda: answers(url))
        assert train(f"{url}@esp32dev", tmp_path / "run") == reference
        broker.restart()
        wait_until(lambda: answers(url))


@needs_broker
def test_the_broker_says_that_a_board_is_gone(at_broker: Path, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}/lab/esp"
        with running(at_broker, broker.port):
            wait_until(lambda: answers(url))
            line = open_transport(url)
        with line, pytest.raises(PortError, match="the board has left its broker"):
            line.read(HUNG_SECONDS)


def answers(url: str) -> bool:
    try:
        with open_transport(url) as transport:
            return Session(transport).hello(5.0).board.rstrip(b"\0") == b"esp32dev"
    except LinkError:
        return False


SKETCH = """#include <tinymetafed.h>
#include <tinymetafed/port/arduino/mqtt_line.hpp>
#include <tinymetafed/port/arduino/tcp_line.hpp>
#include <WiFi.h>
WiFiClient connection;
PubSubClient client(connection);
tmf::MqttLine line(client, "lab/kitchen", "user", "password");
WiFiServer server(4242);
tmf::TcpLine<WiFiServer, WiFiClient> other(server);
void setup() {
  client.setServer("broker", 1883);
  if (line.begin("kitchen")) tmf::begin(line);
}
void loop() { tmf::poll(); }
"""


def test_a_sketch_of_ones_own_has_both_lines(tmp_path: Path) -> None:
    """In the older language that some cores compile sketches in; the stand-in's own headers need a newer one."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    library = write_library(tmf.Experiment(EXPERIMENT, str(HERE / "experiment.toml")), "esp32dev", tmp_path / "library")
    (tmp_path / "sketch.cpp").write_text(SKETCH)
    includes = [f"-I{library / 'src'}", f"-isystem{HERE / 'esp32dev'}", f"-isystem{HERE / 'network'}", "-include", "Arduino.h"]
    run(["g++", "-std=gnu++11", *FLAGS, *includes, "-fsyntax-only", str(tmp_path / "sketch.cpp")])


@pytest.mark.parametrize("name", ["tcp", "mqtts"])
def test_the_port_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    """Also where the broker is asked over TLS, which has no stand-in that runs."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    emit.write(design(EXPERIMENT, boards.load("esp32dev"), "test"), tmp_path, "pytest")
    (tmp_path / network_header.HEADER).write_text(f'#include "{HERE}/network/wifi_{name}.hpp"\n')
    firmware = find("firmware")
    includes = [f"-I{path}" for path in (tmp_path, firmware / "core", HERE / "esp32dev", HERE / "network")]
    files = [firmware / "port" / "esp32dev" / f"{source}.cpp" for source in ("port", "network", "entropy")]
    run(["g++", *compiler_flags(), "-fsyntax-only", *includes, *map(str, files)])


JOINS = """#include <cstdio>
#include <board.hpp>
#include <WiFiClientSecure.h>
#include "network.hpp"
#include "port.hpp"
unsigned long millis() { return 0; }
unsigned long micros() { return 0; }
size_t Print::write(const uint8_t*, size_t size) { return size; }
namespace tmf::port {
void unique_id(uint8_t (&)[8]) {}
void use(Stream&) {}
}  // namespace tmf::port
int main() {
  tmf::port::join_network();
  printf("%lu %u", WiFiClientSecure::handshake_seconds, static_cast<unsigned>(tmf::board::kWatchdogSeconds));
}
"""


def test_a_broker_that_never_begins_tls_stops_the_board_for_less_than_its_watchdog_waits(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    emit.write(design(EXPERIMENT, boards.load("esp32dev"), "test"), tmp_path, "pytest")
    (tmp_path / network_header.HEADER).write_text(f'#include "{HERE}/network/wifi_mqtts.hpp"\n')
    (tmp_path / "joins.cpp").write_text(JOINS)
    firmware, port = find("firmware"), find("firmware") / "port" / "esp32dev"
    includes = [f"-I{path}" for path in (tmp_path, firmware / "core", port, HERE / "esp32dev", HERE / "network")]
    program = tmp_path / "joins"
    run(
        ["g++", "-O0", *compiler_flags(), *includes, str(tmp_path / "joins.cpp"), str(port / "network.cpp"), "-o", str(program)]
    )
    handshake, watchdog = map(int, subprocess.run([program], capture_output=True, check=True).stdout.split())
    others = (
        15 + 30 + 5
    )  # for arduino-esp32 to look the name up and to connect, and for the broker's answer, as the document says
    assert 0 < handshake < watchdog - others


def test_the_workflow_builds_the_same_headers() -> None:
    workflow = (HERE.parents[1] / ".github" / "workflows" / "ci.yml").read_text()
    assert "header: [wifi_tcp, wifi_mqtts]" in workflow and "/tests/arduino/network/${{ matrix.header }}.hpp" in workflow
    assert "[env:esp32dev-network]\n" in find("boards/environments.ini").read_text()


def test_the_users_header_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    esp32, native = boards.load("esp32dev"), boards.load("native")
    monkeypatch.delenv(NETWORK_VARIABLE, raising=False)
    assert network_header.text(esp32) is None
    monkeypatch.setenv(NETWORK_VARIABLE, str(tmp_path / "mine.hpp"))
    with pytest.raises(network_header.NetworkError, match=r"mine.hpp: no such file; it names the header"):
        network_header.text(esp32)
    (tmp_path / "mine.hpp").touch()
    assert network_header.text(esp32) == f'#include "{tmp_path}/mine.hpp"\n' and network_header.text(native) is None
    with pytest.raises(network_header.NetworkError, match="the port of nano33ble has no network; unset it"):
        network_header.text(boards.load("nano33ble"))
