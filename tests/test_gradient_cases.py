"""The tables of docs/gradients.md hold: in reverse mode, in forward mode, and compiled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx

PAGE = Path(__file__).parents[1] / "docs" / "gradients.md"
ROWS = re.findall(
    r"^\| `(.*?)` \| (.*?) \| (.*?) \| .*? \| .*? \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE
)
NAMES: dict[str, Any] = {
    name: getattr(gx, name)
    for name in (
        *(
            "where",
            "sqrt",
            "log",
            "sin",
            "abs",
            "exp",
            "log1p",
            "maximum",
            "minimum",
            "clip",
            "tan",
            "max",
            "min",
            "sort",
        ),
        *("prod", "hypot", "sign", "floor", "relu", "cumprod", "logsumexp"),
    )
}
NAMES |= {"arccos": gx.acos, "arcsin": gx.asin, "arctanh": gx.atanh, "arccosh": gx.acosh, "arctan2": gx.atan2}
NAMES |= {"norm": gx.linalg.vector_norm}


def numbers(text: str) -> np.ndarray[Any, Any]:
    return np.array([float(part) for part in text.split(",")])


def test_the_page_has_the_cases() -> None:
    assert len(ROWS) >= 45
    assert sum("where(" in expression for expression, _, _ in ROWS) >= 24
    assert not any("NaN" in found for expression, _, found in ROWS if "where(" in expression)


@pytest.mark.parametrize(("expression", "point", "expected"), ROWS, ids=[f"{e} at {x}" for e, x, _ in ROWS])
def test_case(expression: str, point: str, expected: str) -> None:
    x, wanted = numbers(point), numbers(expected)

    def f(x: Any) -> Any:
        return eval(expression, NAMES, {"x": x}).sum()

    def forward(x: Any) -> Any:
        columns = [gx.jvp(f, (x,), (unit,))[1] for unit in np.eye(x.size)]
        return np.stack(columns)

    with np.errstate(all="ignore"):
        for derivative in (gx.grad(f), gx.compile(gx.grad(f)), forward, gx.compile(forward)):
            np.testing.assert_array_equal(np.asarray(derivative(x)), wanted)
