"""Sets up a checkout: a .venv with the package in it, and the Debian packages that the boards and the tests need.

Installs only what is missing. Without the right to install Debian packages it names them and the command, and continues:
without QEMU everything but the emulated boards works. `setup.py packages` installs the Debian packages only, for an image of
a container.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VERSION = sys.version.split()[0]
if sys.version_info < (3, 11):  # noqa: UP036  # before imports that older versions cannot parse
    sys.exit("setup: Python 3.11 or newer is needed, this is " + VERSION + "; try `make setup PYTHON=python3.11`")

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "setup-done"
PYTHONS_VENV = "Python's venv"
sys.path.insert(0, str(ROOT / "codegen"))


def main(arguments: "list[str]") -> None:
    """Sets up the checkout; exits with a message when the Python environment cannot be made."""
    if arguments == ["packages"]:
        install_packages(missing_packages(), try_it=True)
        if left_out := missing_packages():
            sys.exit(f"setup: still missing: {', '.join(left_out)}")
        return
    if arguments:
        sys.exit(f"setup: {' '.join(arguments)}: unknown; give `packages`, or nothing to set up the whole checkout")
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    ready = STAMP.is_file() and STAMP.read_text(encoding="ascii") == wanted
    missing = missing_packages()
    if ready:
        # After the first time, missing packages are only named, so that nobody waits for a dead network twice.
        install_packages(missing, try_it=False)
        return
    venv = {what: missing.pop(what) for what in [PYTHONS_VENV] if what in missing}
    install_packages(venv, try_it=True)
    # Both wait for the network and the disk, so they take little longer at the same time than the longer one alone.
    with ThreadPoolExecutor(1) as beside:
        boards = beside.submit(install_packages, missing, try_it=True)
        install_python_packages()
        boards.result()
    STAMP.write_text(wanted, encoding="ascii")


def install_python_packages() -> None:
    """Makes .venv and installs the package with its tools; exits with a message when that fails."""
    if not (VENV / "bin" / "python").exists():
        say(f"creating {VENV.name} with Python {VERSION}")
        run([sys.executable, "-m", "venv", str(VENV)], "could not create .venv; on Debian: sudo apt install python3-venv")
    say("installing tinymetafed and its tools into .venv")
    python = str(VENV / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--editable", ".[dev]"]
    run(install, "pip could not install the package; check the network (or your proxy), then `make setup` again")
    compile_modules(python)


def compile_modules(python: str) -> None:
    """Compiles the installed modules to bytecode on all processors, but not their tests; pip would compile all on one.

    A module for another version of Python cannot be compiled, and nobody imports it; so the exit code says nothing.
    """
    (packages,) = (VENV / "lib").glob("python*/site-packages")
    subprocess.run([python, "-m", "compileall", "-qq", "-j", "0", "-x", "site-packages/.*/tests?/", str(packages)], check=False)


def run(command: "list[str]", trouble: str) -> None:
    """Runs a command in the checkout; when it fails, exits with the message ``trouble``."""
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        sys.exit(f"setup: {trouble}")


def missing_packages() -> "dict[str, list[str]]":
    """Debian packages that this machine lacks, by what needs them: Python's venv module, a board, or tests."""
    from tinymetafed_codegen.board import boards

    found = {
        f"board {board.name}": list(
            dict.fromkeys(tool.package for tool in boards.missing_tools(board.name) if tool.package is not None)
        )
        for board in boards.usable()
    }
    if shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))) is None:
        found["tests of boards at an MQTT broker"] = ["mosquitto"]
    try:
        import ensurepip  # noqa: F401  # Debian ships it apart from Python
    except ImportError:
        found[PYTHONS_VENV] = ["python3-venv"]
    return {what: packages for what, packages in found.items() if packages}


def install_packages(missing: "dict[str, list[str]]", try_it: bool) -> None:
    """Installs packages where this user may do so without a password; else prints the commands.

    The packages of each board are installed separately: apt-get installs nothing when it does not know one of several packages.
    """
    if not missing:
        return
    by_hand = {what: f"sudo apt install {' '.join(packages)}" for what, packages in missing.items()}
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None:
        for what, packages in missing.items():
            say(f"{what}: missing; install what your system has in place of Debian's {' '.join(packages)}")
    elif not try_it or (prefix and not succeeds([*prefix, "true"], quiet=True)):
        for what, command in by_hand.items():
            say(f"{what}: {'missing' if try_it else 'still missing'}; run: {command}")
    else:
        install = [*prefix, "apt-get", "install", "--yes", "--quiet", "--no-install-recommends"]
        # Without package lists, apt-get takes the unknown name g++ for a pattern of names, and is content with what it matches.
        install += ["--option", "APT::Cmd::Pattern-Only=true"]
        refused = {}
        for what, packages in missing.items():
            say(f"{what}: installing {' '.join(packages)}")
            if not succeeds([*install, *packages], quiet=True):
                refused[what] = packages
        # A fresh machine has no package lists, an old one has stale lists: fetch them only then, and try again.
        if refused:
            succeeds([*prefix, "apt-get", "update", "--quiet"])
        for what, packages in refused.items():
            if not succeeds([*install, *packages]):
                say(f"{what}: left out, could not install what it needs; to see why, run: {by_hand[what]}")


def succeeds(command: "list[str]", quiet: bool = False) -> bool:
    """Whether a command runs and succeeds; False also when there is no such program."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, env=environment, capture_output=quiet, check=False).returncode == 0
    except FileNotFoundError:
        return False


def say(text: str) -> None:
    """Prints one line, unbuffered."""
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
