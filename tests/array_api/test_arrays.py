"""The array object: indexing for reading and writing, conversions to Python numbers, devices, interchange."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api.cases import MODES, SHAPES, Case, check, of_kinds, sample

ALL = of_kinds("biufc")

#: Keys of basic indexing, by rank.
KEYS: dict[int, list[Any]] = {
    0: [(), ..., (...,), None, (None, ..., None)],
    1: [
        0,
        -1,
        2,
        slice(None),
        slice(1, None),
        slice(None, None, -1),
        slice(5, 0, -2),
        slice(2, 2),
        slice(-3, 100),
        (..., 0),
        (None, slice(0, 4, 3)),
        (),
        slice(None, -9),
        slice(100, None, -3),
    ],
    2: [
        0,
        (1, 2),
        (-1, -1),
        (slice(None), 0),
        (0, slice(None, None, 2)),
        (..., slice(1, 3)),
        (slice(None, None, -1), ...),
        (None, 0, None, slice(None)),
        (slice(0, 0), 1),
        (1, ..., 0),
        (slice(1, None), slice(None, 1), None),
    ],
    3: [
        (0, ..., 1),
        (slice(None), 1, slice(None, None, -2)),
        (..., None),
        (1, 2, 3),
        (slice(0, 1), slice(1, 1), 0),
        (-1, slice(-2, None)),
        (None, 1, None, ..., slice(3, 0, -1)),
    ],
}
SIZES = {0: (), 1: (7,), 2: (2, 3), 3: (2, 3, 4)}


def _reads() -> Iterator[Case]:
    for rank, keys in KEYS.items():
        for dtype in ALL if rank == 2 else ("float32", "int8"):
            x = sample(dtype, SIZES[rank])
            for key in keys:
                yield Case("getitem", (x,), np.asarray(x[key]), call=_reader(key))
    for shape in [(0,), (2, 0), (1, 0, 3)]:
        x = sample("float32", shape)
        for key in (..., slice(None), slice(1, None), (..., slice(0, 2)), None):
            yield Case("getitem", (x,), x[key], call=_reader(key))


def _reader(key: Any) -> Any:
    return lambda x: x[key]


def _gathers() -> Iterator[Case]:
    """Integer arrays, alone and with integers and slices, and broadcasting with one another."""
    x = sample("float64", (4, 3, 5))
    for dtype in of_kinds("iu"):
        index = np.array([[1, 0], [3, 3]], dtype)
        yield Case("getitem", (x, index), x[index.astype(np.int64)], call=operator.getitem)
    i, j, k = np.array([3, 0, -1]), np.array([[1], [2]]), np.array([-5, 4, 0])
    for key in [
        (i, j, k),
        (i, j),
        (i, 1, k),
        (0, j),
        (i, ..., k),
        (i, slice(None), k),
        (..., i % 3, k),
        (slice(1, 3), j),
        (None, i),
    ]:
        arrays = tuple(a for a in key if isinstance(a, np.ndarray))
        yield Case("getitem", (x, *arrays), x[key], call=_gatherer(key))
    for scalar in (np.asarray(2), np.asarray(-1, np.int8)):
        yield Case("getitem", (x, scalar), np.asarray(x[int(scalar)]), call=operator.getitem)
    yield Case("getitem", (x, np.zeros((2, 0), np.int64)), x[np.zeros((2, 0), np.int64)], call=operator.getitem)


def _gatherer(key: Any) -> Any:
    def call(x: Any, *arrays: Any) -> Any:
        supply = iter(arrays)
        return x[tuple(next(supply) if isinstance(k, np.ndarray) else k for k in key)]

    return call


def _written(x: Any, key: Any, value: Any) -> Any:
    out = x.copy()
    out[key] = value
    return out


def _writes() -> Iterator[Case]:
    def writer(key: Any) -> Any:
        def call(x: Any, value: Any) -> Any:
            x[key] = value
            return x

        return call

    for rank, keys in KEYS.items():
        for dtype in ALL if rank == 2 else ("float32", "int8"):
            x = sample(dtype, SIZES[rank])
            scalar = {"b": True, "i": -3, "u": 3, "f": 2.5, "c": 2.5}[np.dtype(dtype).kind]
            for key in keys:
                part = np.asarray(x[key])
                for value in (scalar, np.asarray(scalar, dtype), sample(dtype, part.shape, 5)):
                    yield Case("setitem", (x, value), _written(x, key, value), call=writer(key))
    x = sample("float64", (4, 3))
    for dtype in of_kinds("f"):  # a value of another dtype takes the array's
        yield Case("setitem", (x, np.asarray(1.5, dtype)), _written(x, 0, 1.5), call=writer(0))
    for index, value in [(np.array([2, 0]), 7.0), (np.array([1, 3]), sample("float64", (2, 3), 3))]:
        yield Case("setitem", (x, index, value), _written(x, index, value), call=_scatter)
    mask = sample("bool", (4, 3), 1)
    yield Case("setitem", (x, mask, -1.0), _written(x, mask, -1.0), call=_scatter)
    yield Case("setitem", (x, mask, np.asarray(-1.0)), _written(x, mask, -1.0), call=_scatter)
    yield Case("setitem", (x, mask[:, 0], 2.0), _written(x, mask[:, 0], 2.0), call=_scatter)


def _scatter(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [_reads, _gathers, _writes])
def test_indexing(mode: str, make: Any) -> None:
    check(mode, make())


@pytest.mark.parametrize("dtype", ALL)
def test_reading_by_masks(dtype: str) -> None:
    """In dynamic mode only; see `test_compiled_code_needs_the_size`."""
    for shape in SHAPES:
        x = sample(dtype, shape)
        t = gx.asarray(x)
        for rank in range(len(shape) + 1):
            mask = sample("bool", shape[:rank], rank)
            for key in (mask, gx.asarray(mask)):
                assert np.array_equal(t[key].numpy(), x[mask], equal_nan=x.dtype.kind in "fc")
                assert t[key].shape == x[mask].shape and t[key].dtype == x.dtype
        for key in (True, False):
            assert t[key].shape == x[key].shape
    x = gx.zeros((2, 3))
    for wrong in ((3,), (2, 2), (2, 3, 1), (1, 3)):
        with pytest.raises(IndexError, match=r"test_arrays\.py"):
            x[gx.ones(wrong, dtype=gx.bool)]


def test_writing_by_masks() -> None:
    for dtype in ALL:
        for shape in SHAPES:
            x, mask = sample(dtype, shape), sample("bool", shape, 1)
            t = gx.asarray(x.copy())
            value = sample(dtype, (), 3)
            t[gx.asarray(mask)] = gx.asarray(value)
            assert np.array_equal(t.numpy(), _written(x, mask, value), equal_nan=x.dtype.kind in "fc")
            values = sample(dtype, (int(mask.sum()),), 4)
            t[gx.asarray(mask)] = gx.asarray(values)
            assert np.array_equal(t.numpy(), _written(x, mask, values), equal_nan=x.dtype.kind in "fc")


@pytest.mark.parametrize("key", [2, -3, (0, 3), (0, 0, 0), (..., ...), "a", 1.0, (0, gx.asarray([3]))])
def test_bad_indices(key: Any) -> None:
    x = gx.zeros((2, 3))
    for run in (lambda x: x[key], gx.compile(lambda x: x[key])):
        with pytest.raises((IndexError, TypeError)):
            run(x)
    with pytest.raises((IndexError, TypeError)):
        x[key] = 1.0


@pytest.mark.parametrize("dtype", ALL)
def test_python_numbers(dtype: str) -> None:
    """Of rank 0: `bool`, `int`, `float`, `complex`, `operator.index`, as far as the dtype allows."""
    kind = np.dtype(dtype).kind
    values = {"b": [True, False], "i": [0, 5, -7], "u": [0, 200], "f": [0.0, -0.0, 2.5, -1e10, 1e-30]}.get(
        kind, [0j, 2 - 3j]
    )
    for value in values:
        x = gx.asarray(value, dtype=getattr(gx, dtype))
        exact = np.asarray(value, dtype).item()
        assert (
            bool(x) is bool(exact)
            and complex(x) == complex(exact)
            and x.item() == exact
            and type(x.item()) is type(exact)
        )
        assert x.tolist() == exact
        if kind != "c":
            assert type(int(x)) is int and int(x) == int(exact)
            assert type(float(x)) is float and float(x) == float(exact)
        else:
            with pytest.raises(TypeError):
                float(x)
            with pytest.raises(TypeError):
                int(x)
        if kind in "iu":
            assert operator.index(x) == exact and list(range(5))[gx.asarray(2, dtype=getattr(gx, dtype))] == 2
        else:
            with pytest.raises(TypeError):
                operator.index(x)
    if kind == "f":
        inf, nan = (gx.asarray(v, dtype=getattr(gx, dtype)) for v in (float("inf"), float("nan")))
        assert bool(inf) and bool(nan) and math.isnan(float(nan)) and float(inf) == math.inf
        with pytest.raises(OverflowError):
            int(inf)
        with pytest.raises(ValueError, match="NaN"):
            int(nan)
    many = gx.zeros((2,), dtype=getattr(gx, dtype))
    for convert in (bool, int, float, complex, operator.index):
        with pytest.raises((TypeError, ValueError)):
            convert(many)


def test_devices() -> None:
    x = gx.zeros(2)
    assert x.device == "cpu" and x.to_device("cpu") is x and x.to_device(x.device).device == x.device
    for call in (
        x.to_device,
        lambda d: gx.asarray(x, device=d),
        lambda d: gx.astype(x, gx.int8, device=d),
    ):
        with pytest.raises(ValueError, match="cpu"):
            call("tpu")


def test_dlpack() -> None:
    for dtype in of_kinds("iufc"):
        for shape in SHAPES:
            x = gx.asarray(sample(dtype, shape))
            back = np.from_dlpack(x)
            assert back.dtype == x.dtype and back.shape == shape
            assert np.shares_memory(back, x.numpy()) or not x.size
            for source in (x, x.numpy()):
                again = gx.from_dlpack(source, device="cpu")
                assert isinstance(again, gx.Tensor) and (np.shares_memory(again.numpy(), x.numpy()) or not x.size)
    x = gx.asarray(np.arange(12.0).reshape(3, 4).T)
    assert np.from_dlpack(x).strides == x.numpy().strides
    assert x.__dlpack_device__() == (1, 0)
    for options in (
        {"max_version": (1, 0)},
        {"dl_device": (1, 0)},
        {"copy": False},
        {"copy": None, "stream": None},
        {"copy": True},
    ):
        assert "dltensor" in repr(x.__dlpack__(**options))
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="stream"):
        x.__dlpack__(stream=1)


def test_iteration() -> None:
    x = gx.asarray([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]] and len(x) == 2
    a, b = x
    assert a.shape == b.shape == (2,)
    with pytest.raises(TypeError):
        iter(gx.asarray(1))
    with pytest.raises(TypeError):
        len(gx.asarray(1))


def test_comparisons_with_python_numbers() -> None:
    """Also with those that the dtype does not hold."""
    for dtype, symbol in itertools.product(of_kinds("iu"), (operator.lt, operator.ge, operator.eq, operator.ne)):
        x = sample(dtype, (5,))
        for number in (-1, 300, 2**40, 2**63, -(2**63)):
            found = symbol(gx.asarray(x), number).numpy()
            assert found.tolist() == [symbol(v, number) for v in x.tolist()]
            assert symbol(number, gx.asarray(x)).tolist() == [symbol(number, v) for v in x.tolist()]


COPIES: dict[str, Any] = {
    "tensor": gx.tensor,
    "asarray": lambda x: gx.asarray(x, copy=True),
    "astype": lambda x: gx.astype(x, x.dtype),
    "astype method": lambda x: x.astype(x.dtype),
    "reshape": lambda x: gx.reshape(x, (3, 2), copy=True),
    "reshape to its shape": lambda x: gx.reshape(x, (2, 3), copy=True),
    "from_dlpack": lambda x: gx.from_dlpack(x, copy=True),
    "copy": lambda x: x.copy(),
    "flatten": lambda x: x.flatten(),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("dtype", ["float32", "bool", "int8"])
def test_copies_are_apart(name: str, dtype: str) -> None:
    """Writing to a copy leaves the original alone, and the other way round, in both modes."""
    values = np.ones((2, 3), dtype)

    def write(x: Any) -> Any:
        first, second = COPIES[name](x), COPIES[name](x)
        first[...] = gx.zeros((), dtype=first.dtype)
        kept = x.copy()
        x[...] = gx.zeros((), dtype=x.dtype)
        return first, second, kept

    for run in (write, gx.compile(write)):
        first, second, kept = (a.numpy() for a in run(gx.asarray(values.copy())))
        assert not first.any() and second.all() and kept.all()


def test_reshape_without_a_copy() -> None:
    x = gx.asarray(np.arange(6.0).reshape(2, 3))
    y = gx.reshape(x, (3, 2), copy=False)
    y[0, 0] = 7.0
    assert x[0, 0] == 7.0
    with pytest.raises(ValueError, match=r"copy=False.*\n(.*\n)*.*test_arrays\.py"):
        gx.reshape(x.T, (6,), copy=False)
