"""One client's predictions before and after adaptation, against the truth, for the report."""

from __future__ import annotations

from tinymetafed_codegen.protocol import SampleSet

from ..learn.strategies import Strategy
from ..learn.tasks import Floats, Task
from ..learn.weights import Floats as Weights
from .clients import Clients
from .meta_test import Group, finite
from .result import CurveExample, Example, ScatterExample, Score


def example(clients: Clients, strategy: Strategy, task: Task, weights: Weights, group: Group | None = None) -> Example | None:
    """True and predicted values of a group's first client, for the report; None for classification. Raises LinkError."""
    if task.shapes.is_classification:
        return None
    count = strategy.experiment.task.count(SampleSet.ADAPT)
    first = (group or Group.test(task)).client(0)
    (shown,) = clients.adapt(weights, [first], count)
    client, test = task.describe(first), shown.test
    truth, before, after = _row(test.targets), _row(shown.before), _row(shown.after)
    if task.input_shape != (1,) or task.output_size != 1:
        return ScatterExample(client, truth, before, after)
    samples = task.samples(first, 0, SampleSet.ADAPT, count)
    return CurveExample(client, _row(test.inputs), truth, before, after, _row(samples.inputs), _row(samples.targets))


def _row(values: Floats) -> tuple[Score, ...]:
    """All values flattened; None for one that is not finite."""
    return tuple(finite(value) for value in values.ravel().tolist())
