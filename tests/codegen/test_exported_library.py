"""Libraries of models with every op: C++11 that computes what the firmware's C++17 does, and names that hold."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import compiled_model
import exported
import numpy as np
import pytest
from compiled_model import FLATTEN, MODELS, compiled, dense, depthwise

from tinymetafed_codegen import ops
from tinymetafed_codegen.cpp_literals import float_literal
from tinymetafed_codegen.libraries import exported_library
from tinymetafed_codegen.libraries.cpp11 import lowered
from tinymetafed_codegen.libraries.exported_library import Library, LibraryError, SelfTest, class_name
from tinymetafed_codegen.protocol import Variant


def library_of(model: str, folder: Path, models: dict[str, Any] = MODELS, **changes: object) -> Library:
    """A library of a model with random weights; its self-test has no samples that matter."""
    made = compiled_model.design(models[model], folder / model.replace(" ", "-").replace(",", ""))
    net = made.graph
    zeros = SelfTest(*(np.zeros((1, size), np.float32) for size in (net.input.size, net.target.size, *[net.output.size] * 2)),
                     np.zeros(net.n_parameters, np.float32))  # fmt: skip
    facts = {
        "name": class_name(model), "design": made, "origin": "a test", "variant": Variant.FULL, "rate": 0.015625, "clamp": 0.0,
        "weights": np.random.default_rng(1).normal(0, 0.5, net.n_parameters).astype(np.float32), "class_names": (),
        "self_test": zeros, "version": "0.1.0", "command": "tinymetafed export run",
    }  # fmt: skip
    return Library(**{**facts, **changes})  # type: ignore[arg-type]


def test_every_op_is_in_a_model_and_its_kernels_compile_as_cpp11_with_every_compiler(tmp_path: Path) -> None:
    used = {layer["op"] for model in MODELS.values() for layer in model["layers"]}
    used |= {layer["activation"] for model in MODELS.values() for layer in model["layers"] if "activation" in layer}
    known = {*ops.LAYERS, *ops.ACTIVATIONS}
    assert used >= known, f"no model in compiled_model.py with {known - used}"
    text = ""
    for model in MODELS:
        library = library_of(model, tmp_path)
        (tmp_path / f"{library.name}.h").write_text(exported_library.render(library, "cpp")[f"src/{library.name}Network.h"])
        text += f'#include "{library.name}.h"\ntemplate struct tmf_{library.name}::model::Model<float>;\n'
    (tmp_path / "all.cpp").write_text(text)
    for compiler, command in exported.compilers().items():
        options = ["-std=c++11", *exported.STRICT, "-fsyntax-only", str(tmp_path / "all.cpp")]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{compiler}: {done.stderr[:3000]}"


# Rows of depthwise layers by the tiles that they are split into: several with one code, a first one beside them, a single one.
ROWS = {
    "rows": {
        "input": [3, 26, 1],
        "loss": "mse",
        "layers": [
            {"op": "affine"},
            depthwise(3, activation="relu"),
            depthwise([2, 3], padding="valid"),
            depthwise(3, stride=2, activation="relu"),
            depthwise([1, 4], padding="valid"),
            FLATTEN,
            dense(2, local=True),
        ],
    }
}


def test_rows_of_every_kind_of_tile_compile_as_cpp11(tmp_path: Path) -> None:
    """C++11 has no `if constexpr`, so every kind of tile is compiled for every row, also where it is not used."""
    library = library_of("rows", tmp_path, ROWS)
    source = tmp_path / "rows.cpp"
    text = exported_library.render(library, "cpp")[f"src/{library.name}Network.h"]
    source.write_text(f"{text}\ntemplate struct tmf_{library.name}::model::Model<float>;\n")
    command = ["g++", "-pedantic", "-std=c++11", *exported.STRICT, "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


BRIDGE = """
extern "C" unsigned learn(unsigned steps, const float* x, const float* target, float* weights) {{
  static {name} model;
  if (model.begin() != {name}::Status::kOk) return 1;
  for (unsigned i = 0; i < steps; ++i)
    if (model.learn(x + i * {name}::kFeatures, {target}) != {name}::Status::kOk) return 2;
  for (int i = 0; i < {name}::kParameters; ++i) weights[i] = model.weights()[i];
  return 0;
}}
"""


@pytest.mark.parametrize("model", ["max pool", "momentum, decay and clipped norm"])
def test_the_cpp11_code_learns_to_the_bits_of_the_core(tmp_path: Path, model: str) -> None:
    library = library_of(model, tmp_path)
    for path, text in exported_library.render(library, "cpp").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    takes_label = library.design.graph.loss.class_target
    width = library.design.graph.target.size
    target = "static_cast<int32_t>(target[i])" if takes_label else f"target + i * {width}"
    bridge = tmp_path / "bridge.cpp"
    bridge.write_text(f'#include "{library.name}.h"\n' + BRIDGE.format(name=library.name, target=target))
    options = ("-std=c++11", "-O2", "-shared", "-fPIC", "-fvisibility=default")
    learn = ctypes.CDLL(str(exported.build(tmp_path, bridge, options=options))).learn
    core = compiled(model, tmp_path / "core")
    random = np.random.default_rng(2)
    x = random.normal(0, 1, (7, core.n_in)).astype(np.float32)
    targets = random.integers(0, core.n_out if takes_label else 2, (7, width)).astype(np.float32)
    weights = np.zeros(core.n_state, np.float32)
    weights[: core.n] = library.weights
    for sample, wanted in zip(x, targets, strict=True):
        core.run(weights, sample, wanted, Variant.FULL, rate=0.015625)
    learned = np.zeros(core.n, np.float32)
    assert learn(7, *(array.ctypes.data_as(ctypes.c_void_p) for array in (x, targets, learned))) == 0
    assert learned.tobytes() == weights[: core.n].tobytes() and learned.tobytes() != library.weights.tobytes()


def test_what_only_cpp17_has_is_rewritten() -> None:
    given = (
        "namespace a::b {\n  if constexpr (kN % kTile != 0) f<1, kN % kTile, T>(x, kN % kTile);\n"
        "  inline constexpr float kHalf = 0x1.8p-1f;\n}  // namespace a::b\n"
    )
    assert lowered(given) == (
        "namespace a { namespace b {\n  if (kN % kTile != 0) f<1, (kN % kTile != 0 ? kN % kTile : kTile), T>(x, kN % kTile);\n"
        "  constexpr float kHalf = 0.75f;\n}}  // namespace a::b\n"
    )
    for value in (0.1, 1e-45, 3.4028235e38, -0.0, 16777216.0):
        literal = float_literal(value)
        assert re.fullmatch(r"-?\d[\d.e+-]*f", literal) and "." in literal + ("." if "e" in literal else "")
        assert np.float32(literal.removesuffix("f")).tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("sine", "SineModel"),
        ("MyModel", "MyModel"),
        ("2 legs-walk", "My2LegsWalkModel"),
        ("läufer", "LuferModel"),
        ("…", "MyModel"),
    ],
)
def test_a_librarys_name_is_a_cpp_name(folder: str, name: str) -> None:
    assert class_name(folder) == name


def test_gradient_steps_are_no_way_to_learn(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="GRADIENT"):
        exported_library.render(library_of("dense 1x1", tmp_path, variant=Variant.GRADIENT), "cpp")


def test_class_names_are_any_text(tmp_path: Path) -> None:
    names = ('"; exit(1); //', "läufer ??/", "back\\slash", "new\nline")
    origin = "of run??/\n#error \\"
    library = library_of("dense local first", tmp_path, class_names=names, origin=origin)
    for path, text in exported_library.render(library, "cpp").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    program = tmp_path / "names.cpp"
    program.write_text(
        f'#include <stdio.h>\n#include "{library.name}.h"\nint main() {{\n'
        f'  for (int i = 0; i < 4; ++i) printf("%s|", {library.name}::class_name(i));\n}}\n'
    )
    assert exported.printed(exported.build(tmp_path, program)) == "|".join([*names, ""])
