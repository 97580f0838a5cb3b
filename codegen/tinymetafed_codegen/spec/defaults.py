"""What works, measured by loss; a file states only what differs."""

from __future__ import annotations

_Section = dict[str, float | str]
_Sections = dict[str, _Section]

CLIENTS = 1_000  # data owners where nobody can count them
FOLDER_EVALUATION: _Section = {"tasks": 40, "every": 0, "every_tasks": 20}  # few files, each split anew for every test

# By loss; the strategy is TinyMetaFed.
_DEFAULTS: dict[str, _Sections] = {
    "mse": {
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
    "softmax_cross_entropy": {
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
# Values are learned like values, labels like classes.
_DEFAULTS |= {
    "mae": _DEFAULTS["mse"],
    "huber": _DEFAULTS["mse"],
    "binary_crossentropy": _DEFAULTS["softmax_cross_entropy"],
}
# How a client adapts a network that is shared whole.
_WHOLE: _Sections = {
    "mse": {"local_passes": 0, "full_passes": 32, "full_learning_rate": 0.01},
    "softmax_cross_entropy": {"local_passes": 0, "full_passes": 10, "full_learning_rate": 0.02},
}
# By strategy, then by loss, where it differs from that.
_STRATEGIES: dict[str, dict[str, _Sections]] = {
    "tinyreptile": {
        "mse": {"adaptation": _WHOLE["mse"]},
        "softmax_cross_entropy": {"adaptation": _WHOLE["softmax_cross_entropy"]},
    },
    "reptile": {
        "mse": {"strategy": {"global_passes": 8}, "run": {"devices_per_round": 5}, "adaptation": _WHOLE["mse"]},
        "softmax_cross_entropy": {
            "strategy": {"global_passes": 4},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE["softmax_cross_entropy"],
        },
    },
    "fedsgd": {
        "mse": {
            "strategy": {"global_passes": 1, "global_learning_rate": 0.3},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE["mse"],
        },
        "softmax_cross_entropy": {
            "strategy": {"global_passes": 1, "global_learning_rate": 0.1},
            "run": {"devices_per_round": 5},
            "adaptation": _WHOLE["softmax_cross_entropy"],
        },
    },
    "tinyol": {loss: {"adaptation": {"local_passes": 1, "full_passes": 0}} for loss in ("mse", "softmax_cross_entropy")},
}
_STRATEGIES["fedavg"] = _STRATEGIES["reptile"]
_LIKE = {"mae": "mse", "huber": "mse", "binary_crossentropy": "softmax_cross_entropy"}
_TINYMETAFED_ONLY = ("local_learning_rate", "local_passes")


def defaults(loss: str, strategy: str, task: str) -> _Sections:
    """What a file need not say, by section; nothing for a loss that is not known."""
    if loss not in _DEFAULTS:
        return {}
    chosen = {section: dict(values) for section, values in _DEFAULTS[loss].items()} | {"run": {}}
    if strategy in _STRATEGIES:
        for key in _TINYMETAFED_ONLY:
            del chosen["strategy"][key]
        for section, values in _STRATEGIES[strategy][_LIKE.get(loss, loss)].items():
            chosen[section] |= values
    if task == "folder":
        chosen["evaluation"] = FOLDER_EVALUATION
    return chosen
