"""The command line: parses arguments, calls the public API, prints results; an error is one line of text."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.text import Text

import tinymetafed as tmf

from .output import notes, results, write_in_any_encoding

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# Each command and its function, imported and made when it is asked for: making all takes longer than most commands run.
COMMANDS = {
    "new": "project.new",
    "import": "project.import_",
    "check": "artifacts.check",
    "train": "run_commands.train",
    "simulate": "run_commands.simulate",
    "gateway": "gateway_command.gateway",
    "sweep": "sweeping.sweep",
    "paper": "sweeping.paper",
    "tune": "tuning_command.tune",
    "adapt": "run_commands.adapt",
    "evaluate": "run_commands.evaluate",
    "report": "artifacts.report",
    "verify": "artifacts.verify",
    "log": "artifacts.log",
    "export": "artifacts.export",
    "status": "board_commands.status",
    "estimate": "board_commands.estimate",
    "plan": "plan_command.plan",
    "predict": "board_commands.predict",
    "record": "board_commands.record",
    "label": "board_commands.label",
    "start": "board_commands.start",
    "enroll": "board_commands.enroll",
    "live": "live_commands.live",
    "top": "live_commands.top",
    "monitor": "artifacts.listen",
    "codegen": "codegen_command.codegen",
    "doctor": "artifacts.examine",
    "demo": "run_commands.demo",
}
BENCH_COMMANDS = {
    "kernels": "bench_boards.kernels",
    "adaptation": "bench_boards.adaptation",
    "activations": "bench_boards.activations",
    "augmentation": "bench_boards.augmentation",
    "memory": "bench_boards.memory",
    "simulation": "bench_runs.simulation",
    "soak": "bench_lines.soak",
    "fleet": "plan_command.fleet",
    "sound": "bench_boards.sound",
    "authentication": "bench_boards.authentication",
    "wire": "bench_lines.wire",
    "uplink": "bench_lines.uplink",
    "levels": "bench_lines.levels",
    "downlink": "bench_lines.downlink",
    "gateways": "bench_gateways.gateways",
    "board": "bench_boards.board",
    "byzantine": "bench_runs.byzantine",
    "gains": "bench_runs.gains",
    "budget": "bench_runs.budget",
    "all": "bench_runs.all_",
}


def application(words: Sequence[str] = ()) -> typer.Typer:
    """The command line.

    Args:
        words: The words of a call. If they begin with a command, it is the only one that is made.

    Returns:
        All commands, or those that the words can need.
    """
    app = typer.Typer(
        name="tinymetafed",
        help="Federated meta-learning on microcontrollers: boards on serial lines learn an initialisation together, "
        "from which a new board adapts with a few samples.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_top)
    first, second = [*words, "", ""][:2]
    if first != "bench":
        _add(app, COMMANDS, first)
    if first not in COMMANDS:
        bench = typer.Typer(help="Measure: exact instructions, bytes, memory and speed.", no_args_is_help=True)
        _add(bench, BENCH_COMMANDS, second if first == "bench" else "")
        app.add_typer(bench, name="bench")
    return app


def _add(app: typer.Typer, commands: Mapping[str, str], chosen: str) -> None:
    """Adds the chosen command; all, if none of that name is known."""
    for name in [chosen] if chosen in commands else commands:
        module, function = commands[name].split(".")
        app.command(name)(getattr(import_module(f"{__name__}.{module}"), function))


def main(prog_name: str | None = None) -> None:
    """Runs the command line; a known error is printed as one line on standard error, with exit code 1 or 2."""
    write_in_any_encoding()
    try:
        with _ended_as_by_ctrl_c(), _warnings_as_lines():
            code = application(sys.argv[1:])(prog_name=prog_name, standalone_mode=False)
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
        if text := _text_of_usage(error):  # empty if the help was printed
            stop = "" if text.endswith((".", "?", "!")) else "."
            _print_error(f"{text}{stop} See --help.")
        return WRONG_USAGE
    if isinstance(error, tmf.Error | OSError):
        _print_error(_text(error))
        return WRONG_USAGE if isinstance(error, tmf.UsageError) else FAILED
    raise error


def _text_of_usage(error: Exception) -> str:
    """What is wrong with a command's words. typer and a newer click both name the command that was meant; once is enough."""
    message = getattr(error, "message", "")
    return message if "Did you mean" in message else error.format_message()  # type: ignore[attr-defined]


def _print_error(text: str) -> None:
    notes.print(Text.assemble(("Error:", "bold red"), " ", text), soft_wrap=True)


def _text(error: Exception) -> str:
    """The text of an error; that of a system error begins with the file."""
    if isinstance(error, OSError) and type(error).__str__ is OSError.__str__ and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        results().write(tmf.__version__)
        raise typer.Exit
