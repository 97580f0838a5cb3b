"""What the host keeps does not grow with the rounds, however often frames are damaged and boards restart."""

from __future__ import annotations

import gc
import io
import threading
from collections import deque
from itertools import islice

import pytest
from allocations import kept
from clocks import HUNG_SECONDS, wait_until
from small_runs import SINE, Quiet, sine

from tinymetafed.devices import running as running_module
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.faults import parse
from tinymetafed.devices.running import _expected_on, running
from tinymetafed.federation.board_state import Presence
from tinymetafed.federation.rounds import rounds
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.design import Design


def all_back(fleet: Fleet) -> bool:
    return all(member.presence in (Presence.UP, Presence.DROPPED) for member in fleet.roster.members)


def started_threads(fleet: Fleet) -> None:
    """Has the fleet start all its threads, one for each device: how many a round needs depends on the load."""
    members = len(fleet.roster.members)
    together = threading.Barrier(members)
    for waits in [fleet._pool.submit(together.wait, HUNG_SECONDS) for _ in range(members)]:
        waits.result()


def read_announcements() -> bool:
    """Whether no thread still reads what a restarted board says at its start."""
    return not any("_read_announcement" in thread.name for thread in threading.enumerate())


@pytest.mark.usefixtures("built_once")
def test_a_round_leaves_nothing_to_the_garbage_collector() -> None:
    """What refers to itself stays until the collector looks for cycles, which it does rarely: until then memory grows."""
    experiment = sine("run.devices_per_round=3")
    setup = set_up(experiment, str(SINE), None)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    with running(setup.design, ["native:3"], Quiet()) as fleet:
        done = rounds(setup.strategy, setup.task, DeviceClients(fleet, setup.strategy, setup.task), first)
        deque(islice(done, 2), maxlen=1)
        gc.collect()
        gc.disable()
        try:
            deque(islice(done, 10), maxlen=1)
            assert gc.collect() == 0
        finally:
            gc.enable()


@pytest.mark.usefixtures("built_once")
def test_objects_threads_and_descriptors_are_as_many_after_40_rounds_as_after_10() -> None:
    experiment = sine("run.devices_per_round=3")
    setup = set_up(experiment, str(SINE), None)
    faults = parse("up:flip=0.05,reboot=0.01")
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    counted = []
    with running(setup.design, ["native:3"], Quiet(), faults=faults) as fleet:
        clients = DeviceClients(fleet, setup.strategy, setup.task)
        done = rounds(setup.strategy, setup.task, clients, first)
        for count in (10, 30):
            last = deque(islice(done, count), maxlen=1)
            wait_until(lambda: all_back(fleet))
            for search in fleet.roster._searches:
                search.join()
            started_threads(fleet)
            wait_until(read_announcements)
            if counted:  # threads of lines that were closed may still be ending
                wait_until(lambda: threading.active_count() <= counted[0]["threads"])
            counted.append(kept())
            retries = fleet.traffic.retries
    assert last[0].index == 39 and retries > 10
    grown = counted[1] - counted[0]
    assert not grown["threads"] and not grown["descriptors"]
    assert all(count <= 3 for count in grown.values()), grown  # a device may hold its last request, or its last error


@pytest.mark.usefixtures("built_once")
def test_what_is_expected_of_a_board_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run in which boards come and go would otherwise design the model again each time, in ever new threads."""
    designed: list[str] = []

    def expected_on(design: Design, device: Device) -> Design:
        designed.append(device.url)
        return _expected_on(design, device)

    monkeypatch.setattr(running_module, "_expected_on", expected_on)
    setup = set_up(sine(), str(SINE), None)
    with running(setup.design, ["native:1"], Quiet()) as fleet:
        (device,) = fleet.devices
        for _ in range(3):
            device.rejoin(HUNG_SECONDS)
        assert designed == [device.url]
        assert device.process is not None and isinstance(device.process.stdout, io.FileIO), "without a buffer"
