"""Checks that a run's model, code and data are those that it was begun with."""

from __future__ import annotations

from tinymetafed_codegen import ops
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.options.sample_source import own_source

from ..learn.strategies import code_sha256
from .run_data import RunData, StoreError
from .setup import Setup


def same_model(setup: Setup, run: RunData) -> None:
    """Raises StoreError if a run's weights do not belong to the model that this version makes of its experiment."""
    same_design(setup.design, run)


def same_design(made: Design, run: RunData) -> None:
    """Raises StoreError if a run's weights do not belong to the model that this version makes of its experiment."""
    run.require_model()
    if made.manifest.model_hash != run.manifest.model_hash:
        experiment = made.experiment
        of_ops = [file for op in experiment.model.own_ops for file in ops.own_op.files(op)]
        files = [str(file) for file in (own_source(experiment), experiment.model.weights, *of_ops) if file]
        remedy = f"restore {' and '.join(files)} as it was then, or use " if files else "use "
        raise StoreError(
            f"{run.path / 'run.db'}: holds weights of model {run.manifest.model_hash}, but in this version its experiment "
            f"gives model {made.manifest.model_hash}; {remedy}tinymetafed {run.header.tinymetafed}"
        )


def same_code(setup: Setup, run: RunData) -> None:
    """Raises StoreError when the file of the user's own strategy or task is another one than at the run's beginning."""
    experiment, asked = setup.experiment, run.header.asked
    for key, kind, then, now in (
        ("strategy.kind", experiment.strategy.kind, asked.strategy_sha256, code_sha256(experiment)),
        ("task.kind", experiment.task.kind, asked.task_sha256, setup.task.code_sha256),
    ):
        if now != then:
            raise StoreError(
                f"{run.path / 'run.db'}: the file of {key} = '{kind}' has changed since this run was begun; restore it to "
                "continue the run, or train a new one with it"
            )


def same_data(setup: Setup, run: RunData) -> None:
    """Raises StoreError when the data of the task are others than at the run's beginning."""
    if setup.task.data_sha256 != run.header.asked.data_sha256:
        raise StoreError(
            f"{run.path / 'run.db'}: this run's data have changed since it was begun; restore them (or name them with --data) "
            "to continue it, or train a new run on them"
        )
