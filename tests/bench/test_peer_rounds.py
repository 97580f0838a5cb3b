"""The rounds in JAX and PyTorch are the same training: their weights equal ours up to the order of sums."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import OMNIGLOT, SINE, omniglot, sine

from tinymetafed.bench import peer_rounds, simulation_cost
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.runs.setup import design_of
from tinymetafed.simulation.client_rounds import ClientRound
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen import graph
from tinymetafed_codegen.protocol import Recipe
from tinymetafed_codegen.spec import Experiment


@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize(("experiment", "source"), [(sine(), str(SINE)), (omniglot(), str(OMNIGLOT))], ids=["sine", "omniglot"])
@pytest.mark.parametrize(("peer", "module"), [("JAX", "jax"), ("PyTorch", "torch")])
def test_a_peer_trains_to_the_same_weights(peer: str, module: str, experiment: Experiment, source: str) -> None:
    pytest.importorskip(module, reason=f"{peer} is not installed", exc_type=ImportError)
    trial = simulation_cost.Trial(experiment, open_kernels(design_of(experiment, source), 1))
    start = trial.start()
    trained = peer_rounds.PEERS[peer](graph.build(experiment.model), start, trial.recipe.phases, trial.samples)()
    n = len(trial.received)
    recipe = Recipe(trial.recipe.phases, n)
    updates, _ = trial.kernels.train_round(ClientRound(trial.received, recipe, trial.samples, trial.taking_part))
    for client, update in enumerate(updates):
        assert isinstance(update, Sparse)
        for tensor in trial.kernels.manifest.global_tensors:
            ours = update.values[tensor.offset : tensor.offset + tensor.size]
            theirs = np.asarray(trained[tensor.name][client]) - start[tensor.name]
            np.testing.assert_allclose(ours, theirs.ravel(), atol=2e-5)


@pytest.mark.parametrize("peer", list(peer_rounds.PEERS))
def test_experiments_that_a_peer_cannot_train_are_refused(peer: str) -> None:
    experiment = sine("model.layers=[{op='dense',units=4,activation='tanh'},{op='dense',units=1,local=true}]")
    with pytest.raises(peer_rounds.PeerError, match=rf"{peer} is not installed|no {peer} version of tanh"):
        peer_rounds.PEERS[peer](graph.build(experiment.model), {}, (), ())
