"""The walk-through of README on an emulated board: record, train, learn from a sensor, lose the power, predict as before."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS, wait_until
from small_runs import DATA, Quiet, needs_qemu

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.devices.running import running
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks.own_data.folder_content import ClientSamples
from tinymetafed.learn.tasks.own_data.reading import read_folder
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.optional_messages.sensor_messages import SensorReport, SensorState
from tinymetafed_codegen.options import adaptation
from tinymetafed_codegen.protocol import Phase, Program, Recipe

WATCHES = DATA / "sp_sw_har_watch.zip"

pytestmark = [
    needs_qemu,
    pytest.mark.skipif(not WATCHES.is_file(), reason=f"no {WATCHES.name} in {DATA}"),
    pytest.mark.xdist_group("emulator-qemu"),
    pytest.mark.usefixtures("built_once", "patient"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example, and recordings of three people's watches in ``watch``."""
    mine = tmp_path / "mine"
    shutil.copytree(find("examples/sensors"), mine)
    (mine / "watch").mkdir()
    with zipfile.ZipFile(WATCHES) as archive:
        for person in ("s01", "s04", "s05"):
            (mine / "watch" / f"{person}.csv").write_bytes(archive.read(f"DATA/{person}/{person}_01_sw.csv"))
    monkeypatch.chdir(mine)
    return mine


def blocks() -> list[list[str]]:
    """The commands of the walk-through, block by block."""
    text = (root() / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Your sensor, your labels, your board\n")[2].partition("\n## ")[0]
    found = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines()] for block in found]


@contextmanager
def started(command: str) -> Iterator[str]:
    """Runs `tinymetafed start` until Ctrl-C; the port of its board."""
    words = [sys.executable, "-m", *shlex.split(command)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        assert said, process.stderr.read()
        try:
            yield said.split()[1]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(HUNG_SECONDS) == 0, process.stderr.read()


def until_ended(port: str) -> tmf.BoardStatus:
    """The status of a board once it has replayed its recording."""

    def has_ended() -> bool:
        sensing = tmf.board_status(port).sensing
        assert sensing is not None and sensing.state in ("OK", "ENDED")
        return sensing.state == "ENDED"

    wait_until(has_ended)
    return tmf.board_status(port)


def test_the_walk_through_of_readme(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(command: str, *more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*shlex.split(command), *more])
        with pytest.raises(SystemExit) as done:
            cli.main()
        said = capsys.readouterr()
        assert done.value.code == 0, said.err
        return said.out

    first, asked, again = blocks()
    np.savetxt("window.csv", np.random.default_rng(1).normal(size=(1, 300)), "%.5f", ",")
    *before, start = first
    for command in before:
        quick = ["--set", "run.rounds=2", "--set", "evaluation.tasks=1"] if " simulate " in command else []
        run(command, *quick)
    for recorded, original in zip(clients("recordings"), clients("watch"), strict=True):
        assert recorded.name == original.name and recorded.inputs.tobytes() == original.inputs.tobytes()
        np.testing.assert_array_equal(recorded.targets, original.targets)

    with started(start) as port:
        learned = until_ended(port)
        assert learned.learning is not None and learned.sensing is not None
        windows = len(clients("watch")[-1].inputs)
        assert (learned.sensing.samples, learned.sensing.learned, learned.learning.learned) == (windows, windows, windows)
        status, label, predict = (command.replace("PORT", port) for command in asked)
        assert "ENDED" in run(status) and f"newest of {windows} samples" in run(label)
        scores = json.loads(run(predict, "--json"))
    start, predict = again
    with started(start) as port:
        assert json.loads(run(predict.replace("PORT", port), "--json")) == scores
        kept = tmf.board_status(port).learning
        assert kept is not None and kept.learned == windows + 1, "the statistics are kept too"


def clients(folder: str) -> tuple[ClientSamples, ...]:
    """The windows of each client in a folder, as the task reads them."""
    task = spec.load(Path("activity.toml")).task.own_files
    assert task is not None
    return read_folder(Path(folder), task, None, 0, ()).clients


def test_an_emulated_board_learns_from_the_windows_of_the_host(folder: Path) -> None:
    design = design_of(spec.load(folder / "activity.toml"), str(folder / "activity.toml"))
    phase = adaptation.phases(design.experiment, 1)[-1]
    start, (client, *_) = initial(design.manifest, 1, "he"), clients("watch")

    def weights_after(url: str, phases: tuple[Phase, ...]) -> tuple[bytes, SensorReport]:
        with running(design, [url], Quiet()) as fleet:
            session, count = fleet.devices[0].session, design.manifest.n_parameters
            session.configure(Program.ADAPT, Recipe(phases))
            session.load(1, open_strategy(design.experiment, design.manifest).download(start[: design.manifest.n_global]))
            session.train(1, Program.ADAPT, 1, 0, 0)
            if phases:
                session.stream(1, [Example(y, x.ravel()) for x, y in zip(client.inputs, client.targets, strict=True)])
            else:  # from here on the board reads its sensor
                wait_until(lambda: session.sensor().state in (SensorState.ENDED, SensorState.MISSING))
            return session.fetch(0, count).tobytes(), session.sensor()

    streamed, idle = weights_after("qemu:1", (replace(phase, count=len(client.inputs), passes=1),))
    learned, sensed = weights_after("qemu:1?replay=watch/s01.csv", ())
    assert learned == streamed and learned != weights_after("qemu:1", ())[0]
    assert (sensed.samples, sensed.learned) == (len(client.inputs), len(client.inputs)) and 0 < sensed.confidence <= 1
    assert idle.state == SensorState.MISSING
