"""The cost model of the Cortex-M4: each rule on instructions whose cycles the manual gives, alone and in pairs."""

from __future__ import annotations

import re

import pytest

from tinymetafed.bench.cycles import cortex_m4
from tinymetafed.bench.cycles.executions import Execution, Instruction


def cost(*lines: str, ran: int = 1, jumped: dict[int, int] | None = None) -> tuple[int, int]:
    """Cycles of consecutive instructions; ``jumped``: how often the instruction at that index was taken as a jump."""
    listing = [Instruction(4 * i, *[*line.split(" ", 1), ""][:2]) for i, line in enumerate(lines)]
    counts = {4 * i: Execution(ran, (jumped or {}).get(i, 0)) for i in range(len(lines))}
    return cortex_m4.cycles(listing, counts)


@pytest.mark.parametrize(
    ("line", "low", "high"),
    [
        ("vadd.f32 s0, s1, s2", 1, 1),
        ("vmul.f32 s0, s1, s2", 1, 1),
        ("vmla.f32 s0, s1, s2", 3, 3),
        ("vfma.f32 s0, s1, s2", 3, 3),
        ("vnmls.f32 s0, s1, s2", 3, 3),
        ("vdiv.f32 s0, s1, s2", 14, 14),
        ("vsqrt.f32 s0, s1", 14, 14),
        ("vmovgt.f32 s0, s1", 1, 1),
        ("vcmpe.f32 s0, #0.0", 1, 1),
        ("vldr s0, [r0]", 2, 2),
        ("vldmia r0!, {s0}", 2, 2),
        ("vldmia r0, {s0-s7}", 9, 9),
        ("vpush {d8-d9}", 5, 5),
        ("ldr.w r0, [r1, #4]", 2, 2),
        ("ldrd r0, r1, [r2]", 3, 3),
        ("push {r4, r5, lr}", 4, 4),
        ("adds r0, #1", 1, 1),
        ("mul.w r0, r1, r2", 1, 1),
        ("udiv r0, r1, r2", 2, 12),
        ("itt ne", 0, 1),
    ],
)
def test_cycles_of_single_instructions(line: str, low: int, high: int) -> None:
    assert cost(line) == (low, high)
    assert cost(line, ran=10) == (10 * low, 10 * high)


def test_loads_and_stores_are_pipelined() -> None:
    assert cost("ldr r0, [r4]", "ldr r1, [r5]", "ldr r2, [r6]") == (4, 4)
    assert cost("vldr s0, [r4]", "vldr s1, [r4, #4]") == (3, 3)
    assert cost("ldr r0, [r4]", "ldr r1, [r0]") == (4, 4), "the second needs the first one's result"
    assert cost("str r0, [r4]", "ldr r1, [r5]") == (3, 4), "after a store the manual gives no pipelining"
    assert cost("ldr r0, [r4], #4", "ldr r1, [r5]") == (3, 4), "also not after a load or store that changes its base register"


def test_a_pair_counts_as_often_as_both_were_executed() -> None:
    listing = [Instruction(0, "vldr", "s0, [r0]"), Instruction(4, "vldr", "s1, [r1]")]
    assert cortex_m4.cycles(listing, {0: Execution(1, 0), 4: Execution(10, 0)}) == (2 + 20 - 1,) * 2


def test_a_result_used_by_the_next_instruction_costs_a_cycle_more() -> None:
    assert cost("vmul.f32 s0, s1, s2", "vadd.f32 s3, s3, s0") == (3, 3)
    assert cost("vmul.f32 s0, s1, s2", "vadd.f32 s0, s3, s4") == (2, 2)
    assert cost("vmul.f32 s0, s1, s2", "vmla.f32 s0, s3, s4") == (5, 5), "the accumulator is an operand too"
    assert cost("vadd.f32 s1, s2, s3", "vstr s1, [r0]") == (4, 4)
    assert cost("adds r0, #4", "vldr s0, [r0]") == (4, 4), "a result is not forwarded to an address"


def test_a_taken_jump_costs_more() -> None:
    assert cost("bne.n 0") == (1, 1)
    assert cost("bne.n 0", ran=10, jumped={0: 9}) == (19, 37)
    assert cost("b.w 0", jumped={0: 1}) == cost("bl 0", jumped={0: 1}) == cost("bx lr", jumped={0: 1}) == (2, 4)
    assert cost("pop {r4, pc}", jumped={0: 1}) == (4, 6)
    assert cost("adds r0, #1", jumped={0: 1}) == (1, 1), "an instruction before an interrupt has not jumped"


def test_instructions_not_executed_cost_nothing() -> None:
    assert cortex_m4.cycles([Instruction(0, "vdiv.f32", "s0, s0, s1")], {}) == (0, 0)


def test_an_instruction_without_a_rule_is_named() -> None:
    with pytest.raises(cortex_m4.UnknownInstruction, match=re.escape("vqrdmulh.s16 at 0x0")):
        cost("vqrdmulh.s16 q0, q1, q2")


def test_every_rule_names_its_source() -> None:
    assert all("table" in rule.source or "summary" in rule.source for rule in cortex_m4.RULES)
