"""The key file: its mode, its content, names, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinymetafed.devices.key_file import EnrolledBoard, EnrollError, KeyFile, KeyFileError, default_path, kept_beside

KITCHEN = EnrolledBoard("kitchen", "0" * 16, "nano33ble", (b"k" * 32,))
CELLAR = EnrolledBoard("cellar", "1" * 16, "esp32dev", (b"c" * 32, b"d" * 32))


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "mine" / "keys.toml")


def test_boards_are_kept_by_id_and_name(keys: KeyFile) -> None:
    assert keys.boards() == () and keys.of("0" * 16) is None
    keys.put(KITCHEN)
    keys.put(CELLAR)
    assert keys.boards() == (CELLAR, KITCHEN)
    assert keys.of(KITCHEN.unique_id) == KITCHEN and keys.named("cellar") == CELLAR
    keys.remove(CELLAR.unique_id)
    assert keys.boards() == (KITCHEN,)
    with pytest.raises(EnrollError, match="no board is called 'cellar'; enrolled: kitchen"):
        keys.named("cellar")


def test_only_its_owner_may_read_it(keys: KeyFile) -> None:
    mask = os.umask(0)
    try:
        keys.put(KITCHEN)
    finally:
        os.umask(mask)
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660, 0o604, 0o700, 0o610])
def test_a_looser_mode_is_refused_by_name(keys: KeyFile, mode: int) -> None:
    keys.put(KITCHEN)
    keys.path.chmod(mode)
    for ask in (keys.boards, lambda: keys.put(CELLAR), lambda: keys.remove("0" * 16)):
        with pytest.raises(KeyFileError, match=f"keys.toml: has mode {mode:04o}.*chmod 600"):
            ask()
    keys.path.chmod(0o600)
    assert keys.boards() == (KITCHEN,)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "x" * 41])
def test_a_name_is_a_few_printable_characters(keys: KeyFile, name: str) -> None:
    with pytest.raises(EnrollError, match="expected 1 to 40 printable characters"):
        keys.put(EnrolledBoard(name, "2" * 16, "mps2", (b"x" * 32,)))


def test_a_name_belongs_to_one_board(keys: KeyFile) -> None:
    keys.put(KITCHEN)
    with pytest.raises(EnrollError, match=r"board 0000000000000000 \(nano33ble\) has this name.*enroll --forget kitchen"):
        keys.put(EnrolledBoard("kitchen", "2" * 16, "mps2", (b"x" * 32,)))
    assert keys.boards() == (KITCHEN,)


@pytest.mark.parametrize(
    "text",
    [
        "boards = 3",
        "boards = [3]",
        "[[boards]]\nname = 'a'",
        "[[boards]]\nname='a'\nid='b'\nboard='c'\nkeys=[]",
        "[[boards]]\nname='a'\nid='b'\nboard='c'\nkeys=['00']",
        "[[boards]]\nname='a'\nid='b'\nboard='c'\nkeys=['zz']",
        "not toml",
        "\0\xff",
    ],
)
def test_a_damaged_file_is_named(keys: KeyFile, text: str) -> None:
    keys.path.parent.mkdir()
    keys.path.write_text(text)
    keys.path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"keys\.toml: is not a file of keys.*restore it from a copy"):
        keys.boards()


def test_a_folder_or_a_device_is_no_key_file(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(KeyFileError, match=f"{path}: is not a regular file; name one with TINYMETAFED_KEYS"):
            KeyFile(path).boards()


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINYMETAFED_KEYS", str(tmp_path / "k"))
    assert default_path() == tmp_path / "k"
    monkeypatch.delenv("TINYMETAFED_KEYS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "tinymetafed" / "keys.toml"


def test_the_key_of_a_process_is_beside_its_flash(tmp_path: Path) -> None:
    flash = tmp_path / "native-1.flash"
    key = kept_beside(flash)
    assert len(key) == 32 and kept_beside(flash) == key != kept_beside(tmp_path / "native-2.flash")
    file = tmp_path / "native-1.flash.key"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"short")
    with pytest.raises(KeyFileError, match="has 5 bytes, a key has 32"):
        kept_beside(flash)


def test_no_key_is_shown(keys: KeyFile) -> None:
    assert "6b6b" not in repr(KITCHEN) and "kkkk" not in repr(KITCHEN)
