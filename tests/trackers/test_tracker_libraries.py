"""What the logs of other programs hold, read back with their own readers."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_values import contribution, evaluation, round_entry, run_result, session
from stored_runs import after, begun

import tinymetafed as tmf
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import store
from tinymetafed.runs.journal import Showcase
from tinymetafed.runs.run_data import RunData
from tinymetafed.runs.store import RunStore


def missing(library: str, extra: str) -> str:
    return f"{library} is not installed: pip install 'tinymetafed[{extra}]'"


def commit(run: RunStore, round_: int) -> None:
    """A round of 100 bytes down and 25 up."""
    entry = round_entry(round_, sha256(after(round_)), contributions=(contribution(7),), bytes_down=100, bytes_up=25)
    run.append(entry, after(round_))


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    """A run of three rounds that was interrupted after an evaluation."""
    with begun(tmp_path / "runs" / "mine") as written:
        for round_ in range(3):
            commit(written, round_)
        written.append(evaluation(3, 2.25))
        return written.read()


def finish(run: RunData) -> None:
    """The rest of the run: two more rounds, and the result."""
    with store.reopen(run.path) as written:
        written.append(session(3))
        for round_ in (3, 4):
            commit(written, round_)
        result = run_result("mse", 4.0, 1.5)
        written.append(Showcase(result.d_curve, None, 0.0))
        written.append(evaluation(5, 1.5, per_task=((4.0, 1.5),)))
        written.append(result)


def log(run: RunData, name: str) -> None:
    tmf.open_run(run.path, trust=True).log(name, progress=False)


# TensorBoard


def events(run: RunData) -> Iterator[object]:
    """The events of the log's only file, whose records have a length and two checksums."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = (run.path / "tensorboard").iterdir()
    content, at = file.read_bytes(), 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + size])
        at += 16 + size


def scalars(run: RunData) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(run):
        for value in event.summary.value:  # type: ignore[attr-defined]
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))  # type: ignore[attr-defined]
    return found


def test_tensorboard_has_each_number_by_round_and_by_bytes(run: RunData) -> None:
    pytest.importorskip("tensorboardX", reason=missing("tensorboardX", "tensorboard"))
    log(run, "tensorboard")
    finish(run)
    log(run, "tensorboard")
    read = scalars(run)
    assert read["training/alpha/by_round"] == [(round_, 0.5) for round_ in (1, 2, 3, 4, 5)]
    assert read["training/alpha/by_bytes"] == [(125 * round_, 0.5) for round_ in (1, 2, 3, 4, 5)]
    assert read["clients/accepted/by_round"] == [(round_, 1.0) for round_ in (1, 2, 3, 4, 5)]
    assert read["validation/after/by_round"] == [(3, 2.25)]
    assert read["test/after"] == [(5, 1.5)] and read["test/before"] == [(5, 4.0)]
    assert {name.removesuffix("/by_bytes") for name in read if name.endswith("by_bytes")} == {
        name.removesuffix("/by_round") for name in read if name.endswith("by_round")
    } - {"bytes/total"}


def test_tensorboard_has_the_keys_and_the_end(run: RunData) -> None:
    pytest.importorskip("tensorboardX", reason=missing("tensorboardX", "tensorboard"))
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    finish(run)
    log(run, "tensorboard")
    values = [value for event in events(run) for value in event.summary.value]  # type: ignore[attr-defined]
    plugins = {
        value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for value in values
        if value.metadata.plugin_data.plugin_name == "hparams"
    }
    keys = plugins["_hparams_/session_start_info"].session_start_info.hparams
    assert keys["strategy.kind"].string_value == "tinymetafed" and keys["run.rounds"].number_value == 9
    assert plugins["_hparams_/session_end_info"].session_end_info.status == 1  # STATUS_SUCCESS
    (end,) = [value.tensor.string_val[0].decode() for value in values if value.tag == "end/text_summary"]
    assert f"| weights_sha256 | {sha256(after(4))} |" in end and "| state | finished |" in end


