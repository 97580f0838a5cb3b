"""One gateway of three lies about its clients, boards, times and traffic: every run ends on the weights of honest gateways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from gateways_in_memory import CLIENTS, Site, gateway, setup, simulated, site, trained

from tinymetafed.federation.clients import DeviceFacts, Served, Traffic
from tinymetafed.federation.quorum import Absence, Returned
from tinymetafed.gateways.gateway_messages import MAX_TRAFFIC
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import sha256
from tinymetafed.runs.training import _manifest_of

Outcomes = list[Served[Sparse]]
LEFT_OUT: Served[Sparse] = Served(None, "", False, "its board is lost")
FORWARD, PRE_SUMMED = (), ("strategy.gateways=pre-summed",)


def telling(**fields: object) -> Callable[[Outcomes], Outcomes]:
    """Says something else about each client."""
    return lambda served: [replace(each, **fields) for each in served]  # type: ignore[arg-type]


LEAVES_OUT: dict[str, Callable[[Outcomes], Outcomes]] = {
    "all of its clients": lambda served: [LEFT_OUT for _ in served],
    "its first client": lambda served: [LEFT_OUT, *served[1:]],
    "all but its last client": lambda served: [*(LEFT_OUT for _ in served[1:]), served[-1]],
    "clients that it calls late": telling(outcome=None, device="", late=Absence("", True)),
}


@pytest.mark.parametrize("keys", [FORWARD, PRE_SUMMED], ids=["handed on", "added up"])
@pytest.mark.parametrize("lie", LEAVES_OUT.values(), ids=LEAVES_OUT.keys())
def test_what_a_gateway_leaves_out_others_train(lie: Callable[[Outcomes], Outcomes], keys: Sequence[str]) -> None:
    there = site(4, 4, 4, keys=tuple(keys))
    there.clients.roster.gather(3)
    there.boards(2).alter = lie
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert {part.status for each in done for part in each.contributions} <= {"accepted", "redone"}
    assert any("gateway lab1 left" in line and "others do them" in line for line in there.said)


def test_a_gateway_that_leaves_clients_out_in_every_round_is_refused() -> None:
    there = site(4, 4, keys=("run.rounds=8",))
    there.clients.roster.gather(2)
    there.boards(2).alter = lambda served: [LEFT_OUT, *served[1:]]
    trained(there.made, there.clients)
    assert sum("gateway lab1 left" in line for line in there.said) == 5
    assert any("gateway lab1 is not used: it failed 5 times in a row" in line for line in there.said)


ABOUT_ITSELF: dict[str, Callable[[Outcomes], Outcomes]] = {
    "late, and done": telling(late=Absence("", False)),
    "back from the last round that there can be": telling(back=Returned("native#1", 2**32 - 1, 3e38)),
    "back before it was away": telling(back=Returned("native#1", 0, -3e38)),
    "notes without end": telling(redone=True, note="\x1b[2J[red]" + 10_000 * "x"),
}


@pytest.mark.parametrize("lie", ABOUT_ITSELF.values(), ids=ABOUT_ITSELF.keys())
def test_what_a_gateway_says_of_itself_reaches_no_weight(lie: Callable[[Outcomes], Outcomes]) -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.boards(2).alter = lie
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert all(len(part.note) <= 1_000 and "\x1b" not in part.note for each in done for part in each.contributions)


def test_as_much_traffic_as_a_gateway_can_state_reaches_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    most = Traffic(*6 * [MAX_TRAFFIC])
    monkeypatch.setattr(type(there.boards(2)), "traffic", property(lambda boards: most))
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)


def test_a_gateway_has_each_board_once() -> None:
    made = setup()
    there = Site.of(made, gateway(made, "lab0", 3), gateway(made, "lab1", 3))
    twice = there.boards(2).devices
    twice[1:] = [replace(each, unique_id=twice[0].unique_id) for each in twice[1:]]
    there.clients.roster.gather(2)
    assert [device.url for device in there.clients.devices if "lab1" in device.url] == ["lab1/native#1"]
    done = trained(made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(made)[-1].weights)


@pytest.mark.parametrize("name", ["toaster", "", "/tmp/board.json", "../x.json", "uno", "\x1b[2J"])
def test_a_board_that_cannot_be_ends_no_run_at_its_start(name: str) -> None:
    """The name comes from another machine; nothing is read from where it points to."""
    made = setup()
    lies = [DeviceFacts("lab/usb", name, "00", 512)]
    honest = DeviceFacts("lab/native#1", "native", "01", 512)
    assert _manifest_of(made, lies) == _manifest_of(made, [*lies, honest]) == made.design.manifest


def test_all_clients_are_there() -> None:
    assert CLIENTS == 12, "so many that each gateway has some"
