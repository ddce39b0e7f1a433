"""Arrays that hypothesis draws for this namespace: its own strategies of the standard run on graphc, and what they draw goes
through a function of each kind. Compared with NumPy in dynamic mode, dynamic mode with compiled code."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import graphc as gx
from array_api import standard
from array_api.cases import difference, of_kinds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # hypothesis may be older than the version of the standard
    drawn = make_strategies_namespace(gx, api_version="2022.12")

#: The same examples in every run; the slow tests draw new ones.
FEW = settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=400, database=None, deadline=None, suppress_health_check=list(HealthCheck))
SHAPES = drawn.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


def _arrays(kinds: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(of_kinds(kinds)).flatmap(lambda name: drawn.arrays(getattr(gx, name), SHAPES))


def _same(found: Any, wanted: Any) -> None:
    assert difference(found, np.asarray(wanted), 0) is None, (found, wanted)


def _checked(data: Any) -> None:
    x = data.draw(_arrays("biuf"))
    array = x.numpy().copy()
    rank = x.ndim
    _same(gx.asarray(x, copy=True), array)
    _same(gx.reshape(x, (x.size,)), array.reshape(array.size))
    axes = data.draw(st.permutations(range(rank)))
    _same(gx.permute_dims(x, tuple(axes)), np.transpose(array, axes))
    _same(gx.flip(x), np.flip(array))
    key = data.draw(drawn.indices(x.shape, allow_newaxis=True))
    _same(x[key], array[key])
    mask = data.draw(drawn.arrays(gx.bool, x.shape))
    _same(x[mask], array[mask.numpy()])
    other = data.draw(drawn.arrays(x.dtype, drawn.broadcastable_shapes(x.shape, min_side=0)))
    _same(gx.where(gx.equal(x, other), x, other), np.where(array == other.numpy(), array, other.numpy()))
    if array.dtype.kind != "b":
        with np.errstate(all="ignore"):
            _same(x + other, array + other.numpy())
            _same(x * other, array * other.numpy())
            _same(gx.maximum(x, other), np.maximum(array, other.numpy()))
    if rank:
        axis = data.draw(st.integers(-rank, rank - 1))
        _same(gx.any(x, axis=axis, keepdims=True), np.any(array, axis=axis, keepdims=True))
        _same(gx.concat([x, x], axis=axis), np.concatenate([array, array], axis=axis))
        _same(gx.argsort(x, axis=axis), np.argsort(array, axis=axis, kind="stable"))
        _same(gx.sort(x, axis=axis), np.sort(array, axis=axis, kind="stable"))
    value = data.draw(drawn.from_dtype(x.dtype))
    x[key] = value
    array[key] = value
    _same(x, array)


@given(st.data())
@FEW
def test_drawn_arrays(data: Any) -> None:
    _checked(data)


@pytest.mark.slow
@given(st.data())
@MANY
def test_many_drawn_arrays(data: Any) -> None:
    _checked(data)


#: Functions of one or two arrays of one dtype, with the kinds they take.
ELEMENTWISE = {**standard.UNARY, **standard.BINARY}


def _compiled(data: Any) -> None:
    """A few elementwise functions of drawn arrays, compiled into one graph, give what dynamic mode gives."""
    dtype = data.draw(st.sampled_from(of_kinds("biufc")))
    kind = np.dtype(dtype).kind
    able = [n for n, kinds in ELEMENTWISE.items() if kind in kinds and "shift" not in n and n != "pow"]
    names = data.draw(st.lists(st.sampled_from(able), min_size=1, max_size=4, unique=True))
    x = data.draw(drawn.arrays(getattr(gx, dtype), SHAPES))
    y = data.draw(drawn.arrays(getattr(gx, dtype), drawn.broadcastable_shapes(x.shape, min_side=0)))

    def function(x: Any, y: Any) -> list[Any]:
        return [standard.function(n)(*((x, y) if n in standard.BINARY else (x,))) for n in names]

    for name, found, wanted in zip(names, gx.compile(function)(x, y), function(x, y), strict=True):
        exact = kind in "biu" or name in (
            "add",
            "subtract",
            "negative",
            "maximum",
            "minimum",
            "floor",
            "equal",
            "less",
            "abs",
        )
        # Near its poles and zeros a function may lose more; the registry's tests bound the error of each.
        fault = difference(found, wanted.numpy(), 0 if exact and kind != "c" else 64)
        assert fault is None or (kind == "c" and np.isfinite(wanted.numpy()).all() is np.False_), f"{name}: {fault}"


@given(st.data())
@settings(FEW, max_examples=15)
def test_drawn_arrays_compiled(data: Any) -> None:
    _compiled(data)


@pytest.mark.slow
@given(st.data())
@settings(MANY, max_examples=150)
def test_many_drawn_arrays_compiled(data: Any) -> None:
    _compiled(data)
