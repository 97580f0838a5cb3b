"""What works, measured by loss; a file states only what differs."""

from __future__ import annotations

from typing import Any

CLIENTS = 1_000  # data owners where nobody can count them
FOLDER_EVALUATION = {"tasks": 40, "every": 0, "every_tasks": 20}  # few files, each split anew for every test

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
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
DEFAULTS |= {
    "mae": DEFAULTS["mse"],
    "huber": DEFAULTS["mse"],
    "binary_crossentropy": DEFAULTS["softmax_cross_entropy"],
}
