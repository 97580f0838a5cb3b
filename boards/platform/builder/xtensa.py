"""Sets up clang and GNU binutils for the windowed Xtensa core: clang compiles to assembly text, LLVM's assembler assembles it.

Clang's own object files lack the literal sections that l32r reads. Debian's binutils are for another Xtensa core, whose
assembler does not fit, but linking is the same for all cores. The error `Cannot select … TargetConstantPool` means that the
source chooses between two float constants, which this LLVM cannot compile: let the source compute one of them.
"""

from SCons.Script import Action

Import("env", "boards", "facts", "flags", "linker_script")

prefix = facts["toolchain_prefix"]
features = [part for name in facts["target_features"] for part in ("-Xclang", "-target-feature", "-Xclang", f"+{name}")]
headers = ["-isystem", str(boards / facts["freestanding_headers"])]  # there are no libraries
# ld is called directly, without a compiler driver that would remove the prefix -Wl.
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
