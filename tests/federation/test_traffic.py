"""Sums and differences of traffic take in every field."""

from __future__ import annotations

from dataclasses import fields

from tinymetafed.federation.clients import Traffic


def test_every_field_is_added_and_subtracted() -> None:
    names = [field.name for field in fields(Traffic)]
    early = Traffic(**{name: 1 + i for i, name in enumerate(names)})
    more = Traffic(**{name: 100 * (1 + i) for i, name in enumerate(names)})
    assert early + more == Traffic(**{name: 101 * (1 + i) for i, name in enumerate(names)})
    assert (early + more) - early == more
