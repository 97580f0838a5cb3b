"""The plan's bytes of a gateway, beside the messages that gateways send."""

from __future__ import annotations

import numpy as np
import pytest
from planned_device import DEVICE

from tinymetafed.experiments.plan.federation_plan import backhaul_bytes
from tinymetafed.federation.clients import Served, Traffic
from tinymetafed.federation.sums import Share
from tinymetafed.gateways.gateway_messages import Shape, Trained, TrainOrder, sealed
from tinymetafed.learn import fixed_sum
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.codecs.downlink import Segment
from tinymetafed_codegen.protocol import Dtype

N, K = DEVICE.weights, DEVICE.entries
SHAPE = Shape(N, K, None)


def update(draw: np.random.Generator) -> Sparse:
    """The largest of random changes, with int8 values."""
    change = draw.normal(0, 0.01, N)
    indices = np.sort(np.argsort(-abs(change))[:K]).astype(np.int64)
    scale = np.float32(abs(change).max() / 127)
    return Sparse(indices, np.rint(change[indices] / scale).astype(np.float32) * scale)


@pytest.mark.parametrize("clients", [1, 10, 100])
def test_messages_take_at_most_the_planned_bytes(clients: int) -> None:
    draw = np.random.default_rng(clients)
    weights = draw.normal(0, 0.2, N).astype(np.float32)
    updates = [update(draw) for _ in range(clients)]
    urls = [f"board{n}" for n in range(clients)]
    download = (Segment(0, Dtype.F16, 0.0, weights.astype("<f2").tobytes()),)
    chosen = tuple(int(client) for client in np.sort(draw.choice(1000, clients, replace=False)))
    down = len(sealed(TrainOrder(1, 1, clients, None, download, chosen), bytes(16), SHAPE))
    every = tuple(Served(one, url, False, "") for one, url in zip(updates, urls, strict=True))
    shares = tuple(Served(Share(K, ""), url, False, "") for url in urls)
    sum_ = fixed_sum.total(updates, N, fixed_sum.exponent(weights))
    traffic = Traffic(1000, 1000)
    forward = len(sealed(Trained(every, (), None, traffic, 10**6, 10**6), bytes(16), SHAPE, urls))
    summed = len(sealed(Trained((), shares, sum_, traffic, 10**6, 10**6), bytes(16), SHAPE, urls))
    for form, up in (("forward", forward), ("pre-summed", summed)):
        planned_down, planned_up = backhaul_bytes(DEVICE, clients, form)
        assert 0.8 * planned_down <= down <= planned_down
        assert up <= planned_up, "compressed, a message is no longer than the plan says"
    assert forward >= 0.9 * backhaul_bytes(DEVICE, clients, "forward")[1]
    assert summed >= 0.4 * backhaul_bytes(DEVICE, clients, "pre-summed")[1]
