"""Side by side: outcomes in the items' order whichever device was faster, one thread per device, failures passed on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tinymetafed.server import side_by_side


class Device:
    """Stands for a session; counts how many threads are in it at once."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.served: list[int] = []
        self.threads: set[int] = set()
        self.inside = 0

    def work(self, item: int) -> int:
        self.inside += 1
        assert self.inside == 1, "a session serves one thread at a time"
        time.sleep(self.delay)
        self.served.append(item)
        self.threads.add(threading.get_ident())
        self.inside -= 1
        return item * item


def work(device: Any, item: int) -> int:
    result: int = device.work(item)
    return result


@pytest.mark.parametrize("delays", [[0.0], [0.01, 0.0], [0.01, 0.005, 0.0]])
def test_outcomes_come_in_the_items_order(delays: list[float]) -> None:
    devices: list[Any] = [Device(delay) for delay in delays]
    items = list(range(7))
    with ThreadPoolExecutor(len(devices)) as pool:
        outcomes = side_by_side(pool, [devices[i % len(devices)] for i in items], items, work)
    assert outcomes == [i * i for i in items]
    for place, device in enumerate(devices):
        assert device.served == items[place :: len(devices)]
        assert len(device.threads) == 1


def test_devices_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=5)  # broken unless all three come

    def wait(device: object, item: int) -> int:
        meeting.wait()
        return item

    devices: list[Any] = [Device() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert side_by_side(pool, devices, [0, 1, 2], wait) == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("error", [ValueError("device 1 failed"), KeyboardInterrupt()])
def test_after_a_failure_the_others_finish_what_they_are_at_and_no_more(count: int, error: BaseException) -> None:
    devices: list[Any] = [Device(0.02) for _ in range(count)]
    items = list(range(10 * count))
    failing = min(1, count - 1)

    def fail(device: Any, item: int) -> int:
        if item == failing:
            raise error
        result: int = device.work(item)
        return result

    with pytest.raises(type(error)), ThreadPoolExecutor(count) as pool:
        side_by_side(pool, [devices[i % count] for i in items], items, fail)
    assert devices[failing].served == []
    assert all(device.inside == 0 and len(device.served) <= 2 for device in devices)


def test_nothing_to_do() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert side_by_side(pool, [], [], work) == []
