"""A device that keeps activations ends on the bits of whole steps, and needs a sample only once while it keeps it."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import in_process
import numpy as np
import pytest
from in_process import Device, Fault, Line

from tinymetafed.devices.client_program import Job, examples, run
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.tasks import Samples
from tinymetafed.wire.frame import Decoder
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import emit, graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import KeptActivations, ModelManifest
from tinymetafed_codegen.memory import kept_activations, kept_samples
from tinymetafed_codegen.protocol import Dtype, Phase, Program, Recipe, Sample, SampleSet, Variant
from tinymetafed_codegen.toolchain import compiler_flags

COUNT, KEPT = 5, 3  # samples of a set, and those that the device has room for
VARIANTS = (Variant.LOCAL, Variant.GLOBAL, Variant.FULL)
# Frozen, then global, then local layers: LOCAL steps leave out two layers, the others one.
MODEL: dict[str, Any] = {
    "input": [11, 11, 1],
    "loss": "softmax_cross_entropy",
    "layers": [
        {"op": "conv2d", "filters": 12, "kernel": 3, "activation": "relu", "frozen": True},
        {"op": "conv2d", "filters": 4, "kernel": 3, "stride": 2, "activation": "relu"},
        {"op": "flatten"},
        {"op": "dense", "units": 3, "local": True},
    ],
}
# The samples of every set and client are the same, so that a program over one set can be compared with one over several.
SOURCE = """
#include "model.hpp"
#include "source.hpp"
extern "C" unsigned made;
unsigned made = 0;
namespace tmf::source {
bool on_device() { return true; }
void make(const Key& key, float* input, float* target) {
  ++made;
  for (uint32_t i = 0; i < model::kInputSize; ++i) input[i] = static_cast<float>((key.index * 37 + i * 11) % 64) / 64.0f;
  target[0] = static_cast<float>(key.index % 3);
}
}
"""


def designed(folder: Path, split: bool) -> Design:
    """The model on a board with room for the activations of KEPT samples."""
    random = np.random.default_rng(1)
    np.savez(
        folder / "frozen.npz",
        **{
            "conv2d1.kernel": random.normal(0, 0.3, (3, 3, 1, 12)).astype(np.float32),
            "conv2d1.bias": np.zeros(12, np.float32),
        },
    )
    model = MODEL | {"weights": str(folder / "frozen.npz")}
    task = {"kind": "omniglot", "ways": 3, "support": 9, "query": 9, "adapt": 9}
    experiment = spec.parse({"task": task, "model": model, "board": {"split_steps": split}}, "test")
    net = graph.build(experiment.model, "test")
    board = dataclasses.replace(boards.load("native"), receive_window=1024)
    # Without room, then with room for all samples and KEPT activations in two thirds of what is free.
    off = experiment.board.model_copy(update={"keep_activations": False})
    needed = design_graph(experiment.model_copy(update={"board": off}), board, net, "test")
    floats = max(prefix.boundary.floats for prefix in kept_activations.prefixes(net).values())
    used = (
        kept_samples.RAM_BYTES + 27 * (net.input.size + 4) + kept_activations.RAM_BYTES + 4 * KEPT * (floats + net.target.size)
    )
    free = 3 * used // 2 + 1
    made = design_graph(experiment, dataclasses.replace(board, ram_bytes=needed.manifest.memory.ram_total + free), net, "test")
    assert made.manifest.kept is not None and made.manifest.kept.samples == KEPT
    assert made.manifest.kept_samples is not None and made.manifest.kept_samples.samples == 27
    assert made.manifest.kept.layers == {"local": 2, "global": 1, "full": 1}
    # Here activations are tested alone.
    return dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, kept_samples=None))


def built(made: Design, folder: Path, source: Path) -> Path:
    """The core as one unit, with the functions of in_process.cpp."""
    emit.write(made, folder, "pytest")
    core = find("firmware") / "core"
    units = [*sorted(core.glob("*.cpp")), source, in_process.SOURCE]
    (folder / "whole.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
    flags = [*compiler_flags(), "-O1", "-g0", "-fno-gnu-unique", "-shared", "-fPIC", f"-I{folder}", f"-I{core}"]
    subprocess.run(["g++", *flags, str(folder / "whole.cpp"), "-o", str(folder / "device.so")], check=True)
    return folder / "device.so"


class CountingLine(Line):
    """A line that counts the samples sent."""

    samples = 0

    def write(self, data: bytes) -> None:
        self.samples += sum(frame.type_id == Sample.type_id for frame in Decoder().feed(data))
        super().write(data)


class SameSamples:
    """A task whose sets have the same samples."""

    def __init__(self, levels: np.ndarray, targets: np.ndarray) -> None:
        self.all = Samples.from_levels(levels, 1 / 255, targets)

    def on_device(self, chosen: SampleSet) -> bool:
        return False

    def samples(self, client: int, round: int, chosen: SampleSet, count: int) -> Samples:
        assert self.all.levels is not None
        return Samples.from_levels(self.all.levels[:count], 1 / 255, self.all.targets[:count])


class Trainer:
    """Runs programs on the device, always from the same weights."""

    def __init__(self, library: Path, made: Design, *, streamed: bool) -> None:
        self.device, self.streamed = Device(library), streamed
        self.n = made.manifest.n_parameters
        assert made.manifest.kept is not None
        self.kept, self.manifest = made.manifest.kept, made.manifest
        self.line = CountingLine(self.device)
        self.session = Session(self.line, clock=self.line.clock)
        self.session.hello()
        random = np.random.default_rng(2)
        weights = random.normal(0, 0.2, made.manifest.n_global).astype(np.float32)
        sizes = [each.size for each in made.manifest.global_tensors]
        self.weights = downlink.encode(weights, Dtype[made.manifest.downlink], sizes)
        levels = random.integers(0, 256, (COUNT, made.graph.input.size)).astype(np.uint8)
        self.task = SameSamples(levels, np.arange(COUNT, dtype=np.float32)[:, None] % 3)
        self.samples = list(examples(self.task.all))

    def keeping(self, kept: KeptActivations) -> ModelManifest:
        """The manifest of a board that is said to keep these activations."""
        return dataclasses.replace(self.manifest, kept=kept)

    def run(self, phases: tuple[Phase, ...], manifest: ModelManifest | None) -> tuple[bytes, int]:
        """The weights after a program as runs train it, and how many samples were sent."""
        self.session.manifest = manifest
        recipe = Recipe(phases)
        self.session.configure(Program.ADAPT, recipe)
        token = self.session.next_token()
        self.session.load(token, self.weights)
        self.line.samples = 0
        run(self.session, self.task, Job(Program.ADAPT, recipe, 1, 2, 3), token)  # type: ignore[arg-type]
        return self.session.fetch(0, self.n).tobytes(), self.line.samples

    def train(self, phases: tuple[Phase, ...], later: list[Example] | None = None) -> bytes:
        """The weights after a program. ``later``: what is sent instead of the samples that the device keeps."""
        recipe = Recipe(phases)
        self.session.configure(Program.ADAPT, recipe)
        token = self.session.next_token()
        self.session.load(token, self.weights)
        self.session.train(token, Program.ADAPT, 1, 2, 3)
        if self.streamed:
            sent: list[Example] = []
            for n, phase in enumerate(phases):
                for number in range(phase.passes):
                    keeps = later is not None and (number > 0 or (n > 0 and later_phase_keeps(phases)))
                    sent += [*later[:KEPT], *self.samples[KEPT:]] if keeps and later is not None else self.samples
            self.session.stream(token, sent)
        self.session.await_done(token, recipe.steps)
        return self.session.fetch(0, self.n).tobytes()


def later_phase_keeps(phases: tuple[Phase, ...]) -> bool:
    """Whether the second of two phases begins with what the first has kept: same samples, and the same layers fixed."""
    first, second = phases
    return first.sample_set is second.sample_set and (first.variant is Variant.LOCAL) == (second.variant is Variant.LOCAL)


def phase(variant: Variant, samples: SampleSet, passes: int) -> Phase:
    return Phase(variant, samples, COUNT, passes, 0.0625, 0.0)


def programs() -> list[tuple[tuple[Phase, ...], tuple[Phase, ...]]]:
    """Programs of two phases of two passes, each with its four passes as phases that share no samples."""
    pairs = []
    for one, two, other in product(VARIANTS, VARIANTS, (SampleSet.SUPPORT, SampleSet.QUERY)):
        kept = (phase(one, SampleSet.SUPPORT, 2), phase(two, other, 2))
        sets = (SampleSet.SUPPORT, SampleSet.QUERY) * 2
        pairs.append((kept, tuple(phase(variant, each, 1) for variant, each in zip((one, one, two, two), sets, strict=True))))
    return pairs


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    folder = tmp_path_factory.mktemp("streamed")
    made = designed(folder, split=False)
    return Trainer(built(made, folder, find("firmware") / "app/source_streamed.cpp"), made, streamed=True)


def test_streamed_samples_train_to_the_bits_of_whole_steps(streaming: Trainer) -> None:
    ends = set()
    for kept, whole in programs():
        expected = streaming.train(whole)
        assert streaming.train(kept) == expected, kept
        ends.add(expected)
    assert len(ends) == len(VARIANTS) ** 2, "the programs train different weights"


def test_a_kept_sample_is_not_read_again(streaming: Trainer) -> None:
    zeros = [Example([0.0], np.zeros_like(sample.inputs), 1 / 255) for sample in streaming.samples]
    for kept, _ in programs():
        assert streaming.train(kept, zeros) == streaming.train(kept), kept


def test_kept_samples_are_sent_once(streaming: Trainer) -> None:
    kept = streaming.kept
    for two, _ in programs():
        fits = tuple(dataclasses.replace(phase, count=KEPT) for phase in two)
        wanted = kept.passes_sent(fits)
        assert wanted == ([1, 0] if later_phase_keeps(two) else [1, 1])
        assert kept.passes_sent(two) == [2, 2], "the device has no room for all samples"
        assert streaming.run(fits, streaming.manifest) == (streaming.run(fits, None)[0], KEPT * sum(wanted)), fits
        assert streaming.run(two, streaming.manifest) == (streaming.train(two), 4 * COUNT), two


def test_lost_answers_change_nothing(streaming: Trainer) -> None:
    two, _ = programs()[0]
    fits = tuple(dataclasses.replace(phase, count=KEPT) for phase in two)
    expected, _ = streaming.run(fits, None)
    line = streaming.line
    line.seed(1)
    line.faults, line.rate = (Fault.DROP, Fault.TWICE, Fault.CUT), 0.2
    for _ in range(10):
        assert streaming.run(fits, streaming.manifest)[0] == expected
    assert line.happened > 20
    line.faults = ()


def test_a_board_that_keeps_less_than_its_design_says_gets_every_sample(streaming: Trainer) -> None:
    two, _ = programs()[0]
    found, sent = streaming.run(two, streaming.keeping(dataclasses.replace(streaming.kept, samples=COUNT)))
    assert found == streaming.train(two)
    assert 3 * COUNT <= sent <= 4 * COUNT


def test_own_samples_in_split_steps_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "source.cpp").write_text(SOURCE)
    made = designed(tmp_path, split=True)
    library = built(made, tmp_path, tmp_path / "source.cpp")
    trainer, makes = Trainer(library, made, streamed=False), ctypes.c_uint.in_dll(ctypes.CDLL(str(library)), "made")
    for kept, whole in programs():
        makes.value = 0
        found = trainer.train(kept)
        again = 2 if not later_phase_keeps(kept) else 1
        assert makes.value == again * KEPT + 4 * (COUNT - KEPT), kept
        assert found == trainer.train(whole), kept
        assert makes.value == (again + 4) * KEPT + 8 * (COUNT - KEPT)
