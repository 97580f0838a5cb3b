"""A board's own running mean and variance: local weights of the first layer, measured by its training steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import exported
import numpy as np
import pytest
from rig import raw
from small_runs import Quiet
from typer.testing import CliRunner
from with_tensorflow import agree, needs_tensorflow

import tinymetafed as tmf
from tinymetafed.cli import application
from tinymetafed.devices.link.link_errors import DeviceRefused
from tinymetafed.devices.running import running
from tinymetafed.learn.tasks import HELD_OUT, DataError
from tinymetafed.learn.weights import local_start
from tinymetafed.runs import training
from tinymetafed.runs.adapted import compute
from tinymetafed.runs.setup import Setup, design_of, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.calls import BackwardCall
from tinymetafed_codegen.protocol import Dtype, Predict, Program, Recipe, Sample, SampleSet, Status, Variant
from tinymetafed_codegen.spec import SpecError

pytestmark = [pytest.mark.xdist_group("running"), pytest.mark.usefixtures("built_once")]

EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["carol"]
support = 4
query = 4
adapt = 8
[data]
normalise = "running"
[model]
input = [4, 3]
loss = "softmax_cross_entropy"
local_start = "kept"
layers = [
  { op = "conv1d", filters = 4, kernel = 3, activation = "relu" },
  { op = "flatten" },
  { op = "dense", units = 2, local = true },
]
[strategy]
top_p = 50
[run]
rounds = 6
devices_per_round = 2
[adaptation]
local_passes = 2
full_passes = 1
[evaluation]
tasks = 4
"""
STEPS = 3 * 8  # of an adaptation: passes times samples


def rows(client: str, count: int = 24) -> Any:
    """float64 [count, 4, 3]: pascals, small numbers, a constant that is no float32."""
    generator = np.random.default_rng(sum(map(ord, client)))
    labels = np.arange(count) % 2
    shape = (count, 4)
    pressure = 100_000 + 1_500 * labels[:, None] + generator.normal(0, 300, shape) + generator.normal(0, 900)
    light = 0.01 * labels[:, None] + generator.normal(0, 0.002, shape)
    return np.stack([pressure.round(1), light.round(5), np.full(shape, 5.1)], axis=2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for client in ("alice", "bob", "carol"):
        write(tmp_path / "data" / f"{client}.npz", rows(client))
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT)
    return path


def write(path: Path, values: Any) -> None:
    np.savez(path, x=np.asarray(values, np.float32), y=np.arange(len(values)) % 2)


def prepared(file: Path, *changes: str) -> Setup:
    return set_up(spec.load(file, changes), str(file), None)


def statistics(setup: Setup, weights: Any) -> tuple[float, Any, Any]:
    """Count, means and variances among all weights of a client."""
    found = {tensor.name: weights[tensor.place] for tensor in setup.design.manifest.local_tensors}
    return float(found["normalise.count"][0]), found["normalise.mean"], found["normalise.variance"]


def adapted(setup: Setup) -> tuple[Any, Any]:
    """All weights of the held-out client after adaptation, and its samples in float64."""
    count = setup.experiment.task.count(SampleSet.ADAPT)
    manifest = setup.design.manifest
    (client,) = compute(setup, np.zeros(manifest.n_global, np.float32), [HELD_OUT], count)
    return client.weights, setup.task.samples(HELD_OUT, 0, SampleSet.ADAPT, count).inputs.astype(np.float64)


def test_statistics_are_those_of_all_samples_however_often_they_come(file: Path) -> None:
    setup = prepared(file)
    weights, samples = adapted(setup)
    count, mean, variance = statistics(setup, weights)
    values = samples.reshape(-1, 3)
    assert count == STEPS
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance[:2], values.var(0)[:2], rtol=1e-4)
    assert variance[2] == 0 and mean[2] == np.float32(5.1), "a constant channel has no variance, not even of rounding"


def test_the_model_gets_distances_in_standard_deviations_cut_to_ten(file: Path) -> None:
    """A network that only passes on what its first layer gives; nothing but the statistics is local."""
    for path in (file.parent / "data").iterdir():
        write(path, rows(path.stem)[:, 0, :2])
    keys = ["model.input=[2]", "model.layers=[{op='dense',units=2}]", "adaptation.full_passes=0"]
    setup = prepared(file, *keys)
    adapts = setup.task.samples(HELD_OUT, 0, SampleSet.ADAPT, 8).inputs
    values = rows("carol")[:, 0, :2].astype(np.float32)
    values[~(values[:, None] == adapts).all(2).any(1), 0] *= 3  # rows to predict, far from all that was seen
    write(file.parent / "data" / "carol.npz", values)
    setup = prepared(file, *keys)
    (client,) = compute(setup, np.array([1, 0, 0, 1, 0, 0], np.float32), [HELD_OUT], 8)
    assert client.weights is not None
    count, mean, variance = statistics(setup, client.weights)
    expected = (client.test.inputs.astype(np.float64) - mean) / np.sqrt(variance.astype(np.float64))
    assert count == 16 and (expected[:, 0] > 10).all() and (np.abs(expected[:, 1]) < 5).all()
    np.testing.assert_allclose(client.after, np.clip(expected, -10, 10), rtol=1e-4, atol=1e-5)
    assert (client.before[:, 0] == 10).all(), "before its first step a board computes with mean 0 and variance 1"


