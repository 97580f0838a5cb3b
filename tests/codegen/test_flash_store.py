"""The layout of a store: its slots, what is refused, and how long the flash lasts."""

from __future__ import annotations

import dataclasses
import json

import pytest
from small_runs import sine

from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_facts import Board, Storage
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.options.flash_store import HEADER_BYTES, StoreFacts, layout

KEEPING = ("board.store=true", "strategy.error_feedback=true", "model.local_start=kept")


def laid_out(board: Board, *overrides: str) -> StoreFacts:
    store = design(sine(*overrides), board, "test").manifest.store
    assert store is not None
    return store


def on(**changes: object) -> Board:
    """The board mps2 with another storage."""
    board = boards.load("mps2")
    assert board.storage is not None
    return dataclasses.replace(board, storage=dataclasses.replace(board.storage, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("board", [name for name in boards.names() if boards.load(name).storage])
def test_a_slot_holds_two_states_the_weights_and_a_new_record(board: str) -> None:
    facts = laid_out(boards.load(board), *KEEPING)
    assert (facts.round_bytes, facts.weights_bytes) == (28 + 4 * 1_153, 28 + 4 * 1_153 + 28)
    slot = facts.slot_pages * facts.page_bytes
    begun = HEADER_BYTES + 2 * facts.round_bytes + facts.weights_bytes
    assert begun + (facts.saves_per_slot - 1) * facts.weights_bytes <= slot < begun + facts.saves_per_slot * facts.weights_bytes
    storage = boards.load(board).storage
    assert isinstance(storage, Storage) and 2 * facts.slot_pages <= storage.pages


def test_records_of_weights_alone_have_no_tag_and_names_have_room_in_a_message() -> None:
    assert laid_out(boards.load("mps2"), "board.store=true").weights_bytes == 12 + 4 * 1_153 + 28
    presence = spec.load(find("examples/presence.toml"), ["board.store=true"])
    facts = design(presence, boards.load("mps2"), "test").manifest.store
    assert facts is not None and facts.name_bytes == 2 * 16
    net = graph.build(presence.model, "test")
    few = {"keeps_local": False, "error_feedback": False, "save_every": 0, "flash": 0, "source": "test"}
    assert layout(boards.load("mps2"), net, longest_payload=23, **few).name_bytes == 20  # type: ignore[arg-type]


def test_wear_follows_from_erase_cycles_and_saves() -> None:
    facts = laid_out(boards.load("mps2"), *KEEPING)
    years = facts.years(100)
    assert years is not None and facts.erase_cycles == 10_000
    assert years == pytest.approx(10_000 * 2 * facts.saves_per_slot / 100 / 365.25)
    assert facts.years(200) == pytest.approx(years / 2)
    assert f"a page is erased every {2 * facts.saves_per_slot} saves or later" in facts.summary
    assert f"its 10,000 erases last {years:.1f} years (as the nRF52840" in facts.summary
    assert laid_out(boards.load("native"), *KEEPING).years(100) is None


def test_a_store_that_a_board_cannot_have_is_refused() -> None:
    with pytest.raises(spec.SpecError, match=r"board 'mps2' has no storage; add 'storage' to .*mps2\.json"):
        design(sine("board.store=true"), dataclasses.replace(boards.load("mps2"), storage=None), "test")
    with pytest.raises(spec.SpecError, match=r"needs 32,768 bytes of flash .* board 'mps2' has 16,384; make the model smaller"):
        laid_out(on(pages=4), *KEEPING)
    with pytest.raises(spec.SpecError, match=r"leaves 4,096 bytes of flash of board 'mps2' to the program, which needs about"):
        laid_out(on(start=4096), *KEEPING)
    with pytest.raises(spec.SpecError, match=r"leaves 786,432 bytes of flash of board 'nano33ble' to the program"):
        nano = boards.load("nano33ble")
        layout(
            nano,
            graph.build(sine().model, "test"),
            keeps_local=False,
            error_feedback=False,
            save_every=0,
            longest_payload=0,
            flash=786_433,
            source="test",
        )
    with pytest.raises(spec.SpecError, match=r"board\.stored"):
        sine("board.stored=true")


def test_the_program_of_the_nano_ends_before_its_storage() -> None:
    """Its loader and the Arduino core lie before our firmware: a program that reaches the storage would be erased by a save."""
    nano = boards.load("nano33ble")
    upload = json.loads(nano.file.read_text())["upload"]
    assert nano.storage is not None and nano.storage.flash_bytes is not None
    flash, loader = 1 << 20, 0x10000
    assert upload["maximum_size"] == flash - loader
    core = upload["maximum_size"] - nano.flash_bytes
    assert loader + core + nano.storage.flash_bytes <= nano.storage.start
    assert nano.storage.start + nano.storage.pages * nano.storage.page_bytes <= flash


def test_the_store_is_part_of_the_models_hash_only_where_it_is_on() -> None:
    plain = design(sine(), boards.load("mps2"), "test").manifest
    assert plain.store is None and "store" not in plain.as_json()
    kept = design(sine("board.store=true"), boards.load("mps2"), "test").manifest
    assert kept.model_hash != plain.model_hash
    assert type(kept).of_json(kept.as_json(), "test") == kept
