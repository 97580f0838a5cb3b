"""Default values that depend on the loss and the strategy, chosen by measurement."""

from __future__ import annotations

from ..loss import TARGETS, is_classification
from .task import section_class

_Section = dict[str, float | str]
_Sections = dict[str, _Section]

CLIENTS = 1_000  # run.clients of tasks whose clients cannot be counted
VALUES, CLASSES = False, True  # what the model learns: the values of is_classification(loss)

# For TinyMetaFed, by what the model learns.
_DEFAULTS: dict[bool, _Sections] = {
    VALUES: {
        "model": {"init": "glorot", "local_start": "alternating", "local_start_scale": 0.35},
        "strategy": {
            "local_learning_rate": 0.03,
            "local_passes": 2,
            "global_learning_rate": 0.02,
            "global_passes": 3,
            "output_clamp": 1.0,
        },
        "adaptation": {
            "local_learning_rate": 0.03,
            "local_passes": 16,
            "full_learning_rate": 0.005,
            "full_passes": 16,
        },
        "evaluation": {"tasks": 200, "every": 0, "every_tasks": 50},
    },
    CLASSES: {
        "model": {"init": "he", "local_start": "random", "local_start_scale": 0.05},
        "strategy": {
            "local_learning_rate": 0.05,
            "local_passes": 2,
            "global_learning_rate": 0.03,
            "global_passes": 2,
            "output_clamp": 0.0,
        },
        "adaptation": {
            "local_learning_rate": 0.05,
            "local_passes": 8,
            "full_learning_rate": 0.02,
            "full_passes": 2,
        },
        "evaluation": {"tasks": 100, "every": 0, "every_tasks": 20},
    },
}
# Adaptation of a model without local layers, by what the model learns.
_WHOLE: dict[bool, _Section] = {
    VALUES: {"local_passes": 0, "full_passes": 32, "full_learning_rate": 0.01},
    CLASSES: {"local_passes": 0, "full_passes": 10, "full_learning_rate": 0.02},
}
# Differences of other strategies, by strategy and then by what the model learns.
_STRATEGIES: dict[str, dict[bool, _Sections]] = {
    "tinyreptile": {
        VALUES: {"adaptation": _WHOLE[VALUES]},
        CLASSES: {"adaptation": _WHOLE[CLASSES]},
    },
    "reptile": {
        VALUES: {"strategy": {"global_passes": 8}, "run": {"devices_per_round": 5}, "adaptation": _WHOLE[VALUES]},
        CLASSES: {
            "strategy": {"global_passes": 4},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE[CLASSES],
        },
    },
    "fedsgd": {
        VALUES: {
            "strategy": {"global_passes": 1, "global_learning_rate": 0.3},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE[VALUES],
        },
        CLASSES: {
            "strategy": {"global_passes": 1, "global_learning_rate": 0.1},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE[CLASSES],
        },
    },
    "tinyol": {learned: {"adaptation": {"local_passes": 1, "full_passes": 0}} for learned in (VALUES, CLASSES)},
}
_STRATEGIES["fedavg"] = _STRATEGIES["reptile"]
# The server's learning rate of optimisers whose steps have another length than the mean of the deltas.
_SERVERS: dict[str, _Section] = {
    "adam": {"alpha_max": 0.01},
    "yogi": {"alpha_max": 0.01},
}
PASSES = frozenset({"local_passes", "global_passes"})  # keys of [strategy] that count the passes of a round
_TINYMETAFED_ONLY = ("local_learning_rate", "local_passes")


def defaults(loss: str, strategy: str, task: str, server: str = "sgd", *, online: bool = False) -> _Sections:
    """The default values of an experiment by section; none for an unknown loss, which validation refuses.

    Args:
        loss: ``model.loss``.
        strategy: ``strategy.kind``.
        task: ``task.kind``.
        server: ``strategy.server``.
        online: ``task.online``, with which a round has one pass.
    """
    known = next((name for name in TARGETS if name == loss), None)
    if known is None:
        return {}
    learned = is_classification(known)
    chosen = {section: dict(values) for section, values in _DEFAULTS[learned].items()} | {"run": {}}
    if strategy in _STRATEGIES:
        for key in _TINYMETAFED_ONLY:
            del chosen["strategy"][key]
        for section, values in _STRATEGIES[strategy][learned].items():
            chosen[section] |= values
    chosen["strategy"] |= _SERVERS.get(server, {})
    if online:
        chosen["strategy"] |= dict.fromkeys(PASSES & chosen["strategy"].keys(), 1)
    if (asked := section_class(task)) is not None:
        chosen["evaluation"] |= asked.evaluation
    return chosen
