"""Counts how often each instruction of a firmware is executed, with a plugin for QEMU and the program's disassembly."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinymetafed_codegen.temporary import temporary_folder
from tinymetafed_codegen.toolchain import build_root

_SOURCE = Path(__file__).with_name("executions.c")
_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(\S+)\t?([^;@<]*)")
_SYMBOL = re.compile(r"([0-9a-f]+) <(.+)>:")


class Uncountable(Exception):
    """Executions cannot be counted on this machine; the text says why and what to do."""


class Execution(NamedTuple):
    """How often an instruction was executed, and how often a jump followed it."""

    executed: int
    jumped: int


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    mnemonic: str
    operands: str


@dataclass(frozen=True)
class Listing:
    """A program's instructions in order of address, and the addresses of its functions."""

    instructions: list[Instruction]
    functions: dict[str, int]


def disassemble(program: Path, toolchain_prefix: str) -> Listing:
    """Disassembles a linked program. Raises Uncountable if the toolchain has no objdump."""
    objdump = f"{toolchain_prefix}objdump"
    if shutil.which(objdump) is None:
        raise Uncountable(f"{objdump} is not installed; it comes with {toolchain_prefix}gcc's binutils")
    text = subprocess.run(
        [objdump, "--disassemble", "--no-show-raw-insn", str(program)], capture_output=True, text=True, check=True
    ).stdout
    instructions, functions = [], {}
    for line in text.splitlines():
        if symbol := _SYMBOL.match(line):
            functions[symbol[2]] = int(symbol[1], 16)
        elif found := _INSTRUCTION.match(line):
            instructions.append(Instruction(int(found[1], 16), found[2], found[3].strip()))
    return Listing(instructions, functions)


def plugin(emulator: str) -> Path:
    """The plugin's path; compiles it if necessary and checks that ``emulator`` can load it. Raises Uncountable."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    library = build_root() / f"plugin-{digest}" / "executions.so"
    if not library.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise Uncountable("no C compiler for the emulator's plugin; on Debian: sudo apt install gcc")
        library.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(parent=library.parent) as folder:
            made = folder / library.name
            _run([compiler, "-shared", "-fPIC", "-O2", str(_SOURCE), "-o", str(made)])
            made.replace(library)  # atomic, because other processes may look for it at the same time
    nothing = f"{library},mark=0,start=0,bytes=0,out={os.devnull}"
    _run([emulator, "-M", "none", "-display", "none", "-monitor", "stdio", "-plugin", nothing], "quit\n")
    return library


def _run(command: list[str], said_to_it: str = "") -> None:
    done = subprocess.run(command, input=said_to_it, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Uncountable(f"{_SOURCE.name}: {command[0]} does not accept it: {reason}")


def options(library: Path, listing: Listing, mark: str, out: Path) -> list[str]:
    """The emulator's options to count executions between two calls of function ``mark`` and write them to ``out``."""
    first, last = listing.instructions[0].address, listing.instructions[-1].address
    window = f"mark={listing.functions[mark]},start={first},bytes={last - first + 4}"
    return ["-plugin", f"{library},{window},out={out}"]


def read(out: Path) -> list[dict[int, Execution]]:
    """Reads the plugin's output: for each interval between two calls of ``mark`` the executions by address."""
    found: list[dict[int, Execution]] = []
    counts: dict[int, Execution] = {}
    for line in out.read_text(encoding="ascii").splitlines():
        if not line:
            found.append(counts)
            counts = {}
        else:
            address, executed, jumped = line.split()
            counts[int(address, 16)] = Execution(int(executed), int(jumped))
    return found


def add(counts: Iterable[dict[int, Execution]]) -> dict[int, Execution]:
    """The sum of several sets of counts."""
    executed: Counter[int] = Counter()
    jumped: Counter[int] = Counter()
    for each in counts:
        for address, execution in each.items():
            executed[address] += execution.executed
            jumped[address] += execution.jumped
    return {address: Execution(executed[address], jumped[address]) for address in executed}
