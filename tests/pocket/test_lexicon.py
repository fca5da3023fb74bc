"""The data files of the review grammar are complete, and part of the package."""

import re
import tomllib
from pathlib import Path

import pytest

from tunewise.pocket.lexicon import ADJECTIVES, FACET_ADJECTIVES, KINDS, PARTS, POLAR, RULES, Kind

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "tunewise" / "pocket"
COMPUTED = {"it", "this", "is", "be", "part", "rich", "trait", "mild_trait", "adj", "mild"} | {
    *("liked", "thing", "thing_s", "kind"),
}
"""Slots that the code fills; all others are rules or lists of words."""


@pytest.mark.parametrize("kind", {kind.things: kind for kind in KINDS}.values())
def test_every_slot_can_be_filled_for_every_kind(kind: Kind) -> None:
    families = {family for name in (*RULES, *POLAR) for family in name.split()[1:]}
    assert kind.family in families
    others = tuple(f" {family}" for family in families - {kind.family})
    lists = {**RULES, **kind.words} | {name: sum(pair, ()) for name, pair in POLAR.items()}
    usable = {name: entries for name, entries in lists.items() if not name.endswith(others)}
    known = COMPUTED | {name.removesuffix(f" {kind.family}") for name in usable}
    for name, entries in usable.items():
        for slot in re.findall(r"\{[+-]?(\w+)\}", " ".join(entries)):
            assert slot in known, name


def test_every_facet_has_parts_and_adjectives() -> None:
    for facet in {facet for kind in KINDS for facet in kind.facets}:
        assert PARTS[facet]
        assert all(ADJECTIVES[FACET_ADJECTIVES.get(facet, facet)])


def test_every_data_file_is_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["tunewise"]
    packed = {path for pattern in patterns for path in (ROOT / "tunewise").glob(pattern)}
    files = {
        path for path in POCKET.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in files if path.suffix != ".py"} <= packed
