"""docs/conformance.md is what the tree gives, and every gap has a reason."""

from __future__ import annotations

from pathlib import Path

from graphc.tools.conformance import MISSING, SECTIONS, has, page

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_is_current(bless: bool) -> None:
    if bless:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run pytest --bless on this file"


def test_every_gap_has_a_reason_and_no_other_name() -> None:
    names = [name for text in SECTIONS.values() for name in text.split()]
    assert len(set(names)) == len(names)
    assert {name for name in names if not has(name)} == set(MISSING)
