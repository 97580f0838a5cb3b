"""The command ``tinymetafed``, also as ``python -m tinymetafed``."""

import gc
import sys

INTERRUPTED = 130  # the exit code of a command that Ctrl-C has ended
FEW_CYCLES = 200_000  # objects until Python looks for cycles: with its 700, that is a tenth of a short command


def main() -> None:
    """Runs the command line. Importing it takes a while, and Ctrl-C ends that as it ends a command."""
    gc.set_threshold(FEW_CYCLES)
    try:
        from .cli import main as command_line
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    try:
        command_line(prog_name="tinymetafed")
    finally:
        gc.freeze()  # the process ends: what its last look for cycles would find is freed with it


if __name__ == "__main__":
    main()
