"""Gateways over Flower on loopback: the simulation's weights, TLS and known gateways, a SuperLink that is away or wrong."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from clocks import FakeClock, wait_until
from small_runs import SINE
from superlinks import PROGRAM, RunningGateway, SuperLink, gateways, superlink
from test_tls import Authority

import tinymetafed as tmf
from tinymetafed.gateways.flower import superlink_address
from tinymetafed.gateways.flower.superlink_address import SuperLinkAddress, SuperLinkError, require_flower

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'tinymetafed[flower]'")
require_flower()

import httpx  # noqa: E402  # comes with Flower
from flwr.clientapp import ClientApp  # noqa: E402

from tinymetafed.gateways.flower import supernode  # noqa: E402
from tinymetafed.gateways.flower.flower_calls import Calls, Refused  # noqa: E402
from tinymetafed.gateways.flower.supernode import SuperNode, _keys  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("built_once"),
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no {PROGRAM}: pip install 'tinymetafed[flower]'"),
]
FEW = {"run.rounds": 3, "run.devices_per_round": 24, "evaluation.every": 0, "evaluation.tasks": 2}


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    with superlink(tmp_path_factory.mktemp("superlink")) as running:
        yield running


def test_three_gateways_of_eight_boards_end_on_the_simulations_weights(link: SuperLink, tmp_path: Path) -> None:
    experiment = tmf.load(SINE, FEW)
    three = [RunningGateway(experiment, link.address, f"lab-{i}", "native:8") for i in range(3)]
    said: list[str] = []
    with gateways(*three):
        run = tmf.train(
            experiment,
            test_device="native:1",
            out=tmp_path / "run",
            gateways=tmf.Gateways(link.address, 3, insecure=True),
            progress=lambda event: said.append(event.event),
        )
    alone = tmf.simulate(experiment, out=tmp_path / "alone", threads=1, progress=False)
    assert run.result and alone.result and run.result.weights_sha256 == alone.result.weights_sha256
    assert len(run.result.devices) == 24 and len({device.unique_id for device in run.result.devices}) == 24
    assert {device.url.partition("/")[0] for device in run.result.devices} == {"lab-0", "lab-1", "lab-2"}
    assert run.result.redone == run.result.skipped == 0
    assert alone.result.bytes_up <= run.result.bytes_up < 1.05 * alone.result.bytes_up, "programs are set once"
    assert [gateway.error for gateway in three] == [None] * 3


def test_a_run_behind_gateways_is_continued_elsewhere_and_says_what_it_needs(link: SuperLink, tmp_path: Path) -> None:
    experiment = tmf.load(SINE, FEW | {"run.devices_per_round": 4})
    lab = RunningGateway(experiment, link.address, "lab", "native:2")
    reached = tmf.Gateways(link.address, 1, insecure=True)

    def stops(event: tmf.ProgressEvent) -> None:
        if event.stage == "meta-training" and event.done == 1:
            raise KeyboardInterrupt

    with gateways(lab):
        with pytest.raises(KeyboardInterrupt):
            tmf.train(experiment, test_device="native:1", out=tmp_path / "run", gateways=reached, progress=stops)
        with pytest.raises(tmf.StoreError, match="was begun behind gateways; give --superlink and --gateways again"):
            tmf.resume(tmp_path / "run", progress=False)
        run = tmf.resume(tmp_path / "run", gateways=reached, progress=False)
    alone = tmf.simulate(experiment, out=tmp_path / "alone", threads=1, progress=False)
    assert run.result and alone.result and run.result.weights_sha256 == alone.result.weights_sha256
    assert run.result.sessions == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed: no certificates here")
def test_a_superlink_with_tls_takes_the_gateways_whose_keys_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernode, "LEASE_SECONDS", 0.0)
    authority = Authority(tmp_path, "ours").make()
    authority.sign("link")
    for name in ("known", "unknown"):
        private_key(tmp_path / name)
    files = ("--ssl-certfile", "link.crt", "--ssl-keyfile", "link.key", "--ssl-ca-certfile", "ours.pem")
    (tmp_path / "secret").write_bytes(b"s" * 32)
    words = [*files, "--enable-supernode-auth", "--superexec-auth-secret-file", "secret"]
    experiment = tmf.load(SINE, FEW | {"run.devices_per_round": 4})
    with superlink(tmp_path, words) as link:
        register(link.address, authority.file, tmp_path / "known")
        secured = {"insecure": False, "root_certificates": authority.file}
        stranger, nobody, lab = (
            RunningGateway(experiment, link.address, name, "native:2", node_key=key, **secured)
            for name, key in (("stranger", tmp_path / "unknown"), ("nobody", None), ("lab", tmp_path / "known"))
        )
        reached = tmf.Gateways(link.address, 1, authority.file, tmp_path / "secret")
        with gateways(stranger, nobody, lab):
            run = tmf.train(experiment, test_device="native:1", out=tmp_path / "run", gateways=reached, progress=False)
            wait_until(lambda: stranger.error and nobody.error)
        alone = tmf.simulate(experiment, out=tmp_path / "alone", threads=1, progress=False)
        assert run.result and alone.result and run.result.weights_sha256 == alone.result.weights_sha256
        assert {device.url.partition("/")[0] for device in run.result.devices} == {"lab"}
        assert "register the public key of" in str(stranger.error) and "give this one's with --node-key" in str(nobody.error)
        assert lab.error is None
        with pytest.raises(SuperLinkError, match="give --server-secret"):
            tmf.train(experiment, out=tmp_path / "no", gateways=tmf.Gateways(link.address, 1, authority.file), progress=False)
        foreign = Authority(tmp_path, "theirs").make()
        with pytest.raises(
            SuperLinkError, match=r"from an authority that .*theirs.pem does not know .*give --root-certificates"
        ):
            tmf.train(experiment, out=tmp_path / "no", gateways=tmf.Gateways(link.address, 1, foreign.file), progress=False)


def private_key(file: Path) -> None:
    """Writes a gateway's private key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    openssh, none = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, openssh, none))


