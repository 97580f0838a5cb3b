"""Lines over TLS: a native board behind a local TLS server, certificates that are refused, and lines that are not secured."""

from __future__ import annotations

import inspect
import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from allocations import most_allocated
from clocks import HUNG_SECONDS, LOOK_SECONDS
from small_runs import sine

import tinymetafed as tmf
from tinymetafed.devices.device_urls import DeviceSpec, DeviceUrlError, parse, require_secure
from tinymetafed.devices.link.clock import SystemClock
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.tls import TlsAddress, TlsError
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed: no certificates here")


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=HUNG_SECONDS)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test, in a folder."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def make(self) -> Authority:
        key = self.folder / f"{self.name}.key"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-x509", "-new", "-key", key, "-subj", f"/CN={self.name}", "-days", "30000", "-out", self.file)
        return self

    def sign(self, name: str, host: str = "DNS:localhost,IP:127.0.0.1", days: int = 30000) -> Path:
        """A certificate for ``host`` and its key in one file; ``days`` below 0: it has expired."""
        key, asked, signed, extra = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "crt", "ext"))
        extra.write_text(f"subjectAltName={host}\n")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", asked)
        by = ("-CA", self.file, "-CAkey", self.folder / f"{self.name}.key", "-set_serial", "7")
        openssl("x509", "-req", "-in", asked, *by, "-days", str(days), "-extfile", extra, "-out", signed)
        both = self.folder / f"{name}.both.pem"
        both.write_text(signed.read_text() + key.read_text())
        return both


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours").make()


class Bridge(threading.Thread):
    """A TLS server on this machine that joins its clients, one after the other, with a board's line."""

    def __init__(self, certificate: Path, line: str | None = None, clients: Path | None = None) -> None:
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        if clients is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(clients)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.line = line
        self.ending, self._end = os.pipe()
        self.start()

    def close(self) -> None:
        os.close(self._end)
        self.join()
        os.close(self.ending)
        self.listener.close()

    def run(self) -> None:
        while self.listener in select.select([self.listener, self.ending], [], [])[0]:
            with suppress(OSError), self.context.wrap_socket(self.listener.accept()[0], server_side=True) as client:
                self._join(client)

    def _join(self, client: ssl.SSLSocket) -> None:
        if self.line is None:  # an echo
            while data := client.recv(1 << 10):
                client.sendall(data)
            return
        line = os.open(self.line, os.O_RDWR | os.O_NOCTTY)
        try:
            while True:
                there = select.select([client, line, self.ending], [], [])[0]
                if self.ending in there:
                    return
                if line in there:
                    client.sendall(os.read(line, 1 << 16))
                while client in there:
                    data = client.recv(1 << 16)
                    if not data:
                        return
                    os.write(line, data)
                    there = [client] if client.pending() else []
        finally:
            os.close(line)


@pytest.fixture
def echo(authority: Authority) -> Iterator[Bridge]:
    bridge = Bridge(authority.sign("echo"))
    yield bridge
    bridge.close()


