"""The keys of [augment] and [predict]: what they refuse, and what they change in a design and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import omniglot, sine

from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import hash, spec
from tinymetafed_codegen.options import augmentation
from tinymetafed_codegen.protocol import Phase, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment, SpecError

WINDOWS: dict[str, Any] = {
    "task": {"kind": "folder", "path": "none"},
    "model": {"input": [50, 6], "loss": "softmax_cross_entropy", "layers": [{"op": "flatten"}, {"op": "dense", "units": 2}]},
}


def windows(**sections: Any) -> Experiment:
    return spec.parse(WINDOWS | sections, "test")


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"augment": {"shift": 2}}, r"augment\.shift = 2 moves images.*input = \[50, 6\]; use augment\.jitter"),
        ({"augment": {"time_mask": 3}}, r"augment\.time_mask = 3 moves images.*three numbers"),
        ({"predict": {"average": 5}}, r"predict\.average = 5 moves images and spectrograms.*leave it out"),
        ({"predict": {"average": 4}}, r"'predict\.average' = 4.*1, 3 or 5"),
        ({"augment": {"scale": 1.0}}, r"'augment\.scale' = 1\.0.*less than 1"),
        ({"augment": {"jiter": 0.1}}, r"unknown key 'augment\.jiter'; did you mean 'jitter'"),
    ],
)  # fmt: skip
def test_a_change_that_windows_cannot_have_is_refused_by_its_key(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        windows(**keys)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (["augment.rotation=20"], r"augment\.rotation = 20 turns x, y and z.*\[28, 28, 1\] has 1; leave it out"),
        (["augment.shift=28"], r"augment\.shift = 28 leaves nothing of an axis of 28; set it to 27"),
        (["augment.shift=2", "augment.time_mask=2"], r"augment\.shift = 2.*set augment\.time_shift in its place"),
        (["predict.average=5", "predict.shift=14", "augment.time_shift=2"], r"predict\.shift = 14 leaves nothing"),
    ],
)
def test_a_change_that_does_not_fit_an_image_is_refused_by_its_key(keys: list[str], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        omniglot(*keys)


def test_only_keys_that_change_something_are_part_of_the_models_hash() -> None:
    def of(*keys: str) -> str:
        return design_of(omniglot(*keys), "test").manifest.model_hash

    plain = of()
    assert of("augment.shift=2", "augment.training=false", "augment.adaptation=false") == plain
    assert of("augment.training=false") == of("predict.shift=2") == plain
    others = [
        of("augment.shift=2"),
        of("augment.shift=3"),
        of("augment.shift=2", "augment.training=false"),
        of("predict.average=5"),
        of("predict.average=5", "predict.shift=3"),
        plain,
    ]
    assert len(set(others)) == len(others)


PHASES = [
    Phase(Variant.LOCAL, SampleSet.SUPPORT, 25, 2, 0.1, 0.0),
    Phase(Variant.LOCAL, SampleSet.ADAPT, 40, 8, 0.1, 0.0),
]


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ((), [1, 1]),
        (("augment.shift=2", "augment.adaptation=false"), [2, 1]),
        (("augment.shift=2", "augment.training=false"), [1, 8]),
        (("augment.shift=2",), [2, 8]),
    ],
)
def test_nothing_is_kept_of_samples_that_change(keys: tuple[str, ...], sent: list[int]) -> None:
    manifest = design_of(omniglot(*keys), "test", "mps2").manifest
    assert manifest.passes_sent(PHASES) == sent
    assert (manifest.kept is None) is (sent == [2, 8])
    for sample_set in (SampleSet.SUPPORT, SampleSet.QUERY, SampleSet.ADAPT):
        assert augmentation.changes(omniglot(*keys), sample_set) is (sent[sample_set is SampleSet.ADAPT] > 1)


def test_a_mean_keeps_the_input_and_takes_little_memory() -> None:
    one, mean = (design_of(omniglot(f"predict.average={n}"), "test", "mps2") for n in (1, 5))
    lives = next(slot for slot in mean.plan.slots if slot.tensor.name == "x0")
    assert lives.last >= mean.plan.steps.index("loss")
    uses = {use.purpose: use.size for use in mean.manifest.memory.ram}
    assert uses["averaged predictions"] == 4 * (28 + 5) + 12  # a row of pixels and the outputs, and padding
    assert mean.plan.floats == one.plan.floats  # training needs the input for longer


def test_noise_of_numbers_that_are_not_normalised_has_their_unit() -> None:
    scaled = augmentation.jitter(windows(augment={"jitter": 0.5}, data={"shift": [0.0] * 6, "scale": [0.5] * 6}))
    plain = augmentation.jitter(windows(augment={"jitter": 0.5}, data={"normalise": "none"}))
    assert scaled == pytest.approx([1 / augmentation.DEVIATION] * 6) and plain == pytest.approx([0.5 / augmentation.DEVIATION])
    assert augmentation.jitter(sine()) == ()


def test_an_exported_library_takes_samples_as_they_are() -> None:
    experiment = omniglot("augment.shift=2", "predict.average=5")
    plain = experiment.with_plain_samples
    assert augmentation.augment_facts(plain) is augmentation.average_facts(plain) is None
    assert omniglot().with_plain_samples == omniglot() == plain
    assert hash.model_hash(plain, design_of(omniglot(), "test").graph, {}) == design_of(omniglot(), "test").model_hash
