"""The website: links of the documents become links between its pages, every document is in its contents."""

from __future__ import annotations

import importlib.util
import posixpath
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from test_docs import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: `make setup` brings it")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    described = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "docs_site.py")
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[described.name] = module  # where its dataclasses look for their module
    described.loader.exec_module(module)
    return module


def contents() -> list[str]:
    """The pages in the order of the site's contents."""

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        """Takes a Python object in the file for nothing."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)

    def pages(entries: list[Any]) -> list[str]:
        found = []
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                found += pages(value) if isinstance(value, list) else [value]
        return found

    return pages(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"])


def test_every_document_stands_once_in_the_contents(site: ModuleType) -> None:
    assert sorted(contents()) == sorted([*(document.page for document in site.documents()), site.API])


@pytest.mark.parametrize(
    ("document", "link", "expected"),
    [
        ("docs/data.md", "(own-task.md#options)", "(own-task.md#options)"),
        ("docs/data.md", "(../README.md#simulate)", "(index.md#simulate)"),
        ("docs/data.md", "(#keywords)", "(#keywords)"),
        ("docs/data.md", "(https://arxiv.org/abs/1804.03209)", "(https://arxiv.org/abs/1804.03209)"),
        ("docs/data.md", "(../firmware/core/topk.hpp)", "(source/firmware/core/topk.hpp.md)"),
        ("docs/data.md", "(../examples/sweeps)", "(source/examples/sweeps.md)"),
        ("README.md", "(docs/data.md#omniglot)", "(data.md#omniglot)"),
        ("README.md", "(CONTRIBUTING.md)", "(contributing.md)"),
        ("CONTRIBUTING.md", "(docs/costs.svg)", "(costs.svg)"),
    ],
)
def test_links_lead_to_pages_of_the_site(site: ModuleType, document: str, link: str, expected: str) -> None:
    text = f"A [`link` with [brackets]]{link} and more.\n\n```text\nCode with a [link]{link} stays.\n```\n"
    assert site.Document(document, text).for_site() == text.replace(link, expected, 1)


def test_every_file_that_is_linked_to_exists_and_gets_a_page_that_shows_all_of_it(site: ModuleType) -> None:
    linked = {path for document in site.documents() for path in document.linked() if not path.startswith("docs/")}
    assert len(linked) > 50 and all((ROOT / path).exists() for path in linked)
    for path in sorted(linked - set(site.TOP)):
        page = site.source_page(path, linked)
        if (ROOT / path).is_file():
            assert (ROOT / path).read_text(encoding="utf-8").rstrip() in page
        else:
            here = posixpath.dirname(site.page_of(path))
            targets = {posixpath.normpath(posixpath.join(here, target)) for target in re.findall(r"\]\(([^)]+)\)", page)}
            assert targets <= {site.page_of(file) for file in linked}
