"""The facts of a task have one definition, its spec class; data, reports and budgets take them from there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tinymetafed as tmf
from tinymetafed.learn.metric import Metric
from tinymetafed.learn.tasks import Samples, Task
from tinymetafed.learn.tasks.task_registry import open_task, task_class
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.ops import LOSSES
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import TARGETS, TASKS, ModelSpec, SpecError, TaskBase, is_classification

REQUIRED = {"folder": {"path": "somewhere"}}  # keys without a default


def section(kind: str) -> TaskBase:
    return TASKS[kind].model_validate({"kind": kind, **REQUIRED.get(kind, {})})


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_task_has_its_class_and_a_title(kind: str) -> None:
    chosen = section(kind)
    assert issubclass(task_class(chosen), Task) and chosen.title
    assert (find("firmware") / "app" / f"source_{chosen.sample_source}.cpp").is_file()


def test_the_api_names_the_kinds_and_losses() -> None:
    assert tuple(TASKS) == tmf.TASKS and tuple(TARGETS) == tmf.LOSSES


def test_two_kinds_never_share_a_class() -> None:
    assert len({task_class(section(kind)) for kind in TASKS}) == len(TASKS)


def test_no_code_branches_on_the_class_of_a_task() -> None:
    """Facts that differ between tasks are attributes or methods of the spec classes."""
    asks = re.compile(r"isinstance\([^)]*(?:Task\b|TaskBase)|task\.kind == |get\(.kind.\) == .(?:" + "|".join(TASKS) + ")")
    files = [path for folder in ("host", "codegen") for path in (root() / folder).rglob("*.py")]
    assert [str(path) for path in files if asks.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("kind", ["sine", "presence"])
def test_shapes_metric_and_source_are_those_of_the_spec(kind: str) -> None:
    experiment = spec.load(find(f"examples/{kind}.toml"))
    task = open_task(experiment, None)
    assert type(task) is task_class(experiment.task) and task.spec is experiment.task
    assert task.shapes == experiment.task.shapes and task.metric == Metric.of(task.shapes.loss)
    assert task.on_device(SampleSet.SUPPORT) is (experiment.task.sample_source != "streamed")
    test = task.test_samples(1 << 20, 0)
    assert test.inputs.shape[1:] == task.input_shape and test.targets.shape[1] == task.target_size


def test_a_task_that_takes_any_model_has_the_shapes_of_this_one(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.csv").write_text("".join(f"{i},{i},{i % 2}\n" for i in range(40)))
    model = {"input": [2], "loss": "binary_crossentropy", "layers": [{"op": "dense", "units": 1}]}
    raw = {"task": {"kind": "folder", "path": str(tmp_path)}, "model": model}
    task = open_task(spec.parse(raw, "test"), None)
    assert (task.input_shape, task.output_size, task.target_size, task.metric) == ((2,), 1, 1, Metric.ACCURACY)
    model["loss"] = "huber"
    task = open_task(spec.parse(raw, "test"), None)
    assert (task.target_size, task.metric, task.shapes.is_classification) == (1, Metric.MSE, False)


def test_a_key_that_names_a_file_is_relative_to_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        '[task]\nkind = "folder"\npath = "data"\nsource = "own.cpp"\n'
        '[model]\ninput = [1]\nloss = "mse"\nlayers = [{op = "dense", units = 1}]\n'
    )
    task = spec.load(tmp_path / "e.toml").task
    assert TASKS["folder"].path_keys == ("path", "source")
    assert [getattr(task, key) for key in task.path_keys] == [str(tmp_path / "data"), str(tmp_path / "own.cpp")]


# Losses


def test_every_loss_says_what_it_compares_with() -> None:
    allowed = ModelSpec.model_json_schema()["properties"]["loss"]["enum"]
    assert list(TARGETS) == allowed == list(LOSSES)
    assert [name for name in TARGETS if is_classification(name)] == ["binary_crossentropy", "softmax_cross_entropy"]


@pytest.mark.parametrize("loss", TARGETS)
def test_the_defaults_of_a_loss_are_those_of_its_kind(loss: str) -> None:
    model = {"input": [1], "loss": loss, "layers": [{"op": "dense", "units": 2}]}
    found = spec.parse({"task": {"kind": "folder", "path": "."}, "model": model}, "test")
    is_class = loss in ("binary_crossentropy", "softmax_cross_entropy")
    assert found.model.init == ("he" if is_class else "glorot") and found.strategy.output_clamp == (0.0 if is_class else 1.0)
    assert found.evaluation.model_dump() == {
        "tasks": 40,
        "every": 0,
        "every_tasks": 20,
        "group": "test",
    }  # the task's defaults, for every loss


def test_an_unknown_loss_is_named() -> None:
    model = {"input": [1], "loss": "hinge", "layers": [{"op": "dense", "units": 1}]}
    with pytest.raises(SpecError, match=r"'model\.loss' = 'hinge'"):
        spec.parse({"task": {"kind": "folder", "path": "."}, "model": model}, "test")


def test_scores_of_both_metrics() -> None:
    outputs, targets = np.array([[2, 1], [0, 3], [np.nan, 0]], np.float32), np.array([[0], [0], [1]], np.float32)
    assert Metric.ACCURACY.score(outputs, targets) == pytest.approx(1 / 3)
    assert Metric.MSE.score(outputs[:2], np.zeros((2, 2), np.float32)) == pytest.approx(14 / 4)
    assert Metric.MSE.score(outputs, np.zeros((3, 2), np.float32)) == Metric.MSE.worst == float("inf")
    assert Metric.ACCURACY.is_better(0.5, 0.4) and Metric.MSE.is_better(0.4, 0.5) and not Metric.MSE.is_better(0.5, 0.5)
    task = open_task(spec.load(find("examples/presence.toml")), None)
    with pytest.raises(ValueError, match=r"outputs have shape \(3, 2\), expected \(2, 2\)"):
        task.score(outputs, Samples(np.zeros((2, 8), np.float32), targets[:2]))
