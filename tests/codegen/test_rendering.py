"""Templates: compiled once for all commands, and again where the compiled one is damaged or out of date."""

from __future__ import annotations

import os
from pathlib import Path

import jinja2
import pytest

from tinymetafed_codegen.rendering import environment


def test_a_template_is_compiled_once_and_again_where_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path / "builds"))
    source = tmp_path / "greeting.j2"
    source.write_text("{{ word }} &\n")

    def rendered(*, html: bool = False) -> str:
        made = environment([tmp_path], html=html)  # as in another process
        return made.get_template("greeting.j2").render(word="<hello>")

    assert rendered() == "<hello> &\n" and rendered(html=True) == "&lt;hello&gt; &"
    compiled = sorted((tmp_path / "builds" / "templates").iterdir())
    assert len(compiled) == 2
    before = [file.read_bytes() for file in compiled]
    assert rendered() == "<hello> &\n" and rendered(html=True) == "&lt;hello&gt; &"
    for file, content in zip(compiled, before, strict=True):
        for damaged in (b"", content[:40], content[:20] + b"?" * 40):
            file.write_bytes(damaged)
            assert rendered() == "<hello> &\n" and rendered(html=True) == "&lt;hello&gt; &"
    source.write_text("{{ word }}!\n")
    assert rendered() == "<hello>!\n"


def test_another_jinja2_compiles_templates_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path / "builds"))
    (tmp_path / "greeting.j2").write_text("hello")
    for version in ("3.1.2", "3.1.9"):
        monkeypatch.setattr(jinja2, "__version__", version)
        assert environment([tmp_path]).get_template("greeting.j2").render() == "hello"
    assert len(list((tmp_path / "builds" / "templates").iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make a folder of another user")
def test_templates_that_another_user_could_have_compiled_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path / "builds"))
    (tmp_path / "greeting.j2").write_text("hello")
    folder = tmp_path / "builds" / "templates"
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    assert environment([tmp_path]).get_template("greeting.j2").render() == "hello"
    assert not list(folder.iterdir())
