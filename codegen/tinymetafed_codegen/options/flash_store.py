"""The layout of a board's store: its records, its two slots, and how long the flash lasts."""

from __future__ import annotations

from dataclasses import dataclass

from ..board.board_facts import Board, Storage
from ..graph import Graph
from ..section import SpecError, StrictJson

HEADER_BYTES = 24  # of a slot: Log::Header of firmware/core/store/log.hpp
RECORD_BYTES = 12  # of a record besides its numbers: Log::Head and the CRC
TAG_BYTES = 16  # of a record besides these, in a store that has states of rounds
STATISTICS_BYTES = 28  # of own_statistics of firmware/core
BYTES_PER_NAME = 16  # of a class, on average
KEY_PAGES = 1  # behind the slots, for the key of an authenticated board
SAVES_PER_SLOT = 32  # a slot has as many pages as it takes for so many saves, if the board has them
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class StoreFacts(StrictJson):
    """The store of one model on one board.

    ``round_bytes`` and ``weights_bytes`` are the sizes in flash of one record: of the state after a round (0 if the model keeps
    none), and of all weights with statistics and names. ``saves_per_slot`` records of the larger kind fit into a slot between
    two erases. ``erase_cycles``: how often a page can be erased, by ``source``; None: without limit. ``save_every``: a board
    saves what it learns by itself after every so many samples; 0: when its program says so. ``name_bytes``: room for the names
    of classes. ``key_pages`` behind the slots are for the key of an authenticated board.
    """

    page_bytes: int
    slot_pages: int
    round_bytes: int
    weights_bytes: int
    saves_per_slot: int
    erase_cycles: int | None
    source: str
    save_every: int
    name_bytes: int
    key_pages: int = 0

    def years(self, saves_per_day: float) -> float | None:
        """How long the flash lasts with so many saves a day; None: without limit."""
        if self.erase_cycles is None:
            return None
        return self.erase_cycles * 2 * self.saves_per_slot / saves_per_day / DAYS_PER_YEAR

    @property
    def summary(self) -> str:
        """Size and wear, for people."""
        flash = 2 * self.slot_pages * self.page_bytes
        parts = [f"{self.round_bytes:,} bytes after each round"] * (self.round_bytes > 0) + [
            f"{self.weights_bytes:,} bytes for all weights"
        ]
        text = f"store: {flash:,} bytes of flash in two slots; {', '.join(parts)}; a page is erased every "
        text += f"{2 * self.saves_per_slot:,} saves or later"
        learned = f"; what the board learns is saved every {self.save_every:,} samples" if self.save_every else ""
        if (years := self.years(100)) is None:
            return f"{text}; {self.source}{learned}"
        return f"{text}: at 100 saves a day its {self.erase_cycles:,} erases last {years:,.1f} years ({self.source}){learned}"


def layout(
    board: Board,
    net: Graph,
    *,
    keeps_local: bool,
    error_feedback: bool,
    save_every: int,
    longest_payload: int,
    flash: int,
    source: str,
    key_pages: int = 0,
) -> StoreFacts:
    """Lays out the store.

    Args:
        board: The board.
        net: The model's graph.
        keeps_local: Whether local weights continue from the client's last round.
        error_feedback: Whether changes that were not sent are added to the next delta.
        save_every: After how many samples that a board learns by itself it saves them; 0 for never.
        longest_payload: Bytes of a message that the names of classes must fit in.
        flash: Bytes of flash that the program takes.
        source: The experiment's name in errors.
        key_pages: Pages for the key of an authenticated board.

    Raises:
        SpecError: The board has no storage, or too little for this model, or the program reaches into it.
    """
    storage = board.storage
    if storage is None:
        raise SpecError(
            f"{source}: board.store = true, but board '{board.name}' has no storage; add 'storage' to {board.file}, as "
            "docs/own-board.md describes, or leave board.store out"
        )
    left = storage.flash_bytes or (0 if board.real else storage.start)
    if 0 < left < flash:
        raise SpecError(
            f"{source}: board.store = true leaves {left:,} bytes of flash of board '{board.name}' to the program, "
            f"which needs about {flash:,}; make the model smaller, or leave board.store out"
        )
    numbers = net.n_local * keeps_local + net.n_global * error_feedback
    around = RECORD_BYTES + TAG_BYTES * (numbers > 0)
    round_bytes = _aligned(storage, around + 4 * numbers) if numbers else 0
    names = min(BYTES_PER_NAME * net.labels, longest_payload) // 4 * 4
    weights_bytes = _aligned(storage, around + 4 * net.n_parameters + STATISTICS_BYTES + names)
    header = _aligned(storage, HEADER_BYTES)
    # When a slot is begun, it gets the records that are still needed and the new one.
    begun = header + 2 * round_bytes + weights_bytes
    larger = max(round_bytes, weights_bytes)
    least = _pages(storage, begun)
    pages = min(max(least, _pages(storage, begun + SAVES_PER_SLOT * larger)), (storage.pages - key_pages) // 2)
    if least > pages:
        raise SpecError(
            f"{source}: board.store = true needs {2 * least * storage.page_bytes:,} bytes of flash for two slots with the "
            f"states of two rounds and all weights; board '{board.name}' has {storage.pages * storage.page_bytes:,}; make the "
            "model smaller, or leave board.store out"
        )
    saves = 1 + (pages * storage.page_bytes - begun) // larger
    return StoreFacts(
        storage.page_bytes,
        pages,
        round_bytes,
        weights_bytes,
        saves,
        storage.erase_cycles,
        storage.source,
        save_every,
        names,
        key_pages,
    )


def _aligned(storage: Storage, size: int) -> int:
    return -(-size // storage.write_bytes) * storage.write_bytes


def _pages(storage: Storage, size: int) -> int:
    return -(-size // storage.page_bytes)
