"""How often each instruction of a firmware ran: the emulator's plugin built and read, the program's text taken apart."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinymetafed_codegen.toolchain import build_root

_SOURCE = Path(__file__).with_name("executions.c")
_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(\S+)\t?([^;@<]*)")
_SYMBOL = re.compile(r"([0-9a-f]+) <(.+)>:")


class Uncountable(Exception):
    """Why executions cannot be counted on this machine; one line that says what to do."""


class Execution(NamedTuple):
    """How often an instruction ran, and how often the one after it in the text was not the next to run."""

    executed: int
    jumped: int


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    mnemonic: str
    operands: str


@dataclass(frozen=True)
class Listing:
    """A program's instructions in the order of their addresses, and where its functions begin."""

    instructions: list[Instruction]
    functions: dict[str, int]


def disassemble(program: Path, toolchain_prefix: str) -> Listing:
    """The text of a linked program. Raises Uncountable where the toolchain has no objdump."""
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
    """The plugin, compiled where this source of it has not been yet, and accepted by ``emulator``. Raises Uncountable."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    library = build_root() / f"plugin-{digest}" / "executions.so"
    if not library.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise Uncountable("no C compiler for the emulator's plugin; on Debian: sudo apt install gcc")
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            _run([compiler, "-shared", "-fPIC", "-O2", str(_SOURCE), "-o", str(made)])
            made.replace(library)  # whole or not at all: others may look for it at this moment
    nothing = f"{library},mark=0,start=0,bytes=0,out={os.devnull}"
    _run([emulator, "-M", "none", "-display", "none", "-monitor", "stdio", "-plugin", nothing], "quit\n")
    return library


def _run(command: list[str], said_to_it: str = "") -> None:
    done = subprocess.run(command, input=said_to_it, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Uncountable(f"{_SOURCE.name}: {command[0]} does not take it, and says: {reason}")


def options(library: Path, listing: Listing, mark: str, out: Path) -> list[str]:
    """The emulator's options that count between two calls of function ``mark`` into the file ``out``."""
    first, last = listing.instructions[0].address, listing.instructions[-1].address
    window = f"mark={listing.functions[mark]},start={first},bytes={last - first + 4}"
    return ["-plugin", f"{library},{window},out={out}"]


def read(out: Path) -> list[dict[int, Execution]]:
    """What the plugin has written: one set of counts, by address, for each stretch between two marks."""
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
