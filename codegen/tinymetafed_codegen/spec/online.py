"""``task.online``: a device trains on each sample of a round once, as it comes, and keeps none."""

from __future__ import annotations

from typing import Any, TypeVar

from ..section import SpecError
from .defaults import PASSES
from .strategy import SharingSpec
from .task_base import TaskBase

SAMPLES = 10  # of the support set and of the query set, over all classes (Ren et al., arXiv 2307.06822)

_Task = TypeVar("_Task", bound=TaskBase)


def is_asked(section: Any) -> bool:
    """Whether a [task] section that is not validated yet has ``online = true``."""
    return isinstance(section, dict) and section.get("online") is True


def sized(task: _Task) -> _Task:
    """The task with as many support and query samples as ``online`` means, where the experiment has no numbers of its own.

    These are SAMPLES, or the next number that all classes can share. Any other task is returned as it is.
    """
    if not task.online:
        return task
    share = -(-SAMPLES // task.classes)
    unset = [key for key in ("support", "query") if key not in task.model_fields_set]
    return task.model_copy(update=dict.fromkeys(unset, share))


def check(task: TaskBase, strategy: SharingSpec, source: str) -> None:
    """Checks that no device needs a sample twice, if it keeps none. Raises SpecError."""
    for key in sorted(PASSES) if task.online else ():
        if (passes := getattr(strategy, key, 1)) != 1:
            raise SpecError(
                f"{source}: strategy.{key} = {passes}, but with task.online = true a device trains on each sample of a round "
                "once; set it to 1, or leave one of the two out"
            )
