"""Training on the user's own data, streamed from files or made by an own source on the board, up to the report."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_values import ASKED
from small_runs import Quiet

from tinymetafed.devices import launch
from tinymetafed.devices.running import build_firmware
from tinymetafed.learn.tasks import HELD_OUT, DataError
from tinymetafed.runs import adapting, report, rest_of_run, store, training, unchanged
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment, SpecError
from tinymetafed_codegen.toolchain import BuildError

# Models that differ in a header only share a build folder, so one process runs all these tests.
pytestmark = pytest.mark.xdist_group("own-data")
EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["carol"]
adapt = 6
[model]
input = [3]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 12, activation = "relu" }, { op = "dense", units = 3, local = true } ]
[run]
rounds = 60
[evaluation]
tasks = 12
every_tasks = 6
"""
# Class k: input k is near 1, the others near 0.
SOURCE = """
#include "model.hpp"
#include "prng.hpp"
#include "shared/header.hpp"
#include "source.hpp"

namespace tmf::source {

bool on_device() { return true; }

void make(const Key& key, float* input, float* target) {
  const uint32_t label = key.index % model::kClassCount;
  for (uint32_t i = 0; i < model::kInputSize; ++i) {
    const uint32_t index = model::kInputSize * key.index + i;
    const uint32_t word = draw(key.seed, key.client, key.draw, static_cast<protocol::Stream>(key.set), index).first;
    input[i] = (i == label ? kHigh : 0.0f) + 0.2f * uniform(word);
  }
  target[0] = static_cast<float>(label);
}

}  // namespace tmf::source
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An experiment with three clients that label the same three clusters."""
    (tmp_path / "data").mkdir()
    for client in range(3):
        generator = np.random.default_rng(client)
        labels = np.arange(36) % 3
        inputs = np.eye(3)[labels] + 0.2 * generator.random((36, 3))
        lines = [
            ",".join([*(f"{value:.4f}" for value in row), f"class{label}"]) for row, label in zip(inputs, labels, strict=True)
        ]
        (tmp_path / "data" / f"{('alice', 'bob', 'carol')[client]}.csv").write_text("\n".join(lines))
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "header.hpp").write_text("#pragma once\nconstexpr float kHigh = 1.0f;\n")
    (tmp_path / "source.cpp").write_text(SOURCE)
    return path


def load(file: Path, *overrides: str) -> Experiment:
    return spec.load(file, overrides)


def train(file: Path, out: Path, *overrides: str, url: str = "native:2") -> RunData:
    training.train(set_up(load(file, *overrides), str(file), None), [url], ["native:2"], out, Quiet())
    return store.read_run(out)


def simulate(file: Path, out: Path, *overrides: str) -> RunData:
    training.simulate(set_up(load(file, *overrides), str(file), None), 2, out, Quiet())
    return store.read_run(out)


def test_too_few_boards_for_clients_that_keep_state_are_no_reason_to_set_a_number_that_the_data_have(file: Path) -> None:
    with pytest.raises(SpecError) as caught:
        train(file, file.parent / "run", "strategy.error_feedback=true", url="native:1")
    said = str(caught.value)
    assert "the data have 2 training clients and there are 1 boards; give --device for 2, or simulate" in said
    assert "run.clients" not in said


def same_in_simulation(run: RunData, simulated: RunData) -> None:
    assert simulated.weights.tobytes() == run.weights.tobytes()
    assert run.result is not None and simulated.result is not None
    for key in ("meta_test", "d_curve", "example"):
        assert getattr(simulated.result, key) == getattr(run.result, key)
    for key in ("bytes_down", "bytes_up", "bytes_samples"):
        assert getattr(simulated.result, key) == pytest.approx(getattr(run.result, key), rel=0.01)


