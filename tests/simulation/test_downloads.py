"""Simulated downloads: each client gets what differs from the weights of its own last round, and old versions are forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from tinymetafed.learn.codecs import difference, downlink
from tinymetafed.simulation.downloads import Downloads
from tinymetafed.wire.messages import loads_on_wire
from tinymetafed_codegen.protocol import Dtype

N, WINDOW = 400, 1024


def version(round_: int) -> list[downlink.Segment]:
    """Weights of which each round changes a tenth."""
    weights = np.linspace(-1, 1, N).astype(np.float32)
    for past in range(round_):
        weights[past % 10 :: 10] *= np.float32(1.01)
    return downlink.encode(weights, Dtype.F16, [N])


def full(round_: int) -> int:
    """Bytes of all weights of a version."""
    return loads_on_wire(version(round_), WINDOW)[1]


def test_clients_get_less_the_sooner_they_return() -> None:
    downloads = Downloads(WINDOW, 0, by_difference=True)
    first = downloads.send([0, 1, 2], version(0))
    assert (first.messages, first.bytes, first.spared) == (3 * 2, 3 * full(0), 0)
    sizes = {}
    for round_ in range(1, 9):
        sent = downloads.send([0], version(round_))  # takes part in every round
        assert sent.bytes < full(round_) / 3 and sent.bytes + sent.spared == full(round_)
        if round_ in (4, 8):
            sizes[round_] = downloads.send([round_ // 4], version(round_)).bytes
    assert sent.bytes < sizes[4] < sizes[8] < full(8)
    both = downloads.send([0, 5], version(8))
    assert both.bytes == downloads.send([0], version(8)).bytes + full(8), "client 5 is new"


def test_all_weights_are_sent_to_everybody_otherwise() -> None:
    downloads = Downloads(WINDOW, 0, by_difference=False)
    assert [downloads.send([0, 1], version(i)).bytes for i in range(3)] == [2 * full(i) for i in range(3)]


def test_clients_with_forgotten_versions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "KEPT_VERSIONS", 2)
    downloads = Downloads(WINDOW, 0, by_difference=True)
    for round_ in range(6):
        downloads.send(range(100 * round_, 100 * round_ + 100), version(round_))
    assert len(downloads._held) == 200
    assert downloads.send([0], version(6)).bytes == full(6)
