"""A device that keeps samples ends on the bits of a device that is sent every pass of them, and is sent each of them once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from in_process import Fault
from test_kept_on_devices import COUNT, MODEL, SameSamples, Trainer, built, phase, programs

from tinymetafed.learn.tasks import Samples
from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory import kept_activations
from tinymetafed_codegen.protocol import Phase, Program, SampleSet, Variant

# LOCAL steps leave out both convolutions; the others change the first, so that only the samples can be kept.
LAYERS = [{key: value for key, value in layer.items() if key != "frozen"} for layer in MODEL["layers"]]


def designed(*, split: bool, activations: int) -> Design:
    """The model on a board with room for the samples of every set, and for so many activations."""
    task = {"kind": "omniglot", "ways": 3, "support": 2, "query": 2, "adapt": 2}
    board = {"split_steps": split}
    experiment = spec.parse({"task": task, "model": MODEL | {"layers": LAYERS}, "board": board}, "test")
    net, native = graph.build(experiment.model, "test"), dataclasses.replace(boards.load("native"), receive_window=1024)
    roomy = design_graph(experiment, native, net, "test").manifest
    samples, kept = roomy.kept_samples, roomy.kept
    assert samples is not None and kept is not None and kept.samples == 6
    used = samples.bytes + kept_activations.RAM_BYTES + activations * 4 * (kept.floats + net.target.size)
    ram_bytes = roomy.memory.ram_total - samples.bytes - kept.bytes + 3 * used // 2 + 1
    made = design_graph(experiment, dataclasses.replace(native, ram_bytes=ram_bytes), net, "test")
    assert made.manifest.kept is not None and made.manifest.kept.layers == {"local": 2}
    assert made.manifest.kept.samples == activations
    assert made.manifest.kept_samples is not None and made.manifest.kept_samples.samples == 6 > COUNT
    return made


@pytest.fixture(
    scope="module",
    params=[(False, 6), (True, 6), (False, 2), (True, 2)],
    ids=["whole-steps", "split-steps", "whole-steps-few-activations", "split-steps-few-activations"],
)
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    split, activations = request.param
    made, folder = designed(split=split, activations=activations), tmp_path_factory.mktemp("once")
    return Trainer(built(made, folder, find("firmware") / "app/source_streamed.cpp"), made, streamed=True)


def of_one_set(two: tuple[Phase, ...]) -> bool:
    return two[0].sample_set is two[1].sample_set


def test_every_sample_is_sent_once_and_the_bits_stay(trainer: Trainer) -> None:
    for two, whole in programs():
        sent = [1, 0] if of_one_set(two) else [1, 1]
        assert trainer.manifest.passes_sent(two) == sent
        expected = trainer.train(whole)
        assert trainer.run(two, trainer.manifest) == (expected, COUNT * sum(sent)), two
        assert trainer.run(two, None)[0] == expected, "a host that sends every pass"


def test_what_is_not_a_sample_takes_the_same_bytes_whatever_is_kept(trainer: Trainer) -> None:
    two = (phase(Variant.LOCAL, SampleSet.SUPPORT, 2), phase(Variant.FULL, SampleSet.QUERY, 2))
    others, samples = [], []
    for manifest in (None, trainer.manifest):
        before = trainer.session.traffic
        trainer.run(two, manifest)
        sent = trainer.session.traffic - before
        samples.append(sent.samples_down + sent.samples_up)
        others.append(sent.down + sent.up - samples[-1])
    assert abs(others[0] - others[1]) <= 4, "framing may add single bytes; a wait takes 38"
    assert samples[1] < 0.6 * samples[0]


def test_a_set_in_between_takes_the_place_of_the_one_before(trainer: Trainer) -> None:
    three = tuple(phase(Variant.FULL, each, 2) for each in (SampleSet.SUPPORT, SampleSet.QUERY, SampleSet.SUPPORT))
    assert trainer.manifest.passes_sent(three) == [1, 1, 1]
    assert trainer.run(three, trainer.manifest) == (trainer.run(three, None)[0], 3 * COUNT)


def test_a_set_larger_than_the_room_is_sent_in_every_pass(trainer: Trainer) -> None:
    large = (Phase(Variant.FULL, SampleSet.ADAPT, 7, 3, 0.0625, 0.0),)
    assert trainer.manifest.passes_sent(large) == [3]
    usual = trainer.task
    levels = np.random.default_rng(7).integers(0, 256, (7, trainer.samples[0].inputs.size)).astype(np.uint8)  # type: ignore[union-attr]
    trainer.task = SameSamples(levels, np.arange(7, dtype=np.float32)[:, None] % 3)
    assert trainer.run(large, trainer.manifest) == (trainer.run(large, None)[0], 3 * 7)
    trainer.task = usual


def test_samples_of_an_earlier_cycle_are_never_trained_again(trainer: Trainer) -> None:
    two, _ = programs()[-1]
    first, _ = trainer.run(two, trainer.manifest)
    usual = trainer.task
    levels = np.random.default_rng(5).integers(0, 256, (COUNT, trainer.samples[0].inputs.size)).astype(np.uint8)  # type: ignore[union-attr]
    trainer.task = SameSamples(levels, usual.all.targets)
    other, _ = trainer.run(two, trainer.manifest)
    assert other == trainer.run(two, None)[0] != first
    trainer.task = usual
    assert trainer.run(two, trainer.manifest)[0] == first


class InFloats(SameSamples):
    """The same samples, sent as float32."""

    def samples(self, client: int, round: int, chosen: SampleSet, count: int) -> Samples:
        return Samples(self.all.inputs[:count], self.all.targets[:count])


def test_a_board_that_does_not_keep_what_its_design_says_gets_every_sample(trainer: Trainer) -> None:
    two = (phase(Variant.FULL, SampleSet.ADAPT, 3),)
    expected = trainer.run(two, None)[0]
    usual = trainer.task
    trainer.task = InFloats(np.asarray(usual.all.levels), usual.all.targets)
    found, sent = trainer.run(two, trainer.manifest)
    trainer.task = usual
    assert found == expected
    assert 2 * COUNT <= sent <= 3 * COUNT


def test_lost_answers_change_no_bit(trainer: Trainer) -> None:
    two = (phase(Variant.LOCAL, SampleSet.ADAPT, 3), phase(Variant.FULL, SampleSet.ADAPT, 2))
    expected, sent = trainer.run(two, trainer.manifest)
    assert sent == COUNT
    line = trainer.line
    line.seed(1)
    line.faults, line.rate = (Fault.DROP, Fault.TWICE, Fault.CUT), 0.2
    for _ in range(10):
        assert trainer.run(two, trainer.manifest)[0] == expected
    assert line.happened > 10
    line.faults = ()


def test_a_cycle_that_ends_in_the_middle_of_a_set_leaves_nothing(trainer: Trainer) -> None:
    two = (phase(Variant.FULL, SampleSet.ADAPT, 3),)
    expected = trainer.run(two, trainer.manifest)
    session = trainer.session
    token = session.next_token()
    session.load(token, trainer.weights)
    session.train(token, Program.ADAPT, 1, 2, 3)
    session.stream(token, trainer.samples[3:])  # others than those of the next cycle
    assert trainer.run(two, trainer.manifest) == expected