@pytest.mark.usefixtures("built_once")
def test_a_folder_is_trained_on_whichever_devices_there_are(file: Path, tmp_path: Path) -> None:
    run = train(file, tmp_path / "run", "run.devices_per_round=2")
    assert run.result is not None
    test = run.result.meta_test
    assert test.after > 0.95 and test.before < 0.8 and (test.n_tasks, test.n_clients) == (12, 1)
    assert {part.client for entry in run.rounds for part in entry.contributions} == {0, 1}
    assert run.result.bytes_samples > 0
    again = train(file, tmp_path / "again", "run.devices_per_round=2", "evaluation.tasks=1", url="native:1")
    assert again.weights.tobytes() == run.weights.tobytes()
    same_in_simulation(run, simulate(file, tmp_path / "simulated", "run.devices_per_round=2"))
    page = report.write(store.read_run(run.path)).read_text()
    assert "Your own data" in page and "12 splits of 1 client" in page and "labelled samples" in page
    curve = run.result.d_curve
    assert curve.d == (0, 1, 2, 4, 6) and (curve.n_tasks, curve.n_clients) == (12, 1)
    assert (curve.mean[0], curve.mean[-1]) == (test.before, test.after)
    setup = set_up(run.experiment(), "run", run.data)
    rows = adapting.adapt(setup, ["native:1"], run.weights, range(HELD_OUT, HELD_OUT + 3), Quiet()).clients
    assert [row.task for row in rows] == ["carol, split 1", "carol, split 2", "carol, split 3"]
    assert [(row.before, row.after) for row in rows] == list(test.per_task[:3])


@pytest.mark.usefixtures("built_once")
def test_two_classes_are_learned_with_one_output(file: Path, tmp_path: Path) -> None:
    for path in (file.parent / "data").iterdir():
        path.write_text(path.read_text().replace("class2", "class1"))
    model = 'model.loss="binary_crossentropy"'
    file.write_text(EXPERIMENT.replace("units = 3", "units = 1"))
    run = simulate(file, tmp_path / "run", model)
    assert run.result is not None
    test = run.result.meta_test
    assert test.metric == "accuracy" and test.after > 0.9  # 2 of 3 rows are of the same class
    file.write_text(EXPERIMENT)
    with pytest.raises(SpecError, match=r"model.loss = mse or mae or huber or softmax_cross_entropy, .* binary_crossentropy"):
        simulate(file, tmp_path / "three outputs", model)


@pytest.mark.usefixtures("built_once")
def test_an_interrupted_run_on_a_folder_goes_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(file, tmp_path / "whole", "run.rounds=40")
    genuine = rest_of_run.RestOfRun._write

    def until_round_15(self: rest_of_run.RestOfRun, done: rest_of_run.Round) -> None:
        genuine(self, done)
        if done.index == 14:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rest_of_run.RestOfRun, "_write", until_round_15)
        train(file, tmp_path / "run", "run.rounds=40")
    training.resume(tmp_path / "run", Quiet())
    assert store.read_run(tmp_path / "run").weights.tobytes() == whole.weights.tobytes()


@pytest.mark.usefixtures("built_once")
def test_a_regression_shows_predicted_against_true(file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "data").glob("*.csv"):
        x = np.random.default_rng(len(path.stem)).random((40, 3)).astype(np.float32)
        path.unlink()
        np.savez(path.with_suffix(".npz"), x=x, y=np.stack([x[:, 0] - x[:, 1], x[:, 2]], axis=1))
    file.write_text(EXPERIMENT.replace("softmax_cross_entropy", "mse").replace("units = 3", "units = 2"))
    run = train(file, tmp_path / "run")
    assert run.result is not None
    assert run.result.meta_test.metric == "mse"
    assert run.result.meta_test.after < run.result.meta_test.before / 2
    assert run.result.d_curve.d == (0, 1, 2, 4, 6)
    drawn = run.result.example
    assert len(drawn.true) == len(drawn.before) == len(drawn.after) == 2 * 34
    assert "predicted against true values" in report.write(store.read_run(run.path)).read_text()


