"""Exports have the bits of the store: NumPy files, C headers, and TensorFlow networks, also of unfinished runs."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiled_model import Compiled, library
from run_values import ASKED, round_entry
from small_runs import manifest, sine
from with_tensorflow import agree, needs_tensorflow

from tinymetafed import cli
from tinymetafed.learn.weights import Floats, initial, local_start, sha256
from tinymetafed.runs import export, store
from tinymetafed.runs.export import ExportError
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.store import read_run
from tinymetafed.runs.tensorflow import ModelFileError, quiet
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design

EXPERIMENT = sine()
MANIFEST = manifest(EXPERIMENT)
WEIGHTS = initial(MANIFEST, 4, "glorot")
WEIGHTS[:6] = [0, -0.0, 1, 1e-42, 3.4028235e38, -1e-7]  # values that decimal text easily gets wrong


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    with store.create(tmp_path / "waves", EXPERIMENT, MANIFEST, np.zeros_like(WEIGHTS), ASKED) as writer:
        writer.append(round_entry(0, sha256(WEIGHTS)), WEIGHTS)
        return read_run(tmp_path / "waves")  # the run is still being written


def tensors(weights: Floats) -> dict[str, Floats]:
    return {"dense1.kernel": weights[:32].reshape(1, 32), "dense2.kernel": weights[64:1088].reshape(32, 32)}


def test_npz_holds_every_tensor_in_its_shape(run: RunData, tmp_path: Path) -> None:
    export.write(run, tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as arrays:
        assert set(arrays) == {"rounds", "dense1.kernel", "dense1.bias", "dense2.kernel", "dense2.bias"}
        assert int(arrays["rounds"]) == 1
        for name, expected in tensors(WEIGHTS).items():
            assert arrays[name].shape == expected.shape and arrays[name].tobytes() == expected.tobytes()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc not installed: the header is compiled")
@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_header_compiles_to_the_same_bits(run: RunData, tmp_path: Path, language: str) -> None:
    export.write(run, tmp_path / "w.h")
    text = (tmp_path / "w.h").read_text()
    assert MANIFEST.model_hash in text and "tinymetafed export" in text and "after 1 rounds" in text and "[32, 32]" in text
    body = f'#include "{tmp_path}/w.h"\n' + ('extern "C" ' if language == "c++" else "")
    body += "const float* get(int i) { return i ? dense2_kernel : dense1_kernel; }\n"
    command = ["gcc", "-Wall", "-Wno-unused-const-variable", "-Werror", "-shared", "-fPIC", "-x", language, "-"]
    subprocess.run([*command, "-o", tmp_path / "w.so"], input=body, text=True, check=True)
    get = ctypes.CDLL(str(tmp_path / "w.so")).get
    get.restype = ctypes.POINTER(ctypes.c_float)
    for place, expected in enumerate(tensors(WEIGHTS).values()):
        assert ctypes.string_at(get(place), expected.nbytes) == expected.tobytes()


FROZEN = (
    "model.layers=[{op='dense',units=9,activation='tanh',frozen=true,name='stem'},{op='dense',units=7,activation='relu'},"
    "{op='dense',units=6,local=true},{op='dense',units=1,local=true}]"
)


def finished(folder: Path, *overrides: str) -> tuple[RunData, Compiled]:
    """A run of one round with frozen, global and local layers, and the library of its model."""
    random = np.random.default_rng(3)
    np.savez(folder / "start.npz", **{"stem.kernel": random.normal(0, 1, (1, 9)), "stem.bias": random.normal(0, 1, 9)})
    experiment = sine(FROZEN, f"model.weights={folder / 'start.npz'}", *overrides)
    made = design(experiment, boards.load("native"), "test")
    weights = random.normal(0, 0.5, made.graph.n_global).astype(np.float32)
    with store.create(folder / "run", experiment, made.manifest, np.zeros_like(weights), ASKED) as writer:
        writer.append(round_entry(0, sha256(weights)), weights)
    return read_run(folder / "run"), library(made, folder)


def started(run: RunData, model: Compiled) -> Floats:
    """A device's weights at the start of a reconstruction."""
    weights = np.full(model.n_state, np.nan, np.float32)
    weights[: model.n_global] = run.weights
    model.library.start_local_float(weights.ctypes.data_as(ctypes.c_void_p))
    return weights


@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_layers_over_int8_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    layers = "{op='quantize',scale=0.1,zero_point=0},{op='dequantize',scale=0.1},{op='dense',units=1}"
    experiment = sine(f"model.layers=[{layers}]")
    made = design(experiment, boards.load("native"), "test")
    weights = np.zeros(made.graph.n_global, np.float32)
    with store.create(tmp_path / "run", experiment, made.manifest, weights, ASKED) as writer:
        writer.append(round_entry(0, sha256(weights)), weights)
    with pytest.raises(ExportError, match="no layer for 'quantize', which computes in int8; export a library"):
        export.write(read_run(tmp_path / "run"), tmp_path / f"net{suffix}")


