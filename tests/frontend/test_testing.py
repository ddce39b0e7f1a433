"""check_grads passes what is right and finds what is wrong, in each mode and at each order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError, OptionError
from graphc.frontend.testing import check_grads

X = np.array([0.4, 1.3, -0.7])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_derivatives_pass(dtype: Any) -> None:
    x = X.astype(dtype)
    check_grads(lambda x, n, p: {"y": np.sin(x) * p["w"], "n": n + 1}, (x, 3, {"w": x * 2}), order=3)
    check_grads(lambda x: (x @ x, np.tanh(x)), (gx.tensor(x),), order=2)
    check_grads(gx.compile(lambda x: np.exp(x).sum()), (x,), order=2)
    check_grads(np.linalg.inv, (np.eye(3, dtype=dtype) * 2 + np.outer(x, x) / 10,), order=2)


def _wrong(order: int) -> Any:
    """The derivative number `order` of this function is 1 percent off."""

    @gx.custom_jvp
    def f(x: Any) -> Any:
        return np.sin(x)

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return f(x), t * (1.01 * np.cos(x) if order == 1 else _wrong_cosine(x))

    @gx.custom_jvp
    def _wrong_cosine(x: Any) -> Any:
        return np.cos(x)

    _wrong_cosine.defjvp(lambda p, t: (np.cos(p[0]), -1.01 * np.sin(p[0]) * t[0]))
    return f


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_wrong_derivatives_are_found(order: int, mode: str) -> None:
    f = _wrong(order)
    if order == 2:
        check_grads(f, (X,), order=1, modes=(mode,))
    with pytest.raises(GradientError, match=rf"wrong at order {order}[\s\S]*central difference[\s\S]*test_testing.py"):
        check_grads(f, (X,), order=2, modes=(mode,))


def test_a_missing_dependence_is_found() -> None:
    with pytest.raises(GradientError, match="order 1"):
        check_grads(lambda x: x * gx.stop_gradient(x), (X,))


def test_wrong_options() -> None:
    with pytest.raises(OptionError, match="modes are"):
        check_grads(np.sin, (X,), modes=("forward",))
    with pytest.raises(GradientError, match="no floating-point value"):
        check_grads(np.sin, (np.arange(3),))
