"""What the clients of a private run have lost: ε at δ of the rounds done, by the library dp-accounting.

Two answers, as there are two who may look. Whoever has the weights of every round knows the sum of each round's updates, with
the noise of all its devices. Whoever sees each update, as the host does unless it gets only their sum, knows each client's own
with the noise of one device.

Nothing is gained from which clients were drawn: they follow from run.seed, which is no secret (no amplification by sampling).
So the clients that took part in most rounds decide. Neighbouring inputs: one client sends zeros in all of its rounds.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from tinymetafed_codegen.options import private_update
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec

from ..federation.rounds import Contribution
from .privacy_spent import PrivacySpent
from .run_data import RunData

INSTALL = "pip install 'tinymetafed[privacy]'"
_MOST_EPSILON = 300.0  # a larger one says nothing, and its exponential function no longer fits a float

_SHARES = (0.99, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1)  # of δ for the Gaussian noise; the rest is for the distance to it

Epsilon = Callable[[float, float], float]  # ε of a Gaussian mechanism by its noise multiplier and δ


def lacking() -> str:
    """What to do if dp-accounting is missing; "" if it is there."""
    try:
        importlib.import_module("dp_accounting.rdp")
    except ImportError:
        return f"ε is not computed: the library dp-accounting is missing; {INSTALL}"
    return ""


def spent(run: RunData) -> PrivacySpent | None:
    """The privacy of a run's rounds so far, over all of its sessions; None for a run whose updates are not private."""
    experiment = run.experiment()
    return of_rounds(experiment, run.manifest.n_global, [entry.contributions for entry in run.rounds])


def of_rounds(
    experiment: Experiment, n_global: int, rounds: Sequence[Sequence[Contribution]], epsilon: Epsilon | None = None
) -> PrivacySpent | None:
    """The privacy of rounds.

    Args:
        experiment: The experiment.
        n_global: Number of global weights.
        rounds: The contributions of each round.
        epsilon: Computes ε; None: dp-accounting.

    Returns:
        The privacy, or None for updates that are not private. A round with fewer devices than planned has less noise, and an
        update that was asked for twice counts twice for the host.

    Source: Canonne, Kamath, Steinke 2020 (discrete Gaussian noise has the Rényi divergence of Gaussian noise); Kairouz, Liu,
    Steinke 2021 (so has the sum over devices, up to exp(-240) with at least 5 steps of standard deviation on each).
    """
    facts = private_update.facts(experiment, n_global)
    if facts is None:
        return None
    once = facts.multiplier(1)
    loss: defaultdict[int, float] = defaultdict(float)  # of each client, sum of 1 / multiplier²
    taken: Counter[int] = Counter()  # its rounds
    updates: Counter[int] = Counter()  # that the host may have seen
    noises: Counter[int] = Counter()  # entries of all updates in these rounds
    for contributions in rounds:
        there = [each for each in contributions if each.status != "skipped"]
        for each in there:
            loss[each.client] += facts.multiplier(len(there)) ** -2
            taken[each.client] += 1
            noises[each.client] += len(there) * facts.entries
        for each in contributions:
            updates[each.client] += 2 if each.status == "redone" else 1
    multiplier = 1 / math.sqrt(max(loss.values())) if loss else None
    host_multiplier = once / math.sqrt(max(updates.values())) if updates else None
    delta, public = experiment.privacy.delta, experiment.privacy.public_seed is not None
    note = lacking() if epsilon is None else ""
    computed: tuple[float | None, float | None] = (None, None)
    if not note:
        by = epsilon or _gaussian
        most, most_for_host = max(noises.values(), default=0), max(updates.values(), default=0) * facts.entries
        computed = (
            _bounded(by, multiplier, delta, most * facts.distance),
            _bounded(by, host_multiplier, delta, most_for_host * facts.distance),
        )
    if experiment.privacy.secure_aggregation:  # the host sees the sum of each round, as everybody may
        host_multiplier, computed = multiplier, (computed[0], computed[0])
    elif isinstance(experiment.strategy, OwnStrategySpec):
        computed = (computed[1], computed[1])
        note = note or "a strategy of your own sees each update, so what is made of them counts as the host does"
    if public:
        computed, note = (None, None), "not private: everybody can compute the noise of privacy.public_seed"
    return PrivacySpent(
        delta=delta,
        epsilon=computed[0],
        host_epsilon=computed[1],
        rounds=max(taken.values(), default=0),
        noise_multiplier=multiplier,
        host_noise_multiplier=host_multiplier,
        sampling="no amplification: which clients take part follows from run.seed",
        note=note,
    )


def _bounded(epsilon: Epsilon, multiplier: float | None, delta: float, distance: float) -> float | None:
    """ε of noise at a total variation distance of at most ``distance`` from the Gaussian one; None if there is no bound.

    Gaussian noise that gives (ε, δ') leaves (ε, δ' + (1 + e^ε) · distance) at that distance; the best of several δ' counts.
    """
    if multiplier is None:
        return 0.0
    found = [(epsilon(multiplier, delta * share), delta * (1 - share)) for share in _SHARES]
    kept = [each for each, rest in found if each < _MOST_EPSILON and (1 + math.exp(each)) * distance <= rest]
    return min(kept, default=None)


def _gaussian(multiplier: float, delta: float) -> float:
    """ε of the Gaussian mechanism by Rényi divergences, by dp-accounting."""
    library, rdp = importlib.import_module("dp_accounting"), importlib.import_module("dp_accounting.rdp")
    accountant = rdp.RdpAccountant(neighboring_relation=library.NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(library.GaussianDpEvent(multiplier))
    return float(accountant.get_epsilon(delta))
