"""Creation functions: dtypes given and by default, shapes as integers and tuples, zero sizes, numbers and nested lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, SHAPES, Case, check, of_kinds, sample

DTYPES = of_kinds("biufc")
DEFAULT = {"f": np.float32, "i": np.int64, "b": np.bool_, "c": np.complex64}


def _default(values: Any) -> Any:
    """Python numbers as an array of the default dtype of their kind."""
    array = np.asarray(values)
    return array.astype(DEFAULT[array.dtype.kind])


def _filled() -> Iterator[Case]:
    for name in ("zeros", "ones", "empty"):
        value = 1 if name == "ones" else 0
        for shape in SHAPES:
            yield Case(name, (shape,), np.full(shape, value, np.float32))
        yield Case(name, (3,), np.full(3, value, np.float32))
        yield Case(name, (0,), np.full(0, value, np.float32))
        for dtype in DTYPES:
            wanted = np.full((2, 3), value, dtype)
            yield Case(name, ((2, 3),), wanted, {"dtype": getattr(gx, dtype), "device": "cpu"})
            yield Case(
                f"{name}_like", (sample("int8", (2, 3)),), wanted, {"dtype": getattr(gx, dtype), "device": "cpu"}
            )
            for shape in SHAPES:
                yield Case(f"{name}_like", (sample(dtype, shape),), np.full(shape, value, dtype))


def _full() -> Iterator[Case]:
    for value in (True, False, 7, -3, 0.5, -0.0, float("inf"), float("nan")):
        for shape in ((), 3, (2, 0), (2, 1, 3)):
            yield Case("full", (shape, value), np.broadcast_to(_default(value), shape))
    for dtype in DTYPES:
        kind = np.dtype(dtype).kind
        values = {"b": [True], "i": [-5], "u": [5], "f": [5, 2.5, float("-inf")], "c": [5, 2.5]}[kind]
        for value in values:
            wanted = np.full((2, 3), value, dtype)
            yield Case("full", ((2, 3), value), wanted, {"dtype": getattr(gx, dtype)})
            yield Case("full_like", (sample(dtype, (2, 3)), value), wanted)
            yield Case("full_like", (sample("float64", (2, 3)), value), wanted, {"dtype": getattr(gx, dtype)})


def _asarray() -> Iterator[Case]:
    values: list[Any] = [
        True,
        3,
        -2.5,
        0.0,
        -0.0,
        float("nan"),
        [True, False],
        [1, 2, 3],
        [1.5, 2],
        [[1, 2], [3, 4]],
        [],
        [[], []],
    ]
    for value in values:
        yield Case("asarray", (value,), _default(value))
        yield Case("asarray", (value,), np.asarray(value, np.float64), {"dtype": gx.float64, "copy": True})
    for dtype in DTYPES:
        for shape in SHAPES:
            x = sample(dtype, shape)
            for copy in (None, True, False):
                yield Case("asarray", (x,), x, {"copy": copy, "device": "cpu"})
            yield Case("asarray", (x,), x, {"dtype": getattr(gx, dtype)})
            if np.dtype(dtype).kind in "iu":
                yield Case("asarray", (x,), x.astype(np.float64), {"dtype": gx.float64})
        yield Case("from_dlpack", (sample(dtype, (2, 3)),), sample(dtype, (2, 3)))
    yield Case("asarray", (2**62,), np.asarray(2**62))
    yield Case("asarray", (2**63,), np.asarray(2**63, np.uint64), {"dtype": gx.uint64})
    wide = [0, 2**63 + 1, 5]
    yield Case("asarray", (wide,), np.array(wide, np.uint64), {"dtype": gx.uint64})
    yield Case("asarray", ([1, 2.5],), np.array([1, 2]), {"dtype": gx.int64})


RANGES: list[tuple[Any, ...]] = [
    (5,),
    (0,),
    (-3,),
    (2, 9),
    (9, 2),
    (9, 2, -3),
    (2, 9, 3),
    (2, 2, 1),
    (0, -7, -2),
    (0.5, 3.0, 0.5),
    (0.0, 1.0, 0.3),
    (3.0,),
    (-1.5, -4.0, -1),
    (1, 2.5),
    (1.0, 2.0, 2.0),
]


def _ranges() -> Iterator[Case]:
    for args in RANGES:
        kind = np.arange(*args).dtype.kind
        yield Case("arange", args, np.arange(*args).astype(DEFAULT[kind]))
        for dtype in of_kinds("iuf"):
            if (kind == "f" and np.dtype(dtype).kind != "f") or (np.dtype(dtype).kind == "u" and min(args) < 0):
                continue
            yield Case("arange", args, np.arange(*args).astype(dtype), {"dtype": getattr(gx, dtype)})
    for start, stop in [(0, 1), (2.5, -3.5), (0.0, 0.0), (-1, 7), (1e10, 1e-3), (-0.5, 0.25)]:
        for num in (0, 1, 2, 5, 10):
            for endpoint in (True, False):
                for dtype in (None, *of_kinds("f")):
                    wanted = np.linspace(start, stop, num, endpoint=endpoint).astype(dtype or np.float32)
                    kwargs = {"endpoint": endpoint} | ({"dtype": getattr(gx, dtype)} if dtype else {})
                    yield Case("linspace", (start, stop, num), wanted, kwargs)
        yield Case(
            "linspace", (start, stop), np.linspace(start, stop, 3).astype(np.float32), {"num": 3, "device": "cpu"}
        )
    for dtype in of_kinds("iu"):
        yield Case("linspace", (0, 10, 5), np.linspace(0, 10, 5, dtype=dtype), {"dtype": getattr(gx, dtype)})


def _matrices() -> Iterator[Case]:
    for rows, columns in [(0, None), (1, None), (3, None), (3, 5), (4, 0), (0, 2), (5, 2)]:
        for k in (-6, -2, -1, 0, 1, 3, 7):
            yield Case("eye", (rows, columns), np.eye(rows, columns, k=k, dtype=np.float32), {"k": k})
        for dtype in DTYPES:
            yield Case("eye", (rows, columns), np.eye(rows, columns, dtype=dtype), {"dtype": getattr(gx, dtype)})
    for dtype in DTYPES:
        for shape in [(3, 3), (2, 5), (4, 0), (2, 3, 4), (0, 2, 2), (2, 1, 3, 2)]:
            x = sample(dtype, shape)
            for k in (-4, -1, 0, 2, 5) if dtype == "float32" else (0, 1):
                yield Case("tril", (x,), np.tril(x, k=k), {"k": k})
                yield Case("triu", (x,), np.triu(x, k=k), {"k": k})
        vectors = [sample(dtype, (n,)) for n in (3, 0, 4, 1)]
        for count in range(5):
            for indexing in ("xy", "ij"):
                yield Case(
                    "meshgrid",
                    tuple(vectors[:count]),
                    tuple(np.meshgrid(*vectors[:count], indexing=indexing)),
                    {"indexing": indexing},
                )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [_filled, _full, _asarray, _ranges, _matrices])
def test_values(mode: str, make: Any) -> None:
    check(mode, make())


def test_defaults_agree() -> None:
    """What `default_dtypes` says is what functions give that are not told."""
    for dtype in ("float32", "float64"):
        before = gx.default_dtype()
        gx.set_default_dtype(dtype)
        try:
            defaults = gx.__array_namespace_info__().default_dtypes()
            floats = [
                gx.zeros(2),
                gx.ones(2),
                gx.empty(2),
                gx.linspace(0, 1, 3),
                gx.eye(2),
                gx.full(2, 1.5),
                gx.asarray(1.5),
            ]
            floats += [gx.arange(0.5, 2.0), gx.fft.fftfreq(4), gx.fft.rfftfreq(4), gx.asarray([1, 2.5])]
            assert {x.dtype for x in floats} == {defaults["real floating"]} == {np.dtype(dtype)}
            integers = [
                gx.arange(3),
                gx.asarray(3),
                gx.full(2, 3),
                gx.sum(gx.ones(2, dtype=gx.int8)),
                gx.asarray([1, 2]),
            ]
            integers += [gx.prod(gx.ones(2, dtype=gx.int32)), gx.cumulative_sum(gx.ones(2, dtype=gx.int16))]
            assert {x.dtype for x in integers} == {defaults["integral"]}
            indices = [
                gx.argmax(gx.ones(2)),
                gx.argsort(gx.ones(2)),
                gx.nonzero(gx.ones(2))[0],
                gx.unique_all(gx.ones(2))[1],
            ]
            indices += [gx.searchsorted(gx.ones(2), gx.ones(2)), gx.count_nonzero(gx.ones(2))]
            assert {x.dtype for x in indices} == {defaults["indexing"]}
        finally:
            gx.set_default_dtype(before)


def test_copies() -> None:
    """`copy=True` has memory of its own, `copy=False` shares it or is an error, None shares where it can."""
    array = np.arange(6.0).reshape(2, 3)
    for obj in (array, gx.asarray(array)):
        for copy in (None, False):
            assert np.shares_memory(gx.asarray(obj, copy=copy).numpy(), array)
        assert not np.shares_memory(gx.asarray(obj, copy=True).numpy(), array)
        with pytest.raises(ValueError, match="copy"):
            gx.asarray(obj, dtype=gx.float32, copy=False)
        assert not np.shares_memory(gx.from_dlpack(obj, copy=True).numpy(), array)
        assert np.shares_memory(gx.from_dlpack(obj, copy=False).numpy(), array)
    for obj in (1.5, [1, 2]):
        with pytest.raises(ValueError, match="copy"):
            gx.asarray(obj, copy=False)


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_other_devices(name: str) -> None:
    with pytest.raises(ValueError, match="cpu"):
        standard.function(name)(2, device="gpu")
