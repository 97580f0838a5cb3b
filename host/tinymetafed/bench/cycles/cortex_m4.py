"""Cost model of the Cortex-M4F: cycles per instruction from Arm's manual, without flash wait states; not checked on silicon.

Sources are tables and sections of the Cortex-M4 Technical Reference Manual, Arm DDI 0439. Where the manual gives a range, the
low estimate uses its lower end and the high estimate its upper end; for example P, the cycles to refill the pipeline after a
jump, is 1 to 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .executions import Execution, Instruction

_INSTRUCTIONS = "Instruction set summary, table of Cortex-M4 instructions"
_FPU = "FPU instruction set table"
_TIMINGS = "Load/store timings"

REFILL = (1, 3)  # P of a jump, from the instruction set summary
CONSUMED_AT_ONCE = 1  # FPU instruction set table, footnote: added if the next instruction uses the result
ADDRESS_JUST_MADE = 1  # load/store timings: added if the instruction before has computed the address
PIPELINED = 1  # load/store timings: subtracted for a load or store that follows another


class UnknownInstruction(Exception):
    """An instruction that the cost model has no rule for."""


@dataclass(frozen=True)
class Rule:
    """Cycles of the instructions whose mnemonic, without condition and type, matches ``pattern``; the first match counts.

    ``per_register`` is added for each 32-bit register of a list. ``arithmetic``: costs more if the next instruction uses the
    result. ``single_access``: a single load or store, which is pipelined with adjacent ones.
    """

    pattern: str
    low: int
    high: int
    source: str
    per_register: int = 0
    arithmetic: bool = False
    single_access: bool = False


RULES = (
    Rule(r"v(add|sub|n?mul|cvt[rbt]?)", 1, 1, _FPU, arithmetic=True),
    Rule(r"v(n?ml[as]|fn?m[as])", 3, 3, _FPU, arithmetic=True),
    Rule(r"v(div|sqrt)", 14, 14, _FPU, arithmetic=True),
    Rule(r"v(ldr|str)", 2, 2, f"{_FPU}; {_TIMINGS}", single_access=True),
    Rule(r"v(ldm|stm)(ia|db)|v(push|pop)", 1, 1, f"{_FPU}: 1 + N", per_register=1),
    Rule(r"v(abs|neg|cmpe?|mov|mrs|msr)", 1, 1, _FPU),
    Rule(r"(ldr|str)d", 3, 3, f"{_INSTRUCTIONS}: 1 + N"),
    Rule(r"(ldr|str)(b|h|sb|sh)?", 2, 2, f"{_INSTRUCTIONS}; {_TIMINGS}", single_access=True),
    Rule(r"(ldm|stm)(ia|db)?|push|pop", 1, 1, f"{_INSTRUCTIONS}: 1 + N", per_register=1),
    Rule(r"tb[bh]", 2, 2, f"{_INSTRUCTIONS}: 2 + P"),
    Rule(r"it[te]{0,3}", 0, 1, f"{_INSTRUCTIONS}: 1, or none where it is folded into the instruction before"),
    Rule(r"[us]div", 2, 12, _INSTRUCTIONS),
    Rule(r"cps(ie|id)", 1, 2, _INSTRUCTIONS),
    Rule(r"(?!v).*", 1, 1, f"{_INSTRUCTIONS}: data processing, multiplication, jumps that are not taken"),
)

_CONDITION = r"(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
_JUMP = re.compile(rf"(b|bl|bx|blx){_CONDITION}|cbn?z|tb[bh]")  # others jump only by writing pc
_PATTERNS = [(re.compile(rf"(?:{rule.pattern}){_CONDITION}"), rule) for rule in RULES]
_REGISTER = re.compile(r"\b(?:([rsd])(\d+)(?:-[rsd](\d+))?|sl|fp|ip|sp|lr|pc)\b")


@dataclass(frozen=True)
class _Decoded:
    """An instruction with the facts that determine its interaction with its neighbours."""

    rule: Rule
    registers_listed: int
    written: frozenset[str]
    read: frozenset[str]
    address: frozenset[str]  # registers that make up the address of a load or store
    is_store: bool
    writes_back: bool
    may_jump: bool


def cycles(listing: Sequence[Instruction], counts: Mapping[int, Execution]) -> tuple[int, int]:
    """Estimates the cycles of executed instructions.

    Args:
        listing: The program's instructions in order of address.
        counts: Executions by address. An instruction whose condition fails counts as executed.

    Returns:
        Low and high estimate.

    Raises:
        UnknownInstruction: The cost model has no rule for an instruction.
    """
    low = high = 0
    before, ran_before = None, 0
    for instruction in listing:
        ran = counts.get(instruction.address)
        if ran is None:
            before, ran_before = None, 0
            continue
        now = _decode(instruction)
        jumped = min(ran.jumped, ran.executed) if now.may_jump else 0
        low += ran.executed * (now.rule.low + now.registers_listed * now.rule.per_register) + jumped * REFILL[0]
        high += ran.executed * (now.rule.high + now.registers_listed * now.rule.per_register) + jumped * REFILL[1]
        if before is not None and not before.may_jump:
            # An instruction that cannot jump is always followed by the next one, which may also be reached by a jump.
            pairs = min(ran_before, ran.executed)
            if before.rule.arithmetic and before.written & now.read:
                low += pairs * CONSUMED_AT_ONCE
                high += pairs * CONSUMED_AT_ONCE
            if now.rule.single_access and before.written & now.address:
                if not before.rule.single_access:
                    low += pairs * ADDRESS_JUST_MADE
                    high += pairs * ADDRESS_JUST_MADE
            elif now.rule.single_access and before.rule.single_access:
                low -= pairs * PIPELINED
                # The manual promises this only after a load without writeback, not after a store.
                high -= 0 if before.is_store or before.writes_back else pairs * PIPELINED
        before, ran_before = now, ran.executed
    return low, high


def _decode(instruction: Instruction) -> _Decoded:
    name, operands = instruction.mnemonic.partition(".")[0], instruction.operands
    rule = next((rule for pattern, rule in _PATTERNS if pattern.fullmatch(name)), None)
    if rule is None:
        raise UnknownInstruction(
            f"{instruction.mnemonic} at 0x{instruction.address:x}: no cycles known for it; add a rule to {__name__}"
        )
    registers = _registers(operands)
    address = set(_registers(operands.partition("[")[2].partition("]")[0]))
    writes_back = "]!" in operands or "], #" in operands
    is_store = name.startswith(("str", "vstr"))
    accumulates = name.startswith(("vml", "vnml", "vfm", "vfnm"))
    keeps_first = is_store or name.startswith(("cmp", "cmn", "tst", "teq", "vcmp"))  # reads its first operand instead
    written = (set() if keeps_first else set(registers[:1])) | (address if writes_back else set())
    return _Decoded(
        rule=rule,
        registers_listed=len(_registers(operands.partition("{")[2])),
        written=frozenset(written),
        read=frozenset(registers if keeps_first or accumulates else registers[1:]),
        address=frozenset(address),
        is_store=is_store,
        writes_back=writes_back,
        may_jump=_JUMP.fullmatch(name) is not None
        or "pc" in written
        or (name.startswith(("pop", "ldm")) and "pc" in registers),
    )


def _registers(text: str) -> list[str]:
    """Registers by name, in order; ranges are expanded, a 64-bit register counts as its two 32-bit registers."""
    found: list[str] = []
    for match in _REGISTER.finditer(text):
        kind, first, last = match.groups()
        if kind is None:
            found.append(match[0])
            continue
        for number in range(int(first), int(last or first) + 1):
            found += [f"s{2 * number}", f"s{2 * number + 1}"] if kind == "d" else [f"{kind}{number}"]
    return found
