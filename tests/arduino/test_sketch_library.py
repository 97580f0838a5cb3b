"""The library for sketches: it compiles for every chip, federates inside a sketch, and learns to the simulation's bits."""

from __future__ import annotations

import ctypes
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import exported
import numpy as np
import pytest
from clocks import FakeClock
from sketches import FLAGS, compile_sketch, run, units, write_library
from small_runs import SINE, sine
from test_arduino import HERE, check_syntax

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import HELD_OUT, Samples
from tinymetafed.learn.weights import initial
from tinymetafed.projects import new
from tinymetafed.runs.exported_weights import library_design, trained
from tinymetafed.simulation.batches import Batch
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Program, Recipe, SampleSet, State, Status, Train
from tinymetafed_codegen.toolchain import compiler_flags

pytestmark = pytest.mark.usefixtures("patient")


def loaded_sine() -> tmf.Experiment:
    spec = sine("run.rounds=6", "evaluation.tasks=3", "evaluation.every=0")
    return tmf.Experiment(spec, str(HERE / "experiment.toml"))


def test_it_compiles_for_the_chips_of_real_boards(tmp_path: Path) -> None:
    found = exported.compilers()
    for board, name in (("nano33ble", "arm-none-eabi-g++"), ("esp32dev", "clang++-22")):
        if name not in found:
            continue
        library = write_library(loaded_sine(), board, tmp_path / board)
        arguments = [*compiler_flags(), f"-I{library / 'src'}", f"-I{HERE / board}"]
        headers = [] if name != "clang++-22" else arm_headers()
        check_syntax([*found[name], *headers], [Path(unit) for unit in units(library)], arguments)
        sketch = tmp_path / "sketch.cpp"
        sketch.write_text((library / "examples" / "Federated" / "Federated.ino").read_text())
        run(
            [
                *found[name],
                *headers,
                *FLAGS,
                "-std=gnu++11",
                *arguments[-2:],
                "-include",
                "Arduino.h",
                "-fsyntax-only",
                str(sketch),
            ]
        )


def arm_headers() -> list[str]:
    """The C++ headers of the compiler for ARM, which serve any 32-bit target."""
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("no C++ headers for a 32-bit target")
    said = subprocess.run(
        ["arm-none-eabi-g++", "-E", "-v", "-x", "c++", "/dev/null"], capture_output=True, text=True, check=True
    )
    listed = [Path(line.strip()).resolve() for line in said.stderr.splitlines() if line.startswith(" /")]
    return [word for path in listed if path.is_dir() and "gcc" not in path.parts for word in ("-isystem", str(path))]


@pytest.mark.parametrize("has_store", [False, True])
def test_no_file_outside_of_it_is_needed(has_store: bool, tmp_path: Path) -> None:
    experiment = tmf.load(SINE, {"board.store": has_store})
    library = write_library(experiment, "nano33ble", tmp_path / "library")
    assert ((library / "src/tinymetafed/port/nano33ble/storage.cpp") in map(Path, units(library))) == has_store
    outside = {"Arduino.h", "nrf.h", "cstddef", "cstdint", "cstring", "tinymetafed.h"}
    outside.add("PubSubClient.h")  # of a line that no other file includes: a sketch that does needs that library
    for file in [path for path in library.rglob("*") if path.suffix in (".h", ".hpp", ".cpp", ".ino")]:
        for quoted, angled in re.findall(r'(?m)^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', file.read_text()):
            assert angled in outside or (quoted and (file.parent / quoted).is_file()), f"{file}: {quoted or angled}"


def test_a_board_and_a_sample_source_of_the_users_are_in_it(tmp_path: Path) -> None:
    new.create(tmp_path / "blinds", "rp2040")
    experiment = tmf.load(tmp_path / "blinds" / "experiment.toml", ["task.source=source.cpp"])
    library = write_library(experiment, "rp2040", tmp_path / "library")
    compile_sketch(library, "rp2040", library / "examples" / "Federated" / "Federated.ino")


def test_no_constructor_runs_before_the_sketch(tmp_path: Path) -> None:
    library = write_library(loaded_sine(), "nano33ble", tmp_path / "library")
    device = library / "src" / "tinymetafed" / "core" / "device.cpp"
    for level in ("-O0", "-Os"):
        run(["g++", level, "-std=gnu++17", "-c", str(device), "-o", str(tmp_path / "device.o")])
        sections = run(["objdump", "-h", str(tmp_path / "device.o")])
        assert ".init_array" not in sections and ".ctors" not in sections
        initialised = re.search(r"\.data\s+([0-9a-f]+)", sections)
        assert initialised and int(initialised[1], 16) == 0, "the device is zeroed memory, which takes no flash"


