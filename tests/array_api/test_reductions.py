"""Statistical, searching, sorting, set and utility functions: dtypes in and out, all axes, `keepdims`, `dtype=`, zero sizes,
NaN; with data that decides sizes, the results of dynamic mode and the errors of compiled code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, SHAPES, Case, check, difference, of_kinds, sample
from graphc.errors import UnsupportedError

REAL, NUMERIC, ALL = of_kinds("iuf"), of_kinds("iufc"), of_kinds("biufc")


def _axes(rank: int) -> list[Any]:
    """None, every axis from both ends, and sets of axes."""
    sets = [s for count in (0, 2, 3) for s in itertools.combinations(range(rank), count)]
    return [None, *range(-rank, rank), *sets[:6], *[tuple(a - rank for a in s) for s in sets[-1:]]]


def _numpy(name: str, x: Any, **kwargs: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(getattr(np, name)(x, **kwargs))


def _reduce(name: str, x: Any, axis: Any, keepdims: bool, **kwargs: Any) -> Case:
    ulps = 0 if x.dtype.kind in "biu" or name in ("max", "min", "all", "any", "count_nonzero") else 8
    expected = _numpy(name, x, axis=axis, keepdims=keepdims, **kwargs)
    if "correction" in kwargs and expected.dtype.kind == "f":
        ulps = 16
    given = {"axis": axis, "keepdims": keepdims, **kwargs}
    if axis is None and not keepdims:
        given = kwargs
    return Case(name, (x,), expected, given, ulps)


def _mild(dtype: str, shape: tuple[int, ...]) -> Any:
    """Positive floats and small integers: sums of them do not cancel, products do not overflow."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return sample(dtype, shape)
    return sample(dtype, shape, low=1, high=3 if kind in "iu" else 2)


def _sums() -> Iterator[Case]:
    for name in ("sum", "prod"):
        for dtype in NUMERIC:
            x = _mild(dtype, (2, 3, 4))
            for axis, keepdims in itertools.product(_axes(3) if dtype == "float32" else (None, 1), (False, True)):
                yield _reduce(name, x, axis, keepdims)
            for wanted in of_kinds({"i": "if", "u": "uif", "f": "f", "c": "c"}[np.dtype(dtype).kind]):
                given = getattr(gx, wanted)
                yield Case(name, (x,), _numpy(name, x, dtype=wanted, axis=0), {"dtype": given, "axis": 0}, 8)
        for shape in SHAPES:
            for axis, keepdims in itertools.product(_axes(len(shape)), (False, True)):
                yield _reduce(name, _mild("float64", shape), axis, keepdims)
                yield _reduce(name, sample("int32", shape), axis, keepdims)


def _moments() -> Iterator[Case]:
    for name in ("mean", "var", "std"):
        options: list[dict[str, Any]] = (
            [{}] if name == "mean" else [{}, {"correction": 1}, {"correction": 0.5}, {"correction": 9}]
        )
        for dtype in of_kinds("fc" if name == "mean" else "f"):
            for shape in SHAPES:
                for axis, option in itertools.product(_axes(len(shape)), options):
                    x = _mild(dtype, shape)
                    if np.dtype(dtype).kind == "f":
                        x = x * np.asarray(np.arange(x.size).reshape(shape) % 3 + 1, dtype)
                    yield _reduce(name, x, axis, True, **option)
                    yield _reduce(name, x, axis, False, **option)


def _extremes() -> Iterator[Case]:
    for name in ("max", "min"):
        for dtype in REAL:
            for shape in SHAPES:
                # Which of two zeros is greater is not specified.
                x = np.asarray(sample(dtype, shape) + np.zeros((), dtype))
                for axis, keepdims in itertools.product(_axes(len(shape)), (False, True)):
                    if x.size or (axis is not None and 0 not in np.array(shape)[list(np.atleast_1d(axis))].tolist()):
                        yield _reduce(name, x, axis, keepdims)
    for name in ("argmax", "argmin"):
        for dtype in REAL:
            for shape in SHAPES:
                x = sample(dtype, shape)
                for axis, keepdims in itertools.product([None, *range(-len(shape), len(shape))], (False, True)):
                    if x.size or (axis is not None and shape[axis]):
                        yield _reduce(name, x, axis, keepdims)


