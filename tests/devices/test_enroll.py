"""Enrolling by the command line: a board of a port gets a key, keeps it over a reset, and takes part; others do not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS
from small_runs import SINE, Quiet

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.devices.board_files import STORAGE_VARIABLE
from tinymetafed.devices.key_file import KeyFile
from tinymetafed.devices.link.link_errors import NotEnrolled
from tinymetafed.devices.link.record import DOWN, UP
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.devices.running import build_firmware, running
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen import __main__ as generator
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import board_key, boards
from tinymetafed_codegen.toolchain import BOARD_KEY_VARIABLE

PAGE_KEYS = 4096 // 40  # of a native board
SETTINGS = ("run.security=authenticated", "board.store=true", "run.rounds=2", "evaluation.tasks=1", "evaluation.every=0")
Started = Callable[[str], AbstractContextManager[str]]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyFile:
    monkeypatch.setenv("TINYMETAFED_KEYS", str(tmp_path / "keys.toml"))
    return KeyFile()


@pytest.fixture
def started(built_once: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """Starts a board with authenticated firmware and a store; gives its pseudo-terminal."""
    program = build_firmware(design_of(spec.load(SINE, SETTINGS), "sine"), "native").program
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path / "flash"))

    @contextmanager
    def run(unique_id: str) -> Iterator[str]:
        words = [str(program), "--pty", "--exit-with-stdin", "--id", unique_id]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdin is not None
            yield process.stdout.readline().removeprefix("pty ").strip()
            process.stdin.close()
            process.wait(HUNG_SECONDS)

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command; gives its exit code and what it has written."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(done.value.code, int)
        return done.value.code, " ".join((said.out + said.err).split())

    return run


def train(line: str, out: Path, *more: str) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["train", str(SINE), "-d", f"{line}@native", *settings, "--out", str(out), *more]


def test_a_board_is_enrolled_and_trained_on_and_keeps_its_key(
    started: Started, keys: KeyFile, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    recording = tmp_path / "line.rec"
    with started("00000000000000aa") as line:
        code, said = command(*train(line, tmp_path / "first"))
        assert code == 1 and f"{line}: board 00000000000000aa is not enrolled" in said and "tinymetafed enroll" in said
        assert "has no key, and its firmware answers nobody without one" in command("status", line)[1]
        assert command("enroll", line, "--name", "kitchen") == (0, "Enrolled kitchen: native, id 00000000000000aa.")
        code, said = command("enroll", line, "--name", "kitchen")
        assert code == 2 and "is enrolled as 'kitchen'; --again gives it a fresh key" in said
        before = keys.named("kitchen").keys
        assert json.loads(command("enroll", line, "--name", "hall", "--again", "--json")[1])["is_kept"] is True
        assert len(keys.named("hall").keys) == 1 and keys.named("hall").keys != before
        secret = keys.named("hall").keys[0].hex()
    with started("00000000000000aa") as line:
        code, said = command(*train(line, tmp_path / "run", "--record", str(recording), "--json"))
        assert code == 0, said
        found = tmf.board_status(line)
        assert (found.enrolled, found.forged, found.replayed, found.state) == ("hall", 0, 0, "DONE")
        hall = keys.named("hall")
        keys.remove("00000000000000aa")
        code, said = command("status", line)
        assert code == 1 and "answers only a host that has its key" in said
        code, said = command("enroll", line, "--name", "hall")
        assert code == 1 and "has a key already, and this machine does not know it" in said
    simulated = tmf.simulate(tmf.load(SINE, [*SETTINGS[2:], "board.store=true"]), progress=False)
    assert tmf.open_run(tmp_path / "run").result.weights_sha256 == simulated.result.weights_sha256  # type: ignore[union-attr]
    for file in filter(Path.is_file, [recording, *(tmp_path / "run").rglob("*")]):
        content = file.read_bytes()
        assert secret.encode() not in content and bytes.fromhex(secret) not in content, file
    shown = command("monitor", str(recording))[1]
    assert "Proven" in shown and "mac=" in shown and "MALFORMED" not in shown and "DAMAGED" not in shown
    assert verdicts(shown) == {"not checked"}, "no key is known"
    keys.put(hall)
    assert verdicts(command("monitor", str(recording))[1]) == {"right"}
    other = replace(hall, keys=(bytes(32),))
    keys.put(other)
    assert verdicts(command("monitor", str(recording))[1]) == {"not checked"}, "the board has proved to have another key"
    keys.put(replace(hall, keys=(bytes(32), *hall.keys)))
    for direction in (DOWN, UP):
        forged = command("monitor", str(with_one_forged(recording, direction)))[1]
        assert verdicts(forged) == {"right", "WRONG"} and forged.count("WRONG") == 1
        assert re.search(rf" {direction} #.*WRONG", forged)


def verdicts(shown: str) -> set[str]:
    """What `monitor` says of MACs."""
    return set(re.findall(r"mac=[0-9a-f]{16} (right|WRONG|not checked)", shown))


def with_one_forged(recording: Path, direction: str) -> Path:
    """A copy of a recording in which one bit is another one in the last long frame of a direction; its CRC is right."""
    first, *lines = recording.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    pending = b""
    for event in events:  # a read may end within a frame; each frame is moved to the event with its last byte
        if event[2] == direction:
            whole, end, pending = (pending + bytes.fromhex(event[3])).rpartition(b"\0")
            event[3] = (whole + end).hex()
    long = [event for event in events if event[2] == direction and len(event[3]) > 40]
    *before, last = bytes.fromhex(long[-1][3])[:-1].split(b"\0")
    (frame,) = Decoder().feed(last + b"\0")
    forged = encode(frame.type_id, frame.sequence, frame.payload[:-1] + bytes([frame.payload[-1] ^ 1]))
    long[-1][3] = b"".join([*(each + b"\0" for each in before), forged]).hex()
    copy = recording.with_suffix(".forged")
    copy.write_text("\n".join([first, *(json.dumps(event) for event in events if event[3])]) + "\n")
    return copy


def test_a_forgotten_board_can_be_enrolled_anew(
    started: Started, keys: KeyFile, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    with started("00000000000000aa") as line:
        assert command("enroll", line, "--name", "kitchen")[0] == 0
        assert "kitchen" in command("enroll", "--list")[1]
        code, said = command("enroll", "--forget", "cellar", line)
        assert code == 2 and "no board is called 'cellar'; enrolled: kitchen" in said
        assert command("enroll", "--forget", "kitchen", line)[0] == 0
        assert keys.boards() == () and command("enroll", "--list", "--json")[1] == "[]"
        assert command("enroll", line, "--name", "kitchen")[0] == 0
        keys.path.chmod(0o640)
        code, said = command("status", line)
        assert code == 1 and "keys.toml: has mode 0640" in said
        keys.path.chmod(0o600)
        code, said = command("enroll", "--forget", "kitchen")
        assert (
            code == 0 and "from this machine; the board still has it, and takes another only once its flash is erased" in said
        )
    for words, why in (
        (("enroll",), "give one of"),
        (("enroll", "--name", "a"), "name the board's port too"),
        (("enroll", "native:1", "--name", "a"), "would start processes"),
        (("enroll", "socket://192.0.2.1:1", "--name", "a"), "--insecure"),
    ):
        code, said = command(*words)
        assert code == 2 and why in said


def test_a_key_is_not_replaced_by_that_of_another_board_of_the_same_id(
    started: Started, keys: KeyFile, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    with started("00000000000000aa") as line:
        assert command("enroll", line, "--name", "kitchen")[0] == 0
    before = keys.boards()
    Path(os.environ[STORAGE_VARIABLE]).unlink()
    header = tmp_path / "other.hpp"
    with started("00000000000000aa") as line:
        code, said = command("enroll", line, "--name", "hall")
        assert code == 2 and "is enrolled as 'kitchen' (native), but the one here (native) has no key" in said
        code, said = command("enroll", line, "--name", "hall", "--compiled-in", str(header))
        assert code == 2 and "is enrolled as 'kitchen'; --again" in said
        assert keys.boards() == before and not header.exists()
        assert command("enroll", line, "--name", "hall", "--again")[0] == 0
        assert keys.named("hall").keys != before[0].keys and len(keys.boards()) == 1
        code, said = command("enroll", line, "--name", "cellar", "--again", "--compiled-in", str(header))
        assert code == 0 and keys.named("cellar").keys[0].hex() in header.read_text()


def test_boards_of_a_run_do_not_get_a_key_that_is_compiled_in(
    keys: KeyFile, command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tmp_path / "kitchen.hpp"
    header.write_text(board_key.header("kitchen", "aa", b"k" * 32))
    experiment = spec.load(SINE, SETTINGS[:1])
    texts = []
    for value in ("", str(header)):
        monkeypatch.setenv(BOARD_KEY_VARIABLE, value)
        folder = tmp_path / f"generated-{len(texts)}"
        emit.write(design_of(experiment, "sine").on(boards.load("native")), folder, "test")
        texts.append((folder / "authentication_facts.hpp").read_text())
    assert texts[0] == texts[1] and "key_in_memory" in (folder / "authentication.hpp").read_text()


def test_the_files_of_a_board_of_a_run_are_its_owners_and_belong_together(
    built_once: None, keys: KeyFile, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    flash, key = store / "native-1.flash", store / "native-1.flash.key"
    flash.touch(0o644)
    design = design_of(spec.load(SINE, SETTINGS), "sine")

    def start() -> None:
        with running(design, [f"native:1?store={store}"], Quiet()):
            pass

    start()
    assert key.read_bytes() in flash.read_bytes()
    assert {file.stat().st_mode & 0o777 for file in store.iterdir()} == {0o600}
    key.unlink()
    with pytest.raises(NotEnrolled, match=r"native#1: .* has a key in the file of its flash.*remove the file of the flash"):
        start()
    flash.unlink()
    start()


def test_a_page_of_keys_is_erased_when_it_is_full(started: Started) -> None:
    """The last key counts over a reset, whatever its place in the page; one that was cut off does not."""
    keys = [bytes([number]) * 32 for number in range(PAGE_KEYS + 3)]
    flash = Path(os.environ[STORAGE_VARIABLE])
    for first, last in ((0, 1), (1, PAGE_KEYS), (PAGE_KEYS, PAGE_KEYS + 3)):
        with started("00000000000000aa") as line, open_transport(line) as transport:
            session = Session(transport)
            hello = session.hello()
            if first:
                session.authenticate(hello, keys[first - 1 : first])
            for key in keys[first:last]:
                session.enroll(key)
        if last == PAGE_KEYS + 3:
            content = flash.read_bytes()
            assert content.count(keys[-1]) == 1 and keys[0] not in content, "the page was erased"
            flash.write_bytes(content.replace(keys[-1], keys[-1][:16] + b"\xff" * 16))
    with started("00000000000000aa") as line, open_transport(line) as transport:
        session = Session(transport)
        session.authenticate(session.hello(), keys[-2:-1])


def test_a_key_is_compiled_in(
    started: Started, keys: KeyFile, command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tmp_path / "kitchen.hpp"
    with started("00000000000000aa") as line:
        code, said = command("enroll", line, "--name", "kitchen", "--compiled-in", str(header))
        assert code == 0 and "TINYMETAFED_BOARD_KEY=" in said
        code, said = command("enroll", line, "--name", "hall", "--again", "--compiled-in", str(header))
        assert code == 2 and "exists; name another file" in said
    assert header.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("TINYMETAFED_BOARD_KEY", str(header))
    command("codegen", str(SINE), "--set", SETTINGS[0], "--board", "nano33ble", "-o", str(tmp_path / "code"))
    written = (tmp_path / "code" / "authentication_facts.hpp").read_text()
    key = ", ".join(f"0x{byte:02x}" for byte in keys.named("kitchen").keys[0])
    assert key in written
    experiment = tmp_path / "own.toml"
    experiment.write_text(SINE.read_text().replace("[run]", '[run]\nsecurity = "authenticated"'))
    as_platformio_does = [str(experiment), "--board", "nano33ble", "-o", str(tmp_path / "pio")]
    assert generator.main(as_platformio_does) == 0
    assert key in (tmp_path / "pio" / "authentication_facts.hpp").read_text()
    only_ours = [tmp_path / "code", tmp_path / "pio", tmp_path / "library" / "src" / "tinymetafed" / "model"]
    for _ in range(2):  # again where the files are there already, with a mode that shows them
        for words in ((str(only_ours[0]),), (str(tmp_path / "library"), "--library")):
            assert command("codegen", str(SINE), "--set", SETTINGS[0], "--board", "nano33ble", "-o", *words)[0] == 0
        assert generator.main(as_platformio_does) == 0
        for folder in only_ours:
            assert key in (folder / board_key.HEADER).read_text()
            assert (folder / board_key.HEADER).stat().st_mode & 0o777 == 0o600
            assert (folder / "model.hpp").stat().st_mode & 0o777 == 0o644
            (folder / board_key.HEADER).chmod(0o644)
    header.write_text("// nothing")
    code, said = command("codegen", str(SINE), "--set", SETTINGS[0], "--board", "nano33ble", "-o", str(tmp_path / "code"))
    assert code == 1 and "kitchen.hpp: has no key" in said
    assert generator.main(as_platformio_does) == 1


def test_what_is_built_with_a_compiled_in_key_is_of_its_owner_alone(
    tmp_path: Path, command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step of the build makes a file with the key that others may read, not for a moment."""
    modes: dict[str, list[int]] = {}
    rename, chmod = os.replace, Path.chmod

    def replaced(source: str, target: Path) -> None:
        modes.setdefault(Path(target).name, []).append(os.stat(source).st_mode & 0o777)
        rename(source, target)

    def changed(path: Path, mode: int) -> None:
        modes.setdefault(path.name, []).append(mode)
        chmod(path, mode)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(Path, "chmod", changed)
    header = tmp_path / "kitchen.hpp"
    header.write_text(board_key.header("kitchen", "aa", bytes(range(32))))
    monkeypatch.setenv(BOARD_KEY_VARIABLE, str(header))
    command("codegen", str(SINE), "--set", SETTINGS[0], "--board", "nano33ble", "-o", str(tmp_path / "code"))
    assert set(modes[board_key.HEADER]) == {0o600}
