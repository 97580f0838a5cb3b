"""What changed samples cost is counted beside the same firmware without them."""

from __future__ import annotations

import pytest
from small_runs import Quiet, needs_qemu, omniglot

from tinymetafed.bench import BenchError, augment_cost


def test_samples_that_stay_as_they_are_have_no_cost_to_count() -> None:
    with pytest.raises(BenchError, match=r"omniglot: .augment. and .predict. are not set.*--set augment\.shift=2"):
        augment_cost.measure(omniglot(), "omniglot", "mps2", Quiet())


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("built_once")
def test_a_moved_image_takes_a_small_part_of_a_step_and_no_ram() -> None:
    found = augment_cost.measure(omniglot("augment.shift=2"), "omniglot", "mps2", Quiet())
    assert (found.keys, found.steps) == ("augment.shift = 2", 10)
    assert 0 < found.share < 0.05
    assert found.changed_ram == found.plain_ram and found.changed_flash > found.plain_flash
