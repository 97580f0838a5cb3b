"""Sets up the GCC toolchain with the board's prefix, found on the system's path; without a prefix, the host's compiler."""

import sys

Import("env", "boards", "facts", "flags", "linker_script")

prefix = facts["toolchain_prefix"]
apple = sys.platform == "darwin" and not prefix  # g++ is clang there, with Apple's linker
wrapped = "" if apple else f"{prefix}gcc-"
env.Replace(
    AR=f"{wrapped}ar",
    AS=f"{prefix}as",
    CC=f"{prefix}gcc",
    CXX=f"{prefix}g++",
    RANLIB=f"{wrapped}ranlib",
    SIZETOOL=f"{prefix}size",
)
env.Append(
    CCFLAGS=[facts["optimization"], *flags["common"], *facts["machine_flags"]],
    CXXFLAGS=flags["cxx"],
    LINKFLAGS=[
        facts["optimization"],
        *facts["machine_flags"],
        *(["-Wl,-dead_strip"] if apple else flags["link"]),
        *facts["link_flags"],
        "-Wl,-map,${TARGET.base}.map" if apple else "-Wl,-Map,${TARGET.base}.map",
    ],
)
if facts.get("freestanding_headers"):
    # The compiler has no C and C++ libraries: the needed headers are in this folder, the functions in the board's port.
    env.Append(CXXFLAGS=["-isystem", str(boards / facts["freestanding_headers"])], LIBS=["gcc"])
if linker_script:
    # The linker script's memory sizes come from the board's JSON; their symbols must be defined before the script is read.
    sizes = [f"-Wl,--defsym=board_{memory}_bytes={facts[f'{memory}_bytes']}" for memory in ("ram", "flash")]
    env.Append(LINKFLAGS=[*sizes, "-T", linker_script])
if sys.platform == "win32":  # static: the program runs where the compiler's libraries are not on the path
    env.Append(LINKFLAGS=["-static"], LIBS=facts.get("windows_libraries", []))
