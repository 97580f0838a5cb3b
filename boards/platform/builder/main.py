"""SCons build of one of our boards: its JSON names toolchain, machine and emulator; flags.json holds what all share."""

import json
import shlex
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
board = env.BoardConfig()
facts = board.get("tinymetafed")
flags = json.loads((Path(env.PioPlatform().get_dir()) / "flags.json").read_text(encoding="utf-8"))
prefix = facts["toolchain_prefix"]

env.Replace(
    AR=f"{prefix}gcc-ar",
    AS=f"{prefix}as",
    CC=f"{prefix}gcc",
    CXX=f"{prefix}g++",
    RANLIB=f"{prefix}gcc-ranlib",
    SIZETOOL=f"{prefix}size",
    SIZEPRINTCMD="$SIZETOOL -A -d $SOURCES",
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
)
env.Append(
    CCFLAGS=[facts["optimization"], *flags["common"], *facts["machine_flags"]],
    CXXFLAGS=flags["cxx"],
    LINKFLAGS=[
        facts["optimization"],
        *facts["machine_flags"],
        *flags["link"],
        *facts["link_flags"],
        "-Wl,-Map,${TARGET.base}.map",
    ],
)

linker_script = None
if facts["linker_script"]:
    linker_script = env.File(str(Path(board.manifest_path).parent / facts["linker_script"]))
    # The script's memory sizes come from the board's JSON; symbols must be defined before the script is read.
    env.Append(
        LINKFLAGS=[
            f"-Wl,--defsym=board_ram_bytes={facts['ram_bytes']}",
            f"-Wl,--defsym=board_flash_bytes={facts['flash_bytes']}",
            "-T",
            linker_script,
        ]
    )

program = env.BuildProgram()
env.Depends(program, env.Value(json.dumps(facts)))
if linker_script:
    env.Depends(program, linker_script)
Default(program)

env.AddPlatformTarget("size", program, env.VerboseAction("$SIZEPRINTCMD", "Sections of $SOURCE"), "Program size")

command = [part.format(program=env.subst("$PROGPATH")) for part in facts["emulator"] or ["{program}"]]
env.Replace(UPLOADCMD=shlex.join([*command, *facts["serial"]]))
upload = env.AddPlatformTarget("upload", program, env.VerboseAction("$UPLOADCMD", "$UPLOADCMD"), "Run on a pty")
AlwaysBuild(upload)