def test_a_start_counts_as_samples_and_the_window_is_bounded(file: Path) -> None:
    start = "data.shift=[99000,0,5.0]", "data.scale=[0.001,100.0,1.0]"
    setup = prepared(file, *start, "data.start_count=5", "data.largest_count=12")
    weights, samples = adapted(setup)
    n, mean, variance = 5, np.array([99_000, 0, 5.0]), np.array([1e6, 1e-4, 1.0])
    for sample in np.tile(samples, (3, 1, 1)):  # the definition, in float64
        n = min(n + 1, 12)
        distance = sample.mean(0) - mean
        mean = mean + distance / n
        variance = (1 - 1 / n) * (variance + distance**2 / n) + sample.var(0) / n
    counted, means, variances = statistics(setup, weights)
    assert counted == 12
    np.testing.assert_allclose(means, mean, rtol=1e-6)
    np.testing.assert_allclose(variances, variance, rtol=1e-4)
    given = local_start(setup.design.manifest, "random", 0.1)
    assert given["normalise.count"].tolist() == [5.0] and given["normalise.mean"].tolist() == [99_000.0, 0.0, 5.0]


def test_boards_and_simulation_keep_the_same_statistics_and_never_send_them(file: Path, tmp_path: Path) -> None:
    setup = prepared(file)
    simulated = training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    on_boards = training.train(setup, ["native:2"], ["native:1"], tmp_path / "boards", Quiet())
    assert on_boards.weights_sha256 == simulated.weights_sha256 and on_boards.meta_test == simulated.meta_test
    manifest = setup.design.manifest
    assert manifest.n_global == 3 * 3 * 4 + 4
    assert all(tensor.is_local == (tensor.name.split(".")[0] in ("normalise", "dense3")) for tensor in manifest.parameters)


def test_a_board_refuses_what_its_statistics_cannot_hold_and_goes_on(file: Path) -> None:
    setup = prepared(file)
    manifest, model = setup.design.manifest, setup.experiment.model
    start = np.concatenate(
        [each.ravel() for each in local_start(manifest, model.local_start, model.local_start_scale).values()]
    )
    sound = rows("carol")[:1].astype(np.float32)
    with running(setup.design, ["native:1"], Quiet()) as fleet:
        session = fleet.devices[0].session
        session.configure(Program.TRAIN, Recipe(setup.strategy.training(), setup.strategy.top_k))
        session.load(1, setup.strategy.download(np.zeros(manifest.n_global, np.float32)))
        session.train(1, Program.TRAIN, 1, 0, 0)
        for bad, status in ((np.nan, Status.NOT_FINITE), (np.inf, Status.NOT_FINITE), (-2e18, Status.BAD_VALUE)):
            damaged = sound.copy()
            damaged[0, 1, 2] = bad
            for message in (
                Sample(1, 0, Dtype.F32, 1.0, np.float32(0).tobytes() + damaged.tobytes()),
                Predict(Dtype.F32, 1.0, damaged.tobytes()),
            ):
                with pytest.raises(DeviceRefused) as refused:
                    session.request(raw(message.type_id, message.encode()))
                assert refused.value.status is status
        np.testing.assert_array_equal(session.fetch(manifest.n_global, start.size), start)
        session.request(Sample(1, 0, Dtype.F32, 1.0, np.float32(0).tobytes() + sound.tobytes()))
        count, mean, _ = statistics(setup, session.fetch(0, manifest.n_parameters))
        assert count == 1 and mean[0] == pytest.approx(sound[..., 0].mean())
        assert np.isfinite(session.predict(sound, 2)).all()


