"""The soak test itself, for two seconds: boards restart and change their ports' names, and nothing is lost."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from small_runs import SINE, Quiet, sine

from tinymetafed.bench.cables import Cables
from tinymetafed.bench.soak import Reading, Soak, soak, usual_devices
from tinymetafed_codegen.errors import UsageError


@pytest.mark.usefixtures("built_once")
def test_nothing_is_lost_while_boards_restart_and_change_their_names() -> None:
    experiment = sine("run.devices_per_round=3")
    found = soak(experiment, str(SINE), ["native:3"], 2.0, Quiet(), disturbed_seconds=1.0)
    assert found.nothing_lost and found.weights_sha256 == found.undisturbed_sha256
    assert found.restarts + found.replugs > 0 and found.rounds > 0
    assert [each.rounds for each in found.readings] == sorted(each.rounds for each in found.readings)
    assert all(each.memory > 0 and each.descriptors > 0 for each in found.readings)


def test_growth_is_that_of_the_last_third_over_the_first() -> None:
    found = grown(by=3_000_000, hours=0.5)
    assert found.memory_growth == 3_000_000 and found.memory_growth_per_hour == pytest.approx(9_000_000)
    assert soak_result(found.readings[:2]).memory_growth == soak_result(()).memory_growth_per_hour == 0


def grown(by: int, hours: float, boards: int = 100) -> Soak:
    """A test whose memory is the same throughout each third of it, and grows by so many bytes in between."""
    memories = [90_000_000, 91_000_000, 90_000_000, 95_000_000, 95_000_000, 95_000_000]
    memories += [memory + by for memory in memories[:3]]
    times = (hours * 3600 * n / 9 for n in range(9))
    readings = tuple(Reading(time, 0, memory, 1100, 200) for time, memory in zip(times, memories, strict=True))
    return replace(soak_result(readings), boards=boards)


def test_what_is_filled_once_may_grow_and_a_leak_may_not() -> None:
    assert grown(by=3_300_000, hours=0.5).is_flat and not grown(by=3_400_000, hours=0.5).is_flat
    assert not grown(by=3_300_000, hours=0.5, boards=10).is_flat, "fewer boards fill less"
    assert grown(by=9_600_000, hours=10).is_flat and not grown(by=9_700_000, hours=10).is_flat
    assert grown(by=-5_000_000, hours=0.5).is_flat


def test_descriptors_may_not_grow() -> None:
    def opened(more: int) -> Soak:
        readings = grown(by=0, hours=0.5).readings
        return soak_result((*readings[:6], *(replace(each, descriptors=each.descriptors + more) for each in readings[6:])))

    assert opened(10).is_flat and opened(10).descriptor_growth == 10 and not opened(11).is_flat


def soak_result(readings: tuple[Reading, ...]) -> Soak:
    return Soak(("native:1",), 1, 1.0, 1, 0, 0, 0, 0, 0, "a", "a", readings)


def test_a_loss_or_other_weights_are_told() -> None:
    good = soak_result(())
    assert good.nothing_lost
    assert not replace(good, skipped=1).nothing_lost and not replace(good, undisturbed_sha256="b").nothing_lost


def test_boards_on_ports_are_refused() -> None:
    with pytest.raises(UsageError, match="give processes such as native:90"):
        soak(sine(), str(SINE), ["/dev/ttyACM0"], 1.0, Quiet())


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (("run.security=authenticated",), "run.security=none"),
        (("strategy.selection=random", "privacy.clip=1", "privacy.noise=1"), "privacy.public_seed=1"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(UsageError, match=f"--set {remedy}"):
        soak(sine(*settings), str(SINE), ["native:1"], 1.0, Quiet())


def test_the_usual_boards_are_as_many_as_asked_for() -> None:
    counts = [int(url.partition(":")[2]) for url in usual_devices(10)]
    assert sum(counts) == 10 and min(counts) > 0


def test_a_cable_carries_bytes_both_ways_and_has_another_name_after_it_was_pulled() -> None:
    board, line = os.openpty()
    with Cables() as cables:
        cable = cables.add()
        cable.connect(os.ttyname(line))
        first = cable.plug_in()
        assert [port.path for port in cables.ports()] == [first]
        host = os.open(first, os.O_RDWR | os.O_NOCTTY)
        os.write(host, b"\0down\xff")
        assert os.read(board, 100) == b"\0down\xff"
        os.write(board, b"up\r\n\0")
        assert os.read(host, 100) == b"up\r\n\0"
        cable.unplug()
        assert cables.ports() == []
        second = cable.plug_in()
        assert second != first and [port.path for port in cables.ports()] == [second]
        os.close(host)
    for end in (board, line):
        os.close(end)
