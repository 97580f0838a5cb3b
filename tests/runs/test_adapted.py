"""Adapted weights of single clients: saved as the devices have them, by the clients' names; results by class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.federation import meta_test
from tinymetafed.federation.clients import Adapted
from tinymetafed.federation.result import ClassScores
from tinymetafed.learn.tasks import HELD_OUT, Samples
from tinymetafed.runs import adapted
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.protocol import SampleSet

NAMES = ("rest", "walk", "run")
EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["carol", "dave"]
adapt = 9
[model]
input = [3]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 8, activation = "relu" }, { op = "dense", units = 3, local = true } ]
[run]
rounds = 60
[evaluation]
tasks = 6
"""


def write_data(folder: Path, clients: tuple[str, ...], noise: float = 0.8, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    for number, client in enumerate(clients):
        generator = np.random.default_rng([seed, number])
        labels = np.arange(48) % 3
        inputs = np.eye(3)[labels] + noise * generator.random((48, 3))
        rows = zip(inputs, labels, strict=True)
        lines = [",".join([*(f"{value:.4f}" for value in row), NAMES[label]]) for row, label in rows]
        (folder / f"{client}.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    folder = tmp_path_factory.mktemp("people")
    write_data(folder / "data", ("alice", "bob", "carol", "dave"))
    (folder / "experiment.toml").write_text(EXPERIMENT)
    return tmf.simulate(tmf.load(folder / "experiment.toml"), out=folder / "run", progress=False)


def normalised(x: np.ndarray, weights: np.lib.npyio.NpzFile) -> np.ndarray:
    return np.asarray(x * weights["normalise.kernel"] + weights["normalise.bias"])


def test_saved_weights_give_the_outputs_of_the_device(run: tmf.Run, tmp_path: Path) -> None:
    done = run.adapt(clients=["dave", "alice"], devices=["native:1"], save=tmp_path / "new" / "weights", progress=False)
    assert [(each.task, each.trained_on, each.client) for each in done.clients] == [
        ("dave, split 1", False, 1),
        ("alice", True, 0),
    ]
    assert [each.file for each in done.clients] == [str(tmp_path / "new" / "weights" / f"{n}.npz") for n in ("dave", "alice")]
    setup = set_up(run.data.experiment(), "test", None)
    (own, _) = adapted.compute(setup, run.data.weights, [HELD_OUT + 1, 0], 9)
    weights = adapted.read(Path(done.clients[0].file or ""), setup.design)
    assert own.weights is not None and weights.tobytes() == own.weights.tobytes()
    with np.load(done.clients[0].file or "") as file:
        x = np.maximum(normalised(own.test.inputs, file) @ file["dense1.kernel"] + file["dense1.bias"], 0)
        outputs = x @ file["dense2.kernel"] + file["dense2.bias"]
    np.testing.assert_allclose(outputs, own.after, rtol=1e-5, atol=1e-5)  # local weights as adapted, not as they start
    assert not np.allclose(own.before, own.after)


def test_every_client_is_saved_by_default_and_splits_have_files_of_their_own(run: tmf.Run, tmp_path: Path) -> None:
    done = run.adapt(tasks=3, devices=["native:1"], save=tmp_path, progress=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["carol-split-2.npz", "carol.npz", "dave.npz"]
    assert all(each.file for each in done.clients)


def test_a_name_that_no_client_has_is_refused_with_the_nearest(run: tmf.Run) -> None:
    with pytest.raises(tmf.DataError, match=r"client 'davd': no such client .* did you mean 'dave'\?"):
        run.adapt(clients=["davd"], progress=False)


def test_a_device_with_other_outputs_is_refused(run: tmf.Run) -> None:
    setup = set_up(run.data.experiment(), "test", None)
    (own,) = adapted.compute(setup, run.data.weights, [HELD_OUT], 9)
    adapted.require_same([own], [own], setup.task)
    other = Adapted(own.client, own.test, own.before, np.nextafter(own.after, 9, dtype=np.float32))
    with pytest.raises(adapted.AdaptedError, match="carol: the device's outputs differ"):
        adapted.require_same([other], [own], setup.task)


def test_a_folder_that_cannot_be_made_is_named(run: tmf.Run, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(tmf.AdaptedError, match=r"taken: a file; give a folder for the adapted weights"):
        run.adapt(clients=["dave"], save=tmp_path / "taken", progress=False)
    with pytest.raises(tmf.StoreError, match=r"taken.*cannot be written"):
        run.adapt(clients=["dave"], save=tmp_path / "taken" / "weights", progress=False)


# Results by class


def test_the_result_has_the_confusion_of_all_clients(run: tmf.Run) -> None:
    assert run.result is not None
    classes = run.result.meta_test.classes
    assert classes is not None and classes.names == ("rest", "run", "walk")
    setup = set_up(run.data.experiment(), "test", None)
    count = setup.experiment.task.count(SampleSet.ADAPT)
    counts = np.zeros((3, 4), int)
    for each in adapted.compute(setup, run.data.weights, [HELD_OUT + i for i in range(6)], count):
        for target, output in zip(each.test.targets[:, 0], each.after, strict=True):
            counts[int(target), output.argmax()] += 1
    assert classes.confusion == tuple(map(tuple, counts.tolist())) and counts.sum() == 6 * 39
    assert classes.recall == tuple(counts[i, i] / counts[i].sum() for i in range(3))
    assert classes.precision == tuple(counts[i, i] / counts[:, i].sum() for i in range(3))
    assert run.result.meta_test.after == pytest.approx(np.trace(counts) / counts.sum())
    shown = run.report().read_text(encoding="utf-8")
    assert "By class" in shown and f'<td class="number whole">{100 * (classes.recall[0] or 0):.1f} %</td>' in shown


def test_models_that_diverged_predict_nothing_and_empty_classes_have_no_share() -> None:
    class Two:
        class_names = ("no", "yes")

    test = Samples(np.zeros((3, 1), np.float32), np.array([[0], [1], [1]], np.float32))
    fine, lost = np.array([[-1], [2], [-3]], np.float32), np.full((3, 1), np.nan, np.float32)
    counts = meta_test.confusion(Two(), [Adapted(0, test, fine, fine), Adapted(1, test, fine, lost)])  # type: ignore[arg-type]
    assert counts == ((1, 0, 1), (1, 1, 2))
    assert ClassScores.of(("no", "yes"), counts).recall == (0.5, 0.25)
    never = ClassScores.of(("no", "yes"), ((0, 0, 0), (2, 0, 0)))
    assert never.precision == (0.0, None) and never.recall == (None, 0.0)


def test_the_command_prints_classes_and_saves(
    run: tmf.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: object) -> str:
        monkeypatch.setattr("sys.argv", ["tinymetafed", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "150")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    adapt = ["adapt", run.path, "--client", "dave", "--device", "native:1", "--save", tmp_path]
    shown = command(*adapt)
    assert "true class" in shown and "precision" in shown and "as walk" in shown
    plain = json.loads(command(*adapt, "--json"))
    assert plain["classes"]["names"] == ["rest", "run", "walk"] and plain["clients"][0]["file"] == str(tmp_path / "dave.npz")
