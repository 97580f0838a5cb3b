"""Random inputs to the firmware core under sanitizers violate no invariant of docs/protocol.md; planted faults are found."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fuzzer
import pytest

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.optional_messages.part_messages import PART_REQUESTS
from tinymetafed_codegen.optional_messages.store_messages import STORE_REQUESTS
from tinymetafed_codegen.protocol import REQUESTS, Fetch, State, Status

# One group per model: each is compiled once, and two workers share the work.
MODELS = [pytest.param(model, marks=pytest.mark.xdist_group(f"fuzz-{model}")) for model in fuzzer.PLAIN]
EXECUTIONS = 25_000  # of each model; each planted fault is found within the first 1,000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def built(model: str, folder: Path) -> Path:
    (folder / model).mkdir(exist_ok=True)
    program = folder / model / "fuzz"
    return program if program.exists() else fuzzer.build(model, folder / model)


@pytest.mark.parametrize("model", MODELS)
def test_the_corpus_has_no_finding(model: str, folder: Path) -> None:
    finding, reached = fuzzer.run(built(model, folder), *sorted(fuzzer.CORPUS.iterdir()))
    assert finding == ""
    assert all(reached["accepted"][request.type_id] for request in REQUESTS if request.__name__ != "Sample")


@pytest.mark.parametrize("model", MODELS)
def test_random_inputs_have_no_finding(model: str, folder: Path) -> None:
    finding, reached = fuzzer.run(built(model, folder), executions=EXECUTIONS)
    assert finding == ""
    assert reached["executions"] == [EXECUTIONS]
    # The fuzzer must reach every message, accepted, and every state, status and fault. The firmware of `streamed` has a store.
    for request in (*REQUESTS, *STORE_REQUESTS * (model == "streamed")):
        if request.__name__ != "Sample" or model == "streamed":
            assert reached["accepted"][request.type_id] > 200, request.__name__
    assert all(reached["state"][state] > 200 for state in State)
    met = {status for status in Status if reached["status"][status] > 0}
    assert met >= set(Status) - {Status.OVERFLOW, Status.TOO_LARGE}
    assert reached["fault"][Status.NOT_FINITE] > 0 and reached["fault"][Status.OVERFLOW] > 0
    for name in ("damaged", "steps", "entries", "codec", "decoder"):
        assert reached[name][0] > 1_000, name
    assert (reached["kept"][0] > 1_000) is (model == "streamed"), "steps on samples that came in an earlier pass"


@pytest.mark.xdist_group("fuzz-private")
@pytest.mark.skipif(
    not os.environ.get("TINYMETAFED_FUZZ_PRIVATE"), reason="compiles for 10 s; TINYMETAFED_FUZZ_PRIVATE=1 runs it"
)
def test_inputs_to_firmware_of_private_updates_have_no_finding(folder: Path) -> None:
    executions, corpus = 20_000, sorted(fuzzer.CORPUS.iterdir())
    finding, reached = fuzzer.run(built("private", folder), *corpus, executions=executions)
    assert finding == ""
    assert reached["executions"] == [executions + len(corpus)]
    for request in REQUESTS:
        if request.__name__ not in ("Sample", "Fetch"):
            assert reached["accepted"][request.type_id] > 100, request.__name__
    assert reached["accepted"][Fetch.type_id] == 0
    assert reached["fault"][Status.BAD_STATE] > 100, "some boards have no random bytes"
    assert reached["status"][Status.BAD_VALUE] > 100 and reached["entries"][0] > 4_000


def test_the_corpus_is_small() -> None:
    files = list(fuzzer.CORPUS.iterdir())
    assert 10 <= len(files) <= 60
    assert sum(file.stat().st_size for file in files) < 50_000


def libfuzzer_is_there(tmp_path: Path) -> bool:
    if shutil.which("clang++") is None:
        return False
    empty = tmp_path / "empty.cpp"
    empty.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
    command = ["clang++", "-fsanitize=fuzzer", str(empty), "-o", str(tmp_path / "empty")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.xdist_group("fuzz-sine")
def test_libfuzzer_has_no_finding(folder: Path, tmp_path: Path) -> None:
    if not libfuzzer_is_there(tmp_path):
        pytest.skip("no clang++ with libFuzzer here (Debian: clang libclang-rt-14-dev)")
    (folder / "sine").mkdir(exist_ok=True)
    program = fuzzer.build_libfuzzer("sine", folder / "sine")
    grown = tmp_path / "grown"
    grown.mkdir()
    command = [str(program), "-runs=20000", "-seed=1", f"-artifact_prefix={tmp_path}/", str(grown), str(fuzzer.CORPUS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@dataclass(frozen=True)
class Planted:
    """A fault planted in one unit of the core or in its header, and the finding it must cause.

    ``right`` is statements or an expression, and ``wrong`` stands in its place.
    """

    what: str
    model: str
    unit: str
    right: str
    wrong: str
    finding: str

    def planted(self, text: str, number: int) -> str:
        """The unit's text with the fault, which a program has if ``PLANTED`` is its number."""
        core = find("firmware") / "core"
        header = Path(self.unit).with_suffix(".hpp").name
        if self.right not in text:
            text = text.replace(f'#include "{header}"', (core / header).read_text().replace("#pragma once", ""))
        assert self.right in text, self.what
        asked = f"planted_fault == {number}"
        if self.right.endswith(";"):
            return text.replace(self.right, f"if ({asked}) {{ {self.wrong} }} else {{ {self.right} }}")
        return text.replace(self.right, f"({asked} ? ({self.wrong}) : ({self.right}))")


