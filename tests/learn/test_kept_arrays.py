"""Arrays in the user's cache: read where they are whole, and made again where anything about the file is not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tinymetafed.learn.tasks.kept_arrays import Arrays, kept_arrays

MADE = {"levels": np.arange(12, dtype=np.uint8), "names": np.array(["a", "bc"])}


def kept() -> tuple[Arrays, bool]:
    """The arrays, and whether they were made."""
    made = []

    def make() -> Arrays:
        made.append(True)
        return MADE

    return kept_arrays("things/some", "a recipe", tuple(MADE), make), bool(made)


def same(arrays: Arrays) -> bool:
    return arrays.keys() == MADE.keys() and all(np.array_equal(arrays[name], MADE[name]) for name in MADE)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept()[1] and not kept()[1]
    (found,) = (tmp_path / "tinymetafed" / "things").iterdir()
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # of zipfile, about names that are there twice
def test_no_flipped_bit_and_no_lost_end_changes_an_array_or_raises(file: Path) -> None:
    class Missing(Exception):
        """The arrays would be made."""

    def make() -> Arrays:
        raise Missing

    whole = file.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 1 << at % 3]) + whole[at + 1 :] for at in range(len(whole))]
    for content in [*damaged, *(whole[:end] for end in range(0, len(whole), 7))]:
        file.write_bytes(content)
        with suppress(Missing):
            assert same(kept_arrays("things/some", "a recipe", tuple(MADE), make))


def test_files_of_another_kind_are_replaced(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, MADE["levels"])
    assert kept()[1] and not kept()[1]
    np.savez(file, levels=MADE["levels"])
    assert kept()[1] and not kept()[1]
    np.savez(file, names=np.array([{}], object), levels=MADE["levels"])  # which only code in the file could read
    assert kept()[1] and same(kept()[0])
