"""SCons build of an offline board: its JSON names toolchain, machine and emulator; flags.json has the flags of all boards.

TINYMETAFED_OBJECTS is a folder for object files, from which builds of other models take those of equal sources and flags.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
board = env.BoardConfig()
facts = dict(board.get("tinymetafed"))
facts["optimization"] = os.environ.get("TINYMETAFED_OPTIMIZATION") or facts["optimization"]
platform = Path(env.PioPlatform().get_dir())
boards = platform.parent  # the folder of our boards
own = Path(board.manifest_path).parent  # the folder with this board's file: our folder or the user's
flags = json.loads((platform / "flags.json").read_text(encoding="utf-8"))

if objects := os.environ.get("TINYMETAFED_OBJECTS"):
    # Not PlatformIO's build_cache_dir, which would also keep there what SCons knows of each build folder.
    env.CacheDir(objects)
env.Replace(PROGNAME="firmware", PROGSUFFIX=".elf")
scripts = [folder / facts["linker_script"] for folder in (own, boards)] if facts["linker_script"] else []
linker_script = next((env.File(str(path)) for path in scripts if path.is_file()), None)
env.SConscript(
    str(platform / "builder" / f"{facts['toolchain']}.py"), exports=["env", "boards", "facts", "flags", "linker_script"]
)

program = env.BuildProgram()
env.NoCache(program)  # linking also writes the map file, which SCons does not know
env.Depends(program, env.Value(json.dumps(facts)))
if linker_script:
    env.Depends(program, linker_script)
Default(program)


def check_budget(target, source, env):
    """Prints how much of the board's flash and RAM the program uses; fails if the board has less."""
    folder = env.get("TINYMETAFED_GENERATED") or env.subst("$BUILD_DIR/generated")
    manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
    sizes = subprocess.check_output([env.subst("$SIZETOOL"), "--format=berkeley", str(source[0])], text=True)
    text, data, bss = map(int, sizes.splitlines()[1].split()[:3])
    stack = manifest["ram_bytes"]["stack"]
    uses = {
        "flash": (text + data, facts["flash_bytes"], ""),
        "RAM": (data + bss + stack, facts["ram_bytes"], f": {data + bss:,} static, {stack:,} reserved for the stack"),
    }
    for memory, (used, available, parts) in uses.items():
        print(f"{memory:5} {used:>9,} of {available:,} bytes ({used / available:.1%}){parts}")
    return int(any(used > available for used, available, _ in uses.values()))


size = env.VerboseAction(check_budget, "Checking memory use of $SOURCE")
env.AddPlatformTarget("size", program, size, "Check the program's use of flash and RAM")

line = Path(env.subst("$BUILD_DIR")) / "line"
values = {"program": env.subst("$PROGPATH"), "boards": boards, "own": own, "line": line}
run = [part.format(**values) for part in [*(facts["emulator"] or ["{program}"]), *facts["serial"]]]
known_line = str(line) if any("{line}" in part for part in facts["serial"]) else ""  # others open one and print its path
experiment = env.get("TINYMETAFED_EXPERIMENT", "EXPERIMENT")  # a project that does not call generate.py names none
start = [env.subst("$PYTHONEXE"), str(platform / "builder" / "start.py"), experiment, known_line, *run]
env.Replace(UPLOADCMD=shlex.join(start).replace("$", "$$"))  # $$: SCons must not expand the emulator's variables
upload = env.AddPlatformTarget("upload", program, env.VerboseAction("$UPLOADCMD", "$UPLOADCMD"), "Run on a pty")
AlwaysBuild(upload)
