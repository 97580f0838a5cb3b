"""The command line: parses arguments, calls the public API, prints results; an error is one line of text."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.text import Text

import tinymetafed as tmf

from . import (
    artifacts,
    bench_boards,
    bench_gateways,
    bench_lines,
    bench_runs,
    board_commands,
    codegen_command,
    gateway_command,
    live_commands,
    plan_command,
    project,
    run_commands,
    sweeping,
    tuning_command,
)
from .output import notes, results, write_in_any_encoding

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="tinymetafed",
    help="Federated meta-learning on microcontrollers: boards on serial lines learn an initialisation together, "
    "from which a new board adapts with a few samples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(project.new)
app.command("import")(project.import_)
app.command()(artifacts.check)
app.command()(run_commands.train)
app.command()(run_commands.simulate)
app.command()(gateway_command.gateway)
app.command()(sweeping.sweep)
app.command()(sweeping.paper)
app.command()(tuning_command.tune)
app.command()(run_commands.adapt)
app.command()(run_commands.evaluate)
app.command()(artifacts.report)
app.command()(artifacts.verify)
app.command()(artifacts.log)
app.command()(artifacts.export)
app.command()(board_commands.status)
app.command()(board_commands.estimate)
app.command()(plan_command.plan)
app.command()(board_commands.predict)
app.command()(board_commands.record)
app.command()(board_commands.label)
app.command()(board_commands.start)
app.command()(board_commands.enroll)
app.command()(live_commands.live)
app.command()(live_commands.top)
app.command("monitor")(artifacts.listen)
app.command()(codegen_command.codegen)
app.command("doctor")(artifacts.examine)
app.command()(run_commands.demo)
bench_app = typer.Typer(help="Measure: exact instructions, bytes, memory and speed.", no_args_is_help=True)
bench_app.command()(bench_boards.kernels)
bench_app.command()(bench_boards.adaptation)
bench_app.command()(bench_boards.activations)
bench_app.command()(bench_boards.augmentation)
bench_app.command()(bench_boards.memory)
bench_app.command()(bench_runs.simulation)
bench_app.command()(bench_lines.soak)
bench_app.command()(plan_command.fleet)
bench_app.command()(bench_boards.sound)
bench_app.command()(bench_boards.authentication)
bench_app.command()(bench_lines.wire)
bench_app.command()(bench_lines.uplink)
bench_app.command()(bench_lines.levels)
bench_app.command()(bench_lines.downlink)
bench_app.command()(bench_gateways.gateways)
bench_app.command("board")(bench_boards.board)
bench_app.command()(bench_runs.byzantine)
bench_app.command()(bench_runs.gains)
bench_app.command()(bench_runs.budget)
bench_app.command("all")(bench_runs.all_)
app.add_typer(bench_app, name="bench")


def main(prog_name: str | None = None) -> None:
    """Runs the command line; a known error is printed as one line on standard error, with exit code 1 or 2."""
    write_in_any_encoding()
    try:
        with _ended_as_by_ctrl_c(), _warnings_as_lines():
            code = app(prog_name=prog_name, standalone_mode=False)
    except typer.Exit as done:
        code = done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        code = INTERRUPTED if _hides_ctrl_c(error) else _explain(error)
    if code == INTERRUPTED:
        notes.print("Interrupted.")
    sys.exit(code or 0)


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP (a service that stops, a terminal that closes) end a command as Ctrl-C does, with its hint."""
    ending = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in ending}

    def interrupt(*_: object) -> None:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)  # often both come; Ctrl-C still ends what takes too long
        raise KeyboardInterrupt

    for number, handler in before.items():
        if handler is signal.SIG_DFL:  # otherwise somebody wants something else, for instance nohup
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints each warning about boards once, as a line on standard error."""
    said: set[str] = set()
    with warnings.catch_warnings():
        genuine = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, tmf.BoardWarning):
                genuine(message, category, *place, **more)
            elif str(message) not in said:
                said.add(str(message))
                notes.print(f"Warning: {message}", soft_wrap=True)

        warnings.simplefilter("always", tmf.BoardWarning)
        warnings.showwarning = show
        yield


def _hides_ctrl_c(error: Exception) -> bool:
    """Whether a library has made an error of its own of Ctrl-C, as pydantic does while it builds a model."""
    return not isinstance(error, tmf.Error | OSError) and "KeyboardInterrupt" in str(error)


def _explain(error: Exception) -> int:
    usage = getattr(error, "exit_code", None) == WRONG_USAGE and hasattr(error, "format_message")
    if usage:
        if text := error.format_message():  # type: ignore[attr-defined]  # empty if the help was printed
            stop = "" if text.endswith((".", "?", "!")) else "."
            _print_error(f"{text}{stop} See --help.")
        return WRONG_USAGE
    if isinstance(error, tmf.Error | OSError):
        _print_error(_text(error))
        return WRONG_USAGE if isinstance(error, tmf.UsageError) else FAILED
    raise error


def _print_error(text: str) -> None:
    notes.print(Text.assemble(("Error:", "bold red"), " ", text), soft_wrap=True)


def _text(error: Exception) -> str:
    """The text of an error; that of a system error begins with the file."""
    if isinstance(error, OSError) and type(error).__str__ is OSError.__str__ and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        results().write(tmf.__version__)
        raise typer.Exit
