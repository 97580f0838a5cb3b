"""Sets up the GCC toolchain with the board's prefix, found on the system's path; without a prefix, the host's compiler."""

Import("env", "boards", "facts", "flags", "linker_script")

prefix = facts["toolchain_prefix"]
env.Replace(
    AR=f"{prefix}gcc-ar",
    AS=f"{prefix}as",
    CC=f"{prefix}gcc",
    CXX=f"{prefix}g++",
    RANLIB=f"{prefix}gcc-ranlib",
    SIZETOOL=f"{prefix}size",
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
if facts.get("freestanding_headers"):
    # The compiler has no C and C++ libraries: the needed headers are in this folder, the functions in the board's port.
    env.Append(CXXFLAGS=["-isystem", str(boards / facts["freestanding_headers"])], LIBS=["gcc"])
if linker_script:
    # The linker script's memory sizes come from the board's JSON; their symbols must be defined before the script is read.
    sizes = [f"-Wl,--defsym=board_{memory}_bytes={facts[f'{memory}_bytes']}" for memory in ("ram", "flash")]
    env.Append(LINKFLAGS=[*sizes, "-T", linker_script])
