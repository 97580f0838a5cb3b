"""evaluate: a run's model is scored on any data, with the classes that it was trained with."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_adapted import EXPERIMENT, normalised, write_data

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.cli.run_results import show_result
from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.runs import adapted, scoring
from tinymetafed.runs.setup import set_up


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    folder = tmp_path_factory.mktemp("scored")
    write_data(folder / "data", ("alice", "bob", "carol", "dave"))
    (folder / "experiment.toml").write_text(EXPERIMENT)
    return tmf.simulate(tmf.load(folder / "experiment.toml"), out=folder / "run", progress=False)


@pytest.fixture
def may(tmp_path: Path) -> Path:
    write_data(tmp_path / "may", ("erin", "dave"), seed=5)
    return tmp_path / "may"


def outputs(weights: Path, x: np.ndarray) -> np.ndarray:
    with np.load(weights) as file:
        hidden = np.maximum(normalised(x, file) @ file["dense1.kernel"] + file["dense1.bias"], 0)
        return np.asarray(hidden @ file["dense2.kernel"] + file["dense2.bias"])


def rows(file: Path) -> tuple[np.ndarray, list[str]]:
    cells = [line.split(",") for line in file.read_text().splitlines()]
    return np.array([row[:3] for row in cells], np.float32), [row[3] for row in cells]


def test_every_file_of_other_data_is_adapted_and_scored(run: tmf.Run, may: Path) -> None:
    scored = run.evaluate(data=may, progress=False)
    assert [each.task for each in scored.clients] == ["dave, split 1", "erin, split 1"] and scored.samples == 9
    assert scored.classes is not None
    assert np.array(scored.classes.confusion).sum() == 2 * (48 - 9)  # all rows that were not adapted to
    assert scored.before is not None and scored.after is not None and scored.after > scored.before


def test_adapted_weights_are_scored_on_all_rows_as_they_are(run: tmf.Run, may: Path, tmp_path: Path) -> None:
    saved = tmp_path / "weights"
    run.adapt(clients=["dave"], devices=["native:1"], save=saved, progress=False)
    scored = run.evaluate(data=may, weights=saved / "dave.npz", progress=False)
    names = ("rest", "run", "walk")
    counts = np.zeros((3, 4), int)
    for client in ("dave", "erin"):
        inputs, labels = rows(may / f"{client}.csv")
        for label, output in zip(labels, outputs(saved / "dave.npz", inputs), strict=True):
            counts[names.index(label), output.argmax()] += 1
    assert scored.classes is not None and scored.classes.confusion == tuple(map(tuple, counts.tolist()))
    with pytest.raises(tmf.AdaptedError, match=r"erin\.npz: no such file, so client 'erin' has no adapted weights"):
        run.evaluate(data=may, weights=saved, progress=False)
    (may / "erin.csv").unlink()
    assert len(run.evaluate(data=may, weights=saved, progress=False).clients) == 1


def test_classes_keep_their_meaning_in_data_that_have_only_some(run: tmf.Run, may: Path) -> None:
    for file in may.iterdir():
        kept = [line for line in file.read_text().splitlines() if not line.endswith("rest")]
        file.write_text("\n".join(kept))
    classes = run.evaluate(data=may, progress=False).classes
    assert classes is not None and classes.names == ("rest", "run", "walk")
    assert sum(classes.confusion[0]) == 0 and sum(classes.confusion[1]) > 0
    older = replace(run.data, header=replace(run.data.header, asked=replace(run.data.header.asked, class_names=())))
    again = scoring.evaluate(older, may, None, None, 1, tmf.watching(False).__enter__())
    assert again.classes == classes
    file.write_text(file.read_text().replace("walk", "swim"))
    with pytest.raises(tmf.DataError, match=r"class 'swim', but the model was trained with rest, run, walk; correct the label"):
        run.evaluate(data=may, progress=False)


def test_one_class_and_one_row_can_be_scored_with_adapted_weights(run: tmf.Run, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "erin.csv").write_text("1.2,0.1,0.2,rest\n")
    run.adapt(clients=["carol"], devices=["native:1"], save=tmp_path / "weights", progress=False)
    scored = run.evaluate(data=tmp_path / "one", weights=tmp_path / "weights" / "carol.npz", progress=False)
    assert scored.after in (0.0, 1.0)
    with pytest.raises(tmf.DataError, match="client 'erin': too few samples to adapt with 9"):
        run.evaluate(data=tmp_path / "one", progress=False)


def test_without_data_the_held_out_clients_are_scored(run: tmf.Run) -> None:
    assert [each.task for each in run.evaluate(progress=False).clients] == ["carol, split 1", "dave, split 1"]


def test_weights_of_another_model_are_refused(run: tmf.Run, may: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **{"dense1.kernel": np.zeros((3, 8), np.float32)})  # type: ignore[arg-type]
    with pytest.raises(tmf.AdaptedError, match=r"has no dense1\.bias, dense2\.kernel, dense2\.bias"):
        run.evaluate(data=may, weights=tmp_path / "other.npz", progress=False)
    np.savez(tmp_path / "shape.npz", **{"dense1.kernel": np.zeros((4, 8), np.float32)})  # type: ignore[arg-type]
    with pytest.raises(tmf.SpecError, match=r"shape\.npz: adapted weights: 'dense1\.kernel' has the shape \[4, 8\]"):
        run.evaluate(data=may, weights=tmp_path / "shape.npz", progress=False)
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    for name, said in (("objects", "not an npz file of numbers: it holds other objects"), ("none", "no such file")):
        with pytest.raises(tmf.SpecError, match=rf"/{name}\.npz: adapted weights: {said}\Z"):
            run.evaluate(data=may, weights=tmp_path / f"{name}.npz", progress=False)


@pytest.mark.parametrize("start", ["redrawn", "zeros"])
def test_saved_weights_are_used_however_local_weights_start(tmp_path: Path, start: str) -> None:
    write_data(tmp_path / "data", ("alice", "bob", "carol"))
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.replace(', "dave"', ""))
    settings = {"model.local_start": start, "run.rounds": 5, "evaluation.tasks": 1}
    run = tmf.simulate(tmf.load(tmp_path / "experiment.toml", settings), out=tmp_path / "run", progress=False)
    setup, manifest = set_up(run.data.experiment(), "test", None), run.data.manifest
    done = adapted.compute(setup, run.data.weights, [HELD_OUT], 9)
    (file,) = adapted.write(tmp_path / "weights", setup.design, setup.task, done)
    assert file is not None and adapted.read(file, setup.design).size == manifest.n_parameters
    scored = run.evaluate(weights=tmp_path / "weights", progress=False)
    unused = setup.task.samples_to_score(HELD_OUT, 9)
    found = outputs(tmp_path / "weights" / "carol.npz", unused.inputs).argmax(axis=1)
    assert scored.after == pytest.approx(np.mean(found == unused.targets[:, 0]))


def test_the_command_scores(
    run: tmf.Run, may: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["tinymetafed", "evaluate", str(run.path), "--data", str(may), *options])
        monkeypatch.setenv("COLUMNS", "150")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        if options:
            assert json.loads(said.out)["classes"]["names"] == ["rest", "run", "walk"]
        else:
            assert "Clients of" in said.out and "recall" in said.out and "erin" in said.out


def test_weights_adapted_to_other_inputs_are_refused(run: tmf.Run, tmp_path: Path) -> None:
    run.adapt(clients=["dave"], devices=["native:1"], save=tmp_path, progress=False)
    with np.load(tmp_path / "dave.npz") as file:
        arrays = dict(file)
    arrays["normalise.bias"][0] += 1
    np.savez(tmp_path / "moved.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(tmf.AdaptedError, match=r"moved\.npz: normalise\.bias differs from the run"):
        run.evaluate(weights=tmp_path / "moved.npz", progress=False)


def test_clients_that_the_run_has_trained_on_are_marked_by_their_samples(
    run: tmf.Run, may: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = run.path.parent / "data"
    scored = run.evaluate(data=own, progress=False)
    marks = {each.task.partition(",")[0]: each.trained_on for each in scored.clients}
    assert marks == {"alice": True, "bob": True, "carol": False, "dave": False}
    assert "trained on 2 of these 4 clients" in scored.notes[0]
    (may / "alice.csv").write_text((may / "erin.csv").read_text())  # the name of a training client, but other samples
    (may / "zoe.csv").write_text((own / "bob.csv").read_text())  # another name, but the samples of one
    marks = {each.task.partition(",")[0]: each.trained_on for each in run.evaluate(data=may, progress=False).clients}
    assert marks == {"alice": False, "dave": False, "erin": False, "zoe": True}
    monkeypatch.setattr("sys.argv", ["tinymetafed", "evaluate", str(run.path), "--data", str(own)])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.count("(trained on)") == 2


def test_where_the_runs_data_have_changed_it_is_not_known_who_was_trained_on(run: tmf.Run, may: Path) -> None:
    other = replace(run.data, header=replace(run.data.header, asked=replace(run.data.header.asked, data_sha256="0" * 64)))
    scored = scoring.evaluate(other, may, None, None, 1, tmf.watching(False).__enter__())
    assert [each.trained_on for each in scored.clients] == [None, None] and "have changed" in scored.notes[0]


def test_other_data_are_said_to_be_others(run: tmf.Run, may: Path) -> None:
    assert "other data than the run has trained on" in run.evaluate(data=may, progress=False).notes[0]


@pytest.mark.parametrize("client", ["dave", "alice"])  # held out, trained on
def test_samples_that_weights_were_adapted_with_are_not_scored(run: tmf.Run, tmp_path: Path, client: str) -> None:
    run.adapt(clients=[client], devices=["native:1"], save=tmp_path, samples=12, progress=False)
    file, own = tmp_path / f"{client}.npz", run.path.parent / "data"
    scored = run.evaluate(data=own, weights=file, progress=False)
    assert scored.classes is not None and np.array(scored.classes.confusion).sum() == 4 * 48 - 12
    assert any(f"client '{client}': the 12 samples that" in note for note in scored.notes)
    expected = run.adapt(clients=[client], devices=["native:1"], samples=12, progress=False).after
    after = {each.task.partition(",")[0]: each.after for each in scored.clients}
    assert after[client] == pytest.approx(expected)  # adapt scores on the same remaining 36 rows


def test_weights_that_do_not_say_how_they_were_adapted_are_scored_with_a_note(run: tmf.Run, may: Path, tmp_path: Path) -> None:
    run.adapt(clients=["dave"], devices=["native:1"], save=tmp_path, progress=False)
    changed = run.evaluate(data=may, weights=tmp_path / "dave.npz", progress=False)
    assert any("client 'dave': its data are not those" in note for note in changed.notes)
    with np.load(tmp_path / "dave.npz") as file:
        np.savez(tmp_path / "silent.npz", **dict(file))  # type: ignore[arg-type]
    silent = run.evaluate(weights=tmp_path / "silent.npz", progress=False)
    assert [note for note in silent.notes if "does not say which samples" in note] == list(silent.notes)
    assert silent.classes is not None and np.array(silent.classes.confusion).sum() == 2 * 48


def test_two_clients_are_too_few_for_an_interval(run: tmf.Run, capsys: pytest.CaptureFixture[str]) -> None:
    show_result(run, False)
    said = capsys.readouterr().out
    assert "(2 clients, too few for an interval)" in " ".join(said.split()) and "±" not in said
    assert run.result is not None and run.result.meta_test.after_ci95 is not None


def test_too_many_samples_are_refused_with_the_option_that_asked_for_them(run: tmf.Run, may: Path) -> None:
    for clients, samples in ((["dave"], 48), (["alice"], 46), ([], 60)):
        with pytest.raises(tmf.DataError, match="--samples"):
            run.adapt(clients=clients, devices=["native:1"], samples=samples, progress=False)
    for data in (may, None):
        with pytest.raises(tmf.DataError, match="--samples"):
            run.evaluate(data=data, samples=48, progress=False)


def test_exported_weights_are_scored_as_saved_ones(run: tmf.Run, may: Path, tmp_path: Path) -> None:
    run.adapt(clients=["dave"], devices=["native:1"], save=tmp_path, progress=False)
    run.export(tmp_path / "exported.npz", client="dave")
    saved, exported = (
        run.evaluate(data=run.path.parent / "data", weights=tmp_path / name, progress=False)
        for name in ("dave.npz", "exported.npz")
    )
    assert saved.clients == exported.clients and saved.classes == exported.classes
    assert any("the 9 samples that" in note for note in exported.notes)
    run.export(tmp_path / "own.npz", adapt=[may / "erin.csv"])
    (may / "dave.csv").unlink()
    with pytest.raises(tmf.DataError, match=r"client 'erin': .*own\.npz was adapted with all of its 48 samples"):
        run.evaluate(data=may, weights=tmp_path / "own.npz", progress=False)


def test_exported_weights_without_the_local_layers_are_refused_with_what_to_do(run: tmf.Run, tmp_path: Path) -> None:
    for file in (run.export(tmp_path / "global.npz"), run.path / "weights.npz"):
        with pytest.raises(tmf.AdaptedError, match=rf"{file.name}: has no dense2\.kernel.*export RUN --client … -o FILE\.npz"):
            run.evaluate(weights=file, progress=False)


def test_exported_weights_of_a_run_without_local_layers_are_scored_on_all_samples(tmp_path: Path) -> None:
    write_data(tmp_path / "data", ("alice", "bob", "carol"))
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.replace(', "dave"', "").replace(", local = true", ""))
    settings = {"run.rounds": 5, "evaluation.tasks": 1, "strategy.kind": "fedavg", "run.devices_per_round": 1}
    run = tmf.simulate(tmf.load(tmp_path / "experiment.toml", settings), out=tmp_path / "run", progress=False)
    scored = run.evaluate(weights=run.export(tmp_path / "whole.npz"), progress=False)
    assert scored.classes is not None and np.array(scored.classes.confusion).sum() == 48
    assert scored.notes == () and scored.before == scored.after


def test_files_of_other_formats_are_refused_with_what_to_do(run: tmf.Run, tmp_path: Path) -> None:
    file = run.export(tmp_path / "w.h")
    with pytest.raises(tmf.AdaptedError, match=r"w\.h: of format \.h, expected a NumPy file; .* -o FILE\.npz`"):
        run.evaluate(weights=file, progress=False)
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(
        tmf.SpecError, match=r"other\.npz: adapted weights: not an npz file of numbers: it is an archive of other"
    ):
        run.evaluate(weights=tmp_path / "other.npz", progress=False)


def test_options_that_would_be_ignored_are_refused(run: tmf.Run, may: Path, tmp_path: Path) -> None:
    for name in ("first", "tasks"):
        with pytest.raises(tmf.UsageError, match=f"--{name} 2 and --client: give one of them"):
            run.adapt(clients=["dave"], **{name: 2}, progress=False)  # type: ignore[arg-type]
    with pytest.raises(tmf.UsageError, match="--samples 3 and --weights: give one of them"):
        run.evaluate(weights=tmp_path, samples=3, progress=False)
    for options in ({}, {"adapt": [may / "erin.csv"]}):
        with pytest.raises(tmf.UsageError, match=r"--data .*may has the clients of --client; give a client too"):
            run.export(tmp_path / "w.npz", data=may, **options)  # type: ignore[arg-type]
    with pytest.raises(tmf.UsageError, match="--baud 9600 is the speed of a serial line"):
        tmf.monitor(str(may / "erin.csv"), 9600)
    for option, value in (("data", may), ("board", "mps2")):
        with pytest.raises(tmf.UsageError, match=rf"--{option} .* has no experiment\.toml; leave --{option} out"):
            tmf.check(may, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sine", "presence"])
def test_data_are_refused_where_the_task_reads_none(kind: str, tmp_path: Path) -> None:
    experiment = tmf.load(tmf.example(f"{kind}.toml"), {"run.rounds": 1, "evaluation.tasks": 1, "evaluation.every": 0})
    said = rf"--data .*: task '{kind}' makes its samples itself and reads no data; leave --data out"
    for begin in (tmf.simulate, tmf.train):
        with pytest.raises(tmf.UsageError, match=said):
            begin(experiment, out=tmp_path / "none", data=tmp_path, progress=False)
    assert not (tmp_path / "none").exists()
    if kind == "presence":
        return
    run = tmf.simulate(experiment, out=tmp_path / "run", progress=False)
    for refused in (run.adapt, run.evaluate, run.resume):
        with pytest.raises(tmf.UsageError, match=said):
            refused(data=tmp_path, progress=False)
    with pytest.raises(tmf.UsageError, match=said):
        run.export(tmp_path / "w.npz", client="0", data=tmp_path)
    with pytest.raises(tmf.UsageError, match=said):
        tmf.sweep(tmf.example("sweeps/sine.toml"), out=tmp_path / "sweep", data=tmp_path, progress=False)
