"""Exported libraries: the host's bits, every compiler and language version, misuse, and folders that are kept."""

from __future__ import annotations

import importlib
import subprocess
import zlib
from pathlib import Path

import exported
import numpy as np
import pytest
from PIL import Image
from small_runs import Quiet, sine
from with_tensorflow import agree, needs_tensorflow

from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.runs import adapted, exporting, training
from tinymetafed.runs.exported_weights import ExportError
from tinymetafed.runs.run_data import RunData
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import load

NAME = "LibModel"
FLATTEN = "{op='flatten'},"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunData, Setup]]:
    """A run of each model on the folder of clients, and of sine."""
    folder = tmp_path_factory.mktemp("library")
    exported.write_clients(folder / "people")
    found = {}
    for model in exported.MODELS:
        file = exported.write_experiment(folder, model)
        found[model] = _run(set_up(load(file), str(file), None), folder / f"run-{model}")
    found["sine"] = _run(set_up(sine("run.rounds=2", "evaluation.tasks=2"), "sine", None), folder / "run-sine")
    return found


def _run(setup: Setup, folder: Path) -> tuple[RunData, Setup]:
    training.simulate(setup, 1, folder, Quiet())
    return read_run(folder), setup


def library(run: RunData, folder: Path, kind: str = "cpp", **options: object) -> Path:
    exporting.write(run, folder / "lib", format=kind, **options)  # type: ignore[arg-type]
    return folder / "lib"


