"""The command ``tinymetafed``, also as ``python -m tinymetafed``."""

import sys

INTERRUPTED = 130  # the exit code of a command that Ctrl-C has ended


def main() -> None:
    """Runs the command line. Importing it takes a while, and Ctrl-C ends that as it ends a command."""
    try:
        from .cli import main as command_line
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    command_line(prog_name="tinymetafed")


if __name__ == "__main__":
    main()
