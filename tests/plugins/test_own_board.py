"""A user's own board: the commands of docs/own-board.md from a wheel, the search for boards, and errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from installed_wheel import WheelVenv
from small_runs import Quiet, needs_qemu, sine
from test_docs import read

from tinymetafed.devices import usb
from tinymetafed.devices.device_urls import parse
from tinymetafed.devices.launch import LaunchError, require
from tinymetafed.projects import doctor, new
from tinymetafed.runs import store, training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen.board import board_file, boards
from tinymetafed_codegen.board.board_errors import BoardError, BoardWarning
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.budget import BudgetError
from tinymetafed_codegen.locate import find, root

ROOT = root()
PAGE = ROOT / "docs" / "own-board.md"
WITHOUT_THE_RIGHTS_OF_ROOT = """
import ctypes, os, sys
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
SHORT = ("--set", "run.rounds=20", "--set", "evaluation.tasks=1")  # how many clients are tested changes no weight


def sha256(said: str) -> str:
    """The weights' SHA-256 in the --json output of a command."""
    return str(json.loads(said)["weights_sha256"])


def own(project: Path, name: str, like: str, **facts: object) -> Path:
    """Writes a board into a project, with the facts of the built-in board ``like`` except ``facts``; returns its JSON file."""
    manifest = json.loads((find("boards") / f"{like}.json").read_text())
    manifest["tinymetafed"] |= facts
    (project / "boards").mkdir(exist_ok=True)
    file = project / "boards" / f"{name}.json"
    file.write_text(json.dumps(manifest, indent=2))
    ini = project / "platformio.ini"
    if f"[env:{name}]" not in ini.read_text():  # built-in boards have theirs already
        ini.write_text(f"{ini.read_text()}\n[env:{name}]\nextends = offline\nboard = {name}\n")
    return file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project without own boards."""
    new.create(tmp_path / "project", "native")
    return tmp_path / "project"


# From a wheel


def test_every_command_of_the_page_works_from_a_wheel(wheel_venv: WheelVenv, tmp_path: Path) -> None:
    lines = [line for language, body in read(PAGE).blocks if language == "console" for line in body.splitlines()]
    assert len(lines) == 10 and all(line.startswith("$ ") for line in lines)
    script = tmp_path / "page.sh"
    script.write_text("set -e\n" + "".join(line.removeprefix("$ ") + "\n" for line in lines))
    done = wheel_venv.run(tmp_path, "bash", script)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "blinds"
    assert json.loads((project / "build" / "rp2040" / "manifest.json").read_text())["board"] == "rp2040"
    assert "firmware for bench" in done.stderr and (project / ".pio" / "build" / "bench" / "firmware.elf").is_file()
    assert sorted(path.name for path in (project / ".pio" / "build" / "bench" / "port" / "bench").iterdir()) == [
        "entropy.o",
        "measures.o",
        "port.o",
        "posix.o",
        "replay.o",
        "storage.o",
        "windows.o",
    ]
    result = store.read_run(project / "runs" / "bench").result
    assert result is not None
    usual = wheel_venv.tinymetafed(project, "train", "experiment.toml", "-d", "native:2", *SHORT, "--out", "usual", "--json")
    assert result.devices[0].board == "bench" and result.weights_sha256 == sha256(usual)


@needs_qemu
def test_an_emulated_board_with_a_port_of_its_own_trains_to_the_same_bits(wheel_venv: WheelVenv, tmp_path: Path) -> None:
    wheel_venv.tinymetafed(tmp_path, "new", "project")
    project = tmp_path / "project"
    own(project, "half", "mps2", ports=["cortex_m", "half"], ram_bytes=131072, receive_window=1536, linker_script="half.ld")
    shutil.copy(find("boards/cortex_m.ld"), project / "boards" / "half.ld")
    shutil.copytree(find("firmware/port/mps2"), project / "port" / "half")
    # Nobody may write to the project, not even root.
    for each in (project, *project.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    train = ("train", "experiment.toml", "--set", "run.rounds=3", "--set", "evaluation.tasks=1", "--json")
    words = ("tinymetafed", *train, "--device", "qemu:1@half", "--out", tmp_path / "half")
    done = wheel_venv.run(project, wheel_venv.python, "-c", WITHOUT_THE_RIGHTS_OF_ROOT, *words)
    assert done.returncode == 0, done.stderr
    assert not (project / ".pio").exists()
    for each in (project, *project.rglob("*")):
        each.chmod(0o755)
    said = done.stdout
    (device,) = json.loads(said)["devices"]
    assert device["board"] == "half" and device["receive_window"] == 1536
    assert sha256(said) == sha256(wheel_venv.tinymetafed(project, *train, "--device", "native:1", "--out", "usual"))
    (half,) = [finding for finding in doctor.all_boards(Catalogue(project)) if finding.name == "half"]
    assert half.ok and str(project / "boards" / "half.json") in half.detail


def test_an_unusable_board_is_refused_by_file_and_line_from_a_wheel(wheel_venv: WheelVenv, tmp_path: Path) -> None:
    wheel_venv.tinymetafed(tmp_path, "new", "project")
    project = tmp_path / "project"
    (project / "boards").mkdir()
    (project / "boards" / "mine.json").write_text('{\n  "name": "mine",\n  "tinymetafed": {"ram_bytes": 1,}\n}\n')
    done = wheel_venv.run(project, "tinymetafed", "codegen", "experiment.toml", "--board", "mine", "-o", "build")
    file = project / "boards" / "mine.json"
    assert done.returncode == 2 and f"Error: {file}: not a usable board file: line 3, column 34: " in done.stderr
    usual = wheel_venv.run(project, "tinymetafed", "codegen", "experiment.toml", "--board", "native", "-o", "build")
    assert usual.returncode == 0 and usual.stderr.count(f"Warning: {file}: not a usable board file: line 3") == 1


VENDOR = {
    "platform.json": """{
        "name": "raspberrypi", "title": "A stand-in", "description": "A stand-in", "version": "1.19.0", "packages": {},
        "frameworks": {"arduino": {"script": "arduino.py"}}
    }""",
    "platform.py": """
