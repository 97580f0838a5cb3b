"""PlatformIO pre-build script: generates the experiment's C++ for the board and selects the sources to build.

The experiment is TINYMETAFED_EXPERIMENT (an absolute path) or custom_experiment of platformio.ini. For measurements,
TINYMETAFED_OPTIMIZATION and TINYMETAFED_RECEIVE_WINDOW replace the board's values, TINYMETAFED_KERNELS, a folder of
firmware/bench/, replaces kernels of firmware/core, and TINYMETAFED_PROGRAM, a file there, replaces the main program.
TINYMETAFED_GENERATED is a folder with the generated files, where the caller has made them already. TINYMETAFED_NETWORK is the
user's header with the network of a real board.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from SCons.Script import COMMAND_LINE_TARGETS

Import("env")  # SCons puts it, and `env`, into this script's namespace

project = Path(env.subst("$PROJECT_DIR"))
root = Path(env.subst("$PROJECT_SRC_DIR")).parent
given = os.environ.get("TINYMETAFED_GENERATED")
generated = Path(given) if given else Path(env.subst("$BUILD_DIR")) / "generated"
env["TINYMETAFED_GENERATED"] = str(generated)  # for our platform's builder
experiment = os.environ.get("TINYMETAFED_EXPERIMENT") or project / env.GetProjectOption("custom_experiment")
env["TINYMETAFED_EXPERIMENT"] = os.path.relpath(experiment)  # for the line that says how to train on the board
board = env.BoardConfig()

environment = dict(os.environ)
if (root / "codegen").is_dir():  # a checkout; otherwise codegen is an installed package
    sys.path[:0] = [str(root / "codegen"), str(root / "host")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path[:2], os.environ.get("PYTHONPATH")]))
if sys.version_info < (3, 11) or importlib.util.find_spec("jinja2") is None:
    sys.stderr.write(
        f"Error: PlatformIO runs in {sys.executable}, which lacks Python 3.11 or Jinja2, needed for code generation; use the "
        "pio that `make setup` installs in .venv/bin\n"
    )
    env.Exit(1)

from tinymetafed_codegen import locate, toolchain  # noqa: E402  # needs the lines above
from tinymetafed_codegen.board import board_file, network_header  # noqa: E402
from tinymetafed_codegen.board.board_errors import BoardError  # noqa: E402
from tinymetafed_codegen.board.board_requirements import missing_message  # noqa: E402

if any(map(os.environ.get, (toolchain.BOARD_KEY_VARIABLE, toolchain.NETWORK_VARIABLE))):
    os.umask(0o077)  # for this build, whose object files and program may have the key or the network's password

if locate.root() != root.resolve():
    sys.stderr.write(
        f"Error: {sys.executable} runs PlatformIO and has TinyMetaFed in {locate.root()}, but this project uses the one in "
        f"{root}; remove {project / '.pio' / 'tinymetafed.ini'}, or use the pio that belongs to {root}\n"
    )
    env.Exit(1)

if board.get("tinymetafed", None) is None:  # a vendor's own description of the board
    sys.stderr.write(
        f'Error: {board.id}: {board.manifest_path} has no "tinymetafed" section; write boards/{board.id}.json in this '
        "project, as docs/own-board.md describes\n"
    )
    env.Exit(1)
runs = "upload" in COMMAND_LINE_TARGETS or "test" in env.GetBuildType()
try:
    known = board_file.read(Path(board.manifest_path))
    lacking = [tool for tool in known.missing_tools() if tool.to_build or runs]
    trouble = known.cannot_build() or (lacking and missing_message(lacking))
except BoardError as error:
    trouble = str(error)
if trouble:
    sys.stderr.write(f"Error: {board.id}: {trouble}\n")
    env.Exit(1)


def generate() -> int:
    """Writes the generated files; returns the exit code of codegen, which prints its errors."""
    from tinymetafed_codegen import spec  # imported here because a build with given files starts sooner without them
    from tinymetafed_codegen.__main__ import main as codegen

    arguments = [str(experiment), "--board", str(known.file), "-o", str(generated)]
    if window := os.environ.get("TINYMETAFED_RECEIVE_WINDOW"):
        arguments += ["--receive-window", window]
    # The normalisation of the input is measured in the training data, which only the host reads.
    unmeasured = False
    with contextlib.suppress(spec.SpecError):  # codegen reports it
        unmeasured = spec.load(Path(experiment)).data.is_unmeasured and importlib.util.find_spec("tinymetafed") is not None
    if unmeasured:
        command = [env.subst("$PYTHONEXE"), "-m", "tinymetafed", "codegen", *arguments]
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    return codegen(arguments)  # in this process, which has imported most of it: a second one takes half a second to start


if not given and generate() != 0:
    env.Exit(1)

manifest = json.loads((generated / "manifest.json").read_text(encoding="utf-8"))
source = manifest["source"]
store = ["+<core/store/*.cpp>"] if "store" in manifest else []
sensor = [f"+<app/sensor_{'replayed' if manifest['sensor']['replayed'] else 'own'}.cpp>"] if "sensor" in manifest else []
firmware = Path("$PROJECT_SRC_DIR")
folders = {port: known.port_folder(port) for port in known.ports}
try:
    included = network_header.text(known)
except network_header.NetworkError as error:
    sys.stderr.write(f"Error: {known.name}: {error}\n")
    env.Exit(1)
(generated / network_header.HEADER).unlink(missing_ok=True)
if included is not None:
    (generated / network_header.HEADER).write_text(included, encoding="utf-8")
# Folders with a folder kernels/, whose headers replace those of core/kernels/: of firmware/bench/, and of the board's ports.
replacing = [firmware / "bench" / name] if (name := os.environ.get("TINYMETAFED_KERNELS")) else []
replacing += [folder for folder in folders.values() if (folder / "kernels").is_dir()]
env.Append(CPPPATH=[str(path) for path in (generated, *replacing, firmware / "core", firmware / "app")])
# Sources ask for some generated headers with __has_include, which SCons does not follow; so the names of those that are there
# are in the command. Object files of sources that are alike are shared by models with other headers.
asked = re.compile(r"__has_include\(\s*[<\"]([^>\"]+)")
sources = [
    path
    for folder in (root / "firmware" / "core", root / "firmware" / "app", *folders.values())
    for path in folder.rglob("*.?pp")
]
names = {name for path in sources for name in asked.findall(path.read_text(encoding="utf-8"))}
headers = sorted(name for name in names if (generated / name).is_file())
env.Append(SRC_BUILD_FLAGS=[f"-DTMF_HEADERS={hashlib.sha256(' '.join(headers).encode()).hexdigest()[:16]}"])
theirs = {port: folder for port, folder in folders.items() if known.project and folder.parent == known.project / "port"}
ports = [f"+<port/{port}/*>" for port in folders if port not in theirs]
main = f"bench/{own}" if (own := os.environ.get("TINYMETAFED_PROGRAM")) else f"app/{known.main}"
program = [] if "test" in env.GetBuildType() else [f"+<{main}.cpp>"]  # unit tests have their own main()
env.Replace(SRC_FILTER=["-<*>", "+<core/*.cpp>", *store, *sensor, *ports, *program, f"+<app/source_{source}.cpp>"])
if theirs:
    # PlatformIO compiles only sources below its source folder, which is our firmware/. So the project's own port is compiled
    # when core/dispatch.cpp is, in the same environment. The include path lets it use "../arduino/arduino.hpp" as our ports do.
    def compile_ports(env, node):
        for port, folder in theirs.items():
            env.BuildSources(str(Path("$BUILD_DIR") / "port" / port), str(folder))
        return node

    env.AddBuildMiddleware(compile_ports, "*core[/\\\\]dispatch.cpp")
    env.Append(CPPPATH=[str(Path("$PROJECT_SRC_DIR") / "port" / "arduino")])
if known.real:
    # Machine flags apply to the vendor's sources too, as all of a program must agree on them.
    env.Append(BUILD_FLAGS=list(known.machine_flags))
    env.Append(BUILD_UNFLAGS=board.get("tinymetafed.vendor_flags_removed", []))
    # The other flags of our builder apply to our sources only. Warnings are not errors here: a compiler version that we have
    # not tested must not prevent flashing a board.
    env.Append(SRC_BUILD_FLAGS=[flag for flag in toolchain.compiler_flags() if flag != "-Werror"])
