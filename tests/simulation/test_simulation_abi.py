"""Arguments of the compiled simulation: C++ and Python share one table, and a change on one side alone is an error."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from small_runs import SINE, sine

from tinymetafed.runs.setup import design_of
from tinymetafed.simulation.batches import Batch
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.compilation import compile_kernels
from tinymetafed.simulation.kernels import Kernels, open_kernels
from tinymetafed.simulation.vector_units import vector_units
from tinymetafed_codegen.abi import simulation_abi as abi
from tinymetafed_codegen.abi import simulation_abi_cpp
from tinymetafed_codegen.protocol import Phase, Recipe, SampleSet, Variant
from tinymetafed_codegen.toolchain import BuildError

HEADER = simulation_abi_cpp.simulation_abi_header("pytest")


def compile_header(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "simulation_abi.hpp").write_text(text)
    command = ["g++", "-std=gnu++17", "-fsyntax-only", "-x", "c++", str(folder / "simulation_abi.hpp")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compiler_lays_out_what_python_does(tmp_path: Path) -> None:
    done = compile_header(HEADER, tmp_path)
    assert done.returncode == 0, done.stderr
    fields = [field for struct in abi.STRUCTS for field in struct.fields()]
    assert HEADER.count("static_assert(") == len(abi.STRUCTS) + len(fields)


@pytest.mark.parametrize("struct", abi.STRUCTS, ids=lambda struct: struct.__name__)
def test_a_field_that_is_changed_in_cpp_alone_does_not_compile(struct: type[abi.Struct], tmp_path: Path) -> None:
    declared = f"struct {struct.__name__} {{\n"
    for changed in (f"{declared}  uint32_t added;\n", f"{declared}  alignas(128) uint8_t padded;\n"):
        done = compile_header(HEADER.replace(declared, changed), tmp_path)
        assert done.returncode != 0 and "the layout differs from that in Python" in done.stderr
    first, second = (f"  {field.kind.cpp_type} {field.name};" for field in (struct.fields()[0], struct.fields()[-1]))
    head, _, body = HEADER.partition(declared)
    swapped = body.replace(first, "@", 1).replace(second, first, 1).replace("@", second, 1)
    assert compile_header(head + declared + swapped, tmp_path).returncode != 0


def test_a_field_that_is_changed_in_python_changes_the_hash() -> None:
    @dataclasses.dataclass(frozen=True)
    class Evaluation(abi.Evaluation):
        added: Annotated[abi.U32, "one more"] = 0

    changed = [Evaluation if struct is abi.Evaluation else struct for struct in abi.STRUCTS]
    assert abi.abi_hash(changed) != abi.abi_hash()
    assert abi.abi_hash(abi.STRUCTS[::-1]) != abi.abi_hash() != abi.abi_hash(functions=abi.FUNCTIONS[1:])


def test_a_library_of_another_table_is_refused_before_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = design_of(sine(), str(SINE))
    library = compile_kernels(design, vector_units()["scalar"])
    Kernels(library, design.manifest, 1, 1)
    with monkeypatch.context() as patched:
        patched.setattr(abi, "abi_hash", lambda: 1)
        with pytest.raises(BuildError, match=rf"{library.name}: built by a version .* other arguments; remove that file"):
            Kernels(library, design.manifest, 1, 1)
    with pytest.raises(BuildError, match=r"libc\.so\.6: not a library of compiled kernels .*remove that file"):
        Kernels(Path("libc.so.6"), design.manifest, 1, 1)
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(BuildError, match=r"text\.so: not a library of compiled kernels"):
        Kernels(tmp_path / "text.so", design.manifest, 1, 1)


def floats(*shape: int) -> abi.Floats:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"inputs": np.ones((2, 3))}, r"Samples\.inputs: an array of float64; expected one of float32"),
        ({"targets": floats(3, 4)[:, :2]}, r"Samples\.targets: an array of float32; expected .* C-contiguous"),
        ({"levels": np.ones(3, np.int8)}, r"Samples\.levels: an array of int8; expected one of uint8"),
    ],
)
def test_arrays_of_the_wrong_type_or_shape_are_refused(changed: dict[str, np.ndarray], complaint: str) -> None:
    samples = abi.Samples(None, floats(2, 3), floats(2, 1), 1.0, 1)
    samples.to_c()
    with pytest.raises(abi.AbiError, match=complaint):
        dataclasses.replace(samples, **changed).to_c()


def test_read_only_outputs_and_values_out_of_range_are_refused() -> None:
    outputs = floats(1, 3, 1)
    test = abi.Evaluation(abi.Samples(None, floats(1, 3), floats(1, 3), 1.0, 0), 3, outputs, outputs, None, None)
    filled = test.to_c()
    assert (filled.rows, filled.before, filled.samples.scale) == (3, outputs.ctypes.data, 1.0)  # type: ignore[attr-defined]
    for rows in (-1, 1 << 32):
        with pytest.raises(abi.AbiError, match=rf"Evaluation\.rows: {rows} does not fit uint32_t"):
            dataclasses.replace(test, rows=rows).to_c()
    fixed = floats(1, 3, 1)
    fixed.flags.writeable = False
    with pytest.raises(abi.AbiError, match=r"Evaluation\.after: .*writeable"):
        dataclasses.replace(test, after=fixed).to_c()


def test_nested_and_repeated_structs_lie_where_cpp_reads_them() -> None:
    rows = [abi.Samples(None, floats(1), floats(1), n / 2, 1) for n in range(3)]
    recipe, status = np.zeros(9, np.uint8), np.zeros(1, np.uint8)
    runs = [abi.RunClients(floats(1), 1, seed, 8) for seed in (7, 9)]
    filled = abi.Training(runs, recipe, rows, np.ones(2, np.uint32), 2, 1, 1, None, status).to_c()
    del rows, runs
    assert [filled.samples[n].scale for n in range(3)] == [0, 0.5, 1]  # type: ignore[attr-defined]
    assert [filled.runs[n].seed for n in range(2)] == [7, 9]  # type: ignore[attr-defined]
    assert (filled.local_weights, filled.statuses) == (None, status.ctypes.data)  # type: ignore[attr-defined]
    assert ctypes.sizeof(filled) == ctypes.sizeof(abi.Training.c_type())


def test_samples_of_another_size_than_a_phase_trains_are_refused() -> None:
    kernels = open_kernels(design_of(sine(), str(SINE)), 1)
    weights = np.zeros(kernels.manifest.n_global, np.float32)
    phase = Phase(Variant.GLOBAL, SampleSet.QUERY, 16, 1, 0.01, 1.0)
    clients = TrainingClients(1, range(2), 0)
    for n_clients, count in ((2, 15), (1, 16), (2, 17)):
        batch = Batch(floats(n_clients, count, 1), floats(n_clients, count, 1))
        with pytest.raises(ValueError, match=r"needs samples of \(2, 16\)"):
            kernels.train_round(ClientRound(weights, Recipe((phase,), 1), [batch], clients))


def test_single_fields_are_filled_again_with_the_same_checks() -> None:
    first, second = floats(1, 3), floats(1, 3)
    runs = [abi.RunClients(first, 1, seed, 8) for seed in (7, 9)]
    training = abi.Filled(abi.Training(runs, np.zeros(9, np.uint8), [], np.ones(2, np.uint32), 2, 1, 1, None, None))  # type: ignore[arg-type]
    last = abi.Filled(runs[1], training.to.runs[1])  # type: ignore[attr-defined]
    last.fill(global_weights=second, round=10)
    found = [(run.global_weights, run.seed, run.round) for run in training.to.runs[:2]]  # type: ignore[attr-defined]
    assert found == [(first.ctypes.data, 7, 8), (second.ctypes.data, 9, 10)]
    for wrong, complaint in (
        ({"round": -1}, r"RunClients\.round: -1"),
        ({"global_weights": np.ones(3)}, r"global_weights: .*float64"),
    ):
        with pytest.raises(abi.AbiError, match=complaint):
            last.fill(**wrong)
