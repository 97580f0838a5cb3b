"""Adapts clients on devices, and saves what they become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.design import design
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import SpecError

from ..devices.device_clients import DeviceClients
from ..devices.running import running
from ..federation.observer import Observer
from ..federation.result import Adaptation
from ..learn.weights import Floats
from . import adapted
from .setup import Setup


def adapt(
    setup: Setup,
    urls: Sequence[str],
    weights: Floats,
    clients: Sequence[int],
    observer: Observer,
    save: Path | None = None,
    *,
    keep: bool = False,
) -> Adaptation:
    """Adapts clients on devices.

    Args:
        setup: The experiment's set-up.
        urls: URLs of the devices.
        weights: float32[n_global], the global weights.
        clients: Numbers of the clients.
        observer: Is told of progress.
        save: Folder for the adapted weights of each client; None to drop them.
        keep: Each client's device saves the adapted weights in its store.

    Returns:
        Each client's scores before and after.

    Raises:
        Error: LinkError, BuildError, SpecError, AdaptedError or StoreError.
    """
    strategy, task = setup.strategy, setup.task
    count = setup.experiment.task.count(SampleSet.ADAPT)
    tested = design(setup.experiment.streamed, setup.design.board, setup.source, setup.design.boards)
    with running(tested, urls, observer, data_sha256=task.data_sha256) as fleet:
        if keep:
            _require_stores(setup, len(clients), len(fleet.devices))
        observer.stage("adapting clients", len(clients))
        on_devices = DeviceClients(fleet, strategy, task).adapt(weights, clients, count, observer.advance, keep=keep)
    files: Sequence[Path | None] = [None] * len(on_devices)
    if save is not None:
        observer.stage("computing the adapted weights")
        simulated = adapted.compute(setup, weights, clients, count)
        adapted.require_same(on_devices, simulated, task)
        files = adapted.write(save, setup.design, task, simulated)
    return adapted.scores(task, on_devices, count, files)


def _require_stores(setup: Setup, clients: int, devices: int) -> None:
    """Raises SpecError unless there is a device with a store for each client."""
    if not setup.experiment.board.store:
        raise SpecError(f"{setup.source}: boards have no store to keep weights in; train with board.store = true")
    if clients > devices:
        raise SpecError(
            f"{setup.source}: {clients} clients to keep, but {devices} device(s), which keep one each; give more devices"
        )
