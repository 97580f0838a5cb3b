"""Bytes and instructions of levels: those of a run's messages, and what is claimed of a board's work on them."""

from __future__ import annotations

import pytest
from small_runs import DATA, Quiet, needs_data, needs_qemu, omniglot, sine
from test_costs import rows

from tinymetafed.bench import BenchError, level_cost, stack
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.codecs.level_load import LeveledWeights
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import set_up
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.protocol import Dtype

MOST = 0.05  # of a round's instructions, to read 5,888 weights and to write an update with four bits in a range code


def test_counted_weights_are_those_that_a_run_counts() -> None:
    setup = set_up(sine("strategy.downlink=i4", "strategy.downlink_coding=range"), "sine", None)
    manifest, levels = setup.design.manifest, LevelFormat(4, is_ranged=True)
    sizes = [tensor.size for tensor in manifest.global_tensors]
    segments = downlink.encode(initial(manifest, 1, None)[: sum(sizes)], Dtype.I8, sizes, levels)
    weights = LeveledWeights.of(segments, levels)
    counted = open_kernels(setup.design, 1).load_on_wire(weights)[1]
    assert level_cost.load_bytes(weights, manifest.receive_window, manifest.mac_bytes) == counted


def test_masked_updates_are_refused() -> None:
    masked = ("privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=3")
    with pytest.raises(BenchError, match=r"sine: .*leave \[privacy\] out"):
        level_cost.measure(sine(*masked), "sine", "mps2", None, Quiet())


def test_the_document_keeps_to_what_is_claimed() -> None:
    table = rows((root() / "docs" / "costs.md").read_text(encoding="utf-8"), "| net | weights | both ways")
    (share,) = (row[-1] for row in table if row[:3] == ["omniglot", "5,888", "i4 range"])
    assert 0 < float(share.removesuffix("%")) / 100 <= MOST


@needs_qemu
@needs_data
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("built_once")
def test_four_bits_in_a_range_code_take_a_small_part_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROUNDS": 1, "EVERY": 1, "MEASURED": (("i4", "packed"), ("i4", "range"))}.items():
        monkeypatch.setattr(level_cost, name, value)
    monkeypatch.setattr(stack, "deepest", lambda *_: 1)  # steps through single instructions
    found = level_cost.measure(omniglot(), "omniglot", "mps2", DATA, Quiet())
    packed, ranged = found.rows
    assert (found.n, found.entries) == (5_888, 589)
    assert ranged.update < packed.update and 0 < packed.levels < ranged.levels
    assert 0 < ranged.share <= MOST
