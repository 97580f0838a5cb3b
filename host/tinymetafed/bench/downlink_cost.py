"""Bytes of a download by difference, by how often a board returns, compared with all weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.messages.level_format import LevelFormat, level_format, wire_dtype
from tinymetafed_codegen.section import ValueType
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..federation.rounds import rounds
from ..learn.codecs import downlink
from ..learn.codecs.difference import Version, encode
from ..learn.codecs.level_load import LeveledWeights
from ..learn.weights import Floats, initial
from ..runs.setup import Setup, set_up
from ..simulation.downloads import difference_on_wire
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from ..wire.messages import loads_on_wire
from .level_cost import load_bytes

RETURNS = (1, 2, 4, 8, 16)  # every how many rounds a board takes part
MEASURED: tuple[tuple[ValueType, str], ...] = (
    ("f32", "packed"), ("f16", "packed"), ("i8", "packed"), ("i4", "range"), ("i3", "range"), ("t2", "range"),
)  # fmt: skip
SAMPLED = 100  # pairs of versions that are compared, spread over the run


@dataclass(frozen=True)
class DownlinkRow:
    """Mean bytes of one download, framing included: of all weights, and of a difference by every how many rounds it comes.

    ``coding`` is that of all weights; differences have a code of their own.
    """

    dtype: str
    coding: str
    full: float
    by_return: dict[int, float]

    @property
    def title(self) -> str:
        """Dtype and coding in words."""
        return self.dtype if self.coding == "packed" else f"{self.dtype}, {self.coding} code"

    def share(self, every: int) -> float:
        """A difference's part of all weights."""
        return self.by_return[every] / self.full


@dataclass(frozen=True)
class DownlinkCost:
    """The downloads of the weights of ``rounds`` simulated rounds, in each dtype."""

    source: str
    rounds: int
    weights: int
    window: int
    rows: tuple[DownlinkRow, ...]


def downlink_cost(experiment: Experiment, source: str, data: Path | None, observer: Observer) -> DownlinkCost:
    """Simulates a run and codes the weights of its rounds as differences to earlier ones.

    The run's own dtype of the downlink decides the weights of its rounds; the other dtypes code the same weights.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        data: Folder of the task's data; None for the usual place.
        observer: Is told of progress.

    Returns:
        The bytes.

    Raises:
        Error: BuildError, DataError, SpecError or StrategyError.
    """
    setup = set_up(experiment, source, data)
    manifest = setup.design.manifest
    history = _history(setup, observer)
    tensors = [tensor.size for tensor in manifest.global_tensors]
    rows = []
    for values, coding in MEASURED:
        levels = level_format(values, coding)
        by_return, full = {}, []
        for every in RETURNS:
            sizes = []
            for at in _spread(len(history) - every):
                base, version = (
                    Version.of(downlink.encode(history[i], wire_dtype(values), tensors, levels)) for i in (at, at + every)
                )
                coded = encode(base, version)
                full.append(_full(version, levels, manifest))
                differs = coded.size < version.size
                sizes.append(difference_on_wire(coded, manifest.receive_window, manifest.mac_bytes)[1] if differs else full[-1])
            by_return[every] = round(float(np.mean(sizes)), 1)
        rows.append(DownlinkRow(values, coding, round(float(np.mean(full)), 1), by_return))
    return DownlinkCost(source, len(history) - 1, manifest.n_global, manifest.receive_window, tuple(rows))


def _history(setup: Setup, observer: Observer) -> list[Floats]:
    """The global weights before and after each round of a simulation."""
    experiment, manifest = setup.experiment, setup.design.manifest
    observer.stage("rounds", experiment.run.rounds)
    clients = SimulatedClients(open_kernels(setup.design, 1), setup.strategy, setup.task)
    history = [initial(manifest, experiment.run.seed, experiment.model.init)]
    for done in rounds(setup.strategy, setup.task, clients, history[0]):
        history.append(done.weights)
        observer.advance()
    return history


def _full(version: Version, levels: LevelFormat | None, manifest: ModelManifest) -> int:
    """Bytes of all weights."""
    if levels is None:
        return loads_on_wire(version.segments, manifest.receive_window, manifest.mac_bytes)[1]
    return load_bytes(LeveledWeights.of(version.segments, levels), manifest.receive_window, manifest.mac_bytes)


def _spread(count: int) -> range:
    """Numbers below ``count``, SAMPLED of them at most."""
    return range(0, max(count, 0), max(1, -(-count // SAMPLED)))