@pytest.mark.parametrize("kind", ["alternating", "random", "zeros"])
def test_local_weights_start_as_on_the_device(tmp_path: Path, kind: str) -> None:
    run, model = finished(tmp_path, f"model.local_start={kind}", "model.local_start_scale=0.3")
    start = local_start(run.manifest, kind, 0.3)
    assert list(start) == ["dense3.kernel", "dense3.bias", "dense4.kernel", "dense4.bias"]
    expected = started(run, model)[model.n_global :]
    assert np.concatenate([tensor.ravel() for tensor in start.values()]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("suffix", [pytest.param(each, marks=needs_tensorflow) for each in (".keras", ".tflite")])
def test_the_network_gives_in_tensorflow_what_a_device_predicts(tmp_path: Path, suffix: str) -> None:
    run, model = finished(tmp_path)
    file = tmp_path / f"net{suffix}"
    export.write(run, file)
    inputs = np.random.default_rng(5).normal(0, 1, (5, 1)).astype(np.float32)
    expected = np.concatenate([model.run(started(run, model), x) for x in inputs])
    if suffix == ".keras":
        agree(importlib.import_module("keras").saving.load_model(file)(inputs), expected)
        return
    micro = pytest.importorskip("tflite_micro", reason="tflite-micro is not installed: the extra [models] brings it")
    interpreter = micro.runtime.Interpreter.from_file(str(file))
    given = []
    for x in inputs:
        interpreter.set_input(x[None], 0)
        interpreter.invoke()
        given.append(interpreter.get_output(0).ravel())
    agree(np.concatenate(given), expected)


@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_frozen_weights_that_have_changed_are_refused(tmp_path: Path, suffix: str) -> None:
    run, _ = finished(tmp_path)
    np.savez(tmp_path / "start.npz", **{"stem.kernel": np.ones((1, 9)), "stem.bias": np.ones(9)})
    with pytest.raises(ExportError, match=r"start\.npz: other frozen weights than the run was trained with"):
        export.write(run, tmp_path / f"net{suffix}")


def test_without_tensorflow_the_extra_is_named(run: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ModelFileError, match=r"net\.tflite needs TensorFlow.*pip install 'tinymetafed\[tensorflow\]'"):
        export.write(run, tmp_path / "net.tflite")
    assert not (tmp_path / "net.tflite").exists()


def test_the_command_prints_nothing_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tinymetafed", "export", str(tmp_path / "run"), "-o", str(tmp_path / "w.npz")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capfd.readouterr()
    assert ended.value.code == 0 and said.out == "" and "w.npz: the weights after 1 rounds" in said.err


def test_another_suffix_is_refused(run: RunData, tmp_path: Path) -> None:
    for name in ("w.txt", "w", "w.NPZ"):
        with pytest.raises(ExportError, match=rf"{name}: unknown format.*\.npz.*\.h .*\.keras or FILE\.tflite"):
            export.write(run, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_file_that_cannot_be_written_is_named(run: RunData, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(StoreError, match=r"taken/w\.h: cannot be written"):
        export.write(run, tmp_path / "taken" / "w.h")
    assert (tmp_path / "taken").read_bytes() == b""


@pytest.mark.parametrize("suffix", [".npz", ".h"])
def test_folders_of_the_file_are_made(run: RunData, tmp_path: Path, suffix: str) -> None:
    export.write(run, tmp_path / "one" / "two" / f"w{suffix}")
    assert [file.name for file in (tmp_path / "one" / "two").iterdir()] == [f"w{suffix}"]
    with pytest.raises(ExportError):
        export.write(run, tmp_path / "three" / "w.txt")
    assert not (tmp_path / "three").exists()


def test_what_tensorflow_prints_is_kept_away_unless_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def print_everywhere() -> None:
        print("Saved artifact")
        os.write(2, b"I0000 oneDNN custom operations are on\n")

    with quiet():
        print_everywhere()
    with pytest.raises(ModelFileError), quiet():
        print_everywhere()
        raise ModelFileError("known")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RuntimeError), quiet():
        print_everywhere()
        raise RuntimeError
    assert capfd.readouterr().err.count("oneDNN") == 1
    print("after")
    assert capfd.readouterr().out == "after\n"


@pytest.mark.parametrize("suffix", [pytest.param(each, marks=needs_tensorflow) for each in (".keras", ".tflite")])
def test_the_command_shows_only_its_own_line_with_tensorflow(tmp_path: Path, suffix: str) -> None:
    finished(tmp_path)
    file = tmp_path / "new" / f"net{suffix}"
    done = subprocess.run(
        [sys.executable, "-m", "tinymetafed", "export", tmp_path / "run", "-o", file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "" and done.stderr == f"{file}: the weights after 1 rounds, not adapted to a client\n"
