"""Temporary folders of killed processes are removed, those of living processes and of others never."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tinymetafed_codegen import temporary
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.temporary import temporary_folder

HOLDS_A_FOLDER = """
import sys
from pathlib import Path
from tinymetafed_codegen.temporary import temporary_folder
with temporary_folder("test", Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("some content")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a temporary folder, and the folder."""
    words = [sys.executable, "-c", HOLDS_A_FOLDER, str(parent)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    (killed, abandoned), (living, used) = holder(tmp_path), holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (abandoned / "deep" / "file").is_file()
    with temporary_folder(parent=tmp_path) as own:
        assert own.parent == tmp_path and own.is_dir()
        assert not abandoned.exists() and (used / "deep" / "file").is_file()
    living.communicate()
    assert not list(tmp_path.iterdir())


def test_what_is_not_abandoned_for_certain_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, elsewhere = tmp_path / "tinymetafed-1000", tmp_path / "elsewhere"
    cache.mkdir()  # a folder that is no temporary one
    elsewhere.mkdir()
    (elsewhere / ".in-use").touch()
    link, file = tmp_path / "tinymetafed-link", tmp_path / "tinymetafed-file"
    link.symlink_to(elsewhere)
    file.touch()
    with temporary_folder(parent=tmp_path):
        pass
    assert {each.name for each in tmp_path.iterdir()} == {cache.name, elsewhere.name, link.name, file.name}
    others = tmp_path / "tinymetafed-others"
    others.mkdir()
    (others / ".in-use").touch()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    temporary._remove_abandoned(tmp_path)
    assert others.is_dir()
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    temporary._remove_abandoned(tmp_path)
    assert not others.exists()


def test_a_folder_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp
    made: list[Path] = []

    def and_removed_at_once(prefix: str, dir: Path) -> str:
        made.append(Path(make(prefix=prefix, dir=dir)))
        if len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", and_removed_at_once)
    with temporary_folder(parent=tmp_path) as folder:
        assert len(made) == 2 and folder == made[1]
    assert not list(tmp_path.iterdir())


def test_every_temporary_folder_of_ours_is_one_of_these() -> None:
    """But for an export's, which has the name of the user's folder beside it and may hold the only copy of the earlier one."""
    sources = [file for name in ("codegen", "host") for file in (root() / name).rglob("*.py")]
    making = re.compile(r"\b(TemporaryDirectory|mkdtemp|NamedTemporaryFile)\b")
    found = {file.name for file in sources if making.search(file.read_text(encoding="utf-8"))}
    assert found == {"temporary.py", "export_library.py"}
