"""Windowed Xtensa by clang and GNU binutils: compiled to text and then assembled, for only LLVM's assembler knows the core.

clang's own objects are not used: they lack the sections of literals that l32r reads. Debian's binutils are those of
another Xtensa core; they link and list, which is the same for all. Where this LLVM says `Cannot select … TargetConstantPool`
it was to choose between two float constants, which it cannot: in the source, let one of the two be computed.
"""

from SCons.Script import Action

Import("env", "boards", "facts", "flags", "linker_script")

prefix = facts["toolchain_prefix"]
features = [part for name in facts["target_features"] for part in ("-Xclang", "-target-feature", "-Xclang", f"+{name}")]
headers = ["-isystem", str(boards / facts["freestanding_headers"])]  # there is no library at all
# ld takes them without a compiler driver in front.
link_flags = [word for flag in [*flags["link"], *facts["link_flags"]] for word in flag.removeprefix("-Wl,").split(",")]

env.Replace(
    AR=f"{prefix}ar",
    AS=facts["assembler"],
    ASFLAGS=facts["assembler_flags"],
    CXX=facts["compiler"],
    LINK=f"{prefix}ld",
    RANLIB=f"{prefix}ranlib",
    SIZETOOL=f"{prefix}size",
    ASCOM="$AS $ASFLAGS -o $TARGET $SOURCES",
    CXXCOM=[
        Action("$CXX -S -o ${TARGET}.s $CXXFLAGS $CCFLAGS $_CCCOMCOM $SOURCES", "$CXXCOMSTR"),
        Action("$AS $ASFLAGS -o $TARGET ${TARGET}.s", None),
    ],
    LINKCOM="$LINK -o $TARGET $LINKFLAGS $SOURCES $_LIBDIRFLAGS $_LIBFLAGS",
)
env.Append(
    CCFLAGS=[facts["optimization"], *flags["common"], *facts["machine_flags"], *features],
    CXXFLAGS=[*flags["cxx"], *headers],
    LINKFLAGS=[
        *link_flags,
        *(f"--defsym=board_{memory}_bytes={facts[f'{memory}_bytes']}" for memory in ("ram", "flash")),
        "-Map=${TARGET.base}.map",
        "-T",
        linker_script,
    ],
)