# Own source

BOARDS = ("task.source=source.cpp", "task.client_per_board=true")


@pytest.mark.usefixtures("built_once")
def test_boards_train_on_what_an_own_source_makes_and_unseen_clients_adapt_with_their_files(file: Path, tmp_path: Path) -> None:
    # What the devices say once, which a simulation does not count, is a small part of the bytes of so many rounds.
    own = ("task.source=source.cpp", "run.clients=9", "run.rounds=150")
    run = train(file, tmp_path / "run", *own)
    assert run.result is not None
    assert run.result.bytes_samples == 0 and run.result.meta_test.after > 0.95
    assert {part.client for entry in run.rounds for part in entry.contributions} == set(range(9))
    assert run.manifest.sample_source == "own" and 'source = "../source.cpp"' in run.header.experiment
    again = train(file, tmp_path / "again", *own, "evaluation.tasks=1", url="native:1")
    assert again.weights.tobytes() == run.weights.tobytes()
    same_in_simulation(run, simulate(file, tmp_path / "simulated", *own))
    setup = set_up(run.experiment(), "run", None)
    assert len(adapting.adapt(setup, ["native:1"], run.weights, range(HELD_OUT, HELD_OUT + 2), Quiet()).clients) == 2


@pytest.mark.usefixtures("built_once")
def test_each_board_is_a_client_of_its_own(file: Path, tmp_path: Path) -> None:
    run = train(file, tmp_path / "run", *BOARDS, "run.rounds=30", url="native:3")
    by_id = {device.url: device.unique_id for device in run.devices}
    served = {(part.client, by_id[part.device]) for entry in run.rounds for part in entry.contributions}
    assert sorted(served) == list(enumerate(sorted(by_id.values())))
    assert len(served) == 3


@pytest.mark.usefixtures("built_once")
def test_a_client_whose_board_is_gone_is_skipped_and_nobody_takes_its_place(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_of_run.RestOfRun, "_test", interrupt)
    monkeypatch.setattr(launch, "_process_numbers", itertools.count(1))
    with pytest.raises(KeyboardInterrupt):
        train(file, tmp_path / "run", *BOARDS, "run.rounds=20", url="native:3")
    whole = store.read_run(tmp_path / "run").rounds
    genuine = rest_of_run.RestOfRun._write

    def until_round_10(self: rest_of_run.RestOfRun, done: rest_of_run.Round) -> None:
        genuine(self, done)
        if done.index == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rest_of_run.RestOfRun, "_write", until_round_10)
        patch.setattr(launch, "_process_numbers", itertools.count(1))
        train(file, tmp_path / "less", *BOARDS, "run.rounds=20", url="native:3")
    monkeypatch.setattr(launch, "_process_numbers", itertools.count(1))  # the same ids, as in a new process
    with pytest.raises(KeyboardInterrupt):
        training.resume(tmp_path / "less", Quiet(), urls=["native:2"])
    for there, entry in zip(whole, store.read_run(tmp_path / "less").rounds, strict=True):
        (before,), (part,) = there.contributions, entry.contributions
        gone = entry.round >= 10 and part.client == 2
        assert part.client == before.client and part.status == ("skipped" if gone else "accepted")
    assert {entry.contributions[0].client for entry in whole[10:]} == {0, 1, 2}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_model_hash_covers_the_source(file: Path) -> None:
    def model(*overrides: str) -> str:
        return design_of(load(file, *overrides), "test", "native").manifest.model_hash

    first = model("task.source=source.cpp")
    assert first != model()
    (file.parent / "moved.cpp").write_text(SOURCE)
    assert model("task.source=moved.cpp") == first
    (file.parent / "moved.cpp").write_text(SOURCE + "// new\n")
    assert model("task.source=moved.cpp") != first