VARIABLE = "PLANTED"
CHOSEN = f"""#include <cstdlib>
static const int planted_fault = std::atoi(std::getenv("{VARIABLE}"));
"""


PLANTED = [
    Planted(
        "a late Load of an earlier cycle is taken",
        "sine",
        "learner.cpp",
        "if (has_token_ && message.token < token_) return {Status::kBadToken, token_};",
        "",
        "I4",
    ),
    Planted("a repeated Sample is trained", "streamed", "learner.cpp", "message.step < step_", "false", "I3"),
    Planted(
        "a repeated Train starts again", "sine", "learner.cpp", "if (state_ != State::kLoaded) return Status::kOk;", "", "I"
    ),
    Planted(
        "NaN is loaded",
        "sine",
        "learner.cpp",
        "if (const Status status = check(); status != Status::kOk) return {status, message.offset};",
        "",
        "I5",
    ),
    Planted(
        "a tensor's scale changes under way",
        "streamed",
        "learner.cpp",
        "if (const Status status = check(); status != Status::kOk) return {status, message.offset};",
        "",
        "I4",
    ),
    Planted("a delta outlives its cycle", "sine", "learner.cpp", "delta_ = Encoder();", "", "I7"),
    Planted(
        "a cycle that was cut short is kept",
        "streamed",
        "learner.cpp",
        "if (!has_token_ || state_ != State::kDone || delta_.count() == 0) return;",
        "",
        "I12",
    ),
    Planted(
        "a round does not start from the store",
        "streamed",
        "learner.cpp",
        "SavedState::load_round(key_, recipe_->top_k > 0, kept_local_, residual_);",
        "",
        "I12",
    ),
    Planted(
        "another sample than the next is trained again", "streamed", "learner.cpp", "put_back(index);", "put_back(0);", "I3"
    ),
    Planted(
        "samples of the set before are trained again",
        "streamed",
        "learner.cpp",
        "KeptSamples::enter(phase, phase_ > 0, is_alone_);",
        "if (phase_ == 0) KeptSamples::enter(phase, false, is_alone_);",
        "I3",
    ),
    Planted(
        "a pass begins again before every sample is there",
        "streamed",
        "learner.cpp",
        "KeptSamples::holds_all()",
        "KeptSamples::holds(0)",
        "I3",
    ),
    Planted(
        "a recipe changes while it runs",
        "sine",
        "learner.cpp",
        "state_ == State::kTraining && !is_alone_",
        "false",
        "I",
    ),
    Planted("Fetch reads beyond the weights", "sine", "learner.cpp", "end < model::kParameterCount", "true", ""),
    Planted(
        "a refusal repeats what the last one said",
        "sine",
        "dispatch.cpp",
        "error.detail = outcome.detail;",
        "static uint32_t last = 0; error.detail = last = outcome.detail != 0 ? outcome.detail : last;",
        "I10",
    ),
    Planted("an answer is as long as its buffer", "sine", "dispatch.cpp", "kMostPayload", "kCapacity - 6", "I6"),
    Planted(
        "a damaged frame passes",
        "sine",
        "frame.cpp",
        "trailer.u32() == crc32(buffer, filled_ - kCrcBytes)",
        "trailer.u32() != 1 + crc32(buffer, filled_ - kCrcBytes)",
        "I2",
    ),
    Planted("a frame is one byte too long", "sine", "frame.cpp", "filled_ < capacity", "filled_ <= capacity", ""),
    Planted(
        "a value is rounded down", "sine", "delta_codec.cpp", "with_level(value / scale)", "with_level(value / scale - 1)", "I7"
    ),
]


