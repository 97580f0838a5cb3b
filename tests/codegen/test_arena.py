"""The arena: no two tensors in use at the same time share memory, and it is hardly larger than what is in use at once."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from generated_nets import KINDS, drawn, two_heads
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.bench.deep_nets import conv, depthwise, head
from tinymetafed_codegen import graph, plan, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.calls import Tensor
from tinymetafed_codegen.design import design
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory import placement, stored_activations, work
from tinymetafed_codegen.memory.memory_prices import prices
from tinymetafed_codegen.memory.placement import Block
from tinymetafed_codegen.memory.stored_activations import Storage
from tinymetafed_codegen.plan import Plan, Slot
from tinymetafed_codegen.protocol import Variant

EXAMPLES = find("examples")
CLOSE = 1.03  # the most that an arena may take, in what is in use at once
SEARCHED = 69  # the seed of a network for which first-fit takes 1.1 times what is in use at once


def example(file: Path) -> Graph:
    loaded = spec.load(file, ())
    strategy = loaded.strategy
    return graph.build(loaded.model, file.name, partial=strategy.partial, gradient=strategy.gradient, data=loaded.data)


def follows_in_place(earlier: Slot, later: Slot) -> bool:
    """Whether the last step of the one writes the other in its place."""
    return earlier.last == later.first and earlier.offset == later.offset


def require_apart(arena: Plan) -> None:
    for one, other in itertools.combinations(arena.slots, 2):
        if one.first > other.last or other.first > one.last:
            continue
        apart = one.end <= other.offset or other.end <= one.offset
        assert apart or follows_in_place(one, other) or follows_in_place(other, one), (one, other)
    assert all(slot.end <= arena.floats for slot in arena.slots)


def require_intact(net: Graph, arena: Plan, variant: Variant | None) -> None:
    """Runs a step, or a prediction (None), in which each write marks its floats: every read finds the marks of its tensor."""
    slots = {slot.tensor.name: slot for slot in arena.slots}
    marks = [""] * arena.floats

    def write(*tensors: Tensor) -> None:
        for tensor in tensors:
            slot = slots[tensor.name]
            marks[slot.offset : slot.end] = [tensor.name] * tensor.floats

    def read(*tensors: Tensor) -> None:
        for tensor in tensors:
            slot = slots[tensor.name]
            assert set(marks[slot.offset : slot.end]) == {tensor.name}, (variant, tensor)

    write(net.input, net.target)
    for call in net.forward_of(variant):
        read(*call.reads)
        write(*call.writes)
    read(net.output)
    if variant is None:
        return
    read(net.target)
    write(net.output_gradient)
    for back in net.backward[variant]:
        read(*back.reads)
        write(*back.writes)


def in_use_at_once(arena: Plan) -> int:
    """The most floats in use at one step, counted from the slots alone."""
    most = plan.HISTOGRAM_BINS
    for step in range(len(arena.steps)):
        places = {slot.offset: slot.tensor.floats for slot in arena.slots if slot.first <= step <= slot.last}
        most = max(most, sum(-(-floats // plan.ALIGNMENT) * plan.ALIGNMENT for floats in places.values()))
    return most


# Bytes of the arena, all of them the most that is in use at one step. Before the search, digits took 16,896, omniglot 20,864.
BYTES_OF_EXAMPLES = {
    "activity": 7_920,
    "activity-shared": 6_080,
    "bench-board": 512,
    "bench-conv": 18_816,
    "bench-separable": 81_536,
    "digits": 15_360,
    "digits-paper-size": 298_992,
    "omniglot": 18_816,
    "omniglot-lean": 18_816,
    "omniglot-lean-average": 18_816,
    "omniglot-paper-size": 90_624,
    "presence": 800,
    "presence-recorded": 800,
    "sine": 512,
}
BYTES_OF_NETS = {
    "plain": {5: 143_408, 10: 204_848, 15: 231_472, 20: 238_640},
    "separable": {5: 101_376, 10: 161_280, 15: 182_016, 20: 201_600},
    "residual": {5: 68_656, 10: 76_800, 15: 76_800, 20: 80_944},
    "inverted": {5: 285_696, 10: 451_584, 15: 566_784, 20: 628_992},
    "pools": {5: 54_288, 10: 54_288, 15: 54_288, 20: 54_288},
    "split": {5: 14_848, 10: 110_400, 15: 187_200, 20: 225_600},
}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_arena_of_each_example_takes_what_is_in_use_at_once(file: Path) -> None:
    arena = plan.plan(example(file))
    require_apart(arena)
    assert 4 * arena.floats == BYTES_OF_EXAMPLES[file.stem]
    assert arena.floats <= CLOSE * in_use_at_once(arena)
    assert arena.live_floats == in_use_at_once(arena)


@pytest.mark.parametrize("depth", [5, 10, 15, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_arena_of_deep_networks_takes_what_is_in_use_at_once(kind: str, depth: int) -> None:
    arena = plan.plan(KINDS[kind](depth))
    require_apart(arena)
    assert 4 * arena.floats == BYTES_OF_NETS[kind][depth]
    assert arena.floats <= CLOSE * in_use_at_once(arena)


def test_the_arena_of_random_networks_is_close_to_what_is_in_use_at_once() -> None:
    for seed in range(60):
        arena = plan.plan(drawn(seed))
        require_apart(arena)
        assert arena.live_floats == in_use_at_once(arena)
        assert arena.live_floats <= arena.floats <= CLOSE * arena.live_floats, seed


block = st.builds(
    lambda size, first, steps: Block(size, first, first + steps), st.integers(1, 60), st.integers(0, 12), st.integers(0, 8)
)


@settings(max_examples=50)
@given(st.lists(block, max_size=14))
def test_blocks_that_meet_are_apart_and_the_result_depends_on_them_alone(blocks: list[Block]) -> None:
    offsets = placement.place(blocks)
    for (one, at), (other, there) in itertools.combinations(zip(blocks, offsets, strict=True), 2):
        assert not one.meets(other) or at + one.size <= there or there + other.size <= at
    assert all(offset >= 0 for offset in offsets)
    assert placement.place(list(blocks)) == offsets


def test_first_fit_is_kept_where_it_takes_no_more_than_is_in_use_at_once() -> None:
    blocks = [Block(8, 0, 3), Block(4, 1, 1), Block(4, 2, 3)]
    assert placement.place(blocks) == [0, 8, 8]


def test_the_search_finds_what_no_order_of_first_fit_does() -> None:
    net = drawn(SEARCHED)
    arena = plan.plan(net)
    assert arena.floats == arena.live_floats < plan.first_fit_floats(net)
    assert 4 * plan.first_fit_floats(example(EXAMPLES / "omniglot.toml")) == 20_864


def test_the_search_ends_without_a_result_after_a_count_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net = drawn(SEARCHED)
    monkeypatch.setattr(placement, "MOST_LOOKED_AT", 0)
    arena = plan.plan(net)
    require_apart(arena)
    assert arena.floats > arena.live_floats


# --- Activations that are computed again, or packed as float16 ---


@pytest.mark.parametrize("rounds", [False, True], ids=["f32", "f16"])
def test_no_call_of_any_variant_reads_what_another_one_has_overwritten(rounds: bool) -> None:
    changed = 0
    for seed in range(10):
        net = dataclasses.replace(drawn(seed), rounds=rounds)
        for storage in (Storage(), stored_activations.chosen(net, again=True)):
            stored = stored_activations.stored(net, storage)
            arena = plan.plan(stored)
            require_apart(arena)
            assert arena.floats <= CLOSE * arena.live_floats
            for variant in (None, *stored.backward):
                require_intact(stored, arena, variant)
            changed += storage != Storage()
    assert changed > 3


def test_a_variant_that_comes_to_an_activation_later_finds_it() -> None:
    net = two_heads()
    trunk, first = (next(call.y.name for call in net.forward if call.op.name == name) for name in ("trunk", "conv2d1"))
    for storage in (Storage(again=frozenset({trunk}), packed=frozenset({first})), Storage(packed=frozenset({first, trunk}))):
        stored = stored_activations.stored(net, storage)
        for variant in stored.backward:
            require_intact(stored, plan.plan(stored), variant)


# Bytes of the arena: as it is, with board.memory = "least", with model.activations = "f16", with both.
BYTES_OF_OPTIONS = {
    "plain": (238_640, 238_640, 143_360, 143_360),
    "separable": (201_600, 142_848, 120_960, 120_960),
    "residual": (80_944, 80_944, 68_608, 68_608),
    "inverted": (628_992, 304_128, 373_248, 294_912),
    "pools": (54_288, 54_288, 54_288, 54_288),
    "split": (225_600, 180_800, 145_600, 126_400),
}


@pytest.mark.parametrize("kind", KINDS)
def test_options_for_less_memory_take_these_bytes(kind: str) -> None:
    net = KINDS[kind](20)
    rounding = dataclasses.replace(net, rounds=True)
    made = [
        stored_activations.stored(g, stored_activations.chosen(g, again=again))
        for g in (net, rounding)
        for again in (False, True)
    ]
    fastest, least, packed, both = (4 * plan.plan(each).floats for each in made)
    assert (fastest, least, packed, both) == BYTES_OF_OPTIONS[kind]
    extra = [work.multiply_accumulates(each, Variant.FULL) / work.multiply_accumulates(net, Variant.FULL) for each in made]
    assert extra[0] == extra[2] == 1
    assert max(extra) < 1.15, "only what is cheap is computed again"


def test_the_price_of_each_choice_is_that_of_the_model_with_these_keys() -> None:
    file, board = EXAMPLES / "bench-separable.toml", boards.load("mps2")
    found = {(price.memory, price.activations): price for price in prices(design(spec.load(file), board, file.name))}
    assert [found[key].arena_bytes for key in found] == [81_536, 53_312, 53_312, 53_312]
    fastest, least, packed = (found[key] for key in (("fastest", "f32"), ("least", "f32"), ("fastest", "f16")))
    assert least.again == least.multiply_accumulates - fastest.multiply_accumulates > 0 == fastest.again
    assert packed.converted > 0 == least.converted
    for (memory, activations), price in found.items():
        keys = (f"board.memory={memory}", f"model.activations={activations}")
        made = design(spec.load(file, keys), board, file.name)
        assert 4 * made.plan.floats == price.arena_bytes
        assert [each for each in prices(made) if each.chosen] == [dataclasses.replace(price, chosen=True)]
        assert (made.manifest.kept is None) == (memory == "least")


def test_the_prices_count_with_an_input_that_stays_bytes() -> None:
    layers = [conv(6, stride=2), depthwise(2), conv(8, 1), *head()]
    task = {"kind": "folder", "path": "none", "held_out": ["b"], "dtype": "uint8"}
    model: dict[str, Any] = {"input": [64, 64, 3], "loss": "softmax_cross_entropy", "layers": layers}
    keys: dict[str, Any] = {"task": task, "model": model}
    made = design(spec.parse(keys, "test"), boards.load("mps2"), "test")
    assert made.lowered.input.is_bytes
    assert [price.arena_bytes for price in prices(made) if price.chosen] == [4 * made.plan.floats]
    for price in prices(made):
        choice = {"board": {"memory": price.memory}, "model": model | {"activations": price.activations}}
        other = design(spec.parse(keys | choice, "test"), boards.load("mps2"), "test")
        assert price.arena_bytes == 4 * other.plan.floats
