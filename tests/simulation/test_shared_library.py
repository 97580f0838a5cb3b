"""Two runs in threads of one process: their kernels are of one library, whose working memory only one may use at a time."""

from __future__ import annotations

import threading
from typing import Any

from clocks import HUNG_SECONDS
from small_runs import sine

from tinymetafed.runs.setup import set_up
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen.abi import simulation_abi as abi
from tinymetafed_codegen.protocol import SampleSet


def test_a_call_waits_for_that_of_another_thread_in_the_same_library() -> None:
    design = set_up(sine(), "test", None).design
    first, second = open_kernels(design, 1), open_kernels(design, 1)
    inside, other_inside = threading.Event(), threading.Event()
    at_once: list[bool] = []

    def watched(*arguments: Any) -> None:
        inside.set()
        at_once.append(other_inside.wait(0.1))
        genuine(*arguments)

    def other(*arguments: Any) -> None:
        other_inside.set()
        genuine(*arguments)

    genuine = first._functions[abi.MAKE_SAMPLES.name]
    first._functions[abi.MAKE_SAMPLES.name], second._functions[abi.MAKE_SAMPLES.name] = watched, other
    thread = threading.Thread(target=first.samples, args=(1, [3], 0, SampleSet.TEST, 4))
    thread.start()
    assert inside.wait(HUNG_SECONDS)
    second.samples(1, [3], 0, SampleSet.TEST, 4)
    thread.join()
    assert at_once == [False] and other_inside.is_set()