def test_products_and_sums_are_not_fused_without_a_flag(tmp_path: Path) -> None:
    if (arm := exported.compilers().get("arm-none-eabi-g++")) is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    library = write_library(loaded_sine(), "nano33ble", tmp_path / "library")
    for unit in ("core/learner.cpp", "core/learner_alone.cpp"):
        source = library / "src" / "tinymetafed" / unit
        text = run([*arm, "-O2", "-std=gnu++17", "-S", str(source), "-o", "-"])
        assert "vmul.f32" in text and not re.search(r"\bvfn?m[as]\b|\bvfn?m[as]\.f32", text)


# The functions of a sketch, called from here.


class Sketch:
    """A sketch in this process, and the transport to it."""

    name, baud = "sketch", 1_000_000_000

    def __init__(self, library: Path, board: str, *flags: str) -> None:
        program = compile_sketch(library, board, HERE / "bridge.cpp", "-fPIC", "-shared", "-fno-gnu-unique", *flags)
        self.calls = ctypes.CDLL(str(program))
        self.calls.sketch_poll.restype = ctypes.c_bool
        self.calls.sketch_sent.restype = ctypes.c_size_t
        self.calls.sketch_confidence.restype = ctypes.c_float
        self.calls.sketch_setup()
        self._buffer = ctypes.create_string_buffer(1 << 16)
        self.clock = FakeClock()

    def write(self, data: bytes) -> None:
        self.calls.sketch_receive(data, ctypes.c_size_t(len(data)))

    def poll(self) -> bool:
        return bool(self.calls.sketch_poll())

    def read(self, timeout: float) -> bytes:
        while self.poll():
            pass
        answered = self.sent()
        if not answered:
            self.clock.sleep(timeout)
        return answered

    def sent(self) -> bytes:
        size = self.calls.sketch_sent(self._buffer)
        return self._buffer.raw[:size]

    def close(self) -> None:
        pass

    def predict(self, features: np.ndarray, outputs: int) -> tuple[Status, np.ndarray]:
        given, scores = np.ascontiguousarray(features, np.float32), np.full(outputs, 7, np.float32)
        return Status(self.calls.sketch_predict(given.ctypes, scores.ctypes)), scores

    def learn(self, features: np.ndarray, label: int) -> Status:
        given = np.ascontiguousarray(features, np.float32)
        return Status(self.calls.sketch_learn_label(given.ctypes, ctypes.c_int(label)))

    def learn_targets(self, features: np.ndarray, targets: np.ndarray) -> Status:
        given, wanted = np.ascontiguousarray(features, np.float32), np.ascontiguousarray(targets, np.float32)
        return Status(self.calls.sketch_learn(given.ctypes, wanted.ctypes))

    def adapt(self) -> Status:
        return Status(self.calls.sketch_adapt())

    def statistics(self) -> tuple[int, float, bool]:
        """Samples learned, running error, whether the error has grown."""
        learned, error = ctypes.c_uint32(), ctypes.c_float()
        drifted = bool(self.calls.sketch_statistics(ctypes.byref(learned), ctypes.byref(error)))
        return learned.value, error.value, drifted


@pytest.fixture(scope="module")
def class_sketch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Design, Sketch]:
    """A sketch on a Nano 33 BLE that tells three classes apart; the host streams its samples."""
    folder = tmp_path_factory.mktemp("classes")
    exported.write_clients(folder / "people")
    experiment = tmf.load(exported.write_experiment(folder, "dense"))
    made = tmf.codegen(experiment, "nano33ble", folder / "library", library=True).design
    return made, Sketch(folder / "library", "nano33ble")


