"""The normalisation of a model's input: measured in training clients, part of the model, the same bits everywhere."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from run_values import ASKED
from small_runs import Quiet

import tinymetafed as tmf
from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.weights import initial
from tinymetafed.runs import store, training
from tinymetafed.runs.setup import Setup, design_of, set_up
from tinymetafed_codegen import __main__ as command
from tinymetafed_codegen import spec
from tinymetafed_codegen.spec import SpecError

pytestmark = pytest.mark.xdist_group("normalisation")

EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["carol"]
support = 4
query = 4
adapt = 4
[data]
normalise = "standard"
[model]
input = [3]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 6, activation = "relu" }, { op = "dense", units = 2, local = true } ]
[run]
rounds = 20
[evaluation]
tasks = 4
"""
COLUMNS = ("pressure", "light", "flag")


def rows(client: str) -> Any:
    """float64 [24, 3]: pascals, small numbers, a constant; of which the classes differ in the first two."""
    generator = np.random.default_rng(sum(map(ord, client)))
    labels = np.arange(24) % 2
    pressure = 100_000 + 1_500 * labels + generator.normal(0, 300, 24)
    return np.stack([pressure.round(1), (0.01 * labels + generator.normal(0, 0.002, 24)).round(5), np.full(24, 5.0)], axis=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for client in ("alice", "bob", "carol"):
        write(tmp_path / "data" / f"{client}.csv", rows(client))
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT)
    return path


def write(path: Path, values: Any) -> None:
    cells = [f"{','.join(map(repr, row))},{i % 2}" for i, row in enumerate(values.tolist())]
    path.write_text("\n".join([",".join([*COLUMNS, "label"]), *cells]))


def prepared(file: Path, *changes: str) -> Setup:
    return set_up(spec.load(file, changes), str(file), None)


def seen(setup: Setup, x: Any) -> Any:
    """The sample as the first layer gets it, computed as arithmetic.md defines it."""
    kernel, bias = (setup.design.weights[f"normalise.{name}"] for name in ("kernel", "bias"))
    return np.asarray(x, np.float32) * kernel + bias


@pytest.mark.parametrize("how", ["standard", "range"])
def test_training_clients_alone_are_measured(file: Path, how: str) -> None:
    write(file.parent / "data" / "carol.csv", rows("carol") + 50_000)
    setup = prepared(file, f"data.normalise={how}")
    values = np.concatenate([rows("alice"), rows("bob")]).astype(np.float32).astype(float)
    expected = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1)
    if how == "range":
        width = values.max(0) - values.min(0)
        expected = (values - values.min(0)) / np.where(width > 0, width, 1)
    np.testing.assert_allclose(seen(setup, values), expected, atol=1e-3)
    assert (seen(setup, values)[:, 2] == 0).all()
    assert seen(setup, rows("carol") + 50_000)[:, 0].min() > 10, "held-out clients were measured too"


def test_numbers_do_not_depend_on_the_order_of_rows(file: Path) -> None:
    before = prepared(file).experiment.data
    write(file.parent / "data" / "bob.csv", np.flip(rows("bob"), 0))
    assert prepared(file).experiment.data == before


def test_a_constant_column_is_named_and_keeps_its_scale(file: Path) -> None:
    setup = prepared(file)
    assert setup.experiment.data.scale is not None and setup.experiment.data.scale[2] == 1
    assert any("'flag' is 5 in all samples of the training clients" in note for note in setup.task.notes)


def test_the_model_hash_covers_the_numbers_and_nothing_else(file: Path) -> None:
    measured = prepared(file)
    data = measured.experiment.data
    assert data.shift and data.scale
    given = f"data.shift={list(data.shift)}", f"data.scale={list(data.scale)}"
    assert prepared(file, *given).design.model_hash == measured.design.model_hash
    assert prepared(file, *given, "data.normalise=range").design.model_hash == measured.design.model_hash
    moved = f"data.shift={[data.shift[0] + 1, *data.shift[1:]]}"
    hashes = {prepared(file, *changes).design.model_hash for changes in ((), ("data.normalise=none",), (moved, given[1]))}
    assert len(hashes) == 3


def test_a_run_keeps_its_numbers_and_boards_train_to_the_same_bits(file: Path, tmp_path: Path) -> None:
    experiment = tmf.load(file)
    run = tmf.simulate(experiment, out=tmp_path / "run", progress=False)
    stored = tomllib.loads((tmp_path / "run" / "experiment.toml").read_text())["data"]
    assert stored["normalise"] == "standard" and len(stored["shift"]) == len(stored["scale"]) == 3
    assert tmf.load(tmp_path / "run" / "experiment.toml").spec == run.experiment.spec
    on_boards = training.train(prepared(file), ["native:1"], ["native:1"], tmp_path / "boards", Quiet())
    assert on_boards.meta_test.after == run.result.meta_test.after
    assert tmf.open_run(tmp_path / "boards").weights_sha256 == run.weights_sha256
    assert tmf.resume(tmp_path / "run", experiment=experiment, progress=False).weights_sha256 == run.weights_sha256