def register(address: str, authority: Path, key: Path) -> None:
    """Tells a SuperLink of a gateway's key, as `flwr supernode register` does."""
    from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
    from flwr.proto.control_pb2 import RegisterNodeRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    from tinymetafed.gateways.flower.supernode import _keys

    public = _keys(SuperLinkAddress.parse(address, root_certificates=authority, node_key=key))[1]
    interceptors = [CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
    with ControlHttpClient.from_server_address(address, False, str(authority), interceptors=interceptors) as client:
        client.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(public)))


# Without a SuperLink


def calls(address: SuperLinkAddress, said: list[str], patience: float | None = 100.0) -> tuple[Calls, FakeClock]:
    clock = FakeClock()
    made = Calls(address, said.append, patience, clock)
    made.stop = Waiting(clock)
    return made, clock


class Waiting(threading.Event):
    """An event whose wait only advances a clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(timeout or 0.0)
        return False


def away() -> SuperLinkAddress:
    """An address where nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return SuperLinkAddress("127.0.0.1", free.getsockname()[1], insecure=True)


def refused() -> None:
    raise httpx.ConnectError("refused")


def test_a_superlink_that_is_away_is_tried_again_and_named_once() -> None:
    said: list[str] = []
    made, clock = calls(away(), said)
    outcomes = iter([refused] * 5)

    def action() -> int:
        if (fails := next(outcomes, None)) is not None:
            fails()
        return 7

    assert made.call(action) == 7
    assert clock.now - 100.0 == 0.5 + 1 + 2 + 4 + 8
    assert len(said) == 2 and "does not answer (Connection refused); trying again" in said[0]
    assert "answers again after 16 s" in said[1]


def test_a_superlink_that_stays_away_ends_the_run_resumably() -> None:
    made, _ = calls(away(), [])
    with pytest.raises(SuperLinkError, match=r"SuperLink 127.0.0.1:\d+: has not answered for 1\d\d s \(Connection refused\)"):
        made.call(refused)
    assert issubclass(SuperLinkError, tmf.LinkError), "for these errors the command says how to continue"


def test_what_a_superlink_refuses_is_not_tried_again() -> None:
    made, _ = calls(away(), [])
    asked = 0

    def action() -> None:
        nonlocal asked
        asked += 1
        response = httpx.Response(403, json={"code": 5, "detail": "Run is over"}, request=httpx.Request("POST", "http://x"))
        response.raise_for_status()

    with pytest.raises(Refused, match="refuses with HTTP 403: Run is over") as failed:
        made.call(action)
    assert failed.value.status == 403 and asked == 1


def nonsense() -> None:
    raise ValueError("Invalid protobuf response payload")


