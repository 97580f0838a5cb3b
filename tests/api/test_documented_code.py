"""The Python code of docs/api.md, docs/live.md and of the README's section on notebooks runs unchanged, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tinymetafed as tmf

ROOT = Path(__file__).parents[2]
SECTION = "## In a notebook"
BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```$")


def readme_section() -> str:
    """The README's section on notebooks, up to the next heading."""
    _, found, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n{SECTION}\n")
    assert found, f"README.md has no section {SECTION}"
    return rest.partition("\n## ")[0]


def run(text: str, name: str) -> dict[str, object]:
    """Runs the Python blocks of a text in one namespace and returns it; errors contain ``name`` and the block."""
    blocks = BLOCK.findall(text)
    assert blocks, f"{name} has no Python block"
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{name}, Python block {number}", "exec"), names)
    return names


def test_the_page_of_the_api_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_once: None) -> None:
    monkeypatch.chdir(tmp_path)
    names = run((ROOT / "docs" / "api.md").read_text(encoding="utf-8"), "docs/api.md")
    assert isinstance(names["table"], tmf.SweepTable) and len(names["table"].rows) == 2
    for file in (
        "runs/simulated/report.html",
        "comparison.html",
        "weights.h",
        "gestures/experiment.toml",
        "generated/model.hpp",
    ):
        assert (tmp_path / file).is_file()


def test_the_readmes_section_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_once: None) -> None:
    monkeypatch.chdir(tmp_path)
    # The section is read in a checkout.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = run(readme_section(), "README.md")
    assert isinstance(names["run"], tmf.Run) and names["run"].finished
    assert (names["run"].path / "report.html").is_file() and (tmp_path / "weights.npz").is_file()


def test_the_page_about_watching_runs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = run((ROOT / "docs" / "live.md").read_text(encoding="utf-8"), "docs/live.md")["state"]
    assert isinstance(state, tmf.RunState) and state.phase == "finished" and state.rounds == 50


def test_every_name_on_the_page_is_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8") + readme_section()
    assert set(re.findall(r"\btmf\.(\w+)", page)) <= set(tmf.__all__)


def test_every_error_of_the_api_is_on_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    errors = {
        name for name in tmf.__all__ if isinstance(getattr(tmf, name), type) and issubclass(getattr(tmf, name), tmf.Error)
    }
    assert {name for name in errors if f"`{name}`" not in page} <= {"Error"}


def test_failing_code_is_reported() -> None:
    with pytest.raises(ZeroDivisionError):
        run("text\n```python\na = 1\n```\n```python\na / 0\n```\n", "a page")
    with pytest.raises(AssertionError, match="no Python block"):
        run("text\n```toml\na = 1\n```\n", "a page")
