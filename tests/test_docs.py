"""Checks of the documents: links have targets, commands parse, and code that links to a file is defined in it."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from tinymetafed.cli import application
from tinymetafed.wire.frame import Decoder
from tinymetafed_codegen import protocol

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL_BLOCKS = ("console", "bash", "sh", "shell")
LINK = re.compile(r"\[(?P<text>[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*)\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
HTML_LINK = re.compile(r"\b(?:src|href|srcset)=\"(?P<target>[^\"]+)\"")
NAME = re.compile(r"`(?P<name>[A-Za-z_~][\w.:]*)(?:\(\))?`")


@dataclass(frozen=True)
class Document:
    """A parsed Markdown file: ``prose`` without fenced blocks, and ``blocks`` as (language, text)."""

    path: Path
    prose: str
    blocks: list[tuple[str, str]]

    @property
    def links(self) -> list[tuple[str, str]]:
        """(text, target) of every link; the text is empty for HTML links."""
        found = [(match["text"], match["target"]) for match in LINK.finditer(self.prose)]
        return found + [("", match["target"]) for match in HTML_LINK.finditer(self.prose)]


def read(path: Path) -> Document:
    text = path.read_text(encoding="utf-8")
    fence = re.compile(r"(?ms)^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$")
    blocks = [(match["language"], match["body"]) for match in fence.finditer(text)]
    return Document(path, fence.sub("", text), blocks)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Document:
    return read(request.param)


# Links


def test_links_lead_to_files_and_headings(document: Document) -> None:
    assert [target for _, target in document.links if not leads_somewhere(document.path, target)] == []


def leads_somewhere(document: Path, target: str) -> bool:
    """Whether a relative link's file exists in the project, with the heading that it names; absolute links pass."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return True
    name, _, heading = target.partition("#")
    file = (document.parent / name).resolve() if name else document
    if not file.exists() or not file.is_relative_to(ROOT):
        return False
    return not heading or file.suffix != ".md" or heading in headings(file)


def headings(path: Path) -> set[str]:
    """Anchors of a document's headings, by GitHub's rules."""
    found = re.findall(r"(?m)^#+\s+(.+?)\s*$", read(path).prose)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in found}


# Code: a link whose text is `name` or `name()` and whose target is a source file says that the file defines the name.


def test_code_is_defined_in_the_file_it_links_to(document: Document) -> None:
    wrong = []
    for text, target in document.links:
        file = (document.path.parent / target.partition("#")[0]).resolve()
        if (match := NAME.fullmatch(text)) and file.suffix in (".py", ".hpp", ".cpp") and match["name"] != file.name:
            name = match["name"]
            if name not in definitions(file):
                wrong.append(f"{name} in {target}")
    assert wrong == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_in_prose_are_defined_in_some_file_it_links_to(path: Path) -> None:
    document = read(path)
    files = {(document.path.parent / target.partition("#")[0]).resolve() for _, target in document.links}
    known = {name for file in files if file.suffix in (".py", ".hpp", ".cpp") for name in definitions(file)}
    named = set(re.findall(r"`([A-Za-z_][\w.:]*)\(\)`", LINK.sub("", document.prose)))
    assert sorted(named - known) == []


@cache
def definitions(path: Path) -> frozenset[str]:
    """Names that a source file defines, bare and qualified (``Session.load``, ``Learner::load``)."""
    text = path.read_text(encoding="utf-8")
    return frozenset(python_definitions(text) if path.suffix == ".py" else cpp_definitions(text))


def python_definitions(text: str) -> set[str]:
    found: set[str] = set()

    def visit(body: list[ast.stmt], owner: str, in_function: bool = False) -> None:
        for node in body:
            names: list[str] = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif in_function:
                continue  # skips its local variables
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            for name in names:
                found.update({name, f"{owner}.{name}"} if owner else {name})
            if isinstance(node, ast.ClassDef):
                visit(node.body, node.name)
            elif isinstance(node, ast.FunctionDef):
                visit(node.body, "", in_function=True)

    visit(ast.parse(text).body, "")
    return found


def cpp_definitions(text: str) -> set[str]:
    """Definitions by form: a line with a type, a name and ``(``; the name of a type; the name of a constant."""
    found: set[str] = set()
    owner = ""
    for line in re.sub(r"//[^\n]*", "", text).splitlines():
        if match := re.match(r"\s*(?:class|struct|union|enum class|using)\s+(?:\[\[\w+\]\]\s*)?(\w+)", line):
            found.add(match[1])
            owner = match[1] if re.match("class|struct", line) else owner
        elif match := re.match(r"\s*(?:static |inline )*constexpr\s+[\w:]+\s+(\w+)", line):
            found.add(match[1])
        if match := re.match(r"\s*(?:[\w:<>,&*\[\]\"]+\s+)+[&*]?(?:\w+::)*?((?:\w+::)?\w+)\(", line):
            first = line.split()[0]
            if first not in ("return", "if", "for", "while", "switch", "case", "else", "const", "auto") and "=" not in match[0]:
                name = match[1].rpartition("::")[2]
                found |= {name, match[1]} | ({f"{owner}::{name}"} if owner and "::" not in match[1] else set())
        if line.startswith("}"):
            owner = ""
    return found


