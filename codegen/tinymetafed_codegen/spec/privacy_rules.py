"""Rules of private updates and of secure aggregation over the keys of an experiment."""

from __future__ import annotations

from ..optional_messages.secure_messages import LEAST_PARTICIPANTS, SEATS
from ..section import SpecError
from .experiment import Experiment
from .privacy import PrivacySpec


def check_privacy(experiment: Experiment, source: str) -> None:
    """Checks that nothing but clipped updates with noise would tell of the data of training clients."""
    privacy, strategy, data = experiment.privacy, experiment.strategy, experiment.data
    given = [key for key in ("clip", "noise") if getattr(privacy, key) is not None]
    if not given:
        if privacy.public_seed is not None:
            raise SpecError(f"{source}: privacy.public_seed works only with privacy.clip and privacy.noise; leave it out")
        return
    if len(given) == 1:
        lacking = "noise" if given == ["clip"] else "clip"
        raise SpecError(f"{source}: privacy.{given[0]} without privacy.{lacking}; private updates need both, or give neither")
    if not strategy.has_rounds:
        raise SpecError(f"{source}: privacy.clip: devices of strategy.kind = 'tinyol' send no updates; leave [privacy] out")
    if strategy.selection != "random":
        raise SpecError(
            f"{source}: privacy.clip needs strategy.selection = 'random', not '{strategy.selection}', which shows where a "
            "client's changes are large; set it"
        )
    if strategy.error_feedback:
        raise SpecError(
            f"{source}: privacy.clip needs strategy.error_feedback = false: the next update would take back the noise of the "
            "last one; leave it out"
        )
    if data.is_unmeasured:
        raise SpecError(
            f"{source}: data.normalise = '{data.normalise}' publishes numbers that are measured in the data of training "
            "clients, which privacy.clip does not protect; give data.shift and data.scale, a number per channel, or set "
            "data.normalise = 'running' or 'none'"
        )


def check_secure_aggregation(experiment: Experiment, source: str) -> None:
    """Checks that the updates of a round have the same entries, and that there are enough of them to hide each."""
    if not experiment.privacy.secure_aggregation:
        if experiment.privacy.largest_change != PrivacySpec().largest_change:
            raise SpecError(f"{source}: privacy.largest_change works only with privacy.secure_aggregation = true; leave it out")
        return
    strategy, devices = experiment.strategy, experiment.run.devices_per_round
    needs = f"{source}: privacy.secure_aggregation = true needs"
    if not strategy.has_rounds:
        raise SpecError(f"{needs} rounds, and strategy.kind = 'tinyol' has none; leave it out, or choose another strategy")
    if strategy.selection != "random":
        raise SpecError(
            f"{needs} strategy.selection = 'random', not '{strategy.selection}': all devices of a round must send the same "
            "entries, and which ones must not tell anything about their data; set it"
        )
    if strategy.error_feedback:
        raise SpecError(
            f"{needs} strategy.error_feedback = false: a board would not know whether its update went into a sum; leave it out"
        )
    if strategy.pre_sums:
        raise SpecError(
            f"{needs} strategy.gateways = 'forward': masks cancel only in the sum of all updates of a round; leave "
            "strategy.gateways out"
        )
    for key, value, off in (("defence", strategy.defence, "'none'"), ("audit", strategy.audit, "0")):
        if value not in ("none", 0):
            raise SpecError(
                f"{needs} strategy.{key} = {off}, not {value!r}: it looks at single updates, which the host then cannot see; "
                "choose one of the two"
            )
    if not LEAST_PARTICIPANTS <= devices <= SEATS:
        why = "in a sum of two, each would know the other's update" if devices < SEATS else "a board has room for no more keys"
        raise SpecError(
            f"{needs} {LEAST_PARTICIPANTS} to {SEATS} devices in each round, not {experiment.per_round}: {why}; set "
            "run.devices_per_round"
        )