def test_what_a_sketch_learns_has_the_simulations_bits(class_sketch: tuple[Design, Sketch]) -> None:
    made, sketch = class_sketch
    strategy, n = open_strategy(made.experiment, made.manifest), made.manifest.n_parameters
    g = strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global])
    received = downlink.decode(g, strategy.n_global)
    random = np.random.default_rng(4)
    samples = Samples(random.normal(0, 1, (12, 30)).astype(np.float32), random.integers(0, 3, (12, 1)).astype(np.float32))
    features, label = samples.inputs[0], int(samples.targets[0, 0])

    assert sketch.predict(features, 3)[0] == sketch.learn(features, label) == sketch.adapt() == Status.BAD_STATE
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    session.configure(Program.TRAIN, strategy.training_recipe())
    session.load(session.next_token(), g)
    assert sketch.learn(features, label) == sketch.adapt() == Status.BAD_STATE, "the host has begun a round"
    status, scores = sketch.predict(features, 3)
    assert status == Status.OK and scores.tobytes() == session.predict(features[None], 3)[0].tobytes()
    sketch.calls.sketch_leave()

    phases = strategy.adaptation(len(samples))
    assert len(phases) == 2 and sketch.adapt() == Status.OK
    for phase in phases:
        for _ in range(phase.passes):
            for x, target in zip(samples.inputs, samples.targets, strict=True):
                assert sketch.learn(x, int(target[0])) == Status.OK
    kernels = open_kernels(library_design(made), 1)
    batch, weights = Batch.of([samples]), np.zeros((1, n), np.float32)
    clients = TrainingClients(made.experiment.run.seed, [HELD_OUT], 0)
    (status,), _, _ = kernels.adapt(ClientRound(received, Recipe(phases), [batch, batch], clients), batch, weights)
    assert status == Status.OK and session.fetch(0, n).tobytes() == weights[0].tobytes()

    for x, target in zip(samples.inputs, samples.targets, strict=True):
        assert sketch.learn_targets(x, target) == Status.OK
    status, _, _, after = trained(kernels, weights[0], phases[-1], samples)
    assert status == Status.OK and session.fetch(0, n).tobytes() == after.tobytes() != weights[0].tobytes()

    broken = features.copy()
    broken[17] = np.nan
    assert sketch.predict(broken, 3)[0] == sketch.learn(broken, label) == Status.NOT_FINITE
    assert [sketch.learn(features, wrong) for wrong in (-1, 3, 1 << 30)] == [Status.BAD_VALUE] * 3
    for wrong, why in ((3.0, Status.BAD_VALUE), (0.5, Status.BAD_VALUE), (np.inf, Status.NOT_FINITE)):
        assert sketch.learn_targets(features, np.array([wrong])) == why
    assert session.fetch(0, n).tobytes() == after.tobytes(), "a refused sample has changed the model"

    session.load(token := session.next_token(), g)  # and the host goes on
    session.train(token, Program.TRAIN, 1, 0, 0)
    assert sketch.learn(features, label) == Status.BAD_STATE


@pytest.fixture(scope="module")
def sine_sketch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Design, Sketch]:
    """A sketch on an ESP32 whose board makes its own samples."""
    folder = tmp_path_factory.mktemp("sine") / "library"
    made = tmf.codegen(loaded_sine(), "esp32dev", folder, library=True).design
    return made, Sketch(folder, "esp32dev")


def test_the_running_error_is_that_of_predictions_before_learning(class_sketch: tuple[Design, Sketch]) -> None:
    made, sketch = class_sketch
    strategy = open_strategy(made.experiment, made.manifest)
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    session.configure(Program.TRAIN, strategy.training_recipe())
    session.load(session.next_token(), strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global]))
    sketch.calls.sketch_leave()
    random = np.random.default_rng(5)
    centres = random.normal(0, 1, (3, 30))
    before, started, _ = sketch.statistics()
    total, count = np.float32(0), np.float32(0)
    if before:  # another test has learned on this board
        total, count = np.float32(started * ((1 - 0.99**before) / 0.01)), np.float32((1 - 0.99**before) / 0.01)

    def learn(shift: int, number: int) -> int | None:
        """Learns samples with labels moved by ``shift``; returns after how many the error was reported to have grown."""
        nonlocal total, count
        for at in range(number):
            label = int(random.integers(0, 3))
            x = centres[label] + random.normal(0, 0.8, 30)
            status, scores = sketch.predict(x, 3)
            shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            assert status == Status.OK and sketch.calls.sketch_best(scores.ctypes) == scores.argmax()
            assert abs(sketch.calls.sketch_confidence(scores.ctypes) - shares.max()) < 1e-6
            wanted = (label + shift) % 3
            assert sketch.learn(x, wanted) == Status.OK
            total = np.float32(scores.argmax() != wanted) + np.float32(0.99) * total
            count = np.float32(1) + np.float32(0.99) * count
            if sketch.statistics()[2]:
                return at + 1
        return None

    assert (session.inspect() is None) == (before == 0)
    assert sketch.learn(np.full(30, np.nan), 0) == Status.NOT_FINITE and sketch.statistics()[0] == before
    assert learn(0, 300) is None
    learned, error, drifted = sketch.statistics()
    assert learned == before + 300 and abs(error - total / count) < 1e-5 and error < 0.2 and not drifted
    found = learn(1, 60)
    assert found is not None and found < 50
    asked, (learned, error, drifted) = session.inspect(), sketch.statistics()
    assert asked is not None and (asked.learned, asked.error, asked.drifted) == (learned, error, drifted)
    assert sketch.adapt() == Status.OK and not sketch.statistics()[2]


