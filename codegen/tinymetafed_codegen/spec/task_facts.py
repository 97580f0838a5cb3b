"""What a task asks of a model, and what a user's task class states before its data are read."""

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
    """What a task asks of a model: the shape of its input, its number of outputs, its loss."""

    input: tuple[int, ...]
    outputs: int
    loss: LossName

    @property
    def is_classification(self) -> bool:
        """Whether classes are told apart; otherwise values are learned."""
        return is_classification(self.loss)

    @property
    def target_size(self) -> int:
        """Numbers that say what is right for one sample."""
        return target_size(self.loss, self.outputs)


class TaskOptions(Section):
    """The keys of ``task.options``; a user's task with options derives a class from it and adds pydantic fields."""


class TaskFacts(Section):
    """What is known of a user's task without its data.

    Args:
        title: The task's name in reports.
        input_shape: Shape of one input, one to three numbers.
        output_size: Outputs that the model must have.
        loss: The loss; it says whether targets are values, a class or labels. A model may take another loss of the same kind.
        per_class: Whether ``support``, ``query`` and ``adapt`` count samples of each class; otherwise of all together.
        bytes_per_input: 4 where the host sends float32; 1 where samples have ``levels``, bytes with a scale.
        counts_clients: Whether the data say how many clients there are; otherwise ``run.clients`` does.
        may_repeat: Whether equal samples may occur by nature, as in data of few distinct values. Otherwise a sample that is
            in two sets which must not share any is an error.
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
        """What the task asks of a model."""
        return TaskShapes(self.input_shape, self.output_size, self.loss)

    @property
    def classes(self) -> int:
        """Classes of which each has its number of samples; 1 where samples are counted together."""
        return max(2, self.output_size) if self.per_class else 1


class StatesFacts:
    """What an experiment asks of a user's task class. ``tinymetafed.Task`` is derived from it."""

    options_class: ClassVar[type[TaskOptions]] = TaskOptions

    @classmethod
    def facts(cls, options: Any) -> TaskFacts:
        """What is known of the task without its data. Every task of a user's defines it; of ours, [task] has the facts.

        Args:
            options: The experiment's ``task.options``, of the class ``options_class``.
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
    """``task.options`` as the class takes them. Raises OwnClassError, which names the key at fault, or file and line."""
    file = str(own_class.file_of(task))
    if not isinstance(given, dict | TaskOptions):
        keys = ", ".join(task.options_class.model_fields) or "none"
        raise OwnClassError(f"options is {given!r}, expected a table of the keys {keys}")
    try:
        return task.options_class.model_validate(given)
    except pydantic.ValidationError as error:
        raise OwnClassError(f"options: {explain(error, task.options_class)}") from None
    except Exception as error:  # whatever a user's validator raises
        raise OwnClassError(own_class.explain(error, file)) from error


def stated_facts(task: type[StatesFacts], options: TaskOptions) -> TaskFacts:
    """What the class states for these options. Raises OwnClassError, which names the file and line at fault."""
    file, where = str(own_class.file_of(task)), f"(in {task.__name__}.facts())"
    try:
        facts = task.facts(options)
    except pydantic.ValidationError as error:
        raise OwnClassError(f"{own_class.place_in(error, file)}: {explain(error, TaskFacts)} {where}") from None
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        raise OwnClassError(f"{own_class.explain(error, file)} {where}") from error
    at = f"{own_class.place_of(task)}: {task.__name__}.facts()"
    if not isinstance(facts, TaskFacts):
        raise OwnClassError(f"{at} gives {type(facts).__name__}, expected tinymetafed.TaskFacts")
    n, loss = facts.output_size, facts.loss
    if (loss == "binary_crossentropy" and n != 1) or (loss == "softmax_cross_entropy" and n < 2):
        raise OwnClassError(f"{at}: output_size = {n} with loss = '{loss}', which has {'1' if n > 1 else '2 or more'}")
    if facts.per_class and not facts.shapes.is_classification:
        raise OwnClassError(f"{at}: per_class = True with loss = '{loss}', which knows no classes")
    return facts
