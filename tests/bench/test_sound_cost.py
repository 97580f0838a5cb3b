"""What a board's microphone takes: the figures in docs/data.md are those that are measured."""

from __future__ import annotations

import re

import pytest
from small_runs import Quiet, needs_qemu, sine

from tinymetafed.bench import BenchError, sound_cost
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.options import log_mel_facts

TOLERANCE = 0.02


@needs_qemu
def test_the_documented_figures_are_those_of_the_emulated_board() -> None:
    experiment = spec.load(find("examples/digits.toml"), ["task.sound.arithmetic=board"])
    cost = sound_cost.measure(experiment, "digits", "mps2", Quiet())
    text = (root() / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\| ([\d,]+) \| [\d,]+ \| [\d,]+ \|$", text, re.MULTILINE)
    per_frame, per_second, per_sound, ram, tables = (int(number.replace(",", "")) for number in rows)
    assert (cost.ram_bytes, cost.table_bytes) == (ram, tables)
    for found, written in (
        (cost.instructions_per_frame, per_frame),
        (cost.instructions_per_second, per_second),
        (cost.instructions_per_sound, per_sound),
    ):
        assert abs(found / written - 1) < TOLERANCE
    facts = log_mel_facts.of_experiment(experiment, "digits")
    assert facts is not None and facts.ram <= cost.ram_bytes <= facts.ram + 64


def test_an_experiment_without_sound_is_refused() -> None:
    with pytest.raises(BenchError, match=r"set task\.sound\.arithmetic = 'board'"):
        sound_cost.measure(sine(), "sine", "mps2", Quiet())
