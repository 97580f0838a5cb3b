"""Results depend on clients and seed alone, not on the kind or number of devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rig import ALL, BITS, Board, Boards, every_board_serves, present
from small_runs import DATA, Quiet, needs_data, needs_qemu, omniglot, sine

from tinymetafed.runs import training
from tinymetafed.runs.journal import RunResult
from tinymetafed.runs.run_data import RunData
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import spec
from tinymetafed_codegen.protocol import Dtype, Program, Record, Selection
from tinymetafed_codegen.spec import Experiment


def script(board: Board) -> tuple[list[np.ndarray], list[Record]]:
    """Runs a round, an adaptation and predictions; returns all numbers that a host can read."""
    board.forget()
    seen: list[np.ndarray] = []
    chunks: list[Record] = []
    for token, (selection, uplink) in enumerate(zip(Selection, (Dtype.F32, Dtype.F16, Dtype.I8), strict=True), start=1):
        board.configure(board.n_global // 2, uplink, selection)
        board.load(token, board.weights(token))
        board.train(token)
        seen.append(board.fetch())
        chunks += board.pull(token, board.n_global // 2)
    board.load(4, board.weights(4))
    board.train(4, Program.ADAPT)
    seen.append(board.fetch())
    outputs = board.manifest.output_size
    if board.streamed:
        seen.append(board.session.predict(board.images(5), outputs, 1 / 255))
    else:
        seen.append(board.session.predict(np.linspace(-5, 5, 50, dtype=np.float32).reshape(-1, 1), outputs))
    return seen, chunks


@pytest.mark.parametrize("model", list(BITS))
@pytest.mark.parametrize("url", present(ALL[1:]))
def test_weights_deltas_and_predictions_equal_the_native_process(boards: Boards, url: str, model: str) -> None:
    seen, chunks = script(boards("native:1", model))
    others, other_chunks = script(boards(url, model))
    for mine, other in zip(seen, others, strict=True):
        np.testing.assert_array_equal(mine.view(np.uint32), other.view(np.uint32))  # bits, so that -0 is not 0
    assert chunks == other_chunks


def run(experiment: Experiment, url: str, out: Path, data: Path | None = None) -> RunResult:
    return training.train(set_up(experiment, "test", data), [url], ["native:1"], out, Quiet())


@pytest.fixture(scope="module")
def references() -> dict[int, RunData]:
    """Runs on native:1, by number of devices per round."""
    return {}


FEDERATION = ["run.rounds=6", "evaluation.tasks=3", "evaluation.every=0"]


@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize(
    ("per_round", "url"),
    [
        (1, "native:4"),
        pytest.param(1, "qemu:2", marks=needs_qemu),
        (3, "native:3"),
        (3, "native:2"),
        pytest.param(3, "qemu:2", marks=needs_qemu),
    ],
)
@pytest.mark.usefixtures("built_once", "patient")
def test_a_federation_ends_on_the_same_weights(
    per_round: int, url: str, references: dict[int, RunData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = sine(*FEDERATION, f"run.devices_per_round={per_round}")
    if per_round not in references:
        run(experiment, "native:1", tmp_path / "reference")
        references[per_round] = read_run(tmp_path / "reference")
    if per_round > 1:
        every_board_serves(int(url[-1]), monkeypatch)
    reference, found = references[per_round], run(experiment, url, tmp_path / "run")
    expected = reference.result
    assert expected is not None
    assert (found.weights_sha256, found.bytes_up_dense) == (expected.weights_sha256, expected.bytes_up_dense)
    assert found.meta_test == expected.meta_test
    # A device's first round also carries its configuration and late answers to Hello.
    for mine, other in zip(read_run(tmp_path / "run").rounds[4:], reference.rounds[4:], strict=True):
        assert [(part.client, part.digest) for part in mine.contributions] == [
            (part.client, part.digest) for part in other.contributions
        ]
        if not mine.retries + other.retries:
            # COBS may add single bytes
            assert (mine.bytes_down, mine.bytes_up) == pytest.approx((other.bytes_down, other.bytes_up), rel=0.01)
    assert sum(device.rounds for device in found.devices) == 6 * per_round
    assert all(device.rounds > 0 for device in found.devices)


@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("built_once", "patient")
def test_another_seed_ends_on_other_weights(tmp_path: Path) -> None:
    hashes = {run(sine(*FEDERATION, f"run.seed={seed}"), "native:1", tmp_path / str(seed)).weights_sha256 for seed in (1, 2, 3)}
    assert len(hashes) == 3


@pytest.mark.xdist_group("emulator-qemu")
@needs_qemu
@needs_data
@pytest.mark.usefixtures("built_once", "patient")
def test_handwriting_streamed_into_an_emulated_board_trains_to_the_native_weights(tmp_path: Path) -> None:
    few = ("task.support=2", "task.query=2")
    experiment = omniglot("run.rounds=1", *few, "evaluation.tasks=1", "evaluation.every=0", "evaluation.every_tasks=1")
    native = run(experiment, "native:1", tmp_path / "native", DATA)
    emulated = run(experiment, "qemu:1", tmp_path / "qemu", DATA)
    assert emulated.weights_sha256 == native.weights_sha256
    assert emulated.meta_test == native.meta_test
    sent = 2 * 10 * 784  # one pass over support and one over query, which boards keep: samples, pixels
    assert 1.5 * sent > native.bytes_samples > sent and 1.5 * sent > emulated.bytes_samples > sent
    every = omniglot(
        "run.rounds=1", *few, "evaluation.tasks=1", "evaluation.every=0", "evaluation.every_tasks=1",
        "board.keep_activations=false",
    )  # fmt: skip
    for url in ("native:1", "qemu:1"):
        plain = run(every, url, tmp_path / f"every-{url[:4]}", DATA)
        assert plain.weights_sha256 == native.weights_sha256
        assert plain.meta_test == native.meta_test
        assert plain.bytes_samples > 1.5 * sent


def wide(folder: Path, shape: tuple[int, ...]) -> Experiment:
    """Three clients with float32 samples, which boards normalise by their own running statistics.

    The message of one sample is longer than a board's usual receive window.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    draws = np.random.default_rng(7)
    for name in ("ann", "ben", "cleo"):
        np.savez(data / f"{name}.npz", x=draws.uniform(-1, 1, (12, *shape)).astype(np.float32), y=np.arange(12) % 3)
    file = folder / "wide.toml"
    flatten = "" if len(shape) == 1 else '{ op = "flatten" }, '
    file.write_text(
        f"""
[task]
kind = "folder"
path = "data"
support = 3
query = 3
adapt = 3
[data]
normalise = "running"
[model]
input = {list(shape)}
loss = "softmax_cross_entropy"
layers = [{flatten}{{ op = "dense", units = 4, activation = "relu" }}, {{ op = "dense", units = 3, local = true }}]
[run]
rounds = 1
[adaptation]
local_passes = 3
full_passes = 1
[evaluation]
tasks = 1
"""
    )
    return spec.load(file)


@pytest.mark.parametrize("url", present([url for url in ALL if ":" in url and url != "native:1"]))
def test_samples_beyond_the_usual_window_train_to_the_same_weights(url: str, tmp_path: Path) -> None:
    shape = (16, 16, 3) if url == "qemu:1" else (300,)
    experiment = wide(tmp_path, shape)
    native = run(experiment, "native:1", tmp_path / "native")
    result = run(experiment, url, tmp_path / "board")
    assert result.weights_sha256 == native.weights_sha256
    steps, width = 6, 4
    assert result.bytes_samples > steps * width * np.prod(shape)
