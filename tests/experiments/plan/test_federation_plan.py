"""The plan of a federation: its bytes are those of boards, its formulas grow with boards, and its limits are where they say."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_device import DEVICE
from small_runs import SINE, Quiet, sine

from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.link.record import DOWN, events
from tinymetafed.devices.running import running
from tinymetafed.experiments.plan import (
    BACKHAULS,
    LINES,
    BoardWork,
    DeviceRound,
    FederationPlan,
    Fleet,
    HostCost,
    Line,
    Rates,
    ServerCost,
    counted,
    parsed,
    planned,
    work_of,
)
from tinymetafed.experiments.plan.federation_plan import MOST_CLIENTS, backhaul_bytes, combined
from tinymetafed.experiments.plan.round_count import simulated
from tinymetafed.federation.rounds import rounds
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import set_up
from tinymetafed.wire.frame import Decoder
from tinymetafed_codegen import protocol, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.section import TomlTable

RATES = Rates(
    device=DEVICE,
    work=BoardWork("nano33ble", "Nano", (0.01, 0.02), (0.01, 0.01)),
    line=LINES["serial"],
    backhaul=BACKHAULS["lan"],
    server_line=BACKHAULS["gigabit"],
    host=HostCost(0.001, 0.0001),
    server=ServerCost(50e-6, 20e-9, 15e-9, 1e-9, 14.0),
    measured_on="a test",
)
LINE = Line("a test's", 1000.0, 0.1, "", False)


def plan(
    boards: int, gateways: int = 0, clients: int | None = None, form: str = "forward", memory: float = 1e9
) -> FederationPlan:
    return planned(Fleet(boards, gateways, boards if clients is None else clients, form), RATES, 100, memory)


# Lines


@pytest.mark.parametrize(
    ("size", "messages", "at_once", "seconds"),
    [
        (0, 0, 1, 0.0),
        (100, 1, 1, 0.1 + 0.1),
        (300, 3, 1, 0.3 + 3 * 0.1),  # each waits for the answer to the one before
        (300, 3, 2, 0.3 + 0.1),  # the line carries one for as long as the answer to another takes
        (100, 4, 2, 0.1 + 0.1 + (0.1 - 0.025)),  # two short ones, then the line stands still until the first answer
        (100, 4, 8, 0.1 + 0.1),
    ],
)
def test_a_line_stands_still_only_for_answers(size: float, messages: float, at_once: int, seconds: float) -> None:
    assert LINE.seconds(size, messages, at_once) == pytest.approx(seconds)


def test_lines_have_names_or_numbers() -> None:
    assert parsed("usb", LINES, "--line") is LINES["usb"]
    assert (
        parsed("serial", LINES, "--line", boards.load("nano33ble")).bytes_per_second == boards.load("nano33ble").line.baud / 10
    )
    given_one = parsed("5000,0.25", LINES, "--line")
    assert (given_one.bytes_per_second, given_one.turn_around_seconds, given_one.assumed) == (5000, 0.25, False)
    assert not LINES["serial"].assumed and all(line.assumed for line in (LINES["wifi"], *BACKHAULS.values()))


@pytest.mark.parametrize("text", ["fast", "0,1", "5000", "1,-1", "nan,1", "inf,0", "1,2,3", ""])
def test_other_lines_are_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(UsageError, match=f"--backhaul {text}.*lan, gigabit, internet.*RATE,LATENCY"):
        parsed(text, BACKHAULS, "--backhaul")


# A client's round


def test_a_round_on_a_line_is_its_bytes_and_the_answers_that_are_waited_for() -> None:
    weights, samples = DEVICE.on_line(LINES["serial"])
    assert samples == 0.0
    assert weights == pytest.approx((2400 + 830) / 11520 + 0.016 * (1 + 2 + 1))
    low, high = DEVICE.seconds(LINES["serial"], (0.01, 0.02))
    assert (low, high) == pytest.approx((weights + 0.01, weights + 0.02))


def test_a_board_trains_while_samples_come_or_after_each() -> None:
    streaming = replace(DEVICE, bytes_down=2400 + 9600.0, samples_down=9600.0, samples=80.0, samples_at_once=8)
    weights, samples = streaming.on_line(LINES["serial"])
    assert samples == pytest.approx(9600 / 11520 + 0.016)
    assert streaming.seconds(LINES["serial"], (0.5, 2.0)) == pytest.approx((weights + samples, weights + samples + 2.0))


@pytest.mark.usefixtures("built_once")
def test_bytes_and_messages_are_those_of_boards(tmp_path: Path) -> None:
    setup = set_up(sine("run.devices_per_round=2", "run.rounds=2"), str(SINE), None)
    planned_round, strategy = simulated(setup, 2)
    recording = tmp_path / "recording"
    with running(setup.design, ["native:2"], Quiet(), record=recording) as fleet:
        clients = DeviceClients(fleet, strategy, setup.task)
        first = initial(setup.design.manifest, setup.experiment.run.seed, setup.experiment.model.init)
        traffic = [each.traffic for each in islice(rounds(strategy, setup.task, clients, first), 2)]
    asked: Counter[int] = Counter()
    decoders: dict[str, Decoder] = {}
    for event in events(recording):
        if event.direction == DOWN:
            found = decoders.setdefault(event.device, Decoder()).feed(event.data)
            asked.update(frame.type_id for frame in found)
    served = 2 * 2
    assert asked[protocol.Load.type_id] == served * planned_round.loads
    assert asked[protocol.Pull.type_id] == served * planned_round.pulls
    assert asked[protocol.Train.type_id] + asked[protocol.Await.type_id] == served * planned_round.others
    # Boards are configured before their first round, which the bytes of that round contain.
    assert traffic[1].retries == 0 and planned_round.samples == 0
    first_round, _ = simulated(setup, 1)
    down, up = (served * whole - 2 * first for whole, first in zip(_bytes(planned_round), _bytes(first_round), strict=True))
    assert (traffic[1].down, traffic[1].up) == pytest.approx((down, up))


@pytest.mark.usefixtures("built_once")
def test_with_macs_each_message_with_weights_waits_for_the_answer_to_the_one_before() -> None:
    """One fills the receive window, so that a line stands still for every answer."""
    plain, authenticated = (
        simulated(set_up(sine("run.devices_per_round=2", f"run.security={each}"), str(SINE), None), 1)[0]
        for each in ("none", "authenticated")
    )
    assert (plain.loads_at_once, authenticated.loads_at_once) == (2, 1)
    assert authenticated.loads < plain.loads
    waits = authenticated.loads + authenticated.others + authenticated.pulls
    expected = (authenticated.bytes_down + authenticated.bytes_up) / 11520 + 0.016 * waits
    assert authenticated.on_line(LINES["serial"])[0] == pytest.approx(expected)


def _bytes(found: DeviceRound) -> tuple[float, float]:
    return found.bytes_down, found.bytes_up


def test_boards_without_estimates_and_boards_that_are_clients_are_refused() -> None:
    setup = set_up(sine(), str(SINE), None)
    assert work_of(setup.strategy, boards.load("nano33ble")).seconds[0] > 0
    with pytest.raises(UsageError, match=r"--board native.*nano33ble"):
        work_of(setup.strategy, boards.load("native"))
    task: TomlTable = {"kind": "folder", "path": ".", "source": "source.cpp", "client_per_board": True}
    model: TomlTable = {"input": [2], "loss": "mse", "layers": [{"op": "dense", "units": 2}, {"op": "dense", "units": 1}]}
    own = spec.parse({"task": task, "data": {"normalise": "none"}, "model": model}, "own.toml")
    with pytest.raises(UsageError, match=r"own\.toml: task.client_per_board.*--set task.client_per_board=false"):
        counted(own, "own.toml", None)


# Messages of gateways


def test_bytes_of_a_gateway() -> None:
    assert backhaul_bytes(DEVICE, 1, "forward") == (64 + 2240 + 3, 64 + 8 + (2 + 140 + 4 + 560))
    assert backhaul_bytes(DEVICE, 100, "pre-summed") == (64 + 2240 + 300, 64 + 800 + 4 * 1120)
    few = replace(DEVICE, entries=10, entry_bytes=2)
    assert backhaul_bytes(few, 1, "forward")[1] == 64 + 8 + (2 + 20 + 20)
    every = replace(DEVICE, entries=1120, entry_bytes=4)
    assert backhaul_bytes(every, 1, "forward")[1] == 64 + 8 + (2 + 4 * 1120)


def test_a_sum_takes_a_tenth_of_a_hundred_updates() -> None:
    forward, summed = (plan(100, 1, form=form).server_bytes for form in ("forward", "pre-summed"))
    assert forward[0] == summed[0] and forward[1] > 10 * summed[1]


# A federation


@given(
    few=st.integers(1, 10**6),
    more=st.integers(0, 10**6),
    gateways=st.integers(0, 50),
    form=st.sampled_from(("forward", "pre-summed")),
)
@settings(max_examples=40)
def test_more_boards_never_take_less(few: int, more: int, gateways: int, form: str) -> None:
    gateways = min(gateways, few)
    one, other = plan(few, gateways, form=form), plan(few + more, gateways, form=form)
    assert one.seconds[1] <= other.seconds[1] * (1 + 1e-9)
    assert one.server_memory <= other.server_memory and one.server_processor <= other.server_processor
    assert one.gateway_processor <= other.gateway_processor and sum(one.server_bytes) <= sum(other.server_bytes)
    assert one.joules == other.joules and one.joules_of_all <= other.joules_of_all


@given(parts=st.lists(st.floats(0, 1e3), min_size=1, max_size=4))
def test_a_round_takes_no_less_than_its_longest_part_and_no_more_than_all(parts: list[float]) -> None:
    assert max(parts) * (1 - 1e-9) <= combined(*parts) <= sum(parts) * (1 + 1e-9)


def test_few_boards_wait_for_the_line_and_many_for_the_processor() -> None:
    path = DEVICE.seconds(RATES.line, RATES.work.seconds)
    alone = plan(1)
    assert alone.seconds == pytest.approx(path, rel=1e-3) and alone.bound == "the boards, their lines and training"
    many = plan(10_000)
    host = 0.001 + 8 * 0.0001
    assert many.gateway_processor == pytest.approx(10_000 * host) and many.bound == "the host's processor"
    assert many.seconds[0] == pytest.approx(10_000 * host, rel=1e-3)


def test_clients_of_a_round_take_turns_on_fewer_boards() -> None:
    low, high = DEVICE.seconds(RATES.line, RATES.work.seconds)
    assert plan(2, clients=5).resources[0].seconds == pytest.approx((3 * low, 3 * high))
    assert plan(1000, clients=5).resources[0].seconds == pytest.approx((low, high))


def test_a_round_of_few_clients_reaches_only_their_gateways() -> None:
    found = plan(1000, 100, clients=3)
    assert found.server_bytes == tuple(3 * size for size in backhaul_bytes(DEVICE, 1, "forward"))


def test_energy_is_power_over_the_time_of_a_board() -> None:
    found = plan(50)
    low, high = DEVICE.seconds(RATES.line, RATES.work.seconds)
    assert found.joules == pytest.approx((low * 0.01, high * 0.01))
    assert found.joules_of_all == pytest.approx((50 * found.joules[0], 50 * found.joules[1]))
    assert found.run_seconds == pytest.approx((100 * found.seconds[0], 100 * found.seconds[1]))


def test_a_plan_says_that_it_does_not_count_differences() -> None:
    returning = replace(RATES, takes_differences=True)
    assert "bench downlink" in planned(Fleet(5, 0, 5, "forward"), returning, 1, 1e9).left_out
    assert "bench downlink" not in plan(5).left_out


@pytest.mark.parametrize("gateways", [0, 1, 10])
def test_a_limit_is_the_first_number_of_boards_beyond_it(gateways: int) -> None:
    found = plan(max(10, gateways), gateways)
    by_what = {limit.what: limit.boards for limit in found.limits}
    assert list(by_what.values()) == sorted(by_what.values())
    hosts = max(1, gateways)
    assert next(boards for what, boards in by_what.items() if "USB" in what) == 127 * hosts + 1
    assert next(boards for what, boards in by_what.items() if "more than 1,024" in what) == MOST_CLIENTS + 1
    memory = next(boards for what, boards in by_what.items() if "1 GB of memory" in what)
    assert plan(memory, gateways).server_memory > 1e9 >= plan(memory - 1, gateways).server_memory
    processor = next(boards for what, boards in by_what.items() if "'s processor" in what and "server" not in what)
    per_client = plan(1, 0).gateway_processor + (15e-9 * (8 + 706) if gateways else 0)
    assert processor == pytest.approx(hosts * math.ceil(found.resources[0].seconds[1] / per_client), abs=hosts)


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        (Fleet(0, 0, 1, "forward"), "--boards 0"),
        (Fleet(3, 4, 3, "forward"), "--gateways 4"),
        (Fleet(3, -1, 3, "forward"), "--gateways -1"),
        (Fleet(3, 0, 0, "forward"), "--clients 0"),
        (Fleet(3, 0, 3, "summed"), "--form summed: expected forward or pre-summed"),
    ],
)
def test_impossible_fleets_are_refused_by_the_options_name(fleet: Fleet, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(fleet, RATES, 1, 1e9)
