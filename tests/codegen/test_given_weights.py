"""Weights from a file: frozen layers lie in flash, errors name file and array, and the model's hash covers their bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.locate import find

LAYERS = (
    'model.layers=[{op="dense",units=3,name="stem",activation="tanh",frozen=true},{op="dense",units=2},'
    '{op="dense",units=1,local=true}]'
)
SINE = find("examples") / "sine.toml"
GOOD: dict[str, Any] = {
    "stem.kernel": np.array([[0.1, -0.0, 3e-38]]),
    "stem.bias": np.array([1, 2, 3]),
    "dense2.bias": np.array([0.5, -0.5]),
}


def designed(folder: Path, *, drop: str = "", **changed: Any) -> Design:
    """The design of the sine example with a frozen layer, whose weights file is in ``folder`` beside the experiment."""
    np.savez(folder / "start.npz", **{name: array for name, array in (GOOD | changed).items() if name != drop})
    experiment = folder / "experiment.toml"
    experiment.write_text(SINE.read_text())
    loaded = spec.load(experiment, [LAYERS, "model.weights=start.npz"])
    return design(loaded, boards.load("mps2"), "experiment.toml")


def test_frozen_weights_are_constants_in_a_header_of_their_own(tmp_path: Path) -> None:
    made = designed(tmp_path)
    written = emit.write(made, tmp_path / "out", "test")
    assert tmp_path / "out" / "frozen.hpp" in written
    text = (tmp_path / "out" / "frozen.hpp").read_text()
    assert "// [1, 3]\ninline constexpr float kStemKernel[] = {\n    0.1f, -0.0f, 3e-38f,\n};" in text
    model = (tmp_path / "out" / "model.hpp").read_text()
    assert "Stem::forward(a + kX0, kStemKernel, kStemBias, a + kX1);" in model and "Stem::template backward" not in model
    assert [p.name for p in made.manifest.parameters][:2] == ["dense2.kernel", "dense2.bias"]
    assert made.manifest.n_parameters == 3 * 2 + 2 + 2 + 1


def test_the_file_is_found_beside_the_experiment_even_from_its_copy(tmp_path: Path) -> None:
    made = designed(tmp_path)
    assert made.experiment.model.weights == str(tmp_path / "start.npz")
    assert spec.parse(spec.dump(made.experiment), "copy") == made.experiment


def test_the_model_hash_follows_the_frozen_weights_alone(tmp_path: Path) -> None:
    base = designed(tmp_path).model_hash
    assert designed(tmp_path, **{"dense2.bias": np.array([7.0, 7.0])}).model_hash == base
    assert designed(tmp_path, **{"stem.bias": np.array([1, 2, 4])}).model_hash != base


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"drop": "stem.bias"}, "the frozen 'stem.bias' of shape [3] is missing"),
        ({"stem.kernel": np.zeros((3, 1))}, "'stem.kernel' has the shape [3, 1], expected [1, 3]"),
        ({"dense2.kernel": np.zeros(6)}, "'dense2.kernel' has the shape [6], expected [3, 2]"),
        ({"stem.bias": np.array([1, np.nan, 3])}, "'stem.bias' holds a NaN or a number beyond float32"),
        ({"stem.bias": np.array([1, 1e39, 3])}, "'stem.bias' holds a NaN or a number beyond float32"),
        ({"stem.bias": np.array(["a", "b", "c"])}, "'stem.bias' holds <U1, expected numbers"),
        ({"stem.kernal": np.zeros(1)}, "the model has no 'stem.kernal'; did you mean 'stem.kernel'?"),
    ],
)
def test_flaws_are_named_with_file_and_array(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(spec.SpecError) as caught:
        designed(tmp_path, **changed)
    assert expected in str(caught.value) and "start.npz" in str(caught.value) and "experiment.toml" in str(caught.value)


def test_files_that_are_missing_or_something_else_are_named(tmp_path: Path) -> None:
    def refusal(*overrides: str) -> str:
        with pytest.raises(spec.SpecError) as caught:
            design(spec.load(SINE, [LAYERS, *overrides]), boards.load("mps2"), "sine.toml")
        return str(caught.value)

    assert "model.weights is missing" in refusal() and "stem.kernel, stem.bias" in refusal()
    assert "no such file" in refusal(f"model.weights={tmp_path / 'none.npz'}")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for content in (b"PK\3\4 no zip", b"text", b"", (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(content)
        assert "not an npz file of numbers" in refusal(f"model.weights={tmp_path / 'bad.npz'}")