def test_exports_hold_the_normalisation(file: Path, tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
    setup = prepared(file)
    for name in ("weights.npz", "weights.h"):
        run.export(tmp_path / name)
    arrays = np.load(tmp_path / "weights.npz")
    for name in ("kernel", "bias"):
        assert (arrays[f"normalise.{name}"] == setup.design.weights[f"normalise.{name}"]).all()
    text = (tmp_path / "weights.h").read_text()
    assert "static const float normalise_kernel[3]" in text and "input * normalise_kernel + normalise_bias" in text


def test_weights_of_a_run_that_normalised_are_weights_to_start_from(file: Path, tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
    run.export(tmp_path / "weights.npz")
    given = f"model.weights={tmp_path / 'weights.npz'}"
    for mode in ("standard", "running"):
        manifest = prepared(file, given, f"data.normalise={mode}").design.manifest
        start = initial(manifest, 1, "glorot")
        assert (start == np.concatenate([each.ravel() for each in run.weights.values()])).all()
    with pytest.raises(SpecError, match=r"'normalise\.kernel' does not match data\.shift and data\.scale; set these to those"):
        prepared(file, given, "data.shift=[1,2,3]", "data.scale=[1,2,3]")
    with pytest.raises(SpecError, match=r"the model has no 'normalise\.kernel'"):
        prepared(file, given, "data.normalise=none")


def test_the_exported_network_normalises(file: Path, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="TensorFlow is not installed")
    run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
    run.export(tmp_path / "net.keras")
    network = keras.saving.load_model(tmp_path / "net.keras")
    x = rows("alice").astype(np.float32)
    first = keras.Model(network.inputs, network.get_layer("normalise").output)
    np.testing.assert_allclose(np.asarray(first(x)), seen(prepared(file), x), rtol=1e-6, atol=1e-5)
    tmf.import_model(tmp_path / "net.keras", tmp_path / "again.toml", loss="mse")
    again = spec.load(tmp_path / "again.toml").model.layers[0]
    assert (again.op, again.name) == ("affine", "normalisex2")  # free for the layer of [data] normalise


def test_a_layer_of_the_users_own_may_be_called_normalise(file: Path, tmp_path: Path) -> None:
    numbers = {"kernel": np.array([1.0, 2.0, 3.0], np.float32), "bias": np.array([4.0, 5.0, 6.0], np.float32)}
    dense = {"dense2.kernel": np.zeros((3, 2), np.float32), "dense2.bias": np.zeros(2, np.float32)}
    np.savez(tmp_path / "own.npz", **{f"normalise.{name}": values for name, values in numbers.items()}, **dense)  # type: ignore[arg-type]
    layers = "[{op='affine',name='normalise',frozen=true},{op='dense',units=2}]"
    keys = ["data.normalise=none", f"model.layers={layers}", f"model.weights={tmp_path / 'own.npz'}"]
    designed = design_of(tmf.load(file, keys).spec, str(file))
    for name, values in numbers.items():
        np.testing.assert_array_equal(designed.weights[f"normalise.{name}"].ravel(), values)
    with pytest.raises(SpecError, match="the name 'normalise' is taken"):
        design_of(tmf.load(file, keys[1:]).spec, str(file))


def test_codegen_measures_and_the_bare_code_generator_says_what_to_do(file: Path, tmp_path: Path) -> None:
    made = tmf.codegen(tmf.load(file), "mps2", tmp_path / "made")
    assert made.manifest.model_hash == prepared(file).design.manifest.model_hash
    assert "kNormaliseKernel" in (tmp_path / "made" / "frozen.hpp").read_text()
    with pytest.raises(SpecError, match=r"experiment\.toml: data\.normalise = 'standard' lacks .* `tinymetafed codegen`"):
        command.run(file, "mps2", tmp_path / "bare")
    assert not (tmp_path / "bare").exists()


def test_memory_is_known_without_data(file: Path) -> None:
    (file.parent / "data" / "alice.csv").unlink()
    (file.parent / "data").rename(file.parent / "elsewhere")
    without = design_of(spec.load(file, ["data.normalise=none"]), str(file), "mps2").manifest
    bare = design_of(spec.load(file), str(file), "mps2").manifest
    assert without.memory.flash + 2 * 3 * 4 < bare.memory.flash < without.memory.flash + 600
    assert bare.memory.ram_total == without.memory.ram_total, "the input is normalised in place"


def test_a_board_makes_its_own_samples_with_given_numbers_only(file: Path) -> None:
    (file.parent / "source.cpp").write_text("")
    own = ("task.source=source.cpp", "run.clients=4")
    with pytest.raises(SpecError, match=r"boards make their samples .* give data\.shift and data\.scale"):
        spec.load(file, own)
    given = spec.load(file, [*own, "data.shift=[1,2,3]", "data.scale=[1.0,2.0,0.5]"])
    assert given.data.is_normalised and given.streamed.data == given.data


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["data.shift=[1.0,2.0]", "data.scale=[1.0,2.0]"], r"data\.shift has 2 number\(s\), expected 3"),
        (["data.shift=[1.0,2.0,3.0]"], r"data\.shift without data\.scale"),
        (["data.scale=[1.0,2.0,3.0]"], r"data\.scale without data\.shift"),
        (["data.shift=[0,0,0]", "data.scale=[1,1,0]"], r"data\.scale"),
        (["data.shift=[0,0,nan]", "data.scale=[1,1,1]"], r"data\.shift"),
        (["data.shift=[0,0,1e30]", "data.scale=[1,1,1e20]"], r"data\.shift\[2\] \* data\.scale\[2\] .* float32"),
        (["data.shift=[1,2,3]", "data.scale=[1,1,1]", "data.normalise=none"], r"data\.normalise = 'none'"),
        (["data.normalise=standart"], "standard"),
        (['model.layers.0.name="normalise"'], "the name 'normalise' is taken"),
    ],
)
def test_wrong_numbers_are_refused(file: Path, changes: list[str], expected: str) -> None:
    with pytest.raises(SpecError, match=expected) as caught:
        design_of(spec.load(file, changes), str(file))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_value_that_overflows_is_named_by_everything_that_reads_data(file: Path, tmp_path: Path) -> None:
    values = rows("carol")
    values[7, 1] = 3e38
    run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
    other = tmp_path / "other"
    other.mkdir()
    for folder in (other, file.parent / "data"):
        for client in ("alice", "bob"):
            write(folder / f"{client}.csv", rows(client))
        write(folder / "carol.csv", values)

    def named(folder: Path) -> str:
        return re.escape(f"{folder / 'carol.csv'}: 'light' = 3e+38 is NaN or infinite once it is normalised")

    with pytest.raises(DataError, match=named(file.parent / "data")):
        prepared(file)
    (problem,) = tmf.check(file).problems
    assert problem.file.endswith("carol.csv") and "'light' = 3e+38" in problem.what
    for compute in (
        lambda: run.evaluate(data=other),
        lambda: run.evaluate(),
        lambda: run.adapt(data=other),
        lambda: run.export(tmp_path / "lib", format="cpp", client="carol"),
        lambda: run.export(tmp_path / "lib", format="cpp", adapt=[other / "carol.csv"]),
    ):
        with pytest.raises(DataError, match=r"carol\.csv: 'light' = 3e\+38 is NaN or infinite once it is normalised") as caught:
            compute()
        assert "\n" not in str(caught.value) and not (tmp_path / "lib").exists()


