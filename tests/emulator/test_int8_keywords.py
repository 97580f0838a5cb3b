"""A head for four words trains on a board on top of MLPerf Tiny's keyword network in int8, with the simulation's bits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_runs import Quiet, needs_qemu
from with_tensorflow import needs_tensorflow

from tinymetafed import import_model
from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen import spec

KEYWORDS = Path(os.environ.get("TINYMETAFED_TEST_DATA", ".")) / "models" / "mlperf_kws_int8.tflite"
pytestmark = [
    *needs_tensorflow,
    pytest.mark.skipif(not KEYWORDS.is_file(), reason="TINYMETAFED_TEST_DATA has no models/mlperf_kws_int8.tflite"),
]


@needs_qemu
def test_a_head_of_four_words_trains_on_a_cortex_m4(tmp_path: Path) -> None:
    import_model(KEYWORDS, tmp_path / "words.toml", outputs=4)
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(1)
    words = random.normal(0, 20, (4, 49, 10, 1))
    for speaker in range(4):
        labels = np.arange(40) % 4
        heard = words[labels] + random.normal(0, 3, (40, 49, 10, 1))
        np.savez(tmp_path / "data" / f"{speaker}.npz", x=heard.astype(np.float32), y=labels)
    small = ["run.rounds=3", "task.support=4", "task.query=8", "task.adapt=16", "evaluation.tasks=1"]
    experiment = spec.load(tmp_path / "words.toml", small)

    memory = design_of(experiment, "test", "nano33ble").manifest.memory
    assert memory.ram_total < 40_000 and memory.flash < 60_000, "of the 256 KB and 1 MB of an nRF52840"
    found = [
        training.train(set_up(experiment, "test", None), [url], ["native:1"], tmp_path / url[:4], Quiet())
        for url in ("qemu:1", "native:1")
    ]
    assert found[0].weights_sha256 == found[1].weights_sha256
    assert found[0].meta_test.after > found[0].meta_test.before + 0.2
