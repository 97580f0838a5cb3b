"""Builds firmware with PlatformIO: a program for one experiment and one board, in a build folder of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.files import locked, write_if_changed
from tinymetafed_codegen.locate import PLATFORMIO_CONFIG, platformio_config
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.toolchain import BOARD_KEY_VARIABLE, SHOWN_LINES, BuildError, build_root, require_tools

from .build_inputs import compilers_digest, inputs_digest, is_built, write_stamp
from .firmware_project import build_folder_of


@dataclass(frozen=True)
class Firmware:
    """A linked program, its manifest, and its size: flash and static RAM (without stack)."""

    program: Path
    manifest: ModelManifest
    flash_bytes: int
    ram_bytes: int


@dataclass(frozen=True)
class Deviation:
    """Settings that a measurement builds with instead of the board's; boards/generate.py and the builder read them."""

    optimization: str | None = None  # for instance -O2
    kernels: str | None = None  # a folder of firmware/bench whose kernels replace the core's
    receive_window: int | None = None  # bytes
    program: str | None = None  # a file of firmware/bench in place of the main program, without its suffix

    def environment(self) -> dict[str, str]:
        """The environment variables that pass the settings to the build."""
        return {f"TINYMETAFED_{name.upper()}": "" if value is None else str(value) for name, value in asdict(self).items()}

    def folder(self, key: str) -> str:
        """Name of the build folder for these settings."""
        return "-".join([key, *(str(value).lstrip("-") for value in asdict(self).values() if value is not None)])


AS_THE_BOARD_SAYS = Deviation()


def build(
    experiment: Path,
    board: Board,
    *,
    key: str,
    quiet: bool = True,
    deviation: Deviation = AS_THE_BOARD_SAYS,
    generated: Path | None = None,
) -> Firmware:
    """Compiles firmware; only what changed since the last build is built again.

    A board of a user's project is built with that project's platformio.ini; the project may be read-only. Any other board is
    built in the build folder alone: PlatformIO wants to write to its project's folder, and our installation may belong to
    another user.

    Args:
        experiment: The experiment file.
        board: The board.
        key: Name of the build folder. Different keys never overwrite each other; builds of one key wait for each other.
        quiet: Hide PlatformIO's output; otherwise it goes to standard error.
        deviation: Settings that replace the board's.
        generated: Folder with the generated files; None to generate them from the experiment file.

    Returns:
        The program, its manifest and its size.

    Raises:
        BuildError: The build failed, or the experiment does not fit the board.
    """
    require_tools(board)
    folder = build_root() / deviation.folder(key if board.project is None else f"{key}-{_short_hash(board.project)}")
    project = folder if board.project is None else build_folder_of(board.project)
    installation = project / PLATFORMIO_CONFIG
    command = [sys.executable, "-m", "platformio", "run", "--project-dir", str(project), "--environment", board.name]
    if board.project is None:
        command += ["--project-conf", str(installation)]
    environment = (
        os.environ
        | deviation.environment()
        | {
            "TINYMETAFED_EXPERIMENT": str(experiment.resolve()),
            "TINYMETAFED_GENERATED": "" if generated is None else str(generated.resolve()),
            "PLATFORMIO_BOARDS_DIR": str(board.file.parent),
            "PLATFORMIO_CORE_DIR": str(folder / "core"),
            "PLATFORMIO_WORKSPACE_DIR": str(folder),
            "PLATFORMIO_BUILD_DIR": str(folder / "build"),
            "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
            "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true",
            "PYTHONDONTWRITEBYTECODE": "1",  # the platform's Python files may be in site-packages, which we do not write to
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        write_if_changed(installation, platformio_config())
        output = folder / "build" / board.name
        program, stamp = output / "firmware.elf", output / "firmware.stamp"
        inputs = None if generated is None else inputs_digest(board, generated, command, environment)
        if generated is not None and is_built(stamp, inputs, program):  # PlatformIO would take a second to see it
            return _firmware(board, program, generated)
        stamp.unlink(missing_ok=True)
        objects = build_root() / "objects"  # of equal sources and flags, for all models
        objects.mkdir(exist_ok=True)
        shared = objects / compilers_digest(board, environment)[:16]
        has_key = bool(environment.get(BOARD_KEY_VARIABLE))  # what a key is compiled into stays in its build folder
        environment["TINYMETAFED_OBJECTS"] = "" if has_key else str(shared)
        if quiet:
            done = subprocess.run(
                [*command, "--silent"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
        else:
            done = subprocess.run(command, env=environment, stdout=sys.stderr.fileno(), check=False)
        if done.returncode != 0:
            said = (done.stdout or b"").decode(errors="replace").partition("\n=====")[0]  # without PlatformIO's summary
            last = said.strip().splitlines()[-SHOWN_LINES:]
            raise BuildError("\n".join([f"firmware for {board.name} from {experiment}: the build failed", *last]))
        write_stamp(stamp, inputs, program)
        return _firmware(board, program, generated or output / "generated")


def _firmware(board: Board, program: Path, generated: Path) -> Firmware:
    return Firmware(program, ModelManifest.read(generated / "manifest.json"), *_sizes(program, board.toolchain_prefix))


def _short_hash(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def _sizes(program: Path, toolchain_prefix: str) -> tuple[int, int]:
    """Flash and static RAM in bytes; initialised data counts in both, as it is copied from flash."""
    command = [f"{toolchain_prefix}size", "--format=berkeley", str(program)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(word) for word in table.splitlines()[1].split()[:3])
    return text + data, data + bss