@pytest.mark.parametrize("where", ["simulated", "native"])
def test_divergence_names_the_column(file: Path, tmp_path: Path, where: str) -> None:
    setup = prepared(file, "data.normalise=none")
    with pytest.raises(tmf.Error) as caught:
        if where == "simulated":
            training.simulate(setup, 1, tmp_path / "run", Quiet())
        else:
            training.train(setup, ["native:1"], ["native:1"], tmp_path / "run", Quiet())
    assert "'pressure' spans 99" in str(caught.value) and "set data.normalise = 'standard'" in str(caught.value)
    assert "output_clamp" not in str(caught.value)


def test_runs_of_versions_without_normalisation_stay_as_they_were(file: Path, tmp_path: Path) -> None:
    experiment = spec.load(file, ["data.normalise=none"])
    setup = set_up(experiment, str(file), None)
    with store.create(tmp_path / "old", experiment, setup.design.manifest, np.zeros(24, np.float32), ASKED) as run:
        header = run.read().header
        raw = tomllib.loads(header.experiment)
        assert raw.pop("data") == {"normalise": "none"}
        old = replace(run.read(), header=replace(header, experiment=tomli_w.dumps(raw)))
    assert old.experiment() == experiment


def test_other_tasks_are_not_normalised_unless_asked() -> None:
    sine = spec.load(tmf.example("sine.toml"))
    assert sine.data.normalise == "none" and json.dumps(spec.dump(sine)["data"]) == '{"normalise": "none"}'
    measured = set_up(spec.load(tmf.example("sine.toml"), ["data.normalise=range"]), "sine", None).experiment.data
    assert measured.shift and -5 <= measured.shift[0] < -4.9 and measured.scale and 0.1 <= measured.scale[0] < 0.101
