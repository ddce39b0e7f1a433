"""Manipulation functions: every dtype, ranks 0 to 5, zero sizes, negative and repeated axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, SHAPES, Case, calls, check, of_kinds, promotes, sample

DTYPES = of_kinds("biufc")


def _axes_of(rank: int) -> list[int]:
    return list(range(-rank, rank))


def _subsets(rank: int) -> list[tuple[int, ...]]:
    return [s for count in range(rank + 1) for s in itertools.combinations(range(rank), count)][:12]


def _reshapes() -> Iterator[Case]:
    for dtype in DTYPES:
        x = sample(dtype, (2, 3, 4))
        for shape in [(24,), (-1,), (4, 6), (2, -1, 2), (1, 24, 1), (2, 3, 4), 24, -1]:
            yield from calls("reshape", [((x, shape), {})])
    for shape in SHAPES:
        x = sample("float32", shape)
        yield from calls("reshape", [((x, (x.size,)), {}), ((x, (1, *shape, 1)), {})])
        yield Case("reshape", (x, (x.size,)), x.reshape(x.size), {"copy": True})
        yield Case("reshape", (x, (x.size,)), x.reshape(x.size), {"copy": False})
    empty = sample("float32", (2, 0))
    for shape in [(0,), (0, 5), (3, 0, 2), (-1, 2), (5, -1, 2)]:
        yield from calls("reshape", [((empty, shape), {})])
    for shape in [(), (1,), (1, 1)]:
        yield from calls("reshape", [((sample("float32", ()), shape), {})])


def _axes() -> Iterator[Case]:
    for shape in SHAPES:
        rank = len(shape)
        for dtype in DTYPES if shape == (2, 3, 4) else ("float32", "int8"):
            x = sample(dtype, shape)
            for axis in range(-rank - 1, rank + 1):
                yield from calls("expand_dims", [((x,), {"axis": axis}), ((x, axis), {})])
            yield from calls("expand_dims", [((x, (0, -1)), {}), ((x, (1, 0)), {})])
            units = tuple(a for a, d in enumerate(shape) if d == 1)
            for axis in (*units, *(a - rank for a in units), units, ()):
                yield Case("squeeze", (x, axis), np.squeeze(x, axis=axis))
            for perm in list(itertools.permutations(range(rank)))[:6]:
                yield Case("permute_dims", (x, perm), np.transpose(x, perm))
                yield Case("permute_dims", (x,), np.transpose(x, perm), {"axes": tuple(a - rank for a in perm)})
            for axis in (None, *_axes_of(rank), *_subsets(rank)):
                yield from calls("flip", [((x,), {"axis": axis})])
            for source, goal in itertools.product(_axes_of(rank), repeat=2) if rank < 4 else []:
                yield from calls("moveaxis", [((x, source, goal), {})])
            if rank >= 2:
                yield from calls("moveaxis", [((x, (0, 1), (1, 0)), {}), ((x, (0, -1), (-1, 0)), {})])
                yield from calls("matrix_transpose", [((x,), {})])
                yield Case("mT", (x,), np.matrix_transpose(x), call=lambda x: x.mT)
            if rank == 2:
                yield Case("T", (x,), x.T, call=lambda x: x.T)
            for axis in _axes_of(rank):
                yield Case("unstack", (x,), tuple(np.moveaxis(x, axis, 0)), {"axis": axis})


def _rolls() -> Iterator[Case]:
    for shape in SHAPES:
        x = sample("int16", shape)
        rank = len(shape)
        for shift in (0, 1, -2, 17):
            yield from calls("roll", [((x, shift), {})])
            for axis in _axes_of(rank):
                yield from calls("roll", [((x, shift), {"axis": axis})])
        if rank >= 2:
            yield from calls(
                "roll",
                [((x, (1, -2)), {"axis": (0, 1)}), ((x, (1, 2)), {"axis": (-1, -1)}), ((x, 1), {"axis": (0, 1)})],
            )


def _repeats() -> Iterator[Case]:
    for shape in SHAPES:
        x = sample("uint8", shape)
        for count in (0, 1, 3):
            yield from calls("repeat", [((x, count), {})])
            for axis in _axes_of(len(shape)):
                yield from calls("repeat", [((x, count), {"axis": axis})])
        for repetitions in [(), (2,), (0,), (2, 3), (1, 2, 2), (2, 1, 1, 1, 1, 2)]:
            yield from calls("tile", [((x, repetitions), {})])
        if shape and max(shape):
            for axis in _axes_of(len(shape)):
                counts = np.arange(shape[axis]) % 3
                yield Case("repeat", (x, tuple(counts.tolist())), np.repeat(x, counts, axis=axis), {"axis": axis})


def _joins() -> Iterator[Case]:
    for first, second in itertools.product(DTYPES, repeat=2):
        if promotes(first, second):
            a, b = sample(first, (2, 3)), sample(second, (2, 3), 1)
            yield from calls("concat", [(((a, b),), {}), (([a, b, a],), {"axis": -1}), (((a, b),), {"axis": None})])
            yield from calls("stack", [(((a, b),), {}), (([a, b],), {"axis": 1}), (((a, b),), {"axis": -1})])
    for shape in SHAPES:
        x, y = sample("float32", shape), sample("float32", shape, 1)
        for axis in range(-len(shape) - 1, len(shape) + 1):
            yield from calls("stack", [(((x, y),), {"axis": axis}), (((x,),), {"axis": axis})])
        for axis in _axes_of(len(shape)):
            longer = np.concatenate([y, y, y], axis=axis)
            yield from calls("concat", [(((x, longer),), {"axis": axis}), (((x,),), {"axis": axis})])
        yield from calls("concat", [(((x, sample("float32", (4,))),), {"axis": None})])


def _broadcasts() -> Iterator[Case]:
    for dtype in DTYPES:
        yield from calls("broadcast_to", [((sample(dtype, (3, 1)), (2, 3, 4)), {}), ((sample(dtype, ()), (0, 2)), {})])
        arrays = sample(dtype, (3, 1)), sample("int8", (4,)), sample("bool", ())
        yield Case("broadcast_arrays", arrays, tuple(np.broadcast_arrays(*arrays)))
    for shape in SHAPES:
        x = sample("float32", shape)
        yield from calls("broadcast_to", [((x, shape), {}), ((x, (2, *shape)), {}), ((x, (0, *shape)), {})])
        yield Case("broadcast_arrays", (x,), (x,))
    for shapes in [(), ((),), ((3,),), ((3, 1), (2,)), ((0,), (1,)), ((2, 1, 3), (5, 1), ()), ((1,), 4)]:
        yield Case("broadcast_shapes", shapes, np.broadcast_shapes(*shapes))
    yield Case("broadcast_arrays", (), ())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [_reshapes, _axes, _rolls, _repeats, _joins, _broadcasts])
def test_values(mode: str, make: Any) -> None:
    check(mode, make())


def test_repeats_by_an_array() -> None:
    x = sample("float64", (2, 3))
    for axis, counts in [(0, [2, 0]), (1, [1, 0, 3]), (None, [0, 1, 2, 0, 1, 1]), (0, [3])]:
        found = gx.repeat(gx.asarray(x), gx.asarray(counts), axis=axis)
        assert np.array_equal(found.numpy(), np.repeat(x, counts, axis=axis), equal_nan=True)
    with pytest.raises(gx.errors.UnsupportedError, match="size that depends on values"):
        gx.compile(gx.repeat)(gx.asarray(x), gx.asarray([2, 0]), axis=0)


BAD: list[tuple[str, Any]] = [
    ("broadcast_shapes", lambda f, x: f((2,), (3,))),
    ("broadcast_to", lambda f, x: f(x, (3, 3))),
    ("broadcast_arrays", lambda f, x: f(x, gx.zeros(4))),
    ("concat", lambda f, x: f((x, gx.zeros((3, 3))), axis=1)),
    ("concat", lambda f, x: f((x, x), axis=2)),
    ("stack", lambda f, x: f((x, gx.zeros((3, 2))))),
    ("expand_dims", lambda f, x: f(x, axis=4)),
    ("expand_dims", lambda f, x: f(x, axis=-5)),
    ("expand_dims", lambda f, x: f(x, axis=(0, 0))),
    ("flip", lambda f, x: f(x, axis=2)),
    ("moveaxis", lambda f, x: f(x, 3, 0)),
    ("permute_dims", lambda f, x: f(x, (0, 0))),
    ("permute_dims", lambda f, x: f(x, (0, 1, 2))),
    ("reshape", lambda f, x: f(x, (4,))),
    ("reshape", lambda f, x: f(x, (-1, -1))),
    ("roll", lambda f, x: f(x, 1, axis=2)),
    ("roll", lambda f, x: f(x, (1, 2, 3), axis=(0, 1))),
    ("squeeze", lambda f, x: f(x, 0)),
    ("squeeze", lambda f, x: f(x, 5)),
    ("unstack", lambda f, x: f(x, axis=2)),
    ("repeat", lambda f, x: f(x, -1)),
    ("meshgrid", lambda f, x: f(x[0], indexing="no")),
    ("sum", lambda f, x: f(x, axis=2)),
    ("sum", lambda f, x: f(x, axis=(0, 0))),
    ("max", lambda f, x: f(x[:0])),
    ("argmax", lambda f, x: f(x[:0], axis=0)),
    ("take_along_axis", lambda f, x: f(x, gx.asarray([0]), axis=0)),
    ("cumulative_sum", lambda f, x: f(x)),
    ("zeros", lambda f, x: f(-1)),
    ("ones", lambda f, x: f((2, -1))),
]


@pytest.mark.parametrize(("name", "call"), BAD, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BAD)])
def test_errors(name: str, call: Any) -> None:
    """Errors that are ValueErrors and IndexErrors for callers of any array library, in both modes, and say where."""
    for run in (lambda x: call(standard.function(name), x), gx.compile(lambda x: call(standard.function(name), x))):
        with pytest.raises((ValueError, IndexError), match=r"test_shapes\.py"):
            run(gx.ones((2, 3)))
