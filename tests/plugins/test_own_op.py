"""The user's op of docs/own-op.md: from a wheel, outside the checkout, with a check of its gradient."""

from __future__ import annotations

import ctypes
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_model import compile_with
from installed_wheel import WheelVenv
from small_runs import Quiet

from tinymetafed.runs import export, store, training
from tinymetafed.runs.export import ExportError
from tinymetafed.runs.run_data import StoreError
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.ops import LAYERS
from tinymetafed_codegen.spec import SpecError, dump, load, parse

PAGE = find("docs/own-op.md").read_text(encoding="utf-8")
FILES = {"swish.py": "python", "swish.hpp": "cpp", "swish.toml": "toml"}


def block(language: str) -> str:
    (found,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)
    return str(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the page's three files."""
    assert not tmp_path.resolve().is_relative_to(root())
    for name, language in FILES.items():
        (tmp_path / name).write_text(block(language), encoding="utf-8")
    return tmp_path


def designed(project: Path, *overrides: str) -> Design:
    return design(load(project / "swish.toml", overrides), boards.load("native"), "swish.toml")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


# The page


def test_every_command_of_the_page_runs_from_a_wheel_and_all_ends_in_the_same_weights(
    project: Path, wheel_venv: WheelVenv
) -> None:
    commands = block("console").splitlines()
    assert [shlex.split(command)[1] for command in commands] == ["codegen", "simulate", "train", "train"]
    said = {}
    for command in commands:
        words = shlex.split(command)
        lacking = boards.missing_tools("mps2" if "qemu:1" in words else "native")
        if lacking:
            continue  # other tests report tools that are not installed
        done = wheel_venv.run(project, *words)
        assert done.returncode == 0, done.stderr
        said[command] = re.findall(r"sha256 ([0-9a-f]{16})", done.stdout)
    assert "kernels::Swish" in (project / "generated" / "model.hpp").read_text()
    simulated, native = (found for command, found in said.items() if "simulated" in command or "native" in command)
    assert simulated == native and len(native) == 1


# Gradients


class Compiled:
    """A generated model in double: its outputs, and the decrease of each weight in a step over the whole model."""

    def __init__(self, model: Design, folder: Path) -> None:
        emit.write(model, folder, "test")
        compile_with(["g++", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"], folder, folder / "model.so")
        self.library = ctypes.CDLL(str(folder / "model.so"))
        self.model = model
        sizes = (ctypes.c_uint32 * 10)()
        self.library.sizes(sizes)
        _, self.weights, _, self.n_in, self.n_out, self.n_target, self.arena, self.at_in, self.at_target, self.at_out = sizes

    def gradient(self, weights: Any, x: Any, target: Any) -> Any:
        moved, arena = weights.copy(), self._arena(x, target)
        self.library.step_double(2, _pointer(moved), _pointer(arena), ctypes.c_double(1.0), ctypes.c_double(0.0))
        return weights - moved

    def loss(self, weights: Any, x: Any, target: Any) -> float:
        arena = self._arena(x, target)
        self.library.forward_double(_pointer(weights), _pointer(arena))
        return float(np.mean((arena[self.at_out : self.at_out + self.n_out] - target) ** 2))

    def _arena(self, x: Any, target: Any) -> Any:
        arena = np.full(self.arena, np.nan)
        arena[self.at_in : self.at_in + self.n_in] = x
        arena[self.at_target : self.at_target + self.n_target] = target
        return arena


def _pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


def gradient_error(model: Compiled) -> float:
    """Largest deviation from central differences, relative to the largest gradient."""
    random = np.random.default_rng(3)
    weights = random.normal(0, 0.7, model.weights)
    x, target = random.normal(0, 1, model.n_in), random.normal(0, 1, model.n_target)
    found, step = model.gradient(weights, x, target), 1e-6
    expected = np.empty(model.weights)
    for i in range(model.weights):
        there = [weights.copy(), weights.copy()]
        there[0][i] += step
        there[1][i] -= step
        expected[i] = (model.loss(there[0], x, target) - model.loss(there[1], x, target)) / (2 * step)
    assert np.abs(expected).max() > 1e-2
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_shown_ops_gradient_is_that_of_its_kernel(project: Path) -> None:
    assert gradient_error(Compiled(designed(project), project / "right")) < 1e-6
    replace(project / "swish.hpp", "gate + x[i]", "gate - x[i]")
    assert gradient_error(Compiled(designed(project), project / "wrong")) > 1e-3  # a wrong gradient is detected


OTHERS = '''
"""An op with weights, and one that changes the shape."""

import math
from dataclasses import dataclass
from typing import ClassVar

from tinymetafed_codegen.ops import LayerSpec, Op, OpError, Parameter, WeightedSpec


class GainSpec(WeightedSpec):
    """No keys of its own."""


class RepeatSpec(LayerSpec):
    """How often."""

    times: int = 2


@dataclass(frozen=True)
class Gain(Op):
    """y = gain x, a gain for each channel."""

    kind: ClassVar[str] = "gain"
    spec: ClassVar[type[LayerSpec]] = GainSpec
    header: ClassVar[str] = "kernels/gain.hpp"
    template: ClassVar[str] = "weighted.hpp.j2"

    @classmethod
    def build(cls, spec, name, input_shape):
        channels = input_shape[-1]
        weights = (Parameter("gain", (channels,), fan_in=1, fan_out=1),)
        return cls(name, input_shape, input_shape, weights, spec.local, spec.frozen)

    def cpp_type(self):
        return f"mine::Gain<{math.prod(self.input_shape[:-1])}, {self.input_shape[-1]}>"


@dataclass(frozen=True)
class Repeat(Op):
    """A vector several times."""

    times: int = 1

    kind: ClassVar[str] = "repeat"
    spec: ClassVar[type[LayerSpec]] = RepeatSpec
    header: ClassVar[str] = "kernels/repeat.hpp"

    @classmethod
    def build(cls, spec, name, input_shape):
        if len(input_shape) != 1:
            raise OpError(f"repeat expects a vector, not {list(input_shape)}")
        return cls(name, input_shape, (spec.times * input_shape[0],), times=spec.times)

    def cpp_type(self):
        return f"mine::Repeat<{self.input_shape[0]}, {self.times}>"

    def backward_reads(self):
        return ""
'''
GAIN = """
namespace mine {
template <int kPixels, int kChannels>
struct Gain {
  template <typename T, typename W>
  static void forward(const T* x, const W* gain, T* y) {
    for (int i = 0; i < kPixels * kChannels; ++i) y[i] = x[i] * gain[i % kChannels];
  }
  template <typename Update, bool kDx, bool kMask, typename T>
  static void backward(const T* x, const T* dy, T* dx, T* gain, T rate) {
    for (int c = 0; c < kChannels; ++c) {
      const T weight = gain[c];
      T sum = T{};
      for (int i = c; i < kPixels * kChannels; i += kChannels) {
        sum += x[i] * dy[i];
        if constexpr (kDx) dx[i] = weight * dy[i];
      }
      if constexpr (Update::kMoves) Update::move(gain + c, weight, rate * sum, rate);
    }
  }
};
}  // namespace mine
"""
REPEAT = """
namespace mine {
template <int kSize, int kTimes>
struct Repeat {
  template <typename T>
  static void forward(const T* x, T* y) {
    for (int i = 0; i < kSize * kTimes; ++i) y[i] = x[i % kSize];
  }
  template <typename T>
  static void backward(const T* dy, T* dx) {
    for (int i = 0; i < kSize; ++i) dx[i] = T{};
    for (int i = 0; i < kSize * kTimes; ++i) dx[i % kSize] += dy[i];
  }
};
}  // namespace mine
"""


@pytest.fixture
def others(project: Path) -> Path:
    """A project with an op that has weights and an op that changes the shape; their folder has a space in its name."""
    folder = project / "my ops"
    (folder / "kernels").mkdir(parents=True)
    (folder / "others.py").write_text(OTHERS)
    (folder / "kernels" / "gain.hpp").write_text(GAIN)
    (folder / "kernels" / "repeat.hpp").write_text(REPEAT)
    layers = """[
      { op = "dense", units = 3 }, { op = "my ops/others.py:Gain", activation = "tanh" }, { op = "my ops/others.py:Repeat" },
      { op = "swish.py:Swish" }, { op = "dense", units = 2 }, { op = "my ops/others.py:Gain", local = true },
      { op = "dense", units = 1 },
    ]"""
    (project / "swish.toml").write_text(
        f'[task]\nkind = "sine"\n[model]\ninput = [1]\nloss = "mse"\nlayers = {layers}\n[run]\nrounds = 20\n'
        "[evaluation]\ntasks = 2\n"
    )
    return project


def test_ops_with_weights_and_other_shapes_have_their_gradients_too(others: Path) -> None:
    model = designed(others)
    assert gradient_error(Compiled(model, others / "gradient")) < 1e-6
    assert [tensor.name for tensor in model.manifest.local_tensors] == ["gain6.gain"]


def test_own_ops_train_to_the_same_bits_in_a_process_and_in_every_lane(others: Path, wheel_venv: WheelVenv) -> None:
    seen = []
    for command in ("simulate swish.toml --out simulated", "train swish.toml -d native:1 --out native"):
        done = wheel_venv.run(others, "tinymetafed", *command.split())
        assert done.returncode == 0, done.stderr
        seen.append(re.findall(r"sha256 ([0-9a-f]{16})", done.stdout))
    assert seen[0] == seen[1] and len(seen[0]) == 1
    # The path is relative, so that the project can be moved.
    assert 'op = "../my ops/others.py:Gain"' in (others / "native" / "experiment.toml").read_text()


def test_ops_of_ones_own_train_within_any_budget_as_their_kernels_update_their_weights(others: Path) -> None:
    np.savez(others / "start.npz", **{"dense1.kernel": np.ones((1, 3), np.float32), "dense1.bias": np.ones(3, np.float32)})
    weights, whole = f"model.weights={others / 'start.npz'}", designed(others).manifest.memory.ram_total
    made = designed(others, weights, f"model.trainable=budget:{whole - 1}B")
    assert made.experiment.model.trainable == ("gain2", "dense5", "gain6", "dense7")
    assert made.choice is not None and made.manifest.memory.ram_total == made.choice.ram < whole
    with pytest.raises(SpecError, match=r"layers\[1\]: frozen above model.layers\[0\].*own op 'gain'.*name 'gain2' in"):
        designed(others, weights, 'model.trainable=["dense1","gain6","dense7"]')


# The model's hash and the written experiment


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("swish.hpp", "1.0f - gate", "1.0f - 1.0f * gate", False),
        ("swish.toml", "beta = 1.5", "beta = 1.25", False),
        ("swish.py", "1.0\n\n\n@dataclass", "2.0\n\n\n@dataclass", False),  # a layer without the key takes this default
        ("swish.py", 'return "x"', 'return "xy"', False),
        ("swish.py", "Takes any shape", "Any shape is taken", True),
        ("swish.toml", "units = 1,", 'name = "last", units = 1,', True),
    ],
)  # fmt: skip
def test_the_models_hash_follows_what_the_bits_depend_on(project: Path, file: str, old: str, new: str, same: bool) -> None:
    before = designed(project).model_hash
    replace(project / file, old, new)
    assert (designed(project).model_hash == before) == same


def test_a_header_that_the_header_includes_counts(project: Path) -> None:
    (project / "gate.hpp").write_text("// one\n")
    replace(project / "swish.hpp", "#include <cstdint>", '#include <cstdint>\n\n#include "gate.hpp"')
    before = designed(project).model_hash
    (project / "gate.hpp").write_text("// two\n")
    assert designed(project).model_hash != before


def test_a_loaded_experiment_survives_being_written_and_read(project: Path) -> None:
    experiment = load(project / "swish.toml")
    assert experiment.model.layers[1].beta == 1.5  # type: ignore[attr-defined]
    assert parse(dump(experiment), "again") == experiment


class Impatient(Quiet):
    """Interrupts a run after its first round, as Ctrl-C does."""

    def advance(self) -> None:
        raise KeyboardInterrupt


def test_a_run_is_neither_continued_with_another_op_nor_exported_to_a_format_without_it(project: Path) -> None:
    experiment = load(project / "swish.toml")
    with pytest.raises(KeyboardInterrupt):
        training.simulate(set_up(experiment, "swish.toml", None), 1, project / "run", Impatient())
    with pytest.raises(ExportError, match="TensorFlow has no layer for 'swish', an op of your own"):
        export.write(store.read_run(project / "run"), project / "network.keras")
    replace(project / "swish.hpp", "1.0f - gate", "1.0f - 1.0f * gate")
    with pytest.raises(StoreError, match=r"restore \S+swish\.py and \S+swish\.hpp and"):
        training.resume_simulated(project / "run", 1, Quiet())


# Ops that cannot be used


def broken(file: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda project: replace(project / file, old, new)


@pytest.mark.parametrize(
    ("damage", "at", "why"),
    [
        (lambda project: (project / "swish.py").unlink(), r"swish\.py", "cannot be read"),
        (
            broken("swish.toml", "swish.py:Swish", "swish.py:Swisch"),
            r"swish\.py",
            "has no class Swisch; its classes are: SwishSpec, Swish",
        ),
        (broken("swish.toml", "swish.py:Swish", "swish.py:SwishSpec"), r"swish\.py:12", "SwishSpec is not derived from"),
        (broken("swish.py", "import math", "import math\nimport no_such_module"), r"swish\.py:4", "no_such_module"),
        (broken("swish.py", "import math", "raise SystemExit(1)"), r"swish\.py:3", "SystemExit"),
        (broken("swish.py", "def cpp_type(self)", "def cpp_type(self"), r"swish\.py:\d+", "SyntaxError"),
        (broken("swish.py", '"swish"', '"relu"'), r"swish\.py:\d+", "kind = 'relu' is the name of a built-in op"),
        (broken("swish.py", '"swish"', '"Swish!"'), r"swish\.py:\d+", "kind is 'Swish!'"),
        (broken("swish.py", "] = SwishSpec", "] = float"), r"swish\.py:\d+", "spec is"),
        (lambda project: (project / "swish.hpp").unlink(), r"swish\.py:\d+", "header = 'swish.hpp': "),
        (broken("swish.py", "return cls(name", "return spec.gamma, cls(name"), r"swish\.py:31", "AttributeError"),
        (broken("swish.py", "math.prod(", "math.product("), r"swish\.py:35", "AttributeError"),
        (
            broken("swish.py", "return cls(name, input_shape, input_shape, beta=spec.beta)", "return None"),
            r"swish\.py:\d+",
            "expected an op",
        ),
        (broken("swish.py", 'return "x"', 'return "dy"'), r"swish\.py:\d+", "backward_reads() is 'dy'"),
        (broken("swish.py", "input_shape, beta", "(0,), beta"), r"swish\.py:\d+", "output_shape is (0,)"),
        (
            broken("swish.py", "input_shape, beta", "(2, *input_shape), beta"),
            r"swish\.py:\d+",
            "in_place is True, expected False",
        ),
        (
            broken("swish.py", "= 1.0\n\n    kind", '= 1.0\n\n    template: ClassVar[str] = "mine.j2"\n    kind'),
            r"swish\.py:\d+",
            "template is 'mine.j2'",
        ),
        (
            broken("swish.py", "= 1.0\n\n    kind", "= 1.0\n\n    flash_bytes: ClassVar[int] = 3\n    kind"),
            r"swish\.py:\d+",
            "flash_bytes is 3",
        ),
    ],
)
def test_an_unusable_op_names_file_and_line(project: Path, damage: Callable[[Path], None], at: str, why: str) -> None:
    damage(project)
    with pytest.raises(SpecError) as caught:
        designed(project)
    text = str(caught.value)
    assert re.search(rf"{re.escape(str(project))}/{at}: ", text) and why in text, text
    assert text.startswith(("swish.toml: model.layers[1]", f"{project}/swish.toml: model.layers[1]")), text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("betta = 1.5", r"model\.layers\[1\]: unknown key 'betta'; did you mean 'beta'\?"),
        ("beta = 11", r"model\.layers\[1\]: 'beta' = 11: input should be less than or equal to 10"),
        ('beta = "1"', r"model\.layers\[1\]: 'beta' = '1': input should be a valid number"),
    ],
)
def test_the_keys_of_an_own_op_are_checked_like_those_of_built_in_ops(project: Path, key: str, text: str) -> None:
    replace(project / "swish.toml", "beta = 1.5", key)
    with pytest.raises(SpecError, match=text):
        load(project / "swish.toml")


def test_a_kernel_of_another_signature_is_reported_with_the_compilers_message(project: Path, wheel_venv: WheelVenv) -> None:
    replace(project / "swish.hpp", "backward(const T* x, const T* dy, T* dx)", "backward(const T* x, T* dx)")
    replace(project / "swish.hpp", "dx[i] = dy[i] *", "dx[i] =")
    done = wheel_venv.run(project, "tinymetafed", "simulate", "swish.toml", "--out", "run")
    assert done.returncode == 1 and "error: no matching function" in done.stderr
    assert re.search(rf"{re.escape(str(project))}/swish\.hpp:\d+:\d+: note: candidate", done.stderr), done.stderr


def test_an_unknown_op_is_refused_with_the_names_of_the_built_in_ops(project: Path) -> None:
    replace(project / "swish.toml", '"swish.py:Swish" }', '"swish" }')
    with pytest.raises(SpecError, match=r"unknown value 'swish'; expected one of: dense, .*FILE\.py:CLASS"):
        load(project / "swish.toml")
    assert all(kind == op.kind for kind, op in LAYERS.items())
