"""Exports: the bits of the store in NumPy's format and in C, of runs that are under way too."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_runs import manifest, sine

from tinymetafed import export, store
from tinymetafed.export import ExportError
from tinymetafed.learn.weights import Floats, initial, sha256
from tinymetafed.store import RunData, StoreError, read_run

EXPERIMENT = sine()
MANIFEST = manifest(EXPERIMENT)
WEIGHTS = initial(MANIFEST, 4, "glorot")
WEIGHTS[:6] = [0, -0.0, 1, 1e-42, 3.4028235e38, -1e-7]  # what a decimal text easily gets wrong


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    asked = {"devices": [], "test_devices": [], "data": None, "facts": {}}
    with store.create(tmp_path / "waves", EXPERIMENT, MANIFEST, np.zeros_like(WEIGHTS), asked) as writer:
        writer.append("round", {"round": 0, "contributions": [], "weights_sha256": sha256(WEIGHTS)}, WEIGHTS)
        return read_run(tmp_path / "waves")  # while it is being written


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
    assert MANIFEST["model_hash"] in text and "tinymetafed export" in text and "after 1 rounds" in text and "[32, 32]" in text
    body = f'#include "{tmp_path}/w.h"\n' + ('extern "C" ' if language == "c++" else "")
    body += "const float* get(int i) { return i ? dense2_kernel : dense1_kernel; }\n"
    command = ["gcc", "-Wall", "-Wno-unused-const-variable", "-Werror", "-shared", "-fPIC", "-x", language, "-"]
    subprocess.run([*command, "-o", tmp_path / "w.so"], input=body, text=True, check=True)
    get = ctypes.CDLL(str(tmp_path / "w.so")).get
    get.restype = ctypes.POINTER(ctypes.c_float)
    for place, expected in enumerate(tensors(WEIGHTS).values()):
        assert ctypes.string_at(get(place), expected.nbytes) == expected.tobytes()


def test_another_suffix_is_refused(run: RunData, tmp_path: Path) -> None:
    for name in ("w.txt", "w", "w.NPZ"):
        with pytest.raises(ExportError, match=rf"{name}: unknown format.*\.npz.*\.h"):
            export.write(run, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_file_that_cannot_be_written_is_named(run: RunData, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent/w\.h: cannot be written"):
        export.write(run, tmp_path / "absent" / "w.h")
