"""The run folder: refuses what is in use, replaces files whole or not at all, and never hands out wrong weights."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import manifest, omniglot, sine

from tinymetafed.learn.weights import initial
from tinymetafed.store import RunFolder, StoreError, claimed, has_weights, read_experiment, read_weights, write_result

EXPERIMENT = sine("run.rounds=9")
MANIFEST = manifest(EXPERIMENT)
WEIGHTS = initial(MANIFEST, 4, "glorot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with weights."""
    with RunFolder.create(tmp_path / "run", EXPERIMENT, MANIFEST) as run:
        run.save_weights(WEIGHTS, 7)
    return tmp_path / "run"


def test_what_was_written_is_read_again(folder: Path) -> None:
    assert read_experiment(folder) == EXPERIMENT
    np.testing.assert_array_equal(read_weights(folder, MANIFEST), WEIGHTS)
    with np.load(folder / "weights.npz") as arrays:
        assert int(arrays["rounds"]) == 7
        assert arrays["dense2.kernel"].shape == (32, 32)
    assert has_weights(folder) and not has_weights(folder.parent)
    write_result(folder, {"rounds": 9})
    assert json.loads((folder / "result.json").read_text()) == {"rounds": 9}


def test_journal_lines_are_there_at_once(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", EXPERIMENT, MANIFEST) as run:
        for i in range(3):
            run.append(kind="round", round=i)
            lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
            assert [json.loads(line)["round"] for line in lines] == list(range(i + 1))


@pytest.mark.parametrize("name", ["journal.jsonl", "notes.txt", ".hidden"])
def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"not empty.*--out"), claimed(tmp_path):
        pytest.fail("nothing is done for a run that cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_claimed_folder_goes_away_unless_something_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claimed(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
        raise RuntimeError
    assert not (tmp_path / "new" / "run").exists()
    with claimed(tmp_path / "run"):
        RunFolder.create(tmp_path / "run", EXPERIMENT, MANIFEST).close()
    assert read_experiment(tmp_path / "run") == EXPERIMENT


def test_two_runs_never_share_a_folder(folder: Path) -> None:
    with pytest.raises(StoreError, match="--out"):
        RunFolder.create(folder, EXPERIMENT, MANIFEST)
    np.testing.assert_array_equal(read_weights(folder, MANIFEST), WEIGHTS)


def test_an_empty_folder_will_do_and_a_file_will_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StoreError, match=r"cannot be.*--out"), claimed(path):
            pytest.fail("nothing is done for a run that cannot be written")
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty"):
        RunFolder.create(tmp_path / "empty", EXPERIMENT, MANIFEST).close()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_the_former_version(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # what a full disk looks like to whoever writes
    try:
        with (
            pytest.raises(StoreError, match=r"weights\.npz: cannot be written.*untouched"),
            RunFolder(folder, MANIFEST, (folder / "journal.jsonl").open("a")) as run,
        ):
            run.save_weights(WEIGHTS + 1, 8)
        with pytest.raises(StoreError, match=r"result\.json: cannot be written"):
            write_result(folder, {"curve": list(range(1000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_journal_on_a_full_disk_is_named(tmp_path: Path) -> None:
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115  # closed by the folder, which must not fail again
    with pytest.raises(StoreError, match="journal cannot be written"), RunFolder(tmp_path, MANIFEST, full) as run:
        run.append(kind="round")


def rewrite(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with np.load(file) as arrays:
            tensors = dict(arrays)
        change(tensors)
        np.savez(file, **tensors)

    return spoil


def set_to(value: float) -> Callable[[Path], None]:
    return rewrite(lambda tensors: tensors["dense2.bias"].__setitem__(3, value))


def as_array(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_to(np.nan), "NaN or infinity at weight"),
        (set_to(np.inf), "NaN or infinity at weight"),
        (rewrite(lambda tensors: tensors.pop("dense1.bias")), "dense1.bias.*another model"),
        (rewrite(lambda tensors: tensors.update({"dense1.bias": np.zeros(31, np.float32)})), r"float32\[31\].*another model"),
        (rewrite(lambda tensors: tensors.update({"dense1.bias": np.zeros(32)})), "float64.*another model"),
        (rewrite(lambda tensors: tensors.update({"dense1.bias": np.array([{}] * 32)})), "dense1.bias|damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "damaged"),
        (lambda file: file.write_bytes(b""), "damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:300] + b"\x55" * 40 + file.read_bytes()[340:]), "damaged"),
        (as_array, "damaged"),
        (Path.unlink, "missing"),
    ],
    ids=["nan", "inf", "lacks a tensor", "shape", "dtype", "objects", "cut", "empty", "flipped", "one array", "gone"],
)
def test_weights_that_are_not_the_models_are_refused(folder: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(folder / "weights.npz")
    with pytest.raises(StoreError, match=words) as refused:
        read_weights(folder, MANIFEST)
    assert str(folder / "weights.npz") in str(refused.value)


def test_another_models_weights_are_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="another model"):
        read_weights(folder, manifest(omniglot()))


def test_a_folder_that_is_no_run_or_of_another_version(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        read_experiment(tmp_path)
    text = (folder / "experiment.toml").read_text()
    (folder / "experiment.toml").write_text(text.replace("rounds = 9", "laps = 9"))
    with pytest.raises(StoreError, match=r"run\.laps.*another version"):
        read_experiment(folder)


def test_no_file_holds_what_json_does_not_know(folder: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_result(folder, {"after": float("nan")})
    assert not (folder / "result.json").exists()
