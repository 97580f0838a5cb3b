"""The log-mel front end's sizes and tables as C++."""

from __future__ import annotations

from ..cpp_literals import hexadecimal_literal, in_lines
from ..rendering import render
from .log_mel_facts import LEVELS, LogMelFacts


def log_mel_header(facts: LogMelFacts, command: str) -> str:
    """The text of log_mel_facts.hpp: sizes and tables of the log-mel front end."""
    return render(
        "log_mel_facts.hpp.j2",
        command=command,
        facts=facts,
        floor=hexadecimal_literal(facts.floor),
        silence=hexadecimal_literal(facts.silence),
        fade=hexadecimal_literal(facts.fade),
        one=hexadecimal_literal(1 / LEVELS),
        hann=in_lines([hexadecimal_literal(value) for value in facts.hann], 6),
        sine=in_lines([hexadecimal_literal(value) for value in facts.sine], 6),
        bins=len(facts.band),
        band_type="uint8_t" if facts.bands < 256 else "uint16_t",
        band=in_lines([str(value) for value in facts.band], 24),
        share=in_lines([hexadecimal_literal(value) for value in facts.share], 6),
    )
