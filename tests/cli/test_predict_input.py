"""Samples that no board is asked for, because they are no finite numbers: the error names them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinymetafed import cli


@pytest.mark.filterwarnings("error")
def test_what_is_no_sample_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes.csv").write_bytes(bytes(range(256)))
    for words, why in (
        (("--csv", str(tmp_path / "bytes.csv")), "bytes.csv: is not text in UTF-8"),
        (("--csv", str(tmp_path)), f"{tmp_path}: Is a directory"),
        (("--features", "1e39"), "sample 1: a feature is NaN or infinite"),
        (("--features", "1", "--features", "inf"), "sample 2: a feature is NaN or infinite"),
        (("--features", ""), "expected numbers with commas between them"),
    ):
        monkeypatch.setattr(sys, "argv", ["tinymetafed", "predict", "/dev/nothing", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code in (1, 2) and why in " ".join(capsys.readouterr().err.split())