@needs_openssl
def test_a_run_over_tls_has_the_weights_of_a_simulation(authority: Authority, built_once: None, tmp_path: Path) -> None:
    few = sine("run.rounds=2", "evaluation.tasks=2", "evaluation.every=0")
    program = build_firmware(design_of(few, "sine"), "native").program
    words = [str(program), "--pty", "--exit-with-stdin", "--id", "0123456789abcdef"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        bridge = Bridge(authority.sign("board"), process.stdout.readline().removeprefix("pty ").strip())
        url = f"tls://localhost:{bridge.port}?ca={authority.file}"
        assert tmf.board_status(url).board == "native"
        experiment = tmf.Experiment(few, "sine")
        trained = tmf.train(experiment, [url], test_device="native:1", out=tmp_path / "tls", progress=False)
        bridge.close()
        process.stdin.close()
        process.wait(HUNG_SECONDS)
    simulated = tmf.simulate(experiment, out=tmp_path / "simulated", progress=False)
    assert trained.weights_sha256 == simulated.weights_sha256


@needs_openssl
def test_all_bytes_come_through(echo: Bridge, authority: Authority) -> None:
    sent = bytes(range(256)) * 400
    for host in ("localhost", "127.0.0.1", "LOCALHOST"):
        with open_transport(f"tls://{host}:{echo.port}?ca={authority.file}") as line:
            line.write(sent)
            came = b""
            while len(came) < len(sent):
                came += line.read(HUNG_SECONDS)
            assert came == sent
            assert line.read(0.0) == b"" and line.read(-1.0) == b""
            line.write(b"as much as comes, not as may come")
            assert most_allocated(lambda line=line: line.read(HUNG_SECONDS)) < 1 << 12  # what the echo takes included


@needs_openssl
@pytest.mark.parametrize(
    ("host", "days", "why"),
    [
        ("DNS:localhost", -1, "its certificate has expired; renew it there"),
        ("DNS:elsewhere.example", 30000, "its certificate is for another host than localhost"),
        ("IP:127.0.0.1", 30000, "its certificate is for another host than localhost"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(authority: Authority, host: str, days: int, why: str) -> None:
    bridge = Bridge(authority.sign("unfit", host, days))
    with pytest.raises(PortError) as refused:
        open_transport(f"tls://localhost:{bridge.port}?ca={authority.file}")
    bridge.close()
    assert str(refused.value).startswith(f"tls://localhost:{bridge.port}: {why}")


@needs_openssl
def test_an_unknown_authority_is_refused(echo: Bridge, tmp_path: Path) -> None:
    other = Authority(tmp_path, "theirs").make()
    for options, believed in ((f"?ca={other.file}", str(other.file)), ("", "this system")):
        with pytest.raises(PortError) as refused:
            open_transport(f"tls://localhost:{echo.port}{options}")
        assert f"tls://localhost:{echo.port}: its certificate is from an authority that {believed} does not know" in str(
            refused.value
        )
        assert "give ?ca=FILE" in str(refused.value)


@needs_openssl
def test_client_certificates(authority: Authority, tmp_path: Path) -> None:
    bridge = Bridge(authority.sign("demanding"), clients=authority.file)
    known = authority.sign("host")
    unknown = Authority(tmp_path, "theirs").make().sign("stranger")
    where = f"tls://localhost:{bridge.port}?ca={authority.file}"
    for options in (f"&cert={known}", f"&cert={authority.folder / 'host.crt'}&key={authority.folder / 'host.key'}"):
        with open_transport(f"{where}{options}") as line:
            line.write(b"hello")
            assert line.read(HUNG_SECONDS) == b"hello"
    for options, why in (("", "give ?cert=FILE&key=FILE"), (f"&cert={unknown}", f"refuses the client certificate {unknown}")):
        # In TLS 1.3 the refusal comes with the first answer.
        with pytest.raises(PortError) as refused, open_transport(f"{where}{options}") as line:
            line.read(HUNG_SECONDS)
        assert why in str(refused.value)
    bridge.close()


def test_a_server_without_tls_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            with suppress(ConnectionResetError), server.accept()[0] as client:
                client.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                while client.recv(1000):  # until the client hangs up
                    pass

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        with pytest.raises(PortError, match=rf"tls://localhost:{port}: answers without TLS; serve TLS there"):
            open_transport(f"tls://localhost:{port}")
        thread.join()
    with pytest.raises(PortError, match="nobody listens there"):
        open_transport(f"tls://localhost:{port}")


def test_a_server_that_never_begins_tls_is_left() -> None:
    """It sends the head of a record of 16 KiB, then a byte of it now and then; the clock of the test goes on with each look."""

    class Looking(SystemClock):
        looks = 0.0

        def monotonic(self) -> float:
            self.looks += 1.0
            return self.looks

    with socket.create_server(("127.0.0.1", 0)) as server:
        port, left = server.getsockname()[1], threading.Event()

        def drip() -> None:
            with suppress(OSError), server.accept()[0] as client:
                client.sendall(b"\x16\x03\x03\x40\x00")
                while not left.is_set():
                    client.sendall(b"\2")
                    left.wait(LOOK_SECONDS)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(PortError, match=rf"tls://localhost:{port}: has accepted the connection but not begun TLS"):
            open_transport(f"tls://localhost:{port}", clock=Looking())
        left.set()
        thread.join()


def test_files_of_the_url_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for options, what in (
        (f"?ca={tmp_path / 'none.pem'}", f"ca={tmp_path / 'none.pem'}: cannot be read"),
        (f"?ca={text}", f"ca={text}: cannot be used"),
        (f"?cert={text}", f"cert={text}: cannot be used"),
    ):
        with pytest.raises(PortError) as refused:
            open_transport(f"tls://localhost:1{options}")
        assert what in str(refused.value)


@needs_openssl
def test_a_key_with_a_password_is_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    authority.sign("locked")
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", authority.folder / "locked.key", "-aes256", "-passout", "pass:secret", "-out", locked)
    with pytest.raises(PortError, match="the key without a password"):
        open_transport(f"tls://localhost:1?cert={authority.folder / 'locked.crt'}&key={locked}")


def test_urls_are_parsed() -> None:
    assert TlsAddress.parse("tls://h.example:7") == TlsAddress("h.example", 7)
    assert TlsAddress.parse("TLS://[::1]:7?key=b&cert=a") == TlsAddress("::1", 7, None, Path("a"), Path("b"))
    assert TlsAddress.parse("tls://h:7?ca=/a b+c%20&d.pem").ca == Path("/a b+c%20&d.pem")
    for url in (
        "tls://h",
        "tls://:7",
        "tls://h:0",
        "tls://h:70000",
        "tls://h:seven",
        "tls://[::1:7",
        "tls://h:7/path",
        "tls://me@h:7",
        "tls://h:7?",
        "tls://h:7?ca",
        "tls://h:7?ca=",
        "tls://h:7?verify=no",
        "tls://h:7?ca=a&ca=b",
        "tls://h:7?key=a",
        "socket://h:7",
    ):
        with pytest.raises(TlsError):
            TlsAddress.parse(url)
    assert parse(["tls://h:7@native?ca=/x@y"]) == [DeviceSpec("tls://h:7?ca=/x@y", "serial", declared="native")]
    with pytest.raises(DeviceUrlError, match="'tls://h': expected tls://HOST:PORT"):
        parse(["tls://h"])


LOCAL = (
    "native:1",
    "qemu:1@mps2?store=a://b",
    "/dev/ttyACM0",
    "COM5@nano33ble",
    "loop://",
    "spy:///dev/ttyUSB0",
    "socket://localhost:5",
    "socket://127.0.0.1:5@native",
    "socket://127.8.9.10:5",
    "socket://[::1]:5",
    "socket://[::ffff:127.0.0.1]:5",
    "rfc2217://localhost:5",
    "tls://far.example:5",
)
OPEN = (
    "socket://192.0.2.1:5",
    "SOCKET://192.0.2.1:5",
    "socket://192.0.2.1:5@native",
    "socket://[2001:db8::1]:5",
    "socket://0.0.0.0:5",
    "socket://board.example:5",
    "socket://localhost.example:5",
    "socket://127.0.0.1.example:5",
    "socket://far.example:5@localhost",
    "socket://localhost@far.example:5",
    "socket://[::ffff:192.0.2.1]:5",
    "socket://[:5",
    "rfc2217://192.0.2.1:5?logging=debug",
    "unheard-of://192.0.2.1:5",
)


def test_lines_that_leave_the_machine_must_be_secured() -> None:
    require_secure(LOCAL, "none", insecure=False)
    for url in OPEN:
        with pytest.raises(DeviceUrlError) as refused:
            require_secure(["native:1", url], "none", insecure=False)
        assert str(refused.value).startswith(f"device '{url}': leads to another machine")
        assert "tls://HOST:PORT" in str(refused.value) and "--insecure" in str(refused.value)
        require_secure([url], "authenticated", insecure=False)
        require_secure([url], "none", insecure=True)


def test_every_function_that_is_given_devices_refuses_open_lines(tmp_path: Path) -> None:
    """Also those that are added later: a function with ``device`` or ``devices`` has ``insecure`` too, or starts processes."""
    few = tmf.Experiment(sine("run.rounds=0", "evaluation.tasks=1"), "sine")
    run = tmf.simulate(few, out=tmp_path / "run", progress=False)
    url = OPEN[0]
    calls = {
        "train": lambda: tmf.train(few, [url], out=tmp_path / "new"),
        "resume": lambda: tmf.resume(run.path, devices=[url]),
        "Run.resume": lambda: run.resume(devices=[url]),
        "Run.adapt": lambda: run.adapt(devices=[url]),
        "board_status": lambda: tmf.board_status(url),
        "board_classes": lambda: tmf.board_classes(url),
        "board_predict": lambda: tmf.board_predict(url, [0.0]),
        "record": lambda: tmf.record(url, tmp_path),
        "label_sample": lambda: tmf.label_sample(url, 0),
        "bench_board": lambda: tmf.bench_board(url, few),
        "bench_soak": lambda: tmf.bench_soak(few, devices=[url]),
        "enroll": lambda: tmf.enroll(url, "kitchen"),
        "forget_board": lambda: tmf.forget_board("kitchen", url),
        "monitor": lambda: tmf.monitor(url),
        "started": lambda: tmf.started(few, [url]).__enter__(),
        "gateway": lambda: tmf.gateway(few, [url], superlink="127.0.0.1:9"),
    }
    functions = {name: getattr(tmf, name) for name in tmf.__all__ if inspect.isfunction(getattr(tmf, name))}
    functions |= {f"Run.{name}": found for name, found in inspect.getmembers(tmf.Run, inspect.isfunction)}
    with_devices = {
        name for name, found in functions.items() if {"device", "devices"} & set(inspect.signature(found).parameters)
    }
    assert with_devices <= calls.keys()
    for name, call in calls.items():
        with pytest.raises(
            tmf.UsageError, match=r"leads to another machine|of a board that is running already|restarts its boards"
        ) as refused:
            call()
        assert url in str(refused.value), name
    with pytest.raises(tmf.UsageError, match="leads to another machine"):
        tmf.train(few, test_device=url, out=tmp_path / "new")