def test_a_server_that_is_no_superlink_is_named_at_once() -> None:
    made, clock = calls(away(), [])
    with pytest.raises(SuperLinkError, match=r"SuperLink 127.0.0.1:\d+: what answers there is no SuperLink \(Invalid protobuf"):
        made.call(nonsense)
    assert clock.now == 100.0


def test_nonsense_from_a_superlink_that_has_answered_before_is_as_if_it_were_away() -> None:
    said: list[str] = []
    made, clock = calls(away(), said)
    actions = iter([lambda: None, nonsense, nonsense, lambda: None])
    made.call(lambda: next(actions)())
    made.call(lambda: next(actions)())
    assert clock.now == 101.5 and "does not answer (Invalid protobuf response payload); trying again" in said[0]


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_a_name_that_no_host_can_have_is_wrong_usage(host: str) -> None:
    with pytest.raises(tmf.UsageError, match=r"expected HOST:PORT"):
        SuperLinkAddress.parse(f"{host}:8000", insecure=True)


def test_a_gateway_that_was_killed_waits_until_its_key_is_free() -> None:
    made, clock, node, said = known_node()
    free = clock.now + 20.0
    stub = KnowsNodes(clock, free)
    with node._node(made, stub, _keys(made.address)) as found:
        assert found.node_id == 7
    assert free <= clock.now < free + 5.0
    assert sum("refuses" in line for line in said) == 1


def test_a_key_that_stays_unusable_is_told_with_every_cause() -> None:
    made, clock, node, _ = known_node()
    stub = KnowsNodes(clock, clock.now + 1000.0)
    with (
        pytest.raises(SuperLinkError, match=r"public key of key .*, or another gateway with this key is connected"),
        node._node(made, stub, _keys(made.address)),
    ):
        pass
    assert 120.0 <= clock.now < 130.0


def known_node() -> tuple[Calls, FakeClock, SuperNode, list[str]]:
    """A gateway that a SuperLink knows by its key."""
    said: list[str] = []
    made, clock = calls(SuperLinkAddress("127.0.0.1", 9), said)
    known = SuperLinkAddress("127.0.0.1", 9, node_key=Path("key"))
    return made, clock, SuperNode(known, ClientApp(), said.append, made.stop, clock), said


class KnowsNodes:
    """A client of a SuperLink that activates no node before ``free``."""

    def __init__(self, clock: FakeClock, free: float) -> None:
        self._clock, self._free = clock, free

    def ActivateNode(self, request: object) -> SimpleNamespace:
        if self._clock.now < self._free:
            httpx.Response(409, json={"detail": "in use"}, request=httpx.Request("POST", "http://x")).raise_for_status()
        return SimpleNamespace(node_id=7)

    def DeactivateNode(self, request: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed: no certificates here")
@pytest.mark.parametrize(
    ("days", "host", "text"),
    [
        (-1, "IP:127.0.0.1", "its certificate has expired"),
        (9, "DNS:other.example", "certificate is for another host than 127.0.0.1"),
    ],
)
def test_a_certificate_that_is_no_good_is_named_and_not_tried_again(tmp_path: Path, days: int, host: str, text: str) -> None:
    authority = Authority(tmp_path, "ours").make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.sign("link", host, days))
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=greet, args=(context, server), daemon=True)
        serving.start()
        address = SuperLinkAddress("127.0.0.1", server.getsockname()[1], root_certificates=authority.file)
        made, _ = calls(address, [])
        with pytest.raises(SuperLinkError, match=f"SuperLink 127.0.0.1:.*{text}"):
            made.call(refused)
        serving.join()


def greet(context: ssl.SSLContext, server: socket.socket) -> None:
    """Answers one client over TLS."""
    try:
        with server.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
            pass
    except OSError:
        pass  # it does not believe the certificate


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:70000", "http://host:1", "host:1/x", "ho st:1", ":8000"])
def test_addresses_that_are_none_are_wrong_usage(text: str) -> None:
    with pytest.raises(tmf.UsageError, match="expected HOST:PORT"):
        SuperLinkAddress.parse(text)
    assert str(SuperLinkAddress.parse("[::1]:8000")) == "[::1]:8000"


def test_without_flower_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink_address, "find_spec", lambda name: None)
    with pytest.raises(SuperLinkError, match=r"pip install 'tinymetafed\[flower\]'"):
        tmf.train(tmf.load(SINE), gateways=tmf.Gateways("127.0.0.1:8000", insecure=True))
