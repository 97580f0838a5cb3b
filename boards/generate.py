"""PlatformIO pre-build script: generates the experiment's C++ for the board and picks the sources to build.

The experiment is TINYMETAFED_EXPERIMENT (an absolute path) or platformio.ini's custom_experiment.
"""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

Import("env")  # SCons puts it, and `env`, into this script's namespace

project = Path(env.subst("$PROJECT_DIR"))
root = Path(env.subst("$PROJECT_SRC_DIR")).parent
generated = Path(env.subst("$BUILD_DIR")) / "generated"
experiment = os.environ.get("TINYMETAFED_EXPERIMENT") or project / env.GetProjectOption("custom_experiment")
board = env.BoardConfig()

environment = dict(os.environ)
if importlib.util.find_spec("tinymetafed_codegen") is None:
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root / "codegen"), os.environ.get("PYTHONPATH")]))
codegen = [env.subst("$PYTHONEXE"), "-m", "tinymetafed_codegen"]
arguments = [str(experiment), "--board", board.id, "-o", str(generated)]
if subprocess.run([*codegen, *arguments], env=environment, check=False).returncode != 0:
    env.Exit(1)  # codegen has said why

source = json.loads((generated / "manifest.json").read_text(encoding="utf-8"))["source"]
env.Append(CPPPATH=[str(generated), *(str(Path("$PROJECT_SRC_DIR") / part) for part in ("core", "app"))])
ports = [f"+<port/{port}/*>" for port in board.get("tinymetafed.ports")]
program = [] if "test" in env.GetBuildType() else ["+<app/main.cpp>"]  # unit tests bring a main() of their own
env.Replace(SRC_FILTER=["-<*>", "+<core/*.cpp>", *ports, *program, f"+<app/source_{source}.cpp>"])
