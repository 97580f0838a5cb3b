"""A GCC toolchain by its prefix, from the system's path; none for the host's own compiler."""

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
if facts.get("cxx_headers"):
    # The compiler comes without a C++ library: the few headers that firmware needs are ours, and there is none to link.
    env.Append(CXXFLAGS=["-isystem", str(boards / facts["cxx_headers"])])
    env.Replace(LINK="$CC")
if linker_script:
    # The script's memory sizes come from the board's JSON; symbols must be defined before the script is read.
    sizes = [f"-Wl,--defsym=board_{memory}_bytes={facts[f'{memory}_bytes']}" for memory in ("ram", "flash")]
    env.Append(LINKFLAGS=[*sizes, "-T", linker_script])