@pytest.mark.parametrize("model", MODELS)
def test_planted_faults_are_found(model: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program has all faults of a model and is told which of them to commit."""
    built(model, folder)
    faults = dict(enumerate((fault for fault in PLANTED if fault.model == model), start=1))
    (folder / model / "planted").mkdir()
    changed = {}
    for unit in {fault.unit for fault in faults.values()}:
        text = (find("firmware") / "core" / unit).read_text()
        for number, fault in faults.items():
            if fault.unit == unit:
                text = fault.planted(text, number)
        changed[unit] = folder / model / "planted" / unit
        changed[unit].write_text(CHOSEN + text)
    program = fuzzer.build(model, folder / model, changed)
    monkeypatch.setenv(VARIABLE, "0")
    assert fuzzer.run(program, executions=1_000)[0] == ""
    missed = []
    for number, fault in faults.items():
        monkeypatch.setenv(VARIABLE, str(number))
        finding, _ = fuzzer.run(program, executions=EXECUTIONS)
        if fault.finding not in finding or not finding:
            missed.append((fault.what, finding[:300]))
    assert missed == []


PLANTED_IN_PARTS = [
    Planted(
        "a part beyond the end of its sample is taken",
        "parts",
        "parts/sample_parts.hpp",
        "part.data_size > targets + input_bytes(part.dtype) - taken",
        "false",
        "",
    ),
    Planted(
        "a part that came before is refused",
        "parts",
        "parts/sample_parts.hpp",
        "static_cast<int32_t>(part.position - expected) < 0",
        "false",
        "I11",
    ),
    Planted(
        "a sample's parts differ in dtype or scale",
        "parts",
        "parts/sample_parts.hpp",
        "if (taken > 0 && (part.dtype != dtype_ || part.scale != scale_)) return Status::kBadValue;",
        "",
        "I",
    ),
    Planted(
        "floats are written over bytes that are not read yet",
        "parts",
        "parts/sample_parts.hpp",
        "sizeof(float) * model::kInputSize - input_bytes(dtype_)",
        "size_t{0}",
        "I",
    ),
    Planted(
        "a sample is trained without its last byte",
        "parts",
        "parts/sample_parts.hpp",
        "taken_ < kTargetBytes + input_bytes(dtype_)",
        "taken_ + 1 < kTargetBytes + input_bytes(dtype_)",
        "I4",
    ),
]


def test_what_planted_faults_replace_is_in_the_core() -> None:
    for number, fault in enumerate((*PLANTED, *PLANTED_IN_PARTS), start=1):
        text = (find("firmware") / "core" / fault.unit).read_text()
        assert f"planted_fault == {number}" in fault.planted(text, number)


@pytest.mark.xdist_group("fuzz-parts")
def test_samples_in_parts_have_no_finding_and_planted_faults_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one program has all faults, none of which it commits at first."""
    header = folder / "parts" / "parts" / "sample_parts.hpp"  # found before that of the core
    header.parent.mkdir(parents=True)
    text = (find("firmware") / "core" / "parts" / "sample_parts.hpp").read_text()
    for number, fault in enumerate(PLANTED_IN_PARTS, start=1):
        text = fault.planted(text, number)
    header.write_text(text.replace("#pragma once", f"#pragma once\n{CHOSEN}"))
    monkeypatch.setenv(VARIABLE, "0")
    program = built("parts", folder)
    finding, reached = fuzzer.run(program, *sorted(fuzzer.CORPUS.iterdir()), executions=EXECUTIONS)
    assert finding == ""
    for request in (*REQUESTS, *PART_REQUESTS):
        assert reached["accepted"][request.type_id] > 100, request.__name__
    assert reached["steps"][0] > 1_000 and reached["status"][Status.BAD_OFFSET] > 200
    missed = []
    for number, fault in enumerate(PLANTED_IN_PARTS, start=1):
        monkeypatch.setenv(VARIABLE, str(number))
        finding, _ = fuzzer.run(program, executions=EXECUTIONS)
        if fault.finding not in finding or not finding:
            missed.append((fault.what, finding[:300]))
    assert missed == []
