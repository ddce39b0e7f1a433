"""The tape's version counters: a derivative that needs an array that was overwritten is an error, others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError


def _add_one(t: Any) -> None:
    with gx.no_grad():
        t.assign(t + 1)


#: What is computed from w, and whether its derivative needs w's old value.
OPERANDS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "w * w": (lambda w: w * w, True),
    "sin(w)": (np.sin, True),
    "w / 2": (lambda w: w / 2.0, False),
    "w + 1": (lambda w: w + 1.0, False),
    "-w": (lambda w: -w, False),
    "exp(w), by its result": (np.exp, False),
    "w.T": (lambda w: w.reshape(1, 2).T, False),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_operand_overwritten_after_use(name: str) -> None:
    function, needed = OPERANDS[name]
    fresh = gx.tensor([2.0, 3.0], requires_grad=True)
    function(fresh).sum().backward()
    w = gx.tensor([2.0, 3.0], requires_grad=True)
    loss = function(w).sum()
    _add_one(w)
    if needed:
        with pytest.raises(GradientError, match="overwritten in place"):
            loss.backward()
    else:
        loss.backward()
        np.testing.assert_array_equal(w.grad.numpy(), fresh.grad.numpy())


def test_result_overwritten_after_use() -> None:
    w = gx.tensor([2.0, 3.0], requires_grad=True)
    y = np.exp(w)
    loss = y.sum()
    _add_one(y.detach())
    with pytest.raises(GradientError, match="overwritten in place"):
        loss.backward()


def test_overwriting_through_a_view_counts() -> None:
    w = gx.tensor([[2.0, 3.0], [4.0, 5.0]], requires_grad=True)
    loss = (w * w).sum()
    with gx.no_grad():
        w.detach().reshape(4)[1:] += 1.0
    with pytest.raises(GradientError, match="overwritten in place"):
        loss.backward()


def test_overwriting_before_use_is_fine() -> None:
    w = gx.tensor([2.0, 3.0], requires_grad=True)
    _add_one(w)
    (w * w).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [6.0, 8.0])