from platformio.platform.base import PlatformBase
class RaspberrypiPlatform(PlatformBase):
    pass
""",
    "builder/main.py": """
from SCons.Script import Default, DefaultEnvironment
env = DefaultEnvironment()
env.Replace(AR="ar", AS="as", CC="gcc", CXX="g++", RANLIB="ranlib", PROGNAME="firmware", PROGSUFFIX=".elf")
env.Append(CXXFLAGS=["-std=gnu++14"], LINKFLAGS=["-pthread"])  # the core selects an older language version than ours
Default(env.BuildProgram())
""",
    "arduino.py": f"""
Import("env")
env.Append(CPPPATH=["{ROOT}/tests/arduino/rp2040", env.subst("$BUILD_DIR/generated"), "{ROOT}/firmware/core"])
env.BuildSources("$BUILD_DIR/core", "{ROOT}/tests/arduino", "+<core.cpp>")
""",
}


def test_the_port_of_a_real_board_is_built_by_the_vendors_platform(wheel_venv: WheelVenv, tmp_path: Path) -> None:
    wheel_venv.tinymetafed(tmp_path, "new", "project", "--board", "rp2040")
    project = tmp_path / "project"
    for name, text in VENDOR.items():
        (tmp_path / "vendor" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "vendor" / name).write_text(text)
    ini = project / "boards" / "environments.ini"
    offline = "platform_packages = tool-scons@symlink://${tinymetafed.root}/boards/tool-scons\n"
    text = ini.read_text().replace("platform = raspberrypi@1.19.0\n", f"platform = symlink://{tmp_path / 'vendor'}\n{offline}")
    ini.write_text(text)
    facts = project / "boards" / "rp2040.json"
    machine = json.dumps(json.loads(facts.read_text())["tinymetafed"]["machine_flags"])
    # The substitute platform builds for this machine, which does not know the board's machine flags.
    facts.write_text(facts.read_text().replace(machine, '["-DMACHINE_FLAG"]'))
    done = wheel_venv.run(project, "pio", "run", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    (port,) = [line for line in done.stdout.splitlines() if line.endswith("port/rp2040/port.cpp")]
    assert "-std=gnu++17" in port and "-fno-exceptions" in port and "-DMACHINE_FLAG" in port  # the flags of our other sources
    assert (project / ".pio" / "build" / "rp2040" / "firmware.elf").is_file()


# Where boards are looked for


def test_the_project_is_that_of_the_experiment_then_that_of_the_working_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(project, "mine", "native")
    (tmp_path / "elsewhere" / "boards").mkdir(parents=True)
    shutil.copy(project / "boards" / "mine.json", tmp_path / "elsewhere" / "boards" / "theirs.json")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for experiment in (project / "experiment.toml", project / "runs" / "x" / "experiment.toml"):
        assert boards.around(experiment) == Catalogue(project)
    assert boards.around(find("examples/sine.toml")) == Catalogue(tmp_path / "elsewhere")
    assert boards.around("experiment.toml") == Catalogue(tmp_path / "elsewhere")
    monkeypatch.chdir(root())
    assert boards.around("experiment.toml") == Catalogue(None)  # a checkout is not a project
    assert design_of(sine(), str(project / "experiment.toml"), "mine").board.file == project / "boards" / "mine.json"


def test_an_own_board_is_found_by_name_before_a_built_in_one_and_by_its_file(project: Path) -> None:
    own(project, "mine", "native", receive_window=2048)
    known = Catalogue(project)
    assert known.load("mine").project == project and known.load("mps2").project is None
    assert "mine" in known.names() and set(boards.names()) < set(known.names())
    assert boards.load(str(project / "boards" / "mine.json")) == known.load("mine")
    with pytest.raises(BoardError, match="no board 'mime'; did you mean 'mine'"):
        known.load("mime")
    with pytest.raises(BoardError, match="no board 'mine'"):
        boards.load("mine")


@pytest.mark.usefixtures("built_once")
def test_an_own_board_replaces_the_built_in_board_of_its_name(project: Path) -> None:
    experiment = project / "experiment.toml"
    short = sine("run.rounds=2", "evaluation.tasks=1")
    usual = training.train(set_up(short, "sine", None), ["native:1"], ["native:1"], project / "a", Quiet())
    file = own(project, "native", "native", receive_window=1280)
    with pytest.warns(BoardWarning, match=re.escape(f"{file}: used in place of our board 'native'")):
        setup = set_up(short, str(experiment), None)
    result = training.train(setup, ["native:1"], ["native:1"], project / "b", Quiet())
    assert [device.receive_window for device in (*usual.devices, *result.devices)] == [1024, 1280]
    assert result.weights_sha256 == usual.weights_sha256


# What uses a board's facts


def test_the_budget_is_the_boards_own(project: Path) -> None:
    experiment = str(project / "experiment.toml")
    own(project, "tiny", "mps2", ram_bytes=8192)
    with pytest.raises(BudgetError, match="tiny"):
        design_of(sine(), experiment, "tiny")


def test_a_starter_fits_the_budget_and_is_known_to_every_command(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    new.create(folder, "rp2040")
    made = design_of(sine(), str(folder / "experiment.toml"), "rp2040")
    assert made.manifest.memory.ram_total < made.manifest.memory.ram_available == 196608
    assert made.board.cannot_build() == ""
    (found,) = [finding for finding in doctor.all_boards(made.boards) if finding.name == "rp2040"]
    assert found.ok and str(folder / "boards" / "rp2040.json") in found.detail
    assert parse(["/dev/ttyACM7@rp2040"], made.boards)[0].declared == "rp2040"
    assert usb.known_usb(made.boards)[0x2E8A, 0x00C0].board == "rp2040"
    with pytest.raises(LaunchError, match=r"no board 'rp2040'"):
        parse(["/dev/ttyACM7@rp2040"])
    readme = (folder / "README.md").read_text()
    assert "they have not been run on a board" in readme and "pio run -e rp2040 -t upload" in readme


def test_a_round_is_estimated_for_a_real_board_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    new.create(folder, "rp2040")
    file = folder / "boards" / "rp2040.json"
    manifest = json.loads(file.read_text())
    manifest["tinymetafed"]["estimates"] = {"cycles_per_mac": [30, 60], "volts": 3.3, "milliamperes": [20, 30]}
    file.write_text(json.dumps(manifest))
    setup = set_up(sine("run.rounds=2", "evaluation.tasks=2"), str(folder / "experiment.toml"), None)
    result = training.simulate(setup, 1, tmp_path / "run", Quiet())
    assert result.estimate is not None and set(result.estimate.boards) == {"nano33ble", "esp32dev", "rp2040"}


def test_new_refuses_a_board_that_is_neither_built_in_nor_a_starter(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="no board 'rp2350'; did you mean 'rp2040'"):
        new.create(tmp_path / "project", "rp2350")
    assert not (tmp_path / "project").exists()


# What is missing


def test_a_missing_port_is_named_before_anything_is_built(project: Path) -> None:
    file = own(project, "mine", "native", ports=["mine"])
    known = Catalogue(project)
    for make in (lambda: None, (project / "port" / "mine").mkdir):  # an empty folder has no port either
        (project / "port").mkdir(exist_ok=True)
        make()
        with pytest.raises(LaunchError, match="no firmware can be built for board 'mine'") as said:
            require(parse(["native:1@mine"], known), known)
        assert f"{file}: 'ports' names 'mine', and there are no sources in {project / 'port' / 'mine'} nor " in str(said.value)
        assert "write the port there" in str(said.value)
        (finding,) = [finding for finding in doctor.all_boards(known) if finding.name == "mine"]
        assert not finding.ok and str(project / "port" / "mine") in finding.detail and "write the port" in finding.remedy
    (project / "port" / "mine" / "port.cpp").write_text("// A port.\n")
    require(parse(["native:1@mine"], known), known)


def test_a_missing_environment_is_named_before_anything_is_built(project: Path) -> None:
    own(project, "mine", "native")
    ini = project / "platformio.ini"
    text = ini.read_text().partition("\n[env:mine]")[0]
    mine = Catalogue(project).load("mine")
    to_do = "write [env:mine] with extends = offline and board = mine there"
    ini.write_text(text)
    assert mine.cannot_build() == f"{ini} has no [env:mine]; {to_do}"
    ini.write_text(f"{text}\n[env:mine]\nextends = offline\nboard = native\n")
    assert mine.cannot_build() == f"{ini} has board = native in [env:mine]; {to_do}"
    ini.write_text(text)
    (project / "boards" / "environments.ini").write_text("[env:mine]\nextends = offline\nboard = mine\n")
    assert mine.cannot_build() == ""
    ini.write_text(f"{text}\n[env:mine]\n\n[env:mine]\nboard = mine\n")
    with pytest.raises(BoardError, match=r"platformio\.ini: cannot be read: .*'env:mine' already exists"):
        mine.cannot_build()
    ini.unlink()
    assert mine.cannot_build().startswith(f"{ini}: missing; `tinymetafed new`")


UNUSABLE = {
    "a comma too many": ('{"name": "x",\n "url": "y",}', "line 2, column "),
    "a key is missing": ('{"name": "x",\n "build": {},\n "tinymetafed": {\n}}', "line 1, 'url' is missing"),
    "no table": (
        '{"url": "", "vendor": "", "name": "x",\n\n "build": [], "tinymetafed": {}}',
        "line 3, 'build' is [], expected",
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_is_refused_with_its_line(tmp_path: Path, what: str) -> None:
    text, why = UNUSABLE[what]
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(BoardError, match=re.escape(f"{file}: not a usable board file: {why}")):
        board_file.read(file)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ram_bytes", "64K", '"64K", expected a whole number from 1 on'),
        ("ram_bytes", True, "true, expected a whole number from 1 on"),
        ("flash_bytes", 0, "0, expected a whole number from 1 on"),
        ("ticks_per_second", 1e6, "1000000.0, expected a whole number from 1 on"),
        ("ports", [], "[], expected a list of texts, 1 or more"),
        ("ports", "native", '"native", expected a list of texts, 1 or more'),
        ("toolchain", "clang", '"clang", expected "gcc" or "xtensa"'),
        ("machine_flags", None, "null, expected a list of texts"),
        ("linker_script", "none.ld", '"none.ld", expected null or a file in '),
        ("emulator", [1], "[1], expected a list of texts, 1 or more"),
        ("line", {"bauds": 9600}, "9600, expected only baud, dtr, rts, settle_seconds in 'line'"),
        ("line", {"settle_seconds": -1}, "-1, expected a number from 0 on"),
        ("debian_packages", {"g++": {"for": "compiling"}}, "is missing in 'g++'"),
        ("real", True, "null, because a real board is not started on this machine"),
    ],
)
def test_a_value_is_refused_with_its_key_and_line(project: Path, key: str, value: object, expected: str) -> None:
    file = own(project, "mine", "mps2", **{key: value})
    with pytest.raises(BoardError) as said:
        board_file.read(file)
    line, column = re.search(r"line (\d+), '(\w+)'", str(said.value)).groups()  # type: ignore[union-attr]
    assert str(said.value).startswith(f"{file}: not a usable board file: line {line}, ") and expected in str(said.value)
    named = file.read_text().splitlines()[int(line) - 1]
    assert f'"{column}":' in named or (column == "library" and '"g++":' in named)


def test_every_missing_key_of_a_board_is_named(project: Path) -> None:
    manifest = json.loads((find("boards") / "mps2.json").read_text())
    optional = {"stands_for", "debian_packages", "start_seconds", "storage", "entropy", "measures"}
    for key in set(manifest["tinymetafed"]) - optional:
        less = manifest | {"tinymetafed": {name: fact for name, fact in manifest["tinymetafed"].items() if name != key}}
        (project / "mine.json").write_text(json.dumps(less, indent=1))
        with pytest.raises(BoardError, match=f"line \\d+, '{key}' is missing in 'tinymetafed'"):
            board_file.read(project / "mine.json")


@pytest.mark.parametrize("name", ["sixteencharacter", "my board", "µc"])
def test_a_name_that_no_device_could_have_is_refused(project: Path, name: str) -> None:
    file = own(project, name, "native")
    with pytest.raises(BoardError, match="up to 15 letters, digits, - and _"):
        board_file.read(file)
