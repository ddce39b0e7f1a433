"""erfinv, lgamma, digamma, polygamma: against mpmath, dynamically and compiled, with the stated bounds."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special

import graphc as gx
from graphc.errors import UnsupportedError

RNG = np.random.default_rng(21)
both = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
POSITIVE = np.concatenate(
    [
        RNG.uniform(0, 12, 400),
        1 + RNG.uniform(-1, 1, 60) * 10.0 ** RNG.uniform(-12, 0, 60),
        2 + RNG.uniform(-1, 1, 60) * 10.0 ** RNG.uniform(-12, 0, 60),
        10.0 ** RNG.uniform(-300, 300, 100),
        np.arange(1, 40) / 2,
    ]
)
NEGATIVE = -np.concatenate([RNG.uniform(0, 30, 200), np.arange(0.5, 20), 10.0 ** RNG.uniform(-12, 0, 50)])
UNIT = np.concatenate([RNG.uniform(-1, 1, 400), 1 - 10.0 ** RNG.uniform(-16, 0, 200), 10.0 ** RNG.uniform(-300, 0, 50)])
UNIT = UNIT[np.abs(UNIT) < 1]


def errors(found, exact, least=0.0):
    """In ulp of the exact value, or of `least` where that is greater."""
    out = []
    for y, e in zip(np.asarray(found).tolist(), exact, strict=True):
        out.append(float(abs(mpmath.mpf(y) - e) / np.spacing(max(abs(float(e)), least))))
    return out


def inverse_erf(x):
    return mpmath.erfinv(mpmath.mpf(x))


CASES = {
    "erfinv": (gx.erfinv, inverse_erf, UNIT, 6, 0.0),
    "lgamma": (gx.lgamma, lambda x: mpmath.loggamma(mpmath.mpf(x)).real, POSITIVE, 8, 0.0),
    "lgamma below": (gx.lgamma, lambda x: mpmath.loggamma(mpmath.mpf(x)).real, NEGATIVE, 8, 1.0),
    "digamma": (gx.digamma, lambda x: mpmath.digamma(mpmath.mpf(x)), POSITIVE, 8, 1.0),
    "digamma below": (gx.digamma, lambda x: mpmath.digamma(mpmath.mpf(x)), NEGATIVE, 8, 1.0),
    **{
        f"polygamma {n}": (
            lambda x, n=n: gx.polygamma(n, x),
            lambda x, n=n: mpmath.polygamma(n, mpmath.mpf(x)),
            POSITIVE[(POSITIVE > 1e-12) & (POSITIVE < 1e12)],
            8 + 4 * n,
            0.0,
        )
        for n in (1, 2, 3, 6)
    },
}


@both
@pytest.mark.parametrize("name", CASES)
def test_bound(name, mode):
    function, exact, points, bound, least = CASES[name]
    with mpmath.workprec(160):
        found = errors(mode(function)(points), [exact(x) for x in points.tolist()], least)
    assert max(found) <= bound, (max(found), points[int(np.argmax(found))])


@both
def test_float32_is_all_but_correctly_rounded(mode):
    x = RNG.uniform(0.01, 20, 500).astype(np.float32)
    for function, exact in ((gx.lgamma, scipy.special.gammaln), (gx.digamma, scipy.special.digamma)):
        found = np.asarray(mode(function)(x))
        assert found.dtype == np.float32
        wanted = exact(x.astype(np.float64))
        assert (np.abs(found - wanted) <= 0.51 * np.spacing(np.abs(wanted).astype(np.float32))).all()


@both
def test_special_values(mode):
    x = np.array([0.0, -0.0, -1.0, -2.0, 1.0, 2.0, np.inf, np.nan])
    for found, expected in (
        (mode(gx.lgamma)(x), [np.inf, np.inf, np.inf, np.inf, 0, 0, np.inf, np.nan]),
        (mode(gx.digamma)(x)[[0, 1, 2, 3, 6, 7]], [-np.inf, np.inf, np.nan, np.nan, np.inf, np.nan]),
        (mode(gx.erfinv)(np.array([0.0, -0.0, 1.0, -1.0, 1.5, np.nan])), [0, -0.0, np.inf, -np.inf, np.nan, np.nan]),
    ):
        np.testing.assert_array_equal(found, expected)
    reflected = mode(lambda x: gx.polygamma(1, x))(np.array([-1.5, -0.25]))
    np.testing.assert_allclose(reflected, [float(mpmath.polygamma(1, v)) for v in (-1.5, -0.25)], rtol=1e-14)
    with pytest.raises(UnsupportedError, match="order"):
        gx.polygamma(-1, x)


@both
def test_derivatives(mode):
    x = np.concatenate([RNG.uniform(0.05, 30, 50), -RNG.uniform(0.1, 0.9, 10) - np.arange(10)])
    gradient = mode(gx.grad(lambda x: gx.lgamma(x).sum()))(x)
    np.testing.assert_allclose(gradient, scipy.special.digamma(x), rtol=1e-11, atol=1e-11)
    gradient = mode(gx.grad(lambda x: gx.digamma(x).sum()))(x[:50])
    np.testing.assert_allclose(gradient, scipy.special.polygamma(1, x[:50]), rtol=1e-11)
    u = RNG.uniform(-0.999, 0.999, 50)
    gradient = mode(gx.grad(lambda x: gx.erfinv(x).sum()))(u)
    np.testing.assert_allclose(gradient, np.sqrt(np.pi) / 2 * np.exp(scipy.special.erfinv(u) ** 2), rtol=1e-11)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_polygamma_of_negative_numbers(n, mode):
    x = np.r_[-np.random.default_rng(n).uniform(0, 12, 100), [-0.5, -1.5, -2.25, -1e-3, -11.5]]
    found = np.asarray(mode(lambda x: gx.polygamma(n, x))(x))
    for place, y in zip(x, found, strict=True):
        exact, positive = mpmath.psi(n, mpmath.mpf(place)), mpmath.psi(n, 1 - mpmath.mpf(place))
        assert abs(exact - y) <= 1e-14 * max(abs(exact), abs(positive)), place
    poles = np.asarray(mode(lambda x: gx.polygamma(n, x))(np.array([-1.0, -2.0, 0.0, np.nan])))
    expected = [np.inf, np.inf, np.inf, np.nan] if n % 2 else [np.nan, np.nan, -np.inf, np.nan]
    np.testing.assert_array_equal(poles, expected)
