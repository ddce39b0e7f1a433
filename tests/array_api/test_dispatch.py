"""NumPy's protocols on tensors and traced values: ufuncs with their methods and keywords, functions, conversions, printing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api.cases import difference, of_kinds, sample

X = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]])
Y = np.array([2.0, -1.0, 0.5])
I = np.array([[3, 1, 2], [5, 4, 6]])


def _out(ufunc: Any, *operands: Any) -> Any:
    made = np.add(operands[0], 0.0 * operands[0])
    found = ufunc(*operands, out=made)
    return [found, made]


def _out_where(x: Any, y: Any) -> Any:
    made = np.add(x, 0.0)
    return np.multiply(x, y, out=made, where=x > 0)


#: Calls of NumPy's on arrays x, y and integers i; tensors and traced values must give the same.
CALLS: dict[str, Any] = {
    "call": lambda x, y, i: np.add(x, y),
    "call with a number": lambda x, y, i: np.multiply(2.0, x),
    "reduce": lambda x, y, i: np.add.reduce(x),
    "reduce over an axis": lambda x, y, i: np.multiply.reduce(x, axis=1, keepdims=True),
    "reduce over all": lambda x, y, i: np.maximum.reduce(x, axis=None),
    "reduce logically": lambda x, y, i: np.logical_and.reduce(x > -3, axis=(0, 1)),
    "accumulate": lambda x, y, i: np.add.accumulate(x, axis=1),
    "accumulate products": lambda x, y, i: np.multiply.accumulate(x),
    "accumulate maxima": lambda x, y, i: np.maximum.accumulate(x, 1),
    "outer": lambda x, y, i: np.multiply.outer(x, y),
    "outer sums": lambda x, y, i: np.add.outer(y, y),
    "outer comparisons": lambda x, y, i: np.less.outer(y, x),
    "out": lambda x, y, i: _out(np.add, x, y),
    "out of one operand": lambda x, y, i: _out(np.exp, x),
    "in a dtype": lambda x, y, i: np.add(x, y, dtype=np.float32),
    "in a dtype of integers": lambda x, y, i: np.divide(i, 2, dtype=np.float32),
    "out where": lambda x, y, i: _out_where(x, y),
    "two results": lambda x, y, i: np.divmod(x, y),
    "fraction and whole": lambda x, y, i: np.modf(x),
    "function": lambda x, y, i: np.concatenate([x, x], axis=1),
    "function of keywords": lambda x, y, i: np.sum(a=x, axis=0, keepdims=True),
    "function by NumPy's names": lambda x, y, i: np.tile(A=y, reps=2),
    "function of the first name": lambda x, y, i: np.moveaxis(x, source=0, destination=1),
    "where": lambda x, y, i: np.where(x > 0, x, y),
    "einsum": lambda x, y, i: np.einsum("ij,j->i", x, y),
    "norm": lambda x, y, i: np.linalg.norm(x, axis=1),
    "integers": lambda x, y, i: np.bitwise_and(i, 3),
    "divided integers": lambda x, y, i: np.true_divide(i, 2),
    "floored infinities": lambda x, y, i: np.floor_divide(x * np.inf, 2.0),
    "rounded": lambda x, y, i: np.round(x, 1),
    "clipped": lambda x, y, i: np.clip(x, -1.0, 2.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_numpy_calls(name: str) -> None:
    call = CALLS[name]
    with np.errstate(all="ignore"):
        wanted = call(X, Y, I)
    tensors = [gx.asarray(a.copy()) for a in (X, Y, I)]
    wanted = list(wanted) if isinstance(wanted, tuple) else wanted
    for found in (call(*tensors), gx.compile(call)(*tensors)):
        fault = difference(list(found) if isinstance(found, tuple) else found, wanted, 8)
        assert fault is None, fault
    arrays = gx.compile(call)(X.copy(), Y.copy(), I.copy())
    for array in arrays if isinstance(arrays, (tuple, list)) else [arrays]:
        assert type(array) is np.ndarray or np.isscalar(array)


def test_unbuffered_updates() -> None:
    for ufunc in (np.add, np.subtract, np.multiply, np.maximum, np.minimum):
        wanted, found = Y.copy(), gx.asarray(Y.copy())
        index, values = np.array([0, 2, 0]), np.array([1.0, 5.0, -2.0])
        ufunc.at(wanted, index, values)
        ufunc.at(found, index, values)
        assert difference(found, wanted, 0) is None
        compiled = gx.compile(lambda x, ufunc=ufunc, index=index, values=values: [ufunc.at(x, index, values), x][1])
        assert difference(compiled(gx.asarray(Y.copy())), wanted, 0) is None


def test_what_is_written_keeps_its_dtype() -> None:
    with pytest.raises(TypeError, match="does not take"):
        np.add(gx.asarray(X), 1.0, dtype=np.int64)
    with pytest.raises(TypeError, match="written"):
        np.divide(gx.asarray(I), 2, out=gx.asarray(I))
    plain = np.zeros((2, 3))
    assert np.add(gx.asarray(X), 1.0, out=plain) is plain and np.array_equal(plain, X + 1)


@pytest.mark.parametrize("dtype", of_kinds("biufc"))
def test_conversions(dtype: str) -> None:
    x = sample(dtype, (2, 3))
    t = gx.asarray(x)
    assert np.shares_memory(np.asarray(t), x) and np.asarray(t).dtype == x.dtype
    assert not np.shares_memory(np.array(t), x) and np.asarray(t, dtype=object).dtype == object
    assert repr(t.tolist()) == repr(x.tolist()) and repr(t[0, 0].item()) == repr(x[0, 0].item())
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype="S8", copy=False)


def test_printing() -> None:
    x = gx.asarray(np.array([[1.0, -2.5], [0.0, np.nan]], np.float32))
    assert repr(x) == "Tensor([[ 1. , -2.5],\n        [ 0. ,  nan]], dtype=float32)"
    assert f"{gx.asarray(2.5):.2f}" == "2.50" and f"{x}" == repr(x) == str(x)
    assert repr(gx.asarray(np.int8(3))) == "Tensor(3, dtype=int8)"
    assert repr(gx.zeros((0, 2))) == "Tensor([], shape=(0, 2), dtype=float32)"
    assert "..." in repr(gx.zeros(5000)) and len(repr(gx.zeros((100, 100)))) < 1000
