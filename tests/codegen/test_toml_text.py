"""TOML texts that somebody has made to do harm are refused by each reader as a mistake in the file is."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from harmful_toml import HARMFUL_TOML

import tinymetafed
from tinymetafed.devices.key_file import KeyFile, KeyFileError
from tinymetafed.experiments import SweepError, TuneError
from tinymetafed.experiments.sweep import load as load_sweep
from tinymetafed.experiments.tune.search_space import read as read_space
from tinymetafed.gateways.gateway_fields import FieldReader, FieldWriter, GatewayMessageError
from tinymetafed.gateways.terms import Terms
from tinymetafed_codegen.spec import SpecError, load
from tinymetafed_codegen.toml_text import MOST_LEVELS, decoded

SINE = load(tinymetafed.example("sine.toml"))
READERS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "experiment": (tinymetafed.load, SpecError, "not valid TOML: "),
    "sweep": (load_sweep, SweepError, "not valid TOML: "),
    "search": (lambda file: read_space(file, SINE, lambda values: SINE), TuneError, "not valid TOML: "),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", HARMFUL_TOML)
def test_a_file_is_refused_as_one_with_a_mistake(what: str, reader: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.toml"
    file.write_text(HARMFUL_TOML[what], encoding="utf-8")
    read, kind, said = READERS[reader]
    with pytest.raises(kind, match=said) as refused:
        read(file)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("what", HARMFUL_TOML)
def test_keys_and_terms_of_a_gateway_are_refused(what: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.touch(0o600)
    file.write_text(HARMFUL_TOML[what], encoding="utf-8")
    if what != "one long key":  # which has no boards
        with pytest.raises(KeyFileError, match="is not a file of keys"):
            KeyFile(file).boards()
    writer = FieldWriter()
    Terms("1", HARMFUL_TOML[what], *"abcd").write(writer)
    with pytest.raises(GatewayMessageError, match="its experiment is not TOML"):
        Terms.read(FieldReader(writer.finished()))


@pytest.mark.parametrize("levels", [MOST_LEVELS - 1, MOST_LEVELS])
def test_so_many_levels_are_read_and_no_more(levels: int) -> None:
    text = "x = " + "[" * levels + "]" * levels
    if levels < MOST_LEVELS:
        assert list(decoded(text)) == ["x"]
    else:
        with pytest.raises(tomllib.TOMLDecodeError, match="levels"):
            decoded(text)
