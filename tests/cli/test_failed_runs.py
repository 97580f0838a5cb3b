"""Damaged stores, runs that diverge or collapse, and a full disk: named, and nothing else is changed."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import SHORT, Command
from small_runs import SINE, sine

from tinymetafed.devices.running import build_firmware
from tinymetafed.runs import store, store_format
from tinymetafed.runs.setup import design_of

COLLAPSING = ("strategy.alpha_max=1", "strategy.global_learning_rate=0.5")


def flip(run: Path) -> None:
    content = bytearray((run / "run.db").read_bytes())
    content[content.index(b"native#1") + 3] ^= 1
    (run / "run.db").write_bytes(content)


def truncate(run: Path) -> None:
    (run / "run.db").write_bytes((run / "run.db").read_bytes()[:9000])


def another_version(run: Path) -> None:
    content = bytearray((run / "run.db").read_bytes())
    content[63] += 1  # user_version
    (run / "run.db").write_bytes(content)


@pytest.mark.parametrize("verb", [["train", "--resume"], ["adapt"], ["report"], ["export", "-o", "w.npz"]], ids=lambda v: v[0])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flip, "is not what was written; restore"),
        (truncate, "malformed"),
        (another_version, f"a store of format {store_format.FORMAT + 1}"),
    ],
)
def test_a_damaged_store_is_refused(
    command: Command, run_copy: Path, verb: list[str], spoil: Callable[[Path], None], words: str
) -> None:
    spoil(run_copy)
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    said = command(*verb, run_copy)
    assert said.code == 1
    assert str(run_copy / "run.db") in said.error and words in said.error
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before and not Path("w.npz").exists()


@pytest.mark.parametrize("verb", [["adapt"], ["report"], ["export", "-o", "w.h"], ["train", "--resume"]], ids=lambda v: v[0])
def test_a_folder_without_a_run_is_refused(command: Command, tmp_path: Path, verb: list[str]) -> None:
    said = command(*verb, tmp_path)
    assert said.code == 1 and str(tmp_path) in said.error and "run folder" in said.error
    Path("runs/waves").mkdir(parents=True)
    assert "did you mean runs/waves?" in command(*verb, "runs/wave").error


# Runs that fail or learn nothing


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy.output_clamp=0", "strategy.global_learning_rate=10"], ["training failed", "learning rate"]),
        (
            ["strategy.output_clamp=0", "strategy.global_learning_rate=0.3"],
            ["training diverged", "float16", "strategy.global_learning_rate"],
        ),
        (["strategy.global_learning_rate=0.5"], ["collapsed", "strategy.global_learning_rate"]),
    ],
    ids=["diverges on the device", "diverges on the server", "collapses"],
)
def test_a_run_that_fails_is_not_a_finished_one(command: Command, overrides: list[str], words: list[str]) -> None:
    settings = [
        word for key in ["run.rounds=60", "strategy.alpha_max=1", "evaluation.tasks=20", *overrides] for word in ("--set", key)
    ]
    said = command("train", SINE, "--device", "native:1", "--test-device", "native:1", "--out", "run", "--json", *settings)
    assert said.code == 1
    assert [word for word in words if word not in said.error] == []
    if store.read_run(Path("run")).result is not None:  # it ran to the end without learning anything, which the report says
        assert 'class="banner"' in Path("run/report.html").read_text()
        again = command("train", "--resume", "run", "--json")
        assert again.code == 1 and "collapsed" in again.error


def test_a_collapse_during_training_is_a_warning_until_the_end(command: Command) -> None:
    keys = ["run.rounds=100", "evaluation.every=10", "evaluation.tasks=20", *COLLAPSING]
    settings = [word for key in keys for word in ("--set", key)]
    said = command("simulate", SINE, "--out", "run", "--json", *settings)
    warning, error = said.error.split("Error:")
    assert warning.count("give the same answer whatever their input") == 1 and "after 10 rounds" in warning
    assert said.code == 1 and "training collapsed: after 100 rounds" in error
    assert store.read_run(Path("run")).result is not None


@pytest.fixture
def little_room() -> Iterator[None]:
    """Limits files to 4 KB, which a writer sees as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_no_run(command: Command, request: pytest.FixtureRequest) -> None:
    build_firmware(design_of(sine(), "test"), "native")  # not under test here
    request.getfixturevalue("little_room")
    said = command("train", SINE, *SHORT, "--device", "native:1", "--out", "run", "--json")
    assert said.code == 1 and "run/run.db" in said.error and "cannot be written" in said.error
    assert not Path("run/run.db").exists()
