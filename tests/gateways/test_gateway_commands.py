"""The commands about gateways: options that contradict each other are refused with a word for what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from small_runs import SINE

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.api.gateway_runs import Gateways
from tinymetafed.cli.gateway_command import words_of

LINK = ["--superlink", "127.0.0.1:9"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", str(SINE), "--gateways", "2"], "--gateways is for runs behind gateways; give --superlink HOST:PORT too"),
        (["train", str(SINE), "--server-secret", "x"], "--server-secret is for runs behind gateways"),
        (
            ["train", str(SINE), *LINK, "-d", "native:2"],
            "--device is for boards of this machine; give it to `tinymetafed gateway`",
        ),
        (["train", str(SINE), *LINK, "--record", "x"], "--record is for boards of this machine"),
        (
            ["train", str(SINE), *LINK, "--insecure", "--root-certificates", "x"],
            "--root-certificates needs TLS; leave --insecure out",
        ),
        (["train", str(SINE), "--superlink", "nowhere", "--insecure"], "expected HOST:PORT, for instance 127.0.0.1:8000"),
        (["gateway", str(SINE), *LINK, "--insecure", "--name", "my lab"], "--name my lab: expected up to 64 letters"),
        (["gateway", str(SINE), *LINK, "--insecure", "--node-key", "x"], "--node-key needs TLS; leave --insecure out"),
        (["gateway", str(SINE), *LINK, "--insecure", "-d", "socket://192.0.2.1:7"], None),
    ],
)
def test_wrong_options_are_refused(
    words: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_reached(*_: object, **__: object) -> None:
        raise tmf.LinkError("the boards are asked")

    monkeypatch.setattr("tinymetafed.api.gateway_runs.running", not_reached)
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == (1 if said is None else 2)
    assert (said or "the boards are asked") in told


def test_a_gateway_with_too_few_boards_for_audits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'tinymetafed[flower]'")
    from tinymetafed.gateways.flower.supernode import SuperNode

    monkeypatch.setattr(SuperNode, "serve", lambda node: None)
    told = "strategy.audit = 0.1 lets a second board repeat a client and a third one decide; with {} it finds no board"
    said: list[str] = []
    for boards in (2, 3):
        monkeypatch.setattr("tinymetafed.api.gateway_runs.running", partial(fleet_of, boards))
        tmf.gateway(
            tmf.load(SINE, ["strategy.audit=0.1"]),
            superlink="127.0.0.1:9",
            insecure=True,
            progress=lambda event: said.append(event.event),
        )
        assert sum("strategy.audit" in line for line in said) == sum(told.format(2) in line for line in said) == 1


@contextmanager
def fleet_of(boards: int, *_: object, **__: object) -> Iterator[object]:
    """A fleet with so many boards, of which nothing is asked but what they are."""
    hello = SimpleNamespace(unique_id=b"x", receive_window=512)
    yield SimpleNamespace(devices=[SimpleNamespace(url=f"native#{i}", board="native", hello=hello) for i in range(boards)])


def test_secure_aggregation_is_refused_behind_gateways(tmp_path: object) -> None:
    keys = ["privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=4"]
    with pytest.raises(tmf.SpecError, match="needs all boards at one host"):
        tmf.train(tmf.load(SINE, keys), out=f"{tmp_path}/run", gateways=Gateways("127.0.0.1:9", insecure=True), progress=False)


def test_the_hint_to_continue_names_the_gateways() -> None:
    gateways = Gateways("host:1", 3, "ca.pem", "secret")
    words = "--superlink host:1 --gateways 3 --root-certificates ca.pem --server-secret secret"
    assert " ".join(words_of(gateways)) == words
    assert words_of(None) == []
