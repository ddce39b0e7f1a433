"""The generated pages, docs/conformance.md and docs/reference/, are what the tree gives, and every gap has a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphc.tools.conformance import MISSING, SECTIONS, has, page
from graphc.tools.reference import namespace_page, ops_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"conformance.md": page, "reference/ops.md": ops_page, "reference/namespace.md": namespace_page}


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="the pages list the functions of NumPy 2.2")
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str, bless: bool) -> None:
    """On a conflict: `pytest --bless` on this file writes all pages anew."""
    write: Callable[[], str] = PAGES[name]
    if bless:
        (DOCS / name).write_text(write(), encoding="utf-8")
    assert (DOCS / name).read_text(encoding="utf-8") == write(), "run pytest --bless on this file"


def test_every_gap_has_a_reason_and_no_other_name() -> None:
    names = [name for text in SECTIONS.values() for name in text.split()]
    assert len(set(names)) == len(names)
    assert {name for name in names if not has(name)} == set(MISSING)
