"""Project rules that no compiler checks: includes, imports, what device code may use, and where facts are defined."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

import tinymetafed
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.toolchain import compiler_flags

ROOT = Path(__file__).parents[1]
CORE = ROOT / "firmware" / "core"
TEMPLATES = sorted((ROOT / "codegen" / "tinymetafed_codegen" / "templates").iterdir())
ASSEMBLY = sorted((ROOT / "firmware").rglob("*.s"))
GENERATED = {
    "protocol.hpp", "status.hpp", "board.hpp", "model.hpp", "op_headers.hpp", "device_facts.hpp", "adaptation.hpp",
    "own_program.hpp",
}  # fmt: skip
SYSTEM_HEADERS = {"<cstdint>", "<cstddef>", "<cstring>", "<climits>"}
HEAP_AND_EXCEPTIONS = (
    r"\bnew\b",
    r"(?<!= )\bdelete\b",  # a deleted function is no deallocation
    r"\b(m|c|re)alloc\b",
    r"\bfree\s*\(",
    r"\bthrow\b",
    r"\btry\b",
    r"\bcatch\b",
    r"\bdynamic_cast\b",
    r"\btypeid\b",
    r"\bstd::(vector|string|map|set|deque|list|function|unique_ptr|shared_ptr|optional|any)\b",
)
# Arithmetic that differs between machines and so must not reach a weight.
FOREIGN_ARITHMETIC = (
    r"\bdouble\b",
    r"\bstd::(exp|log|pow|sqrt|sin|cos|tan|tanh|fma|round|rint)",
    r"__builtin_(?!expect\b)",  # which way a condition usually goes is not arithmetic
    r"\b(expf|sinf|tanhf|fmaf)\b",
)
TEMPLATE_ARITHMETIC = (
    nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg, nodes.Concat, nodes.Filter,
    nodes.Call, nodes.Assign,
)  # fmt: skip


def cpp_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / "firmware" / folder).rglob("*.[hc]pp"))


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def named(paths: list[Path]) -> list[object]:
    """Test parameters with the file's path as their id."""
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def code_of(text: str) -> str:
    """C++ without comments and literals; a ' after a digit is a separator, not the start of a character literal."""
    pattern = r'"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'|//[^\n]*|/\*.*?\*/'
    kept = re.sub(r'(?m)^#include "[^"]+"', "", text)
    return re.sub(pattern, " ", kept, flags=re.DOTALL)


def includes(text: str) -> list[str]:
    return re.findall(r'(?m)^\s*#\s*include\s+(<[^>]+>|"[^"]+")', text)


def imported(path: Path) -> set[str]:
    """Absolute names of the modules that a Python file imports, relative imports resolved."""
    package = [*path.relative_to(ROOT).with_suffix("").parts[1:-1]]  # without codegen/ or host/
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def importers(folder: str, module: str) -> list[str]:
    """Files below ``folder`` that import ``module`` or something in it."""
    return [
        str(path.relative_to(ROOT))
        for path in python_files(folder)
        if any(name == module or name.startswith(f"{module}.") for name in imported(path))
    ]


# Device code


@pytest.mark.parametrize("path", named(cpp_files("core")))
def test_core_includes_only_core_generated_files_and_freestanding_headers(path: Path) -> None:
    for header in includes(path.read_text(encoding="utf-8")):
        if header.startswith("<"):
            assert header in SYSTEM_HEADERS or (CORE / header.strip("<>")).is_file()
        else:
            name = header.strip('"')
            assert name in GENERATED or (CORE / name).is_file() or (path.parent / name).is_file(), name