# Commands


def test_commands_in_blocks_parse(document: Document) -> None:
    own = {name for command in commands(document) for name in re.findall(r"\[env:([\w-]+)\]", command)}
    wrong = [f"{command}: {fault}" for command in commands(document) if (fault := command_fault(command, own))]
    assert wrong == []


def test_commands_in_prose_exist(document: Document) -> None:
    spans = re.findall(r"`((?:tinymetafed|make) [a-z][^`\n]*)`", document.prose)
    wrong = []
    for span in spans:
        program, name, *_ = span.split()
        known = commands_of(command_line()) if program == "tinymetafed" else make_targets()
        if name not in known:
            wrong.append(span)
    assert wrong == []


def test_arguments_of_commands_in_prose_parse(document: Document) -> None:
    """Where prose leaves out arguments, the options that it has are still checked."""
    spans = re.findall(r"`tinymetafed ([a-z][^`\n]*)`", document.prose.replace("\\|", "/"))
    faults = {span: tinymetafed_fault(shlex.split(span)) for span in spans}
    assert {span: fault for span, fault in faults.items() if fault and not fault.startswith("Missing argument")} == {}


def commands(document: Document) -> list[str]:
    """Single shell commands of a document's blocks; in console blocks, the lines after a prompt."""
    found = []
    for language, body in document.blocks:
        if language in SHELL_BLOCKS:
            lines = [line.strip() for line in body.replace("\\\n", " ").splitlines()]
            prompts = any(line.startswith("$ ") for line in lines)
            for line in lines:
                if not prompts or line.startswith("$ "):
                    found += split_commands(line.removeprefix("$ "))
    return found


def split_commands(line: str) -> list[str]:
    """The single commands of a shell line, without comments, redirections and pipes."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = "#"
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", ";", "|", "&"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [shlex.join(part) for part in parts if part]


def command_fault(command: str, environments: Set[str] = frozenset()) -> str:
    """Why one of our own commands would be refused as written; empty for valid commands and those of other programs.

    ``environments``: names of PlatformIO environments, beside those of this repository.
    """
    words = shlex.split(command)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    if ">" in words:
        words = words[: words.index(">")]
    if not words:
        return ""
    program, arguments = Path(words[0]).name, words[1:]
    if program == "tinymetafed":
        return tinymetafed_fault(arguments)
    if program == "make":
        known = make_targets()
        wrong = [word for word in arguments if not word.startswith("-") and "=" not in word and word not in known]
        return f"no target {wrong[0]}" if wrong else ""
    if program == "pio":
        return pio_fault(arguments, environments)
    return ""


@cache
def command_line() -> object:
    """The command `tinymetafed`, whose making takes longer than to parse with it."""
    return typer.main.get_command(application())


def tinymetafed_fault(arguments: list[str]) -> str:
    command, name, rest = command_line(), "tinymetafed", list(arguments)
    while (known := commands_of(command)) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in known:
            return f"no command {name}"
        command = known[name]
    if known and not rest:
        return "" if command.no_args_is_help else "names no command"
    try:
        command.make_context(name, rest)  # parses and checks, and runs nothing
    except typer.Exit:
        return ""  # --help, --version
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return ""


def commands_of(command: object) -> dict[str, object]:
    return dict(getattr(command, "commands", {}))


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^([a-z][\w-]*):", text))


def pio_fault(arguments: list[str], environments: Set[str]) -> str:
    project = configparser.ConfigParser()
    project.read([ROOT / "platformio.ini", ROOT / "boards" / "environments.ini"], encoding="utf-8")
    chosen = [after for option, after in pairwise(arguments) if option in ("-e", "--environment")]
    wrong = [name for name in chosen if f"env:{name}" not in project and name not in environments]
    return f"no environment {wrong[0]}" if wrong else ""


# Frames: blocks of "→ Message, N bytes", the bytes on the wire, and the fields as "name bytes = meaning" separated by " | ".


def test_documented_frames_are_valid(document: Document) -> None:
    wrong = [fault for language, body in document.blocks if language == "frame" for fault in frame_faults(body)]
    assert wrong == []


FRAME = re.compile(
    r"^[→←] (?P<name>\w+), (?P<size>\d+) bytes\n"
    r"(?P<wire>(?:(?:[0-9a-f]{2}|…)(?: (?:[0-9a-f]{2}|…))*\n)+)"
    r"(?P<fields>(?:\w.*\n)*)",
    re.MULTILINE,
)


def frame_faults(block: str) -> list[str]:
    """Faults of a block's frames; in a frame shortened by "…", only fields and sizes are checked."""
    frames = list(FRAME.finditer(block))
    if len(frames) != len(re.findall("(?m)^[→←]", block)):
        return [f"not in the form that can be checked: {block}"]
    return [fault for frame in frames if (fault := frame_fault(frame))]