# MLflow


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    pytest.importorskip("mlflow", reason=missing("mlflow", "mlflow"))
    pytest.importorskip("sqlalchemy", reason=missing("sqlalchemy", "mlflow"))
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "waves")
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_mlflow_has_one_run_over_all_sessions(mlflow: object, run: RunData) -> None:
    log(run, "mlflow")
    (begun_run,) = mlflow.search_runs([mlflow.get_experiment_by_name("waves").experiment_id])  # type: ignore[attr-defined]
    assert begun_run.info.status == "KILLED" and begun_run.data.metrics["round"] == 3
    finish(run)
    for _ in range(2):  # the second time there is nothing to add
        log(run, "mlflow")
    (whole,) = mlflow.search_runs([begun_run.info.experiment_id])  # type: ignore[attr-defined]
    assert whole.info.run_id == begun_run.info.run_id and whole.info.status == "FINISHED"
    assert whole.info.run_name == "mine" and whole.data.params["run.rounds"] == "9"
    assert whole.data.tags["tinymetafed.weights_sha256"] == sha256(after(4))

    def history(name: str) -> list[tuple[int, float]]:
        points = mlflow.get_metric_history(whole.info.run_id, name)  # type: ignore[attr-defined]
        return sorted((point.step, point.value) for point in points)

    assert history("training/alpha") == [(round_, 0.5) for round_ in (1, 2, 3, 4, 5)]
    assert history("validation/after") == [(3, 2.25)] and history("test/after") == [(5, 1.5)]
    assert history("by_bytes/training/alpha") == [(125 * round_, 0.5) for round_ in (1, 2, 3, 4, 5)]


def test_mlflow_has_the_report_of_a_real_run(mlflow: object, tmp_path: Path) -> None:
    short = {"run.rounds": 3, "evaluation.every": 0, "evaluation.tasks": 6}
    run = tmf.simulate(tmf.load(tmf.example("sine.toml"), short), out=tmp_path / "run", log="mlflow", progress=False)
    (found,) = mlflow.search_runs([mlflow.get_experiment_by_name("waves").experiment_id])  # type: ignore[attr-defined]
    assert [file.path for file in mlflow.list_artifacts(found.info.run_id)] == ["report.html"]  # type: ignore[attr-defined]
    assert found.data.tags["tinymetafed.weights_sha256"] == run.weights_sha256


def test_a_server_that_is_away_is_a_warning(mlflow: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    short = {"run.rounds": 3, "evaluation.every": 0, "evaluation.tasks": 6}
    events: list[str] = []
    run = tmf.simulate(
        tmf.load(tmf.example("sine.toml"), short),
        out=tmp_path / "run",
        log="mlflow",
        progress=lambda progress: events.append(progress.event) if progress.event else None,
    )
    (warning,) = [text for text in events if "--log" in text]
    assert run.finished and warning.startswith("Warning: --log mlflow: MlflowException: ")
    assert "127.0.0.1" in warning and "the run goes on without this log" in warning


# Weights & Biases: a file of records in blocks of 32 KiB, as LevelDB's logs have them.


def records(folder: Path) -> Iterator[object]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # waits until its process has written everything
    (file,) = folder.glob("*.wandb")
    content, at, begun_record = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", content, at + 4)
        begun_record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(begun_record)
            begun_record = b""


def rows(folder: Path) -> list[dict[str, str]]:
    """The logged rows, values as JSON."""
    found = [record for record in records(folder) if record.WhichOneof("record_type") == "history"]  # type: ignore[attr-defined]
    return [
        {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}  # type: ignore[attr-defined]
        for record in found
    ]


def test_wandb_writes_files_where_nobody_is_logged_in(run: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason=missing("wandb", "wandb"))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    said: list[str] = []
    tmf.open_run(run.path).log("wandb", progress=lambda progress: said.append(progress.event))
    assert any("not logged in" in text and "wandb sync" in text for text in said)
    (first,) = run.path.glob("wandb/offline-run-*")
    assert [int(row["round"]) for row in rows(first)] == [1, 2, 3]
    finish(run)
    monkeypatch.setenv("WANDB_MODE", "offline")
    log(run, "wandb")
    (second,) = run.path.glob("wandb/offline-run-*")  # the first one was not uploaded, and is replaced
    written = rows(second)
    assert [int(row["round"]) for row in written] == [1, 2, 3, 4, 5]
    assert [row.get("validation/after") for row in written] == [None, None, "2.25", None, None]
    assert all(row["by_bytes/training/alpha"] == row["training/alpha"] == "0.5" for row in written)
    summary = {
        item.key: item.value_json
        for record in records(second)
        if record.WhichOneof("record_type") == "summary"  # type: ignore[attr-defined]
        for item in record.summary.update  # type: ignore[attr-defined]
    }
    assert summary["state"] == '"finished"' and summary["weights_sha256"] == f'"{sha256(after(4))}"'
    assert summary["test/after"] == "1.5"
    assert second.name.rpartition("-")[2] == (run.path / "wandb" / "run.id").read_text().strip()
