"""Published figures of Ren et al., TinyMetaFed (arXiv 2307.06822), and of the later article about it (arXiv 2405.07601)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A line of the ablation: accuracy in percent with 8 samples; cost relative to TinyReptile's."""

    name: str
    accuracy: float
    cost: float


@dataclass(frozen=True)
class HardwareRound:
    """One round on an Arduino Nano 33 BLE: seconds, kilobytes and joules."""

    name: str
    receive: float
    train: float
    send: float
    memory_kb: float
    joules: float

    @property
    def seconds(self) -> float:
        """Duration of the whole round."""
        return self.receive + self.train + self.send


_STEPS = ("TinyReptile", "+ partial reconstruction, P = 100", "+ SGDR, P = 100", "P = 75", "P = 50")


def _ablation(*figures: tuple[float, float]) -> tuple[Step, ...]:
    return tuple(Step(name, *pair) for name, pair in zip(_STEPS, figures, strict=True))


# 2307.06822, numbers of weights; that of presence follows from its layers
WEIGHTS = {"omniglot": 108_229, "keywords": 105_124, "presence": 4_513}
# 2307.06822, ablation; by use case
ABLATION = {
    "omniglot": _ablation((91.4, 1), (90.0, 0.35), (90.6, 0.35), (89.4, 0.31), (87.3, 0.26)),
    "keywords": _ablation((89.4, 1), (88.1, 0.42), (88.3, 0.42), (87.2, 0.36), (85.9, 0.29)),
    "presence": _ablation((88.6, 1), (89.3, 0.53), (89.6, 0.53), (88.7, 0.46), (86.5, 0.39)),
}
# 2405.07601, TinyReptile's accuracy in percent by number of adaptation samples
SHOTS = (0, 1, 2, 4, 8, 16)
FINE_TUNING = {
    "omniglot": (20.6, 58.3, 75.0, 85.9, 91.4, 92.1),
    "keywords": (24.6, 61.7, 76.7, 85.1, 89.4, 90.4),
    "presence": (48.3, 68.3, 79.6, 86.1, 88.6, 88.3),
}
# 2307.06822, one round of presence detection
NANO_33_BLE = (
    HardwareRound("Reptile", 6.2, 8.3, 4.2, 22, 5.1),
    HardwareRound("TinyReptile", 6.2, 2.2, 4.2, 18, 3.9),
    HardwareRound("TinyMetaFed", 3.3, 2.2, 1.4, 18, 2.1),
)
