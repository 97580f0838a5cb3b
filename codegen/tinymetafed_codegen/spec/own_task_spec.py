"""The ``[task]`` section of a user's own task class."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, SerializeAsAny, model_validator
from pydantic_core import PydanticCustomError

from .. import own_class
from ..own_class import OwnClassError
from ..section import Count
from .mistakes import READABLE
from .task_base import TaskBase
from .task_facts import StatesFacts, TaskFacts, TaskOptions, TaskShapes, load_task, stated_facts, stated_options


class OwnTaskSpec(TaskBase):
    """A task defined by a user's class, ``FILE.py:CLASS``; the host streams all samples.

    ``path`` is a file or folder with the data; the class defines the keys of ``options``.
    """

    tag: ClassVar[str] = "FILE.py:CLASS"
    more_validation: ClassVar[str] = "set validation_clients in read(), or hold out three or more"
    path_keys: ClassVar[tuple[str, ...]] = ("path",)

    kind: Annotated[str, Field(pattern=r"^.+:[A-Za-z_]\w*$")]
    support: Count = 8
    query: Count = 8
    adapt: Count = 8
    path: Annotated[str, Field(min_length=1)] | None = None
    options: SerializeAsAny[TaskOptions] = TaskOptions()

    _task: type[StatesFacts] = PrivateAttr()
    _facts: TaskFacts = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _read_options(cls, given: Any) -> Any:
        """Validates ``options`` with the user's class."""
        if not isinstance(given, dict) or not own_class.is_reference(given.get("kind")):
            return given
        try:
            options = stated_options(load_task(given["kind"]), given.get("options", {}))
        except OwnClassError as error:
            raise _readable_error(f"kind = '{given['kind']}': {error}") from None
        return {**given, "options": options}

    @model_validator(mode="after")
    def _ask_class(self) -> Self:
        """Reads the facts from the user's class, once, because its file may change during a run."""
        try:
            self._task = load_task(self.kind)
            self._facts = stated_facts(self._task, self.options)
        except OwnClassError as error:
            raise _readable_error(f"kind = '{self.kind}': {error}") from None
        return self

    @property
    def own_task(self) -> type[StatesFacts]:
        """The user's class."""
        return self._task

    @property
    def facts(self) -> TaskFacts:
        """The facts that the class states for these options."""
        return self._facts

    @property
    def title(self) -> str:
        """The task's name in reports."""
        return self._facts.title

    @property
    def bytes_per_input(self) -> int:
        """4 for float32, 1 for bytes with a scale."""
        return self._facts.bytes_per_input

    @property
    def shapes(self) -> TaskShapes:
        """The class's requirements for a model."""
        return self._facts.shapes

    @property
    def classes(self) -> int:
        """Number of classes that each have ``support``, ``query`` and ``adapt`` samples; 1 where these count all samples."""
        return self._facts.classes

    @property
    def counts_clients(self) -> bool:
        """Whether the number of clients follows from the data; otherwise ``run.clients`` sets it."""
        return self._facts.counts_clients


def _readable_error(text: str) -> PydanticCustomError:
    return PydanticCustomError(READABLE, "{text}", {"text": text})
