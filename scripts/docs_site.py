"""Hooks of MkDocs: the project's documents as a website, with pages for the files that they link to and for the public API."""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"
# Pages beside those of docs/.
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SOURCE = "source"  # folder of the pages that show files
API = "api-reference.md"
LINK = re.compile(r"(?P<before>\[(?:[^\]\[]|\[[^\]]*\])*\]\()(?P<target>[^)\s]+)(?P<after>(?:\s+\"[^\"]*\")?\))")
FENCE = re.compile(r"(?ms)^(?P<fence>```+)[^\n]*\n.*?^(?P=fence)\s*$")
LANGUAGES = {".py": "python", ".cpp": "cpp", ".hpp": "cpp", ".h": "c", ".toml": "toml", ".json": "json", ".ini": "ini"}


@dataclass(frozen=True)
class Document:
    """A Markdown file of the project.

    Attributes:
        path: Path in the project, with slashes.
        text: Its Markdown.
    """

    path: str
    text: str

    @property
    def page(self) -> str:
        """Path of its page in the site's sources."""
        return TOP.get(self.path) or self.path.removeprefix(f"{DOCS}/")

    def linked(self) -> set[str]:
        """Paths in the project of the files and folders that it links to."""
        return {path for match in LINK.finditer(FENCE.sub("", self.text)) if (path := self._project_path(match["target"]))}

    def for_site(self) -> str:
        """Its Markdown with links between pages of the site; code blocks and links to other sites are as they were."""
        pieces, at = [], 0
        for fence in FENCE.finditer(self.text):
            pieces += [LINK.sub(self._rewritten, self.text[at : fence.start()]), fence[0]]
            at = fence.end()
        return "".join([*pieces, LINK.sub(self._rewritten, self.text[at:])])

    def _rewritten(self, match: re.Match[str]) -> str:
        path = self._project_path(match["target"])
        if path is None:
            return match[0]
        heading = match["target"].partition("#")[2] if path.endswith(".md") else ""
        target = posixpath.relpath(page_of(path), posixpath.dirname(self.page) or ".")
        return f"{match['before']}{target}{'#' + heading if heading else ''}{match['after']}"

    def _project_path(self, target: str) -> str | None:
        """Path in the project of a link's file; None for other sites and for headings of the same page."""
        name = target.partition("#")[0]
        if not name or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return None
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), name))


def page_of(path: str) -> str:
    """The page, or the file of docs/, that shows a file or folder of the project.

    Args:
        path: Path in the project, with slashes.

    Returns:
        Path in the site's sources.
    """
    if path in TOP:
        return TOP[path]
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    return f"{SOURCE}/{path.lstrip('.')}.md"  # MkDocs leaves out what begins with a dot


def documents() -> list[Document]:
    """All Markdown files that become pages."""
    paths = [*TOP, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / DOCS).rglob("*.md")))]
    return [Document(path, (ROOT / path).read_text(encoding="utf-8")) for path in paths]


def source_page(path: str, shown: Iterable[str]) -> str:
    """Markdown that shows a file, or the list of a folder's files.

    Args:
        path: Path in the project.
        shown: Paths that have a page; a folder's page links to them.
    """
    head = f"---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n# {path}\n\n"
    file = ROOT / path
    if file.is_dir():
        known = set(shown)
        names = subprocess.run(
            ["git", "ls-files", "--", path], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        here = posixpath.dirname(page_of(path))
        lines = [f"- [{name}]({posixpath.relpath(page_of(name), here)})" if name in known else f"- {name}" for name in names]
        return head + "\n".join(lines) + "\n"
    text = file.read_text(encoding="utf-8", errors="replace")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{head}{fence}{LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def api_page(names: Iterable[str], module_of: Mapping[str, str]) -> str:
    """Markdown of the API reference: the public names by the module that defines them, for mkdocstrings.

    Args:
        names: Public names.
        module_of: Module of each name, relative to the package.
    """
    by_module: dict[str, list[str]] = {}
    for name in names:
        by_module.setdefault(module_of.get(name, "."), []).append(name)
    lines = ["# API reference", "", "Every public name of `tinymetafed`; [the guide](api.md) shows how they work together.", ""]
    for module in sorted(by_module):
        lines += [f"## {module.rpartition('.')[2].replace('_', ' ').capitalize() or 'Package'}", ""]
        lines += [f"::: tinymetafed.{name}\n" for name in sorted(by_module[module])]
    return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that docs/ does not have: the top-level documents, the files that are linked to, the API reference."""
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File

    import tinymetafed

    pages = documents()
    if broken := [f"{page.path}: {path}" for page in pages for path in sorted(page.linked()) if not (ROOT / path).exists()]:
        raise PluginError(f"links to files that do not exist:\n{chr(10).join(broken)}")
    linked = {path for page in pages for path in page.linked() if not path.startswith(f"{DOCS}/") and path not in TOP}
    made = {page.page: page.for_site() for page in pages if page.path in TOP}
    made |= {page_of(path): source_page(path, linked) for path in sorted(linked)}
    made[API] = api_page(tinymetafed.__all__, tinymetafed._MODULE_OF)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Makes the links of a document of docs/ lead to pages of the site."""
    name = page.file.src_uri
    if page.file.generated_by is not None:
        return markdown
    return Document(f"{DOCS}/{name}", markdown).for_site()
