"""Checks of the dtypes in which weights and updates travel, and of their coding."""

from __future__ import annotations

from ..messages.level_format import NARROW, packed_bits
from ..section import SpecError
from .privacy import PrivacySpec
from .strategy import SharingSpec

_INTEGERS = "'i8', 'i4', 'i3' or 't2'"


def check_coding(strategy: SharingSpec, privacy: PrivacySpec, source: str) -> None:
    """Checks that what is coded are integers, and that updates of few bits are neither masked nor noisy.

    Raises:
        SpecError: They are not.
    """
    if strategy.downlink_coding == "range" and packed_bits(strategy.downlink) > 8:
        raise SpecError(
            f"{source}: strategy.downlink_coding = 'range' codes integers, and strategy.downlink = '{strategy.downlink}'; set "
            f"strategy.downlink = {_INTEGERS}, or leave it out"
        )
    if strategy.uplink in NARROW:
        _check_narrow(strategy, privacy, f"{source}: strategy.uplink = '{strategy.uplink}'")
    if strategy.uplink_coding == "packed":
        return
    wrong = f"{source}: strategy.uplink_coding = '{strategy.uplink_coding}'"
    if not strategy.has_rounds:
        raise SpecError(f"{wrong}: devices of strategy.kind = 'tinyol' send no updates; leave it out")
    if privacy.secure_aggregation:
        raise SpecError(
            f"{wrong}: with privacy.secure_aggregation = true every entry is a random number of 16 bits, which no code makes "
            "shorter; leave one of the two out"
        )
    if packed_bits(strategy.uplink) > 8:
        raise SpecError(
            f"{wrong} codes integers, and strategy.uplink = '{strategy.uplink}'; set strategy.uplink = 'i8', or leave it out"
        )
    if strategy.codes_values and strategy.uplink != "i8":
        raise SpecError(
            f"{wrong} codes int8 values, and strategy.uplink = '{strategy.uplink}'; set strategy.uplink_coding = 'range'"
        )


def _check_narrow(strategy: SharingSpec, privacy: PrivacySpec, wrong: str) -> None:
    if not strategy.has_rounds:
        raise SpecError(f"{wrong}: devices of strategy.kind = 'tinyol' send no updates; leave it out")
    if privacy.secure_aggregation:
        raise SpecError(
            f"{wrong}: with privacy.secure_aggregation = true every entry is an integer of 16 bits; leave strategy.uplink out"
        )
    if privacy.clip is not None:
        raise SpecError(
            f"{wrong}: the noise of private updates takes integers up to 127 at least; set strategy.uplink = 'i8', whose "
            "strategy.uplink_coding = 'range' takes few bits too"
        )
