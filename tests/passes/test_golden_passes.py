"""Each pass on small graphs, from tests/golden/<pass>.gir."""

from __future__ import annotations

from pathlib import Path

import golden_gir
import pytest

from graphc.errors import BoundsError
from graphc.interp import evaluate
from graphc.ir.parser import parse
from graphc.passes.check import differences, sample
from graphc.passes.pipelines import PASSES, parse_passes

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.gir"))
CASES = [(path, case) for path in FILES for case in golden_gir.read(path)[1]]


@pytest.mark.parametrize(("path", "case"), CASES, ids=[f"{p.stem}: {c.name}" for p, c in CASES])
def test_golden(path: Path, case: golden_gir.Case, bless: bool) -> None:
    if bless:
        golden_gir.bless(path)
        (case,) = (c for c in golden_gir.read(path)[1] if c.name == case.name)
    assert case.outcome() == case.expected


@pytest.mark.parametrize(("path", "case"), CASES, ids=[f"{p.stem}: {c.name}" for p, c in CASES])
def test_golden_output_has_the_values_of_its_input(path: Path, case: golden_gir.Case) -> None:
    """Whatever was blessed: the graph in the file computes what its input computes."""
    if not case.expected.startswith("# gives:") or any(p.preserves != "values" for p in parse_passes(case.passes)):
        return
    before, after = parse(case.source), parse(case.expected.partition("\n")[2])
    arguments = sample(before)
    try:
        expected = evaluate(before, arguments)
    except BoundsError:
        with pytest.raises(BoundsError):
            evaluate(after, arguments)
        return
    assert differences(expected, after, arguments) is None


def test_every_pass_has_a_golden_file() -> None:
    named = {p.name for _, case in CASES if case.expected.startswith("# gives:") for p in parse_passes(case.passes)}
    assert named == set(PASSES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_case_names_are_unique(path: Path) -> None:
    names = [c.name for c in golden_gir.read(path)[1]]
    assert len(set(names)) == len(names)
