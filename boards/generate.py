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
generated = Path(env.subst("$BUILD_DIR")) / "generated"
experiment = os.environ.get("TINYMETAFED_EXPERIMENT") or project / env.GetProjectOption("custom_experiment")
board = env.BoardConfig()
port = board.get("tinymetafed.port")

environment = dict(os.environ)
if importlib.util.find_spec("tinymetafed_codegen") is None:
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project / "codegen"), os.environ.get("PYTHONPATH")]))
codegen = [env.subst("$PYTHONEXE"), "-m", "tinymetafed_codegen"]
arguments = [str(experiment), "--board", board.id, "-o", str(generated)]
if subprocess.run([*codegen, *arguments], env=environment, check=False).returncode != 0:
    env.Exit(1)  # codegen has said why

source = json.loads((generated / "manifest.json").read_text(encoding="utf-8"))["source"]
env.Append(CPPPATH=[str(generated), *(str(Path("$PROJECT_SRC_DIR") / part) for part in ("core", "app"))])
env.Replace(SRC_FILTER=["-<*>", "+<core/*.cpp>", f"+<port/{port}/*>", "+<app/main.cpp>", f"+<app/source_{source}.cpp>"])