@pytest.mark.parametrize("path", named(cpp_files("core")))
def test_core_knows_no_board(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ports = {folder.name for folder in (ROOT / "firmware" / "port").iterdir() if folder.is_dir()}
    for name in ports | set(boards.names()):
        assert not re.search(rf"\b{name}\b", text, re.IGNORECASE), f"names the board or port {name}"
    conditions = re.findall(r"(?m)^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*", text)
    assert conditions == [], "core is the same for every machine; differences belong behind port.hpp"


@pytest.mark.parametrize("path", named(cpp_files("core", "app", "port", "bench")))
def test_firmware_has_no_heap_and_no_exceptions(path: Path) -> None:
    code = code_of(path.read_text(encoding="utf-8"))
    assert [pattern for pattern in HEAP_AND_EXCEPTIONS if re.search(pattern, code)] == []


@pytest.mark.parametrize("path", named(cpp_files("core", "app", "bench")))
def test_firmware_computes_in_float32_with_its_own_functions(path: Path) -> None:
    code = code_of(path.read_text(encoding="utf-8"))
    assert [pattern for pattern in FOREIGN_ARITHMETIC if re.search(pattern, code)] == []


@pytest.mark.parametrize("path", named(cpp_files("port")))
def test_ports_see_the_contract_and_nothing_else_of_ours(path: Path) -> None:
    ours = {header.strip('"') for header in includes(path.read_text(encoding="utf-8")) if header.startswith('"')}
    siblings = {sibling.name for sibling in path.parent.iterdir()}
    families = {f"../{header.parent.name}/{header.name}" for header in path.parents[1].glob("*/*.hpp")}
    assert ours <= {"port.hpp", "ring.hpp"} | siblings | families


def test_an_unused_status_is_a_compiler_error() -> None:
    assert {"-Werror", "-Wall"} <= set(compiler_flags())
    assert "enum class [[nodiscard]] Status" in emit.status_header("a test")


def test_machine_flags_stand_in_the_boards_files_alone() -> None:
    """Code that compiles for a board outside PlatformIO uses toolchain.compiler_flags."""
    flag = re.compile(r"-m(?:cpu|float-abi|fpu|arch|abi)=\w|-triple=\w|-m" + "thumb")
    files = [path for folder in ("boards", "codegen", "host", "scripts", "tests") for path in (ROOT / folder).rglob("*")]
    read = [path for path in files if path.suffix in {".py", ".ini", ".txt", ".toml", ".sh"}]
    assert [str(path.relative_to(ROOT)) for path in read if flag.search(path.read_text(encoding="utf-8"))] == []


# Python


def test_codegen_never_imports_the_host() -> None:
    assert importers("codegen", "tinymetafed") == []


# The host's folders from the lowest floor up: a folder imports from lower floors only, never from its own floor.
FLOORS = (
    ("wire", "learn"),
    ("federation",),
    ("devices", "simulation"),
    ("gateways",),
    ("runs",),
    ("projects", "bench", "pages", "trackers"),
    ("experiments",),
    ("api",),
    ("cli",),
)
PACKAGE = ROOT / "host" / "tinymetafed"


def host_imports() -> list[tuple[str, str, str]]:
    """(file, its folder, the folder of what it imports) for every import between the host's folders."""
    found = []
    for path in python_files("host/tinymetafed"):
        folder = path.relative_to(PACKAGE).parts[0]
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "tinymetafed" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir() and parts[1] != folder:
                found.append((str(path.relative_to(ROOT)), folder, parts[1]))
    return sorted(set(found))


def breaks_floors(source: str, target: str) -> bool:
    """Whether an import from one folder of the host to another breaks the order of floors."""
    height = {folder: floor for floor, row in enumerate(FLOORS) for folder in row}
    return height[target] >= height[source]


def test_every_folder_of_the_host_has_its_floor() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {folder for row in FLOORS for folder in row} & folders
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose <= {"__init__.py", "__main__.py", "py.typed"}


def test_no_two_modules_share_a_name() -> None:
    files = [path for path in python_files("codegen", "host", "boards") if not path.name.startswith("__")]
    names = [path.name for path in files if path.parent.parent.name != "vendors"]  # PlatformIO asks for platform.py in each
    assert {name for name in names if names.count(name) > 1} == set()


def test_the_host_imports_from_lower_floors_only() -> None:
    between = [(file, source, target) for file, source, target in host_imports() if not source.endswith(".py")]
    assert [f"{file} imports {target}" for file, source, target in between if breaks_floors(source, target)] == []


def test_the_command_line_uses_the_public_api_and_nothing_below_it() -> None:
    for path in python_files("host/tinymetafed/cli"):
        text = path.read_text(encoding="utf-8")
        ours = {name for name in imported(path) if name.split(".")[0] in ("tinymetafed", "tinymetafed_codegen")}
        assert {name for name in ours if not name.startswith("tinymetafed.cli")} <= {"tinymetafed"}, path.name
        used = set(re.findall(r"\btmf\.(\w+)", text))
        assert used <= set(tinymetafed.__all__), f"{path.name} uses what the API does not promise"


def test_an_import_from_a_higher_floor_is_found() -> None:
    assert breaks_floors("learn", "devices") and breaks_floors("devices", "simulation") and breaks_floors("learn", "wire")
    assert not breaks_floors("devices", "learn") and not breaks_floors("runs", "devices")
    assert ("host/tinymetafed/runs/device_site.py", "runs", "devices") in host_imports()


def test_dictionaries_of_anything_are_few() -> None:
    """Values that cross a module's border have types; what JSON or TOML has written down has none yet."""
    lines = [line for path in python_files("codegen", "host") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum("dict[str, " + "Any]" in line for line in lines) <= 20


def test_only_emit_renders_cpp() -> None:
    assert importers("codegen", "jinja2") == ["codegen/tinymetafed_codegen/rendering.py"]


# Templates


@pytest.mark.parametrize("path", named(TEMPLATES))
def test_templates_substitute_and_decide_nothing(path: Path) -> None:
    found = decisions(path.read_text(encoding="utf-8"))
    assert found == [], "compute it in Python, before anything is printed"


def decisions(template: str) -> list[str]:
    """Arithmetic, filters, assignments and calls in a template, except calls of an imported template's macro."""
    tree = jinja2.Environment().parse(template)
    macros = {node.target for node in tree.find_all(nodes.Import)}

    def is_macro(node: nodes.Node) -> bool:
        if not (isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr)):
            return False
        return isinstance(node.node.node, nodes.Name) and node.node.node.name in macros

    found = [node for node in tree.find_all(TEMPLATE_ARITHMETIC) if not is_macro(node)]
    return [f"line {node.lineno}: {type(node).__name__}" for node in found]


# Every file opens with its purpose


@pytest.mark.parametrize("path", named(python_files("codegen", "host", "scripts", "boards", "tests")))
def test_python_files_open_with_their_purpose(path: Path) -> None:
    purpose = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert is_sentence(purpose), "begin the file with a docstring that says in one sentence what it is for"


@pytest.mark.parametrize("path", named([*cpp_files("core", "app", "port", "bench"), *ASSEMBLY]))
def test_cpp_and_assembly_files_open_with_their_purpose(path: Path) -> None:
    comment = re.match(r"(?://[^\n]*\n)+", path.read_text(encoding="utf-8"))
    assert comment and is_sentence(re.sub(r"(?m)^// ?", "", comment[0])), "begin the file with a // comment of one sentence"


@pytest.mark.parametrize("path", named(TEMPLATES))
def test_templates_open_with_their_purpose(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    comment = re.fullmatch(r"// (.*)|\{# (.*) #\}", first)
    assert comment and is_sentence(comment[1] or comment[2])


def is_sentence(text: str) -> bool:
    """Whether the first paragraph has several words and ends like a sentence."""
    paragraph = text.strip().partition("\n\n")[0].strip()
    return len(paragraph.split()) >= 3 and re.search(r"[.:;]$", paragraph) is not None


# Tests of the rules themselves


@pytest.mark.parametrize(
    ("line", "patterns"),
    [
        ("auto* p = new float[3];", HEAP_AND_EXCEPTIONS),
        ("void* p = std::malloc(3);", HEAP_AND_EXCEPTIONS),
        ("std::vector<float> v;", HEAP_AND_EXCEPTIONS),
        ("throw 1;", HEAP_AND_EXCEPTIONS),
        ("y = std::exp(x);", FOREIGN_ARITHMETIC),
        ("double y = x;", FOREIGN_ARITHMETIC),
        ("y = __builtin_expf(x);", FOREIGN_ARITHMETIC),
    ],
)
def test_the_rules_find_forbidden_code(line: str, patterns: tuple[str, ...]) -> None:
    assert any(re.search(pattern, code_of(f"{line}  // a new thing\n")) for pattern in patterns)
    assert not any(re.search(pattern, code_of(f"// {line}\n")) for pattern in patterns)


def test_separators_in_numbers_hide_no_code() -> None:
    assert "throw" in code_of("constexpr long k = 1'000'000 / 7; throw k; constexpr long j = 2'000;")


@pytest.mark.parametrize("text", ["{{ size + 1 }}", "{{ name | upper }}", "{% set k = size %}", "{{ op.shape() }}"])
def test_decisions_in_a_template_are_found(text: str) -> None:
    assert decisions(text)
    assert not decisions("{% import call.template as op %}{{ op.forward(call) }}{{ size }}")


def test_relative_imports_are_resolved() -> None:
    assert "tinymetafed_codegen.section" in imported(ROOT / "codegen" / "tinymetafed_codegen" / "ops" / "layer.py")
    assert "tinymetafed.devices.link.session" in imported(PACKAGE / "devices" / "device_clients.py")


# Files that measure a board's clock, run as a process of their own, or implement waiting for events.
MAY_READ_THE_CLOCK = {"clocks.py", "test_boards.py", "test_custom_runner.py", "small_runs.py", "watched_runs.py"}


def test_tests_and_devices_read_time_from_a_given_clock() -> None:
    """A test that reads the machine's clock depends on the machine's speed."""
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in MAY_READ_THE_CLOCK]
    devices = [path for path in (ROOT / "host/tinymetafed/devices").rglob("*.py") if path.name != "clock.py"]
    clock_use = r"(?m)^import time$|^from time import|\btime\.(sleep|monotonic|time|perf_counter)\("
    for path in [*tests, *devices]:
        code = re.sub(r'(?s)""".*?"""|"[^"\n]*"', "", path.read_text())  # programs in strings run in processes of their own
        assert not re.search(clock_use, code), f"{path}: reads the machine's clock; use devices/link/clock.py"
