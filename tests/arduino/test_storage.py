"""The storage of real boards: the sources compile for each chip, and the ESP32's keeps weights in a partition."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clocks import SlowClock
from small_runs import sine
from test_arduino import HERE, check_syntax, running

from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.learn.strategies import open_strategy
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.protocol import Program, Recipe
from tinymetafed_codegen.toolchain import compiler_flags

EXPERIMENT = sine("board.store=true", "strategy.error_feedback=true")


def sources(name: str, folder: Path) -> tuple[ModelManifest, list[Path], list[str]]:
    """Manifest, sources and compiler arguments of a real board's firmware with a store, generated into ``folder``."""
    board, firmware = boards.load(name), find("firmware")
    made = design(EXPERIMENT, board, "test")
    emit.write(made, folder, "pytest")
    core = [*(firmware / "core").glob("*.cpp"), *(firmware / "core" / "store").glob("*.cpp")]
    ports = [path for port in board.ports for path in board.port_folder(port).glob("*.cpp")]
    files = [*core, *ports, firmware / "app" / f"{board.main}.cpp", firmware / "app" / "source_sine.cpp"]
    folders = (folder, firmware / "core", firmware / "app", firmware / "port" / "arduino", HERE / name)
    return made.manifest, sorted(files), [*compiler_flags(), *(f"-I{path}" for path in folders)]


def test_the_storage_of_the_nano_compiles_for_its_chip(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    _, files, arguments = sources("nano33ble", tmp_path)
    storage = [file for file in files if file.name in ("storage.cpp", "log.cpp", "learner.cpp", "dispatch.cpp")]
    assert len(storage) == 4
    check_syntax(["arm-none-eabi-g++", *boards.load("nano33ble").machine_flags], storage, arguments)


def test_the_esp32_keeps_weights_in_a_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, files, arguments = sources("esp32dev", tmp_path)
    program = tmp_path / "firmware"
    stand_ins = [str(HERE / "core.cpp"), str(HERE / "partition.cpp")]
    command = ["g++", "-O1", *arguments, *map(str, files), *stand_ins, "-pthread", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setitem(os.environ, "TINYMETAFED_STORAGE", str(tmp_path / "flash"))
    strategy, n = open_strategy(EXPERIMENT, manifest), manifest.n_parameters
    with running(program) as (_, path), open_transport(path) as transport:
        session = Session(transport, clock=SlowClock())
        session.hello()
        assert session.recall(1).state == StoreState.EMPTY
        session.configure(Program.TRAIN, Recipe(strategy.training(), strategy.top_k))
        session.load(1, strategy.download(np.linspace(-1, 1, strategy.n_global, dtype=np.float32)))
        kept = session.fetch(0, n)
        assert session.keep().state == StoreState.READY
    with running(program) as (_, path), open_transport(path) as transport:
        session = Session(transport, clock=SlowClock())
        session.hello()
        assert session.recall(1).saves == 1
        np.testing.assert_array_equal(session.fetch(0, n), kept)
