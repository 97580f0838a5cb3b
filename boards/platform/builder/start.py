"""Starts firmware on this machine in the foreground, and says which command trains on it once its line is known."""

import re
import shlex
import subprocess
import sys

# The pseudo-terminal that QEMU or a native process has opened, in their own words.
OPENED = re.compile(r"(?:redirected to|^pty) (\S+)")


def main(experiment, line, command):
    """Runs a command until it ends, and prints its output.

    Args:
        experiment: The experiment that the firmware was built for.
        line: Path of the board's line; empty if the command prints it.
        command: Program and arguments.

    Returns:
        The command's exit code.
    """
    if line:
        print(next_step(experiment, line), flush=True)
        return subprocess.run(command, check=False).returncode
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as started:
        try:
            for text in started.stdout:
                print(text, end="", flush=True)
                if opened := OPENED.search(text):
                    print(next_step(experiment, opened[1]), flush=True)
        except KeyboardInterrupt:
            started.terminate()
    return started.returncode


def next_step(experiment, line):
    """The command that trains on the board at this line."""
    command = shlex.join(["tinymetafed", "train", experiment, "--device", line])
    return f"It runs until you end it. In another terminal:  {command}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