def test_the_self_test_prints_what_the_host_computes(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    for model, client in (("dense", "person4"), ("conv1d", "person4"), ("sine", "7")):
        made = library(runs[model][0], tmp_path / model, client=client)
        said = exported.printed(exported.build(made, made / "test" / "self_test.cpp"))
        assert said == (made / "test" / "expected.txt").read_text() and said.endswith("same as on the host\n")


def test_fused_multiply_add_and_optimisation_change_no_bit(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    made = library(runs["conv1d"][0], tmp_path)
    info = Path("/proc/cpuinfo")
    fused = ("-mfma",) if info.exists() and " fma " in info.read_text() else ()  # the processor has the instruction
    fast = ("-std=c++17", "-O3", "-ffp-contract=fast", *fused)
    said = exported.printed(exported.build(made, made / "test" / "self_test.cpp", options=fast))
    assert said == (made / "test" / "expected.txt").read_text()


WHOLE_ADAPTATION = """
#include <stdio.h>
#include "LibModel.h"
static LibModel model;
static const float kInputs[] = {{ {inputs} }};
static const int32_t kLabels[] = {{ {labels} }};
int main() {{
  bool ok = model.begin() == LibModel::Status::kOk;
  for (int pass = 0; pass < {local_passes}; ++pass)
    for (int i = 0; i < {count}; ++i)
      ok = ok && model.learn(kInputs + i * 30, kLabels[i], LibModel::Part::kLocal, {local_rate}f) == LibModel::Status::kOk;
  for (int pass = 0; pass < {full_passes}; ++pass)
    for (int i = 0; i < {count}; ++i) ok = ok && model.learn(kInputs + i * 30, kLabels[i]) == LibModel::Status::kOk;
  printf("%d %08lx\\n", ok, static_cast<unsigned long>(model.checksum()));
}}
"""


@pytest.mark.parametrize("model", list(exported.MODELS))
def test_learning_a_clients_samples_gives_the_weights_of_its_adaptation(
    runs: dict[str, tuple[RunData, Setup]], tmp_path: Path, model: str
) -> None:
    run, setup = runs[model]
    count, spec = setup.experiment.task.count(SampleSet.ADAPT), setup.experiment.adaptation
    (host,) = adapted.compute(setup, run.weights, [HELD_OUT], count)
    samples = setup.task.samples(HELD_OUT, 0, SampleSet.ADAPT, count)
    made = library(run, tmp_path)  # not adapted
    program = tmp_path / "learn.cpp"
    program.write_text(
        WHOLE_ADAPTATION.format(
            inputs=", ".join(f"{float(str(value))!r}f" for value in samples.inputs.ravel()),
            labels=", ".join(str(int(label)) for label in samples.targets.ravel()),
            count=count,
            local_passes=spec.local_passes,
            full_passes=spec.full_passes,
            local_rate=repr(float(spec.local_learning_rate)),
        )
    )
    assert host.weights is not None
    expected = zlib.crc32(host.weights.astype("<f4").tobytes())
    assert exported.printed(exported.build(made, program)) == f"1 {expected:08x}\n"
    again = library(run, tmp_path / "adapted", client="person4")  # begins where the other has arrived
    program.write_text(
        '#include <stdio.h>\n#include "LibModel.h"\nstatic LibModel model;\n'
        "int main() {\n  if (model.begin() != LibModel::Status::kOk) return 1;\n"
        '  printf("%08lx\\n", static_cast<unsigned long>(model.checksum()));\n}\n'
    )
    assert exported.printed(exported.build(again, program)) == f"{expected:08x}\n"


@pytest.mark.parametrize("standard", ["c++11", "c++14", "c++17", "c++20"])
def test_every_compiler_takes_every_file_in_every_version_of_the_language(
    runs: dict[str, tuple[RunData, Setup]], tmp_path: Path, standard: str
) -> None:
    for model in ("conv1d", "sine") if standard == "c++11" else ("conv1d",):
        made = library(runs[model][0], tmp_path / model, "arduino")
        for compiler, command in exported.compilers().items():
            # Xtensa's clang has no C library, which the test program needs.
            sources = [made / "src" / f"{NAME}.cpp", *([] if "clang" in compiler else [made / "test" / "self_test.cpp"])]
            done = subprocess.run(
                [*command, f"-std={standard}", *exported.STRICT, "-fsyntax-only", f"-I{made / 'src'}", *map(str, sources)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{model} {compiler}: {done.stderr}"


MISUSE = """
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "LibModel.h"
typedef LibModel::Status Status;
static LibModel model, other;
static float features[LibModel::kFeatures], scores[LibModel::kScores];
static unsigned char saved[LibModel::kSaveBytes];
static int fault = 0;
#define EXPECT(call, status) do { if ((call) != (status)) { printf("line %d\\n", __LINE__); fault = 1; } } while (0)
int main() {
  EXPECT(model.predict(features, scores), Status::kNotBegun);
  EXPECT(model.learn(features, 0), Status::kNotBegun);
  EXPECT(model.learn(features, 9), Status::kNotBegun);
  EXPECT(model.save(saved, sizeof saved), Status::kNotBegun);
  EXPECT(model.weights() == nullptr, true);
  EXPECT(model.begin(), Status::kOk);
  const uint32_t before = model.checksum();
  EXPECT(model.learn(features, -1), Status::kBadLabel);
  EXPECT(model.learn(features, LibModel::kClasses), Status::kBadLabel);
  EXPECT(model.learn(nullptr, 0), Status::kNoPointer);
  EXPECT(model.predict(features, nullptr), Status::kNoPointer);
  features[LibModel::kFeatures - 1] = static_cast<float>(NAN);
  EXPECT(model.learn(features, 0), Status::kNotFinite);
  EXPECT(model.predict(features, scores), Status::kNotFinite);
  features[LibModel::kFeatures - 1] = 1.0f;
  EXPECT(model.learn(features, 0, LibModel::Part::kAll, static_cast<float>(INFINITY)), Status::kNotFinite);
  EXPECT(model.checksum(), before);
  EXPECT(model.learn(features, 1), Status::kOk);
  EXPECT(model.checksum() != before, true);
  EXPECT(model.save(saved, sizeof saved - 1), Status::kBadSize);
  EXPECT(model.save(saved, sizeof saved), Status::kOk);
  saved[sizeof saved / 2] ^= 1;
  EXPECT(other.restore(saved, sizeof saved), Status::kBadSave);
  EXPECT(other.predict(features, scores), Status::kNotBegun);
  saved[sizeof saved / 2] ^= 1;
  saved[0] ^= 1;
  EXPECT(other.restore(saved, sizeof saved), Status::kBadSave);
  saved[0] ^= 1;
  EXPECT(other.restore(saved, sizeof saved - 1), Status::kBadSize);
  EXPECT(other.restore(saved, sizeof saved), Status::kOk);
  EXPECT(other.checksum(), model.checksum());
  EXPECT(model.learn(features, 0), Status::kOk);
  EXPECT(other.learn(features, 0), Status::kOk);
  EXPECT(other.checksum(), model.checksum());
  Status last = Status::kOk;
  for (int i = 0; i < 9 && last == Status::kOk; ++i) last = model.learn(features, i % 3, LibModel::Part::kAll, 3e38f);
  EXPECT(last, Status::kDiverged);
  EXPECT(model.predict(features, scores), Status::kDiverged);
  EXPECT(model.save(saved, sizeof saved), Status::kDiverged);
  EXPECT(model.begin(), Status::kOk);
  EXPECT(model.checksum(), before);
  EXPECT(model.predict(features, scores), Status::kOk);
  LibModel::probabilities(scores, scores);
  EXPECT(scores[0] + scores[1] + scores[2] > 0.999f && scores[0] + scores[1] + scores[2] < 1.001f, true);
  EXPECT(strcmp(LibModel::class_name(1), "say \\"hi\\""), 0);
  EXPECT(strcmp(LibModel::class_name(3), ""), 0);
  EXPECT(LibModel::best(scores) >= 0 && LibModel::best(scores) < 3, true);
  return fault;
}
"""


def test_misuse_is_answered_by_a_status_and_changes_nothing(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    made = library(runs["dense"][0], tmp_path)
    (tmp_path / "misuse.cpp").write_text(MISUSE)
    program = exported.build(made, tmp_path / "misuse.cpp", options=("-std=c++11", "-fsanitize=undefined,address"))
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [("-ffast-math", "only without -ffast-math"), ("-DFLT_MANT_DIG=53", "needs IEEE 754 binary32")],
)
def test_another_float_arithmetic_is_a_compile_error(
    runs: dict[str, tuple[RunData, Setup]], tmp_path: Path, option: str, said: str
) -> None:
    made = library(runs["dense"][0], tmp_path)
    header = made / "src" / f"{NAME}.h"
    if option.startswith("-D"):  # <float.h> would define it again
        name, value = option.removeprefix("-D").split("=")
        header.write_text(header.read_text().replace(f"{name} ==", f"{value} =="))
    command = ["g++", "-std=c++11", "-fsyntax-only", option if "fast" in option else "-O1", str(made / "src" / f"{NAME}.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr


def test_an_earlier_export_is_replaced_and_nothing_else(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    run = runs["dense"][0]
    made = library(run, tmp_path / "deep" / "er")
    first = (made / "src" / f"{NAME}.cpp").read_text()
    library(run, tmp_path / "deep" / "er", "arduino", client="person4")
    assert (made / "src" / f"{NAME}.cpp").read_text() != first and not (made / "examples" / "learn.cpp").exists()
    assert [path.name for path in made.parent.iterdir()] == ["lib"]
    (made / "src" / "mine.cpp").write_text("// mine\n")
    with pytest.raises(ExportError, match=r"src/mine\.cpp: added since the export"):
        library(run, tmp_path / "deep" / "er")
    (made / "src" / "mine.cpp").unlink()
    (made / "README.md").write_text("mine\n")
    with pytest.raises(ExportError, match=r"README\.md: changed since the export"):
        library(run, tmp_path / "deep" / "er")
    assert (made / "README.md").read_text() == "mine\n"
    (tmp_path / "own" / "lib").mkdir(parents=True)
    library(run, tmp_path / "own")  # an empty folder is taken
    (tmp_path / "other" / "lib").mkdir(parents=True)
    (tmp_path / "other" / "lib" / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="not an earlier export"):
        library(run, tmp_path / "other")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "lib").write_text("mine")
    with pytest.raises(ExportError, match="a file; give a folder"):
        library(run, tmp_path / "file")
    assert (tmp_path / "file" / "lib").read_text() == "mine"


def test_a_failed_export_leaves_the_earlier_one(
    runs: dict[str, tuple[RunData, Setup]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = library(runs["dense"][0], tmp_path)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    write_text = Path.write_text

    def full(self: Path, text: str, **options: str) -> int:
        if self.name == "README.md":
            raise OSError(28, "No space left on device", str(self))
        return write_text(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Error, match=r"README\.md: cannot be written: No space left on device"):
        library(runs["dense"][0], tmp_path, client="person4")
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["lib"]


def test_files_of_ones_own_adapt_the_weights(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    run, setup = runs["dense"]
    people = Path(setup.experiment.task.path)  # type: ignore[attr-defined]
    lines = (people / "person0.csv").read_text().splitlines()
    own = tmp_path / "mine.csv"
    own.write_text("\n".join(lines[:2] + lines[3:5]) + "\n")  # two of three classes
    made = library(run, tmp_path, adapt=[own])
    assert "adapted to 4 samples of mine.csv" in (made / "README.md").read_text()
    assert (
        exported.printed(exported.build(made, made / "test" / "self_test.cpp")) == (made / "test" / "expected.txt").read_text()
    )
    own.write_text(lines[0].replace(lines[0].split(",")[0], "high", 1) + "\n" + lines[1] + "\n")
    with pytest.raises(Error, match=rf"{own}: row 1, column 1"):
        library(run, tmp_path / "faulty", adapt=[own])
    with pytest.raises(Error, match=r"none\.csv: no such file"):
        library(run, tmp_path / "faulty", adapt=[tmp_path / "none.csv"])
    for path, what in ((people, "a folder"), (made / "README.md", "neither a CSV nor an NPZ file")):
        with pytest.raises(Error, match=rf"{path}: {what}; --adapt takes"):
            library(run, tmp_path / "faulty", adapt=[path])
    assert not (tmp_path / "faulty").exists()


def test_options_that_do_not_fit_are_refused(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    dense, sines = runs["dense"][0], runs["sine"][0]
    for run, output, options, said in (
        (dense, "lib", {"format": "ardiuno"}, "--format 'ardiuno': unknown; expected arduino"),
        (dense, "lib", {}, r"no suffix says which format is meant; .*-o .*lib\.npz; .* --format arduino -o lib"),
        (dense, "w.pb", {}, r"unknown format '\.pb'; .*-o .*w\.npz"),
        (dense, "w.h", {"format": "npz"}, r"--format npz does not write \.h; leave --format out, or give -o .*w\.npz"),
        (dense, "lib", {"format": "cpp", "client": "person4", "adapt": [tmp_path / "x.csv"]}, "give one of them"),
        (dense, "lib", {"format": "cpp", "client": "persona4"}, "did you mean 'person4'"),
        (dense, "lib", {"format": "cpp", "outputs": "softmax"}, r"probabilities\(\)"),
        (sines, "lib", {"format": "cpp", "adapt": [Path(__file__)]}, "this run's task is 'sine'"),
        (sines, "lib", {"format": "cpp", "client": "four"}, "give a number from 0 on"),
    ):
        with pytest.raises(Error, match=said):
            exporting.write(run, tmp_path / output, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_weights_of_a_client_are_exported_to_files_too(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    run, setup = runs["dense"]
    (host,) = adapted.compute(setup, run.weights, [HELD_OUT], setup.experiment.task.count(SampleSet.ADAPT))
    assert host.weights is not None
    exporting.write(run, tmp_path / "w.npz", client="person4")
    with np.load(tmp_path / "w.npz") as arrays:
        for tensor in run.manifest.parameters:
            assert arrays[tensor.name].ravel().tobytes() == host.weights[tensor.place].tobytes()
    made = exporting.write(run, tmp_path / "folder", format="header", client="person4")
    assert made.path.parent == tmp_path / "folder" and "dense2_kernel" in made.path.read_text()


def test_a_sketch_compiles_and_runs(runs: dict[str, tuple[RunData, Setup]], tmp_path: Path) -> None:
    for model in ("conv1d", "sine"):
        made = library(runs[model][0], tmp_path / model, "arduino")
        said = exported.printed(exported.build_sketch(made, made / "examples" / f"{NAME}SelfTest" / f"{NAME}SelfTest.ino"))
        assert said.endswith("same as on the host\n")
        assert exported.printed(exported.build_sketch(made, made / "examples" / f"{NAME}Learn" / f"{NAME}Learn.ino"))


@pytest.mark.parametrize("suffix", [pytest.param(each, marks=needs_tensorflow) for each in (".keras", ".tflite")])
def test_networks_for_tensorflow_are_adapted_and_end_as_asked(
    runs: dict[str, tuple[RunData, Setup]], tmp_path: Path, suffix: str
) -> None:
    run, setup = runs["conv1d"]
    (host,) = adapted.compute(setup, run.weights, [HELD_OUT], setup.experiment.task.count(SampleSet.ADAPT))
    for outputs in ("logits", "softmax"):
        file = tmp_path / f"{outputs}{suffix}"
        exporting.write(run, file, client="person4", outputs="softmax" if outputs == "softmax" else "logits")
        if suffix == ".keras":
            given = np.asarray(importlib.import_module("keras").saving.load_model(file)(host.test.inputs))
        else:
            interpreter = importlib.import_module("tensorflow").lite.Interpreter(str(file))
            interpreter.allocate_tensors()
            rows = []
            for x in host.test.inputs:
                interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[None])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
            given = np.array(rows)
        powers = np.exp(host.after - host.after.max(axis=1, keepdims=True))
        agree(given, host.after if outputs == "logits" else powers / powers.sum(axis=1, keepdims=True))
    with pytest.raises(Error, match="the outputs of loss 'mse' are values"):
        exporting.write(runs["sine"][0], tmp_path / f"sine{suffix}", outputs="softmax")


@pytest.mark.parametrize(
    ("keys", "shape", "note"),
    [
        ('features = ["az", "ax"]', [2], "az, ax"),
        (
            'window = 4\ntime = "t"\nrate = 10',
            [12],
            "4 rows over time at 10 Hz, one after the other, the oldest first; in each row: ax, ay, az",
        ),
        ("images", [5, 4, 1], "pixels / 255, from 0 to 1, row by row, in the shape [5, 4, 1]"),
    ],
)
def test_readme_and_header_name_the_features(tmp_path: Path, keys: str, shape: list[int], note: str) -> None:
    for client in ("anna", "bob", "cleo"):
        for number, label in enumerate(("idle", "walk") * 8):
            file = tmp_path / "data" / client / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            if keys == "images":
                Image.new("L", (4, 5), 9 * number).save(file)
        if keys != "images":
            times = "t," if "time" in keys else ""
            rows = [f"{i / 10}," * bool(times) + f"{i},{i % 5},{i % 3},{('idle', 'walk')[i // 40]}" for i in range(80)]
            (tmp_path / "data" / f"{client}.csv").write_text("\n".join([f"{times}ax,ay,az,label", *rows]))
    file = tmp_path / "experiment.toml"
    file.write_text(
        f"[task]\nkind = 'folder'\npath = 'data'\nheld_out = ['cleo']\nsupport = 2\nquery = 2\nadapt = 2\n"
        f"{keys.replace('images', '')}\n[model]\ninput = {shape}\nloss = 'softmax_cross_entropy'\n"
        f"layers = [{FLATTEN if len(shape) > 1 else ''}"
        "{op='dense',units=3},{op='dense',units=2,local=true}]\n[run]\nrounds = 1\n"
        "devices_per_round = 1\n[evaluation]\ntasks = 1\n"
    )
    run, _ = _run(set_up(load(file), str(file), None), tmp_path / "run")
    made = library(run, tmp_path / "arduino", "arduino")
    assert f"Features of one sample: {note}" in (made / "README.md").read_text()
    header = (made / "src" / f"{NAME}.h").read_text()
    assert note in " ".join(line.strip(" /") for line in header.splitlines())
