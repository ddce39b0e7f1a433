"""The float64 definitions of functions that NumPy lacks, against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from graphc.ops import references

Array = np.ndarray[Any, Any]
POINTS = np.concatenate(
    [
        np.random.default_rng(0).uniform(-7, 7, 1500),
        np.random.default_rng(1).uniform(-0.6, 0.6, 500),
        np.random.default_rng(2).uniform(3.8, 27, 500),
        np.geomspace(1e-300, 30, 200),
        [0.46875, np.nextafter(0.46875, 1), 4.0, np.nextafter(4.0, 5), -0.46875, -4.0, 0.5, 1.0],
    ]
)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


@pytest.mark.parametrize(
    ("function", "exact", "bound"),
    [
        (references.erf, mpmath.erf, 3.0),
        (references.erfc, mpmath.erfc, 5.0),
        (references.sigmoid, sigmoid, 2.0),
    ],
)
def test_error_in_ulp(function: Callable[[Array], Array], exact: Callable[[Any], Any], bound: float) -> None:
    found = function(POINTS)
    with mpmath.workprec(160):
        for x, y in zip(POINTS.tolist(), found.tolist(), strict=True):
            expected = exact(mpmath.mpf(x))
            if abs(expected) < np.finfo(np.float64).tiny:
                assert abs(y - expected) <= 1e-300
                continue
            assert abs(y - expected) <= bound * np.spacing(abs(float(expected))), (x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(dtype: type) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        erf, erfc, sigmoid_ = references.erf(x), references.erfc(x), references.sigmoid(x)
    assert all(y.dtype == dtype for y in (erf, erfc, sigmoid_))
    assert str(erf.tolist()) == "[0.0, -0.0, 1.0, -1.0, nan]"
    assert str(erfc.tolist()) == "[1.0, 1.0, 0.0, 2.0, nan]"
    assert str(sigmoid_.tolist()) == "[0.5, 0.5, 1.0, 0.0, nan]"
    assert references.erf(np.zeros((0, 3), dtype)).shape == (0, 3)
    assert references.erf(np.asarray(dtype(0.5))).shape == ()