def test_a_board_adapts_alone_to_the_samples_that_it_makes(sine_sketch: tuple[Design, Sketch]) -> None:
    made, sketch = sine_sketch
    strategy, n = open_strategy(made.experiment, made.manifest), made.manifest.n_parameters
    g = strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global])
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    session.configure(Program.TRAIN, strategy.training_recipe())
    session.configure(Program.ADAPT, strategy.adaptation_recipe(made.experiment.task.count(SampleSet.ADAPT)))
    session.load(token := session.next_token(), g)
    session.train(token, Program.ADAPT, 1, 5, 3)
    session.await_done(token, 256)
    wanted = session.fetch(0, n)
    _, (score,) = sketch.predict(np.array([0.5]), 1)
    assert sketch.calls.sketch_confidence(np.array([score]).ctypes) == 1.0
    assert sketch.learn_targets(np.array([0.5]), np.array([1.0])) == Status.OK
    assert sketch.statistics() == (1, np.float32(abs(score - np.float32(1))), False)
    assert session.fetch(0, n).tobytes() != wanted.tobytes()
    assert sketch.adapt() == Status.OK
    assert sketch.learn_targets(np.array([0.5]), np.array([1.0])) == Status.BAD_STATE, "its own samples come first"
    while sketch.poll():
        pass
    assert session.fetch(0, n).tobytes() == wanted.tobytes()

    # A round that is trained and pulled may be followed by learning; its delta is then gone, and the host begins it anew.
    session.load(token := session.next_token(), g)
    session.train(token, Program.TRAIN, 1, 5, 3)
    session.await_done(token, strategy.training_recipe().steps)
    assert sketch.learn_targets(np.array([0.5]), np.array([1.0])) == Status.BAD_STATE
    before = [chunk.data for chunk in session.pull(token, strategy.top_k)]
    assert [chunk.data for chunk in session.pull(token, strategy.top_k)] == before
    assert sketch.learn_targets(np.array([0.5]), np.array([1.0])) == Status.OK
    with pytest.raises(tmf.LinkError, match="BAD_STATE"):
        session.pull(token, strategy.top_k)


def test_one_poll_answers_one_request_and_trains_one_step(sine_sketch: tuple[Design, Sketch]) -> None:
    made, sketch = sine_sketch
    strategy = open_strategy(made.experiment, made.manifest)
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    session.configure(Program.TRAIN, strategy.training_recipe())
    session.load(token := session.next_token(), strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global]))
    request = Train(token, Program.TRAIN, 1, 5, 3)
    sketch.write(encode(request.type_id, 1, request.pack()) * 3)
    answers = []
    for polls in range(6):
        assert sketch.poll()
        frames = Decoder().feed(sketch.sent())
        assert len(frames) <= 1
        answers += [(polls, request.answer.unpack(frame.payload)) for frame in frames]
    assert len(answers) == 3
    for polls, progress in answers:
        assert (progress.state, progress.step) == (State.TRAINING, polls), "a step for every poll before"


class PatientSketch(Sketch):
    """A sketch whose polls train one layer at a time."""

    polls = 0

    def poll(self) -> bool:
        self.polls += 1
        return bool(self.calls.sketch_poll_within(ctypes.c_uint32(0)))


def adapted(made: Design, sketch: Sketch) -> bytes:
    """All weights after an adaptation of ten steps of each phase that the host asks for."""
    strategy, n = open_strategy(made.experiment, made.manifest), made.manifest.n_parameters
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    session.configure(Program.TRAIN, strategy.training_recipe())
    recipe = Recipe(tuple(replace(phase, count=5, passes=2) for phase in strategy.adaptation(5)))
    session.configure(Program.ADAPT, recipe)
    session.load(token := session.next_token(), strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global]))
    session.train(token, Program.ADAPT, 1, 5, 3)
    samples = np.random.default_rng(9).normal(0, 1, (5, 30)).astype(np.float32)
    step = 0 if made.manifest.streamed else recipe.steps
    while step < recipe.steps:  # after the first pass the board may have them all
        target, features = np.array([step % 5 % 3], np.float32), samples[step % 5]
        step = session.sample(token, step, target, features, 1.0).step
    assert session.await_done(token, recipe.steps).step == recipe.steps
    return session.fetch(0, n).tobytes()