def test_a_changed_header_of_the_source_is_compiled_again(file: Path) -> None:
    experiment = load(file, "task.source=source.cpp")
    first = build_firmware(design_of(experiment, "test"), "native").program.read_bytes()
    (file.parent / "shared" / "header.hpp").write_text("#pragma once\nconstexpr float kHigh = 1.5f;\n")
    assert build_firmware(design_of(experiment, "test"), "native").program.read_bytes() != first


def test_a_simulation_too_is_compiled_again_for_a_changed_header(file: Path, tmp_path: Path) -> None:
    own = ("task.source=source.cpp", "run.clients=9", "run.rounds=3", "evaluation.tasks=2")
    first = simulate(file, tmp_path / "first", *own)
    header = tmp_path / "shared" / "header.hpp"
    header.write_text(header.read_text().replace("1.0f", "0.5f"))
    assert simulate(file, tmp_path / "second", *own).weights.tobytes() != first.weights.tobytes()


def test_a_source_that_does_not_compile_is_shown_with_the_compilers_words(file: Path) -> None:
    (file.parent / "source.cpp").write_text(SOURCE.replace("kHigh", "kLow"))
    with pytest.raises(BuildError, match=r"source\.cpp:\d+:\d+: error: .kLow. was not declared"):
        build_firmware(design_of(load(file, "task.source=source.cpp"), "test"), "native")


def test_an_invalid_source_is_refused(file: Path) -> None:
    (file.parent / "binary.cpp").write_bytes(SOURCE.encode() + b"\0\1")
    (file.parent / "other.cpp").write_text("int main() {}\n")
    for name, message in (
        ("absent.cpp", r"absent\.cpp: cannot be read \(No such file"),
        ("data", r"data: cannot be read"),
        ("experiment.toml", r"experiment\.toml: not a sample source in C\+\+"),
        ("binary.cpp", r"binary\.cpp: not a sample source"),
        ("other.cpp", r"other\.cpp: not a sample source .* defines tmf::source::on_device\(\) and make\(\)"),
    ):
        with pytest.raises(SpecError, match=message):
            design_of(load(file, f"task.source={name}"), "test", "native")


def test_a_source_changed_since_the_run_is_named(file: Path, tmp_path: Path) -> None:
    experiment = load(file, "task.source=source.cpp")
    setup = set_up(experiment, "test", None)
    with store.create(tmp_path / "run", experiment, setup.design.manifest, np.zeros(48, np.float32), ASKED):
        pass
    (tmp_path / "source.cpp").write_text(SOURCE + "// new\n")
    with pytest.raises(StoreError, match=r"source\.cpp as it was then"):
        unchanged.same_model(set_up(experiment, "test", None), store.read_run(tmp_path / "run"))


def test_too_few_clients_for_a_round_are_refused_before_anything_is_built(file: Path) -> None:
    with pytest.raises(SpecError, match=r"data: 2 training client\(s\), too few for run\.devices_per_round = 3; set .* = 2 or"):
        set_up(load(file, "run.devices_per_round=3"), "test", None)


def test_a_run_is_not_continued_on_other_data(file: Path, tmp_path: Path) -> None:
    experiment = load(file)
    setup = set_up(experiment, "test", None)
    asked = replace(ASKED, data_sha256=setup.task.data_sha256)
    with store.create(tmp_path / "run", experiment, setup.design.manifest, np.zeros(48, np.float32), asked):
        pass
    carol = tmp_path / "data" / "carol.csv"
    carol.write_text(carol.read_text().replace("class0", "class1", 1))
    with pytest.raises(StoreError, match=r"run\.db: this run's data have changed since it was begun; restore them"):
        training.resume(tmp_path / "run", Quiet())


def test_moved_data_are_found_at_the_given_path(file: Path, tmp_path: Path) -> None:
    experiment = load(file)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"data: no such folder"):
        set_up(experiment, "test", None)
    task = set_up(experiment, "test", tmp_path / "moved").task
    assert len(task.samples(HELD_OUT, 0, SampleSet.ADAPT, 6)) == 6
