"""Compiled code of every function that is not exactly rounded keeps to the bounds that its op declares.

float32: every 257th of all bit patterns (all of them were run once: docs/accuracy.md), and a sample of pairs; float64: points
against mpmath.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.dtypes import float32, float64, from_name
from graphc.ir import registry
from graphc.ir.op import Elementwise

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import accuracy  # noqa: E402
from benchmarks.accuracy import CHUNK, PATTERNS, Errors  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the references
UNARY = accuracy.inexact(1)
BINARY = accuracy.inexact(2)


def each(ops: list[Elementwise]) -> Any:
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.name)


@each(UNARY)
def test_every_257th_float32(op: Elementwise) -> None:
    found = accuracy.measure32(op, ((x,) for x in accuracy.patterns(257)))
    assert found.count >= PATTERNS // 257
    assert found.worst <= op.bound(float32), found.at
    # A bound that is much too wide says nothing.
    assert found.worst > op.bound(float32) - 1


@each(BINARY)
def test_pairs_of_float32(op: Elementwise) -> None:
    x, y = accuracy.pairs(np.float32, 3 * CHUNK, op.name, 11)
    chunks = ((x[k : k + CHUNK], y[k : k + CHUNK]) for k in range(0, x.size - CHUNK + 1, CHUNK))
    found = accuracy.measure32(op, chunks)
    assert found.count > 10 * CHUNK
    assert found.worst <= op.bound(float32), found.at


@each([*UNARY, *BINARY])
def test_float64(op: Elementwise) -> None:
    found = accuracy.measure64(op, 200, 5)
    assert found.count > 300
    assert found.worst <= op.bound(float64), found.at


# -- the judge itself ---------------------------------------------------------------------------------------------------------


def test_errors_are_counted_in_units_of_the_exact_result() -> None:
    exact = np.array([1.0, 1.0 + 2.0**-24, 1.0 - 2.0**-26, 4.0, 2.0**-149 * 1.5, 0.0, -0.0])
    got = np.array([1.0 + 2.0**-23, 1.0, 1.0, 4.0, 2.0**-148, 0.0, -0.0], np.float32)
    assert accuracy.errors32(got, exact).tolist() == [1.0, 0.5, 0.25, 0.0, 0.5, 0.0, 0.0]


def test_special_results_are_right_or_infinitely_wrong() -> None:
    inf, nan = np.inf, np.nan
    exact = np.array([inf, -inf, nan, nan, 1.0, 1.0, 0.0, -0.0, 1e-60, 2.0**128, -(2.0**128), inf])
    got = np.array([inf, inf, nan, 1.0, nan, inf, -0.0, 0.0, 0.0, inf, -inf, 3e38], np.float32)
    errors = accuracy.errors32(got, exact)
    right = [True, False, True, False, False, False, False, False, True, True, True, False]
    assert (errors <= 1).tolist() == right
    assert accuracy.errors32(np.array([inf], np.float32), np.array([2.0**128 - 2.0**103]))[0] == 0.5


def test_a_wrong_result_anywhere_is_found() -> None:
    op = UNARY[0]
    run = accuracy.compiled(op, float32, CHUNK)
    for place in (0, 12345, CHUNK - 1):

        def faulty(x: Any, place: int = place) -> Any:
            y = run(x).copy()
            y[place] = np.nextafter(y[place], np.float32(np.inf), dtype=np.float32) if y[place] else 1
            y[place] = np.nextafter(y[place], np.float32(np.inf), dtype=np.float32)
            return y

        found = accuracy.measure32(op, ((x,) for x in accuracy.patterns(1, 2**29, 2**29 + CHUNK)), faulty)
        assert found.count == CHUNK and found.worst > 1
        assert found.at == [float(np.uint32(2**29 + place).view(np.float32))]


def test_histograms_count_everything() -> None:
    found = Errors()
    found.add(np.array([0.0, 0.5, 0.51, 0.6, 0.61, 3.99, 100.0]), [np.arange(7.0)], 3)
    assert found.count == sum(found.histogram) == 10
    assert {k: n for k, n in enumerate(found.histogram) if n} == {5: 5, 6: 2, 7: 1, 40: 1, 60: 1}
    assert (found.worst, found.at) == (100.0, [6.0])


# -- what was measured --------------------------------------------------------------------------------------------------------


def test_the_page_is_what_was_measured_and_within_the_bounds(bless: bool) -> None:
    measured = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))
    text = ROOT / "docs" / "accuracy.md"
    if bless:
        text.write_text(accuracy.page(measured), encoding="utf-8")
    assert text.read_text(encoding="utf-8") == accuracy.page(measured), "run python -m benchmarks.accuracy --page"
    assert set(measured) == {op.name for op in [*UNARY, *BINARY]}
    for name, by_dtype in measured.items():
        op = registry.get(name)
        assert isinstance(op, Elementwise)
        for dtype, numbers in by_dtype.items():
            found = Errors(**numbers)
            assert found.count == sum(found.histogram)
            assert found.worst <= op.bound(from_name(dtype)), (name, dtype)
        if op.arity == 1:
            assert by_dtype["f32"]["count"] == PATTERNS