def leaves(record: type[protocol.Record]) -> Iterator[str]:
    """Names of a record's fields; a nested record gives the names of its fields."""
    for name, kind in record.kinds().items():
        yield from leaves(kind.record) if isinstance(kind, protocol.Nested) else (name,)


def frame_fault(match: re.Match[str]) -> str:
    name, wire = match["name"], match["wire"].split()
    record = next((record for record in protocol.records() if record.__name__ == name), None)
    if record is None:
        return f"{name}: no such message"
    said: dict[str, list[str]] = {}
    for field in filter(None, re.split(r" \| |\n", match["fields"])):
        words = field.partition(" = ")[0].split()
        said.setdefault(words[0].partition("[")[0], []).extend(words[1:])
    expected = list(leaves(record))
    if list(said) != expected:
        return f"{name}: has the fields {list(said)}, expected {expected}"
    shown = [byte for field_bytes in said.values() for byte in field_bytes]
    if "…" in wire:
        return "" if "…" in shown[record.fixed_size() :] else f"{name}: is cut short elsewhere than in its tail"
    frames = Decoder().feed(bytes.fromhex("".join(wire)))
    if len(frames) != 1 or frames[0].wire_bytes != int(match["size"]):
        return f"{name}: is not one valid frame of {match['size']} bytes"
    asked = {request.type_id: request for request in protocol.REQUESTS}
    answers = {type_id | protocol.ANSWER_BIT: request.answer for type_id, request in asked.items()}
    if (asked | answers).get(frames[0].type_id) is not record:
        return f"{name}: has the type 0x{frames[0].type_id:02x}"
    return "" if frames[0].payload.hex(" ").split() == shown else f"{name}: its payload is {frames[0].payload.hex(' ')}"


# Tests of the checks themselves


@pytest.mark.parametrize(
    "command",
    [
        "tinymetafed trian examples/sine.toml",
        "tinymetafed adapt",
        "tinymetafed train examples/sine.toml --devices native:4",
        "tinymetafed adapt runs/x --tasks many",
        "tinymetafed bench nothing",
        "tinymetafed codegen EXPERIMENT --boards mps2 -o DIR",
        "make everything",
        "pio run -e nowhere",
    ],
)
def test_wrong_commands_are_found(command: str) -> None:
    assert command_fault(command)


@pytest.mark.parametrize(
    "command",
    [
        "tinymetafed doctor --json",
        "A=1 .venv/bin/tinymetafed train --help",
        "make",
        "make setup PYTHON=python3.12",
        "ls nothing",
    ],
)
def test_right_commands_pass(command: str) -> None:
    assert command_fault(command) == ""


def test_blocks_links_and_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "# A page: two words\n[there](page.md#a-page-two-words) [gone](nothing.md) [bad](#nowhere)\n"
        "```console\n$ cd x && make demo  # a comment\nwhat it says\n$ tinymetafed train \\\n    a.toml\n```\n"
        "```python\n[no](link)\n```\n",
        encoding="utf-8",
    )
    page = read(path)
    assert [target for _, target in page.links] == ["page.md#a-page-two-words", "nothing.md", "#nowhere"]
    assert headings(path) == {"a-page-two-words"}
    assert not leads_somewhere(path, "nothing.md") and not leads_somewhere(path, "#nowhere")
    assert commands(page) == ["cd x", "make demo", "tinymetafed train a.toml"]


def test_definitions_are_not_uses() -> None:
    python = python_definitions("LIMIT = 3\nclass A:\n    x: int\n    def f(self):\n        return g()\n")
    assert python == {"LIMIT", "A", "x", "A.x", "f", "A.f"}
    cpp = cpp_definitions(
        "class Learner {\n  Status load(const Load& m);\n};\nStatus Learner::work() {\n  return step();\n  finish();\n}\n"
        "constexpr uint32_t kEscape = 24;\n"
    )
    assert {"Learner", "Learner::load", "load", "Learner::work", "work", "kEscape"} <= cpp
    assert not {"step", "finish", "Status"} & cpp


def test_wrong_frames_are_found() -> None:
    good = "→ Await, 16 bytes\n04 06 16 01 01 01 02 50 01 01 05 f6 2c e9 36 00\ntoken 01 00 00 00 = 1 | step 50 00 00 00 = 80\n"
    assert frame_faults(good) == []
    for right, wrong in (
        ("16 bytes", "17 bytes"),
        ("e9 36", "e9 37"),
        ("50 00", "51 00"),
        ("token", "rank"),
        ("Await", "Pull"),
        ("Await", "Wait"),
        ("→ A", "→A"),
    ):
        assert frame_faults(good.replace(right, wrong))
