"""Every function of the standard wrapped as it is, `gx.compile(f)`, and called with the arguments of a caller: arrays, numbers,
shapes, dtypes, keywords."""

from __future__ import annotations

import random
from typing import Any

import pytest

import graphc as gx
from array_api import (
    standard,
    test_creation,
    test_dtypes,
    test_elementwise,
    test_linalg,
    test_reductions,
    test_shapes,
)
from array_api.cases import Case, difference, prepared

GROUPS = [
    *(getattr(test_creation, n) for n in ("_filled", "_full", "_asarray", "_ranges", "_matrices")),
    *(getattr(test_shapes, n) for n in ("_reshapes", "_axes", "_rolls", "_repeats", "_joins", "_broadcasts")),
    *test_reductions.GROUPS,
    test_elementwise._unary,
    lambda: test_elementwise._binary(1),
    test_elementwise._clip,
    *(getattr(test_linalg, n) for n in ("_products", "_parts", "_norms")),
    test_dtypes._casts,
]

#: Functions whose results are no arrays, or are promises (factorisations) that other tests check; sizes that values
#: decide are refused.
ELSEWHERE = {
    *standard.words("can_cast finfo iinfo isdtype result_type __array_namespace_info__"),
    *test_reductions.SIZED_BY_VALUES,
    *(n for n in standard.FUNCTIONS if n.startswith("fft.")),
    *(
        f"linalg.{n}"
        for n in standard.words("cholesky det eig eigh eigvals eigvalsh inv matrix_rank pinv qr slogdet solve")
    ),
    *("linalg.svd", "linalg.svdvals"),
}


def _examples() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for group in GROUPS:
        for case in group():
            if case.call is None:
                found.setdefault(case.name, []).append(case)
    return found


EXAMPLES = _examples()


def test_every_function_has_examples() -> None:
    assert set(standard.FUNCTIONS) - ELSEWHERE == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("count", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_wrapped(name: str, count: int) -> None:
    function: Any = gx.compile(standard.function(name))
    examples = EXAMPLES[name]
    for case in random.Random(name).sample(examples, min(count, len(examples))):
        args, kwargs = prepared(case)
        fault = difference(function(*args, **kwargs), case.expected, case.ulps)
        assert fault is None, f"{case}: {fault}"


@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    [
        ("can_cast", (gx.int8, gx.int16), True),
        ("isdtype", (gx.float32, "real floating"), True),
        ("result_type", (gx.float32, gx.float64), gx.float64),
        ("finfo", (gx.float32,), gx.finfo(gx.float32)),
        ("iinfo", (gx.int8,), gx.iinfo(gx.int8)),
    ],
)
def test_wrapped_questions(name: str, args: Any, wanted: Any) -> None:
    """Results that are no arrays come through as they are."""
    assert gx.compile(standard.function(name))(*args) == wanted