@pytest.mark.parametrize("kind", ["tinymetafed", "tinyreptile", "fedsgd", "tinyol"])
def test_statistics_stay_on_the_board_with_every_strategy_and_need_no_gradient(file: Path, kind: str) -> None:
    net = design_of(spec.load(file, [f"strategy.kind={kind}", "strategy.top_p=100"]), "test").graph
    last = next(placed.op for placed in net.parameters if placed.name == "dense3.kernel")
    assert last.local == (kind in ("tinymetafed", "tinyol"))
    measured = [placed for placed in net.parameters if placed.op.observes]
    assert [placed.name for placed in measured] == [f"normalise.{name}" for name in ("count", "mean", "variance")]
    assert all(placed.offset >= net.n_global for placed in measured)
    for variant, calls in net.backward.items():
        assert not any(call.op.observes for call in calls)
        assert len(net.observing(variant)) == (variant is not Variant.GLOBAL)
        lowest = [call for call in calls if isinstance(call, BackwardCall)][-1:]
        assert all(call.dx is None for call in lowest), "no backward pass reaches the first layer"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["data.shift=[1,2,3]"], r"data\.shift without data\.scale; give both, or neither to start from 0 and 1"),
        (["data.shift=[1,2]", "data.scale=[1.0,2.0]"], r"data\.shift has 2 number\(s\), expected 3"),
        (["data.shift=[0,0,2e18]", "data.scale=[1,1,1]"], r"data\.shift\[2\] = 2e\+18: .* -1e\+18 to 1e\+18"),
        (["data.shift=[0,0,0]", "data.scale=[1,1e-20,1]"], r"data\.scale\[1\] = 1e-20: .* 1e-15 to 1e\+15"),
        (["data.start_count=5"], r"data\.start_count .* data\.shift and data\.scale"),
        (["data.largest_count=0"], r"data\.largest_count"),
        (
            ["data.largest_count=8", "data.normalise=standard"],
            r"data\.largest_count works only with data\.normalise = 'running'",
        ),
        (["data.largest_count=8", "data.shift=[1,2,3]", "data.scale=[1,2,3]"], r"data\.start_count = 10 is above .* = 8"),
        (['model.layers=[{op="quantize",scale=0.1,zero_point=0}]'], r"layers\[0\]: data\.normalise = 'running' .* 'quantize'"),
        (["data.normalise=runing"], "running"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(file: Path, changes: list[str], expected: str) -> None:
    with pytest.raises(SpecError, match=expected) as caught:
        design_of(spec.load(file, changes), str(file))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_value_beyond_the_statistics_is_named_with_its_file(file: Path) -> None:
    values = rows("carol")
    values[7, 1, 1] = 3e18
    write(file.parent / "data" / "carol.npz", values)
    with pytest.raises(DataError, match=r"carol\.npz: .* = 3e\+18 is too large to compute with; correct the value"):
        prepared(file)
    (problem,) = tmf.check(file).problems
    assert problem.file.endswith("carol.npz") and "3e+18" in problem.what


def test_boards_that_make_their_samples_need_no_numbers(file: Path) -> None:
    (file.parent / "source.cpp").write_text("")
    own = spec.load(file, ["task.source=source.cpp", "run.clients=4"])
    assert not own.data.is_unmeasured and own.data.shift is None


def test_check_codegen_and_the_run_say_what_a_board_measures(file: Path, tmp_path: Path) -> None:
    (note,) = [note for note in tmf.check(file).notes if "running" in note]
    assert note == prepared(file).task.notes[-1] and "mean 0 and variance 1" in note and "never leave the board" in note
    said = CliRunner().invoke(application(), ["codegen", str(file), "--board", "mps2", "-o", str(tmp_path / "made")]).stdout
    assert note[1:] in said
    header = (tmp_path / "made" / "model.hpp").read_text()
    local, whole, shared = (
        re.search(rf"step_{variant}\(.*?\n  \}}", header, re.DOTALL)[0]  # type: ignore[index]
        for variant in ("local", "full", "global")
    )
    assert "Normalise::observe" in local and "Normalise::observe" in whole and "observe" not in shared


def test_exports_have_the_statistics_of_the_adapted_client(file: Path, tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
    run.export(tmp_path / "net.npz", client="carol")
    run.export(tmp_path / "net.h", client="carol")
    arrays = np.load(tmp_path / "net.npz")
    setup = prepared(file)
    samples = setup.task.samples(HELD_OUT, 0, SampleSet.ADAPT, 8).inputs.reshape(-1, 3)
    assert arrays["normalise.count"].tolist() == [STEPS]
    np.testing.assert_allclose(arrays["normalise.mean"], samples.astype(np.float64).mean(0), rtol=1e-6)
    text = (tmp_path / "net.h").read_text()
    assert "(input - normalise_mean) / sqrt(normalise_variance)" in text and "normalise_variance[3]" in text
    assert "never leave the board" in run.report(tmp_path / "report.html").read_text()
    run.export(tmp_path / "lib", format="cpp", client="carol")
    library = tmp_path / "lib"
    said = exported.printed(exported.build(library, library / "test" / "self_test.cpp"))
    assert said == (library / "test" / "expected.txt").read_text() and said.endswith("same as on the host\n")
    assert "a feature is beyond 1e+18" in (library / "src" / "LibModel.h").read_text()


class TestTensorFlow:
    pytestmark = needs_tensorflow

    def test_the_exported_network_normalises_by_the_clients_statistics(self, file: Path, tmp_path: Path) -> None:
        import keras

        run = tmf.simulate(tmf.load(file, {"run.rounds": 1}), out=tmp_path / "run", progress=False)
        run.export(tmp_path / "net.keras", client="carol")
        run.export(tmp_path / "net.npz", client="carol")
        arrays, network = np.load(tmp_path / "net.npz"), keras.saving.load_model(tmp_path / "net.keras")
        x = rows("carol").astype(np.float32)
        x[:, 0] *= 3  # beyond what is normalised
        scale = np.where(arrays["normalise.variance"] > 0, np.sqrt(arrays["normalise.variance"]), 1)
        expected = np.clip((x - arrays["normalise.mean"]) / scale, -10, 10)
        assert (expected == 10).any()
        cut = keras.Model(network.input, next(each for each in network.operations if each.name.startswith("clip")).output)
        agree(np.asarray(cut(x)), expected, 1e-3)
        run.export(tmp_path / "net.tflite", client="carol")