def _truths() -> Iterator[Case]:
    for name in ("all", "any", "count_nonzero"):
        for dtype in ALL:
            for shape in SHAPES if dtype in ("bool", "float32") else [(2, 3, 4)]:
                x = sample(dtype, shape)
                for axis, keepdims in itertools.product(_axes(len(shape)), (False, True)):
                    case = _reduce(name, x, axis, keepdims)
                    yield (
                        case
                        if name != "count_nonzero"
                        else Case(name, case.args, case.expected.astype(np.int64), case.kwargs)
                    )


def _running() -> Iterator[Case]:
    for name, start in (("cumulative_sum", 0), ("cumulative_prod", 1)):
        plain = np.cumsum if start == 0 else np.cumprod
        for dtype in NUMERIC:
            for shape in [s for s in SHAPES if s]:
                x = _mild(dtype, shape)
                for axis in range(-len(shape), len(shape)) if dtype in ("float64", "int8") else (-1,):
                    kept = x.dtype if np.dtype(dtype).kind in "fc" else None
                    running = plain(x, axis=axis, dtype=kept)
                    first = np.full_like(
                        np.take(running, [], axis=axis),
                        start,
                        shape=tuple(1 if a == axis % len(shape) else d for a, d in enumerate(shape)),
                    )
                    given = {} if len(shape) == 1 else {"axis": axis}
                    yield Case(name, (x,), running, given, 8)
                    whole = np.concatenate([first, running], axis=axis)
                    yield Case(name, (x,), whole, {**given, "include_initial": True}, 8)
            x = _mild(dtype, (5,))
            for wanted in of_kinds({"i": "if", "u": "uif", "f": "f", "c": "c"}[np.dtype(dtype).kind]):
                yield Case(name, (x,), plain(x, dtype=wanted), {"dtype": getattr(gx, wanted)}, 8)


def _differences() -> Iterator[Case]:
    for dtype in NUMERIC:
        x = sample(dtype, (3, 5), special=False)
        for n, axis in itertools.product((0, 1, 2, 6), (-1, 0, 1)):
            yield Case("diff", (x,), np.diff(x, n=n, axis=axis), {"n": n, "axis": axis})
        for part in ("prepend", "append"):
            more = sample(dtype, (3, 2), 4, special=False)
            yield Case("diff", (x,), np.diff(x, **{part: more}), {part: more})
        more = sample(dtype, (1, 5), 4, special=False)
        yield Case(
            "diff",
            (x,),
            np.diff(x, n=2, axis=0, prepend=more, append=more),
            {"n": 2, "axis": 0, "prepend": more, "append": more},
        )
    for shape in [s for s in SHAPES if s]:
        x = sample("float32", shape, special=False)
        for axis in range(-len(shape), len(shape)):
            yield Case("diff", (x,), np.diff(x, axis=axis), {"axis": axis})


def _sorts() -> Iterator[Case]:
    for dtype in REAL:
        for shape in [s for s in SHAPES if s]:
            x = sample(dtype, shape, special=np.dtype(dtype).kind != "f")
            for axis, descending in itertools.product(range(-len(shape), len(shape)), (False, True)):
                order = _order(x, axis, descending)
                options = {"axis": axis, "descending": descending}
                yield Case("argsort", (x,), order, options)
                yield Case("sort", (x,), np.take_along_axis(x, order, axis=axis), {**options, "stable": False})
        x = sample(dtype, (7,), 5)
        yield Case("sort", (x,), np.sort(x, kind="stable"))
        yield Case("argsort", (x,), np.argsort(x, kind="stable"))