@pytest.mark.parametrize(("fixture", "board"), [("class_sketch", "nano33ble"), ("sine_sketch", "esp32dev")])
def test_a_step_in_parts_trains_to_the_same_bits(
    fixture: str, board: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole, plain = request.getfixturevalue(fixture)
    board_section = whole.experiment.board.model_copy(update={"split_steps": True})
    experiment = tmf.Experiment(whole.experiment.model_copy(update={"board": board_section}), whole.source)
    generated = tmf.codegen(experiment, board, tmp_path / "library", library=True)
    made, part = generated.design, generated.part_milliseconds
    assert part is not None and 0 < part[0] <= part[1] < generated.step_milliseconds["full"][1]
    assert made.manifest.model_hash == whole.manifest.model_hash
    sketch = PatientSketch(tmp_path / "library", board, "-DSPLITS_STEPS")
    wanted = adapted(whole, plain)
    assert adapted(made, sketch) == wanted
    # A step of the whole model has at least a part for each pass through each layer, and the loss.
    assert sketch.polls > 20 * (2 * len(made.graph.forward) - 1)
    # Between two parts the sketch may predict: the step is finished first.
    session = Session(sketch, clock=sketch.clock)
    session.hello()
    strategy = open_strategy(made.experiment, made.manifest)
    session.configure(Program.TRAIN, strategy.training_recipe())
    features, outputs = np.full(made.graph.input.size, 0.25), made.graph.output.size
    g = strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global])
    session.load(token := session.next_token(), g)
    asked = Train(token, Program.TRAIN, 1, 5, 3)
    sketch.write(encode(asked.type_id, 1, asked.pack()))
    for _ in range(4):
        sketch.poll()
    status, scores = sketch.predict(features, outputs)
    assert status == Status.OK and np.isfinite(scores).all()
    assert sketch.predict(features, outputs)[1].tobytes() == scores.tobytes()


def test_a_sketch_that_wants_parts_of_steps_is_told_which_key_it_needs(tmp_path: Path) -> None:
    library = write_library(loaded_sine(), "nano33ble", tmp_path / "library")
    sketch = tmp_path / "sketch.cpp"
    sketch.write_text("#include <tinymetafed.h>\nvoid setup() { tmf::begin(); }\nvoid loop() { tmf::poll(500); }\n")
    command = ["g++", "-std=gnu++11", f"-I{library / 'src'}", f"-I{HERE / 'nano33ble'}", "-include", "Arduino.h"]
    done = subprocess.run([*command, "-fsyntax-only", str(sketch)], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "poll(budget_us) needs board.split_steps = true" in done.stderr


def test_the_commands_and_the_sketch_in_the_document_are_those_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = find("docs/sketch.md").read_text()
    commands = re.findall(r"(?m)^tinymetafed (codegen .*)$", text)
    assert len(commands) == 2
    for command in commands:
        words = [str(find(word)) if word.startswith("examples/") else word for word in shlex.split(command)]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A training step, estimated from its multiply-accumulates: local 0.049 to 0.1 ms" in said
    sketch = (tmp_path / "lib" / "TinyMetaFed" / "examples" / "Federated" / "Federated.ino").read_text()
    assert f"```cpp\n{sketch}```" in text


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    library = write_library(loaded_sine(), "nano33ble", tmp_path / "library")
    write_library(loaded_sine(), "esp32dev", library)  # an earlier library is
    assert (library / "src" / "tinymetafed" / "port" / "esp32dev" / "port.cpp").is_file()
    (library / "notes.txt").write_text("mine")
    with pytest.raises(tmf.ExportError, match=r"notes\.txt: added"):
        write_library(loaded_sine(), "nano33ble", library)


def test_a_board_without_an_arduino_core_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tmf.UsageError, match=r"no Arduino core.*choose one of esp32dev, nano33ble"):
        write_library(loaded_sine(), "mps2", tmp_path / "library")
    assert boards.load("mps2").main == "main" and not (tmp_path / "library").exists()
