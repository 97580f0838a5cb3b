"""A .keras file that would take gigabytes when it is unpacked is refused before anything unpacks it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tinymetafed.projects.importing import keras_file, model_archive
from tinymetafed.projects.importing.model_archive import require_bounded
from tinymetafed.runs import tensorflow
from tinymetafed.runs.tensorflow import ModelFileError


def archive(path: Path, **sizes: int) -> Path:
    """A .keras file whose parts unpack to these numbers of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, size in sizes.items():
            with file.open(name.replace("_", "."), "w", force_zip64=True) as part:
                for start in range(0, size, 1 << 20):
                    part.write(bytes(min(1 << 20, size - start)))
    return path


@pytest.mark.parametrize("part", ["config_json", "metadata_json", "model.weights_h5"])
def test_a_part_that_becomes_large_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"net\.keras.*: .*MiB unpacked"):
        require_bounded(archive(tmp_path / "net.keras", **{part: (17 << 20) + 1}))


def test_the_reader_checks_before_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_file, "require", lambda *_: None)  # a module that can load nothing
    with pytest.raises(ModelFileError, match=r"MiB unpacked, more than 16\.0 MiB"):
        keras_file.read(archive(tmp_path / "net.keras", config_json=20 << 20))


def test_arrays_without_values_in_the_file_are_counted(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py comes with TensorFlow: pip install 'tinymetafed[models]' brings it")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("dense/kernel", shape=(1 << 30,), dtype="f4", chunks=(1 << 20,))
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as packed:
        packed.write(tmp_path / "net.h5", "model.weights.h5")
    for name in ("net.h5", "net.keras"):
        with pytest.raises(ModelFileError, match=r"arrays of 4,096\.0 MiB"):
            require_bounded(tmp_path / name)
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF")
    require_bounded(tmp_path / "damaged.h5")


def test_usual_and_damaged_files_are_left_to_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_archive, "_require_bounded_arrays", lambda *_: None)  # it needs h5py
    require_bounded(archive(tmp_path / "usual.keras", config_json=1 << 20, **{"model.weights_h5": 1 << 20}))
    with zipfile.ZipFile(tmp_path / "large.keras", "w") as file:  # Keras does not compress
        file.writestr("model.weights.h5", bytes(30 << 20))
    require_bounded(tmp_path / "large.keras")
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    require_bounded(tmp_path / "net.h5")
    monkeypatch.setattr(model_archive, "MOST_UNPACKED", 20 << 20)
    with pytest.raises(ModelFileError, match=r"30\.0 MiB unpacked"):
        require_bounded(tmp_path / "large.keras")


@pytest.mark.parametrize(("version", "usable"), [("2.15.0", False), ("3.10.0", False), ("3.12.0", True), ("4.0.0rc1", True)])
def test_keras_that_runs_code_of_files_is_refused(version: str, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keras:
        __version__ = version

    monkeypatch.setattr(tensorflow.importlib, "import_module", lambda name: Keras)
    if usable:
        assert tensorflow.require("keras", "net.h5") is Keras
        return
    for module in ("keras", "h5py", "tensorflow"):
        with pytest.raises(ModelFileError, match=rf"net\.h5 needs Keras 3\.12 or later.*{version}.*pip install"):
            tensorflow.require(module, "net.h5")