def _order(x: Any, axis: int, descending: bool) -> Any:
    """The stable order; equal elements stay in order when descending, too."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    backward = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - backward, axis)


def _searches() -> Iterator[Case]:
    for dtype in REAL:
        x = np.sort(sample(dtype, (9,), special=False))
        for values in (sample(dtype, (2, 3), 3, special=False), x, np.asarray(x[3]), sample(dtype, (0,))):
            for side in ("left", "right"):
                yield Case(
                    "searchsorted", (x, values), np.asarray(np.searchsorted(x, values, side=side)), {"side": side}
                )
        shuffled = sample(dtype, (9,), 6, special=False)
        sorter = np.argsort(shuffled, kind="stable")
        yield Case("searchsorted", (shuffled, x), np.searchsorted(shuffled, x, sorter=sorter), {"sorter": sorter})
        yield Case("searchsorted", (x, 2), np.asarray(np.searchsorted(x, x.dtype.type(2))))
        yield Case("searchsorted", (x[:0], x), np.zeros(9, np.int64))
        if np.dtype(dtype).kind == "f":
            yield Case("searchsorted", (x, 0.5), np.asarray(np.searchsorted(x, x.dtype.type(0.5))))
    for first, second in (("int8", "int32"), ("uint8", "int16"), ("float32", "float64"), ("uint32", "int64")):
        x, v = np.sort(sample(first, (6,), special=False)), sample(second, (5,), special=False)
        yield Case("searchsorted", (x, v), np.searchsorted(x, v))


def _choices() -> Iterator[Case]:
    for dtype in ALL:
        mask = sample("bool", (3, 1))
        x, y = sample(dtype, (2, 3, 4)), sample(dtype, (4,), 2)
        yield Case("where", (mask, x, y), np.where(mask, x, y))
        scalar = {"b": True, "i": 3, "u": 3, "f": 2.5, "c": 2.5}[np.dtype(dtype).kind]
        yield Case("where", (mask, x, scalar), np.where(mask, x, x.dtype.type(scalar)))
        yield Case("where", (mask, scalar, y), np.where(mask, y.dtype.type(scalar), y))
        yield Case("isin", (x, y), np.isin(x, y))
        yield Case("isin", (x, y), np.isin(x, y, invert=True), {"invert": True})
        yield Case("isin", (x, y[:0]), np.zeros(x.shape, bool))
        yield Case("isin", (x, scalar), np.isin(x, x.dtype.type(scalar)))
    yield Case("isin", (2, np.array([1, 2])), np.asarray(True))
    for shape in SHAPES:
        mask = sample("bool", shape)
        yield Case(
            "where",
            (mask, sample("int8", shape), sample("int32", ())),
            np.where(mask, sample("int8", shape), sample("int32", ())),
        )


def _takes() -> Iterator[Case]:
    for dtype in ALL:
        for index_dtype in of_kinds("iu") if dtype == "float32" else ("int64",):
            x, index = sample(dtype, (4, 3)), np.array([2, 0, 0, 1], index_dtype)
            yield Case("take", (x, index), np.take(x, index, axis=0), {"axis": 0})
            yield Case("take", (x, index), np.take(x, index, axis=-1), {"axis": -1})
            yield Case("take", (x[0], index), np.take(x[0], index))
            along = np.stack([index, index[::-1]])[:, :3]
            yield Case(
                "take_along_axis", (x, along), np.take_along_axis(x, along.astype(np.int64), axis=0), {"axis": 0}
            )
            yield Case("take_along_axis", (x[:2], along), np.take_along_axis(x[:2], along.astype(np.int64), axis=-1))
    for shape in [(4,), (2, 3, 4), (2, 1, 3, 2), (0, 3)]:
        x = sample("float64", shape)
        for axis in range(-len(shape), len(shape)):
            if shape[axis]:
                index = np.array([0, -1, shape[axis] - 1])
                yield Case("take", (x, index), np.take(x, index, axis=axis), {"axis": axis})
                yield Case("take", (x, index[:0]), np.take(x, index[:0], axis=axis), {"axis": axis})
                order = np.argsort(x, axis=axis)
                yield Case("take_along_axis", (x, order), np.take_along_axis(x, order, axis=axis), {"axis": axis})
                yield Case(
                    "take_along_axis", (x, order - shape[axis]), np.take_along_axis(x, order, axis=axis), {"axis": axis}
                )


GROUPS = [_sums, _moments, _extremes, _truths, _running, _differences, _sorts, _searches, _choices, _takes]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", GROUPS)
def test_values(mode: str, make: Any) -> None:
    check(mode, make())


def test_functions_are_covered() -> None:
    covered = {case.name for make in GROUPS for case in make()}
    wanted = standard.words(
        "sum prod mean var std max min argmax argmin all any count_nonzero cumulative_sum cumulative_prod diff sort argsort"
        " searchsorted where isin take take_along_axis"
    )
    assert set(wanted) <= covered


# -- sizes that values decide --------------------------------------------------------------------------------------------


def _distinct(x: Any) -> tuple[Any, Any, Any, Any]:
    """values, first indices, inverse and counts, by plain Python: every NaN is a value of its own, zeros are one."""
    flat = x.ravel().tolist()
    keys: dict[Any, int] = {}
    inverse, places, counts = [], [], []
    for place, value in enumerate(flat):
        key = ("nan", place) if np.isnan(value) else value
        if key not in keys:
            keys[key] = len(keys)
            places.append(place)
            counts.append(0)
        inverse.append(keys[key])
        counts[keys[key]] += 1
    return [flat[p] for p in places], places, inverse, counts


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_distinct_values(dtype: str, shape: tuple[int, ...]) -> None:
    """As sets: the standard does not say in which order."""
    x = sample(dtype, shape)
    t = gx.asarray(x)
    expected, places, _, counts = _distinct(x)
    found = gx.unique_all(t)
    assert [a.dtype for a in found] == [x.dtype, np.int64, np.int64, np.int64] and found.inverse_indices.shape == shape
    values = found.values.numpy()
    number = len(expected)
    assert [a.shape for a in (found.values, found.indices, found.counts)] == [(number,)] * 3
    assert int(gx.sum(found.counts)) == x.size
    if number:
        restored = values[found.inverse_indices.numpy()]
        assert np.array_equal(restored, x, equal_nan=np.dtype(dtype).kind in "fc")
        assert np.array_equal(x.ravel()[found.indices.numpy()], values, equal_nan=np.dtype(dtype).kind in "fc")
    by_value = {repr(v): c for v, c in zip(expected, counts, strict=True) if not np.isnan(v)}
    for value, place, count in zip(values.tolist(), found.indices.tolist(), found.counts.tolist(), strict=True):
        if not np.isnan(value):
            assert count == by_value.get(
                repr(value), by_value.get(repr(-value if not isinstance(value, bool) else value))
            )
            assert place in places
        else:
            assert count == 1
    assert difference(gx.unique_values(t), found.values.numpy(), 0) is None
    pair = gx.unique_counts(t)
    assert difference(pair.values, values, 0) is None and difference(pair.counts, found.counts.numpy(), 0) is None
    pair = gx.unique_inverse(t)
    assert difference(pair.values, values, 0) is None
    assert difference(pair.inverse_indices, found.inverse_indices.numpy(), 0) is None


@pytest.mark.parametrize("dtype", ALL)
def test_places_of_nonzeros(dtype: str) -> None:
    for shape in [s for s in SHAPES if s]:
        x = sample(dtype, shape)
        found = gx.nonzero(gx.asarray(x))
        assert isinstance(found, tuple) and len(found) == len(shape)
        assert difference(found, np.nonzero(x), 0) is None
    with pytest.raises(ValueError, match="rank 0"):
        gx.nonzero(gx.asarray(sample(dtype, ())))


SIZED_BY_VALUES = standard.words("unique_all unique_counts unique_inverse unique_values nonzero")


@pytest.mark.parametrize("name", SIZED_BY_VALUES)
def test_compiled_code_needs_the_size(name: str) -> None:
    x = gx.asarray([3, 0, 1, 3, 0])
    function = standard.function(name)
    with pytest.raises(UnsupportedError, match="size=n"):
        gx.compile(function)(x)
    size = 3
    found, expected = gx.compile(lambda x: function(x, size=size))(x), function(x)
    for f, e in zip(*([r] if isinstance(r, gx.Tensor) else r for r in (found, expected)), strict=True):
        assert np.array_equal(f.numpy(), e.numpy())
    with pytest.raises(UnsupportedError, match="size"):
        gx.compile(lambda x: x[x > 0])(x)
