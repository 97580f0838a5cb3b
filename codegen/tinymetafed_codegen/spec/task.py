"""The ``[task]`` section: what clients learn; its class by ``kind``."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Discriminator, Tag

from .. import own_class
from .folder_task import FolderTask
from .own_task_spec import OwnTaskSpec
from .sampled_tasks import KeywordsTask, OmniglotTask, PresenceTask, SineTask
from .task_base import TaskBase


def kind(section: Any) -> str | None:
    """The tag of a section's class for validation: the ``kind`` of a built-in task, or the tag of OwnTaskSpec."""
    named = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    return OwnTaskSpec.tag if own_class.is_reference(named) else named if isinstance(named, str) else None


TaskSpec = Annotated[
    Annotated[SineTask, Tag("sine")]
    | Annotated[OmniglotTask, Tag("omniglot")]
    | Annotated[KeywordsTask, Tag("keywords")]
    | Annotated[PresenceTask, Tag("presence")]
    | Annotated[FolderTask, Tag("folder")]
    | Annotated[OwnTaskSpec, Tag(OwnTaskSpec.tag)],
    Discriminator(kind),
]
# Section classes of the built-in tasks by task.kind.
TASKS: dict[str, type[TaskBase]] = {
    get_args(each.model_fields["kind"].annotation)[0]: each
    for each in (SineTask, OmniglotTask, KeywordsTask, PresenceTask, FolderTask)
}


def section_class(name: object) -> type[TaskBase] | None:
    """The class of a [task] section with this ``kind``; None for an unknown kind."""
    return OwnTaskSpec if own_class.is_reference(name) else TASKS.get(str(name))
