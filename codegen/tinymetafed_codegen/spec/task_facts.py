"""The facts of a task: its requirements for a model, and what a user's task class states without its data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import pydantic
from pydantic import Field

from .. import own_class
from ..loss import LossName, is_classification, target_size
from ..own_class import OwnClassError
from ..section import Section
from .mistakes import explain


class TaskShapes(NamedTuple):
    """A task's requirements for a model: input shape, number of outputs, loss."""

    input: tuple[int, ...]
    outputs: int
    loss: LossName

    @property
    def is_classification(self) -> bool:
        """Whether targets are classes; otherwise they are values."""
        return is_classification(self.loss)

    @property
    def target_size(self) -> int:
        """Numbers in the target of one sample."""
        return target_size(self.loss, self.outputs)


class TaskOptions(Section):
    """The keys of ``task.options``; a user's task with options subclasses it and adds pydantic fields."""


class TaskFacts(Section):
    """The facts of a user's task that are known without its data.

    Attributes:
        title: The task's name in reports.
        input_shape: Shape of one input, one to three dimensions.
        output_size: Number of outputs that the model must have.
        loss: The loss; it defines whether targets are values or a class. A model may use another loss of the same kind.
        per_class: Whether ``support``, ``query`` and ``adapt`` are numbers per class; otherwise they count all samples.
        bytes_per_input: 4 if the host sends float32; 1 if samples have ``levels``, bytes with a scale.
        counts_clients: Whether the number of clients follows from the data; otherwise ``run.clients`` sets it.
        may_repeat: Whether equal samples can occur, as in data with few distinct values. Otherwise a sample in two sets that
            must be disjoint is an error.
    """

    title: Annotated[str, Field(min_length=1)]
    input_shape: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=3, strict=False)]
    output_size: Annotated[int, Field(ge=1, le=65_536)]
    loss: LossName
    per_class: bool = False
    bytes_per_input: Literal[1, 4] = 4
    counts_clients: bool = False
    may_repeat: bool = False

    @property
    def shapes(self) -> TaskShapes:
        """The task's requirements for a model."""
        return TaskShapes(self.input_shape, self.output_size, self.loss)

    @property
    def classes(self) -> int:
        """Number of classes that each have ``support``, ``query`` and ``adapt`` samples; 1 where these count all samples."""
        return max(2, self.output_size) if self.per_class else 1


class StatesFacts:
    """The part of a user's task class that is read with the experiment; the base class of ``tinymetafed.Task``."""

    options_class: ClassVar[type[TaskOptions]] = TaskOptions

    @classmethod
    def facts(cls, options: Any) -> TaskFacts:
        """The facts of a user's own task that are known without its data; for a built-in task, [task] has them.

        Args:
            options: The experiment's ``task.options``, an object of ``options_class``.

        Returns:
            Title, shapes and other facts, which must not depend on the data.

        Raises:
            NotImplementedError: The class does not define it.
        """
        raise NotImplementedError(f"{cls.__name__}.facts()")


def load_task(reference: str) -> type[StatesFacts]:
    """The task class that FILE.py:CLASS names. Raises OwnClassError, which names the file and line at fault."""
    found = own_class.load(reference, StatesFacts, "tinymetafed.Task")
    if found.facts.__func__ is StatesFacts.facts.__func__:  # type: ignore[attr-defined]
        raise OwnClassError(f"{own_class.place_of(found)}: {found.__name__} lacks facts()")
    keys = found.options_class
    if not isinstance(keys, type) or not issubclass(keys, TaskOptions):
        raise OwnClassError(
            f"{own_class.place_of(found)}: {found.__name__}: options_class is {keys!r}, expected a class derived from "
            "tinymetafed.TaskOptions"
        )
    return found


def stated_options(task: type[StatesFacts], given: object) -> TaskOptions:
    """Validates ``task.options`` with the class. Raises OwnClassError, which names the key, or the file and line, at fault."""
    file = str(own_class.file_of(task))
    if not isinstance(given, dict | TaskOptions):
        keys = ", ".join(task.options_class.model_fields) or "none"
        raise OwnClassError(f"options is {given!r}, expected a table of the keys {keys}")
    try:
        return task.options_class.model_validate(given)
    except pydantic.ValidationError as error:
        raise OwnClassError(f"options: {explain(error, task.options_class)}") from None
    except Exception as error:  # a user's validator may raise anything
        raise OwnClassError(own_class.explain(error, file)) from error


def stated_facts(task: type[StatesFacts], options: TaskOptions) -> TaskFacts:
    """The facts that the class states for ``options``. Raises OwnClassError, which names the file and line at fault."""
    file, where = str(own_class.file_of(task)), f"(in {task.__name__}.facts())"
    try:
        facts = task.facts(options)
    except pydantic.ValidationError as error:
        raise OwnClassError(f"{own_class.place_in(error, file)}: {explain(error, TaskFacts)} {where}") from None
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise OwnClassError(own_class.explain_call(error, task, "facts()")) from error
    at = f"{own_class.place_of(task)}: {task.__name__}.facts()"
    if not isinstance(facts, TaskFacts):
        raise OwnClassError(f"{at} gives {type(facts).__name__}, expected tinymetafed.TaskFacts")
    n, loss = facts.output_size, facts.loss
    if (loss == "binary_crossentropy" and n != 1) or (loss == "softmax_cross_entropy" and n < 2):
        raise OwnClassError(f"{at}: output_size = {n} with loss = '{loss}', expected {'1' if n > 1 else '2 or more'}")
    if facts.per_class and not facts.shapes.is_classification:
        raise OwnClassError(f"{at}: per_class = True with loss = '{loss}', which has no classes")
    return facts
