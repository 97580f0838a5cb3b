"""What a user begins with: a new project folder, an imported model, a check of this machine."""

from tinymetafed_codegen.errors import UsageError


class ProjectError(UsageError):
    """A folder that cannot become a project; wrong usage."""
