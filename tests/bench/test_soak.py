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


def test_growth_is_that_of_the_last_quarter_over_the_second() -> None:
    reading = Reading(0.0, 0, 10, 3, 1)
    memories = [1, 1, 100, 102, 300, 300, 130, 132]
    readings = tuple(replace(reading, memory=memory) for memory in memories)
    found = soak_result(readings)
    assert found.memory_growth == 30
    assert soak_result(readings[:3]).memory_growth == 0


def soak_result(readings: tuple[Reading, ...]) -> Soak:
    return Soak(("native:1",), 1.0, 1, 0, 0, 0, 0, 0, "a", "a", readings)


def test_a_loss_or_other_weights_are_told() -> None:
    good = soak_result(())
    assert good.nothing_lost
    assert not replace(good, skipped=1).nothing_lost and not replace(good, undisturbed_sha256="b").nothing_lost


def test_boards_on_ports_are_refused() -> None:
    with pytest.raises(UsageError, match="give processes such as native:90"):
        soak(sine(), str(SINE), ["/dev/ttyACM0"], 1.0, Quiet())


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
