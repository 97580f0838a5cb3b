"""PlatformIO pre-build script: generates the experiment's C++ for the board and picks the sources to build.

The experiment is TINYMETAFED_EXPERIMENT (an absolute path) or platformio.ini's custom_experiment. For measurements,
TINYMETAFED_OPTIMIZATION, TINYMETAFED_KERNELS and TINYMETAFED_RECEIVE_WINDOW replace what the board and firmware/core say.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from SCons.Script import COMMAND_LINE_TARGETS

Import("env")  # SCons puts it, and `env`, into this script's namespace

project = Path(env.subst("$PROJECT_DIR"))
root = Path(env.subst("$PROJECT_SRC_DIR")).parent
generated = Path(env.subst("$BUILD_DIR")) / "generated"
experiment = os.environ.get("TINYMETAFED_EXPERIMENT") or project / env.GetProjectOption("custom_experiment")
board = env.BoardConfig()

environment = dict(os.environ)
if (root / "codegen").is_dir():  # of a checkout; else it is installed beside the firmware
    sys.path.insert(0, str(root / "codegen"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
if sys.version_info < (3, 11) or importlib.util.find_spec("jinja2") is None:
    needed = "code generation needs Python 3.11 and Jinja2 there"
    sys.stderr.write(
        f"Error: PlatformIO runs in {sys.executable}; {needed}: use the pio that `make setup` puts into .venv/bin\n"
    )
    env.Exit(1)

from tinymetafed_codegen import boards, locate, toolchain  # noqa: E402  # needs the lines above

if locate.root() != root.resolve():
    sys.stderr.write(
        f"Error: {sys.executable} runs PlatformIO and has TinyMetaFed in {locate.root()}, but this project is built with that "
        f"in {root}; remove {project / '.pio' / 'tinymetafed.ini'}, or use the pio of the other\n"
    )
    env.Exit(1)

if board.get("tinymetafed", None) is None:  # a vendor's own description of the board
    sys.stderr.write(
        f'Error: {board.id}: {board.manifest_path} has no facts under "tinymetafed"; write boards/{board.id}.json into this '
        "project, docs/own-board.md says how\n"
    )
    env.Exit(1)
runs = "upload" in COMMAND_LINE_TARGETS or "test" in env.GetBuildType()
try:
    known = boards.read(Path(board.manifest_path))
    lacking = [tool for tool in known.missing_tools() if tool.to_build or runs]
    trouble = known.cannot_build() or (lacking and boards.missing_message(lacking))
except boards.BoardError as error:
    trouble = str(error)
if trouble:
    sys.stderr.write(f"Error: {board.id}: {trouble}\n")
    env.Exit(1)

codegen = [env.subst("$PYTHONEXE"), "-m", "tinymetafed_codegen"]
arguments = [str(experiment), "--board", str(known.file), "-o", str(generated)]
if window := os.environ.get("TINYMETAFED_RECEIVE_WINDOW"):
    arguments += ["--receive-window", window]
if subprocess.run([*codegen, *arguments], env=environment, check=False).returncode != 0:
    env.Exit(1)  # codegen has said why

source = json.loads((generated / "manifest.json").read_text(encoding="utf-8"))["source"]
# Other kernels than core's, by the name of their folder in bench/: headers that are found before those of the same name.
kernels = [f"bench/{name}"] if (name := os.environ.get("TINYMETAFED_KERNELS")) else []
env.Append(CPPPATH=[str(generated), *(str(Path("$PROJECT_SRC_DIR") / part) for part in (*kernels, "core", "app"))])
folders = {port: known.port_folder(port) for port in known.ports}
theirs = {port: folder for port, folder in folders.items() if known.project and folder.parent == known.project / "port"}
ports = [f"+<port/{port}/*>" for port in folders if port not in theirs]
program = [] if "test" in env.GetBuildType() else [f"+<app/{known.main}.cpp>"]  # unit tests bring a main() of their own
env.Replace(SRC_FILTER=["-<*>", "+<core/*.cpp>", *ports, *program, f"+<app/source_{source}.cpp>"])
if theirs:
    # PlatformIO compiles what lies below its source folder, which is ours; a port of the project's own is compiled along with
    # the core's dispatch.cpp, in the same environment. It finds our ports' headers as our ports do: "../arduino/arduino.hpp".
    def compile_ports(env, node):
        for port, folder in theirs.items():
            env.BuildSources(str(Path("$BUILD_DIR") / "port" / port), str(folder))
        return node

    env.AddBuildMiddleware(compile_ports, "*core[/\\\\]dispatch.cpp")
    env.Append(CPPPATH=[str(Path("$PROJECT_SRC_DIR") / "port" / "arduino")])
if known.real:
    # Machine flags go to the vendor's sources too, for all of a program must agree on them.
    env.Append(BUILD_FLAGS=list(known.machine_flags))
    env.Append(BUILD_UNFLAGS=board.get("tinymetafed.vendor_flags_removed", []))
    # The rest of what our own builder gives every file, a vendor's builder gets for our sources alone. Warnings are no errors
    # here: a compiler version that nobody has tried must not keep a board from being flashed.
    env.Append(SRC_BUILD_FLAGS=[flag for flag in toolchain.compiler_flags() if flag != "-Werror"])
