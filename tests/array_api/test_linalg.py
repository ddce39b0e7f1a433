"""Products and the linalg extension: dtypes, batches, ranks, empty matrices; factorisations by what they promise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, Case, check, compiled, difference, dynamic, of_kinds, promotes, sample

FLOATS, NUMERIC = of_kinds("fc"), of_kinds("iufc")
BATCHES: list[tuple[int, ...]] = [(), (3,), (0,), (2, 1)]


def _mild(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    return sample(dtype, shape, seed, low=0 if np.dtype(dtype).kind == "u" else -3, high=3)


def _numpy(name: str, *args: Any, **kwargs: Any) -> Any:
    reference: Any = np
    for part in name.split("."):
        reference = getattr(reference, part)
    return np.asarray(reference(*args, **kwargs))


_MATMUL = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((1, 2, 3), (5, 3, 1)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 1, 2, 3), (4, 3, 2)),
    ((0,), (0,)),
    ((4, 0, 2), (2, 0)),
]


def _products() -> Iterator[Case]:
    pairs = [p for p in itertools.product(NUMERIC, repeat=2) if promotes(*p)]
    for first, second in pairs:
        for left, right in _MATMUL if first == second else _MATMUL[3:4]:
            args = _mild(first, left), _mild(second, right, 1)
            for name in ("matmul", "linalg.matmul"):
                yield Case(name, args, _numpy("matmul", *args), ulps=64)
    for dtype in NUMERIC:
        x, y = _mild(dtype, (2, 3, 4)), _mild(dtype, (4, 3, 2), 1)
        for name in ("tensordot", "linalg.tensordot"):
            for axes in (0, 1, ((1,), (1,)), ((0, 1), (2, 1)), ((2, 1), (0, -2)), ((), ())):
                yield Case(name, (x, y), _numpy("tensordot", x, y, axes=axes), {"axes": axes}, ulps=64)
            yield Case(name, (x[0], x[0]), _numpy("tensordot", x[0], x[0]), ulps=64)
        for name in ("vecdot", "linalg.vecdot"):
            yield Case(name, (x, x), _numpy("vecdot", x, x), ulps=64)
            yield Case(name, (x, x[0]), _numpy("vecdot", x, x[0]), {"axis": -1}, ulps=64)
            yield Case(name, (x, x), _numpy("vecdot", x, x, axis=-2), {"axis": -2}, ulps=64)
            yield Case(name, (x[:, :, :0], x[:, :, :0]), np.zeros((2, 3), dtype))
        yield Case("linalg.outer", (x[0, 0], y[:, 0, 0]), np.outer(x[0, 0], y[:, 0, 0]))
        yield Case("linalg.outer", (x[0, 0, :0], y[:, 0, 0]), np.zeros((0, 4), dtype))
        crossed = _mild(dtype, (2, 3)), _mild(dtype, (2, 3), 1)
        if np.dtype(dtype).kind != "u":
            yield Case("linalg.cross", crossed, np.cross(*crossed), ulps=8)
            turned = tuple(c.T for c in crossed)
            yield Case("linalg.cross", turned, np.cross(*turned, axis=0), {"axis": 0}, ulps=8)
            yield Case("linalg.cross", turned, np.cross(*turned, axis=-2), {"axis": -2}, ulps=8)


def _parts() -> Iterator[Case]:
    for dtype in of_kinds("biufc"):
        for shape in [(3, 3), (2, 4), (4, 0), (2, 3, 4), (0, 2, 2)]:
            x = sample(dtype, shape) if dtype == "bool" else _mild(dtype, shape)
            for offset in (-5, -1, 0, 1, 3):
                yield Case("linalg.diagonal", (x,), np.linalg.diagonal(x, offset=offset), {"offset": offset})
                if dtype != "bool":
                    wanted = np.linalg.trace(x, offset=offset)
                    yield Case("linalg.trace", (x,), np.asarray(wanted), {"offset": offset}, 8)
            yield Case("linalg.matrix_transpose", (x,), np.matrix_transpose(x))
        if np.dtype(dtype).kind in "iu":
            x = _mild(dtype, (3, 3))
            yield Case("linalg.trace", (x,), np.asarray(np.trace(x, dtype="float64")), {"dtype": gx.float64})
    for dtype in FLOATS:
        x = sample(dtype, (2, 3, 3), low=0.2, high=1.5)
        for n in (0, 1, 2, 3, 5):
            yield Case("linalg.matrix_power", (x, n), np.linalg.matrix_power(x, n), ulps=64)


def _norms() -> Iterator[Case]:
    inf = float("inf")
    for dtype in FLOATS:
        for shape in [(3,), (2, 3), (2, 3, 4), ()]:
            x = sample(dtype, shape, special=False)
            axes: list[Any] = [None, *range(-len(shape), len(shape)), *([(0, 1), (-1, 0)] if len(shape) > 1 else [])]
            for axis, keepdims, ord in itertools.product(axes, (False, True), (2, 1, 0, inf, -inf, 3, 2.5, -1)):
                wanted = _vector_norm(x, axis, keepdims, ord)
                yield Case("linalg.vector_norm", (x,), wanted, {"axis": axis, "keepdims": keepdims, "ord": ord}, 64)
        for batch in BATCHES:
            x = sample(dtype, (*batch, 3, 4), special=False)
            for keepdims, ord in itertools.product((False, True), ("fro", "nuc", 1, -1, 2, -2, inf, -inf)):
                wanted = np.linalg.norm(x, axis=(-2, -1), ord=ord, keepdims=keepdims)
                yield Case("linalg.matrix_norm", (x,), np.asarray(wanted), {"keepdims": keepdims, "ord": ord}, 64)
        empty = np.zeros((0, 3), dtype)
        for ord in (2, 1, 0, 3):
            yield Case("linalg.vector_norm", (empty,), np.zeros((), np.abs(empty).dtype), {"ord": ord})
            yield Case("linalg.vector_norm", (empty,), np.zeros(3, np.abs(empty).dtype), {"ord": ord, "axis": 0})


def _vector_norm(x: Any, axis: Any, keepdims: bool, ord: Any) -> Any:
    """By the definition."""
    size = np.abs(x)
    options = {"axis": axis, "keepdims": keepdims}
    if abs(ord) == float("inf"):
        return np.asarray((np.max if ord > 0 else np.min)(size, **options))
    if ord == 0:
        return np.asarray(np.sum(size != 0, **options)).astype(size.dtype)
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(size.astype(np.float64) ** ord, **options) ** (1 / ord)).astype(size.dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [_products, _parts, _norms])
def test_values(mode: str, make: Any) -> None:
    check(mode, make())


# -- factorisations and solutions ---------------------------------------------------------------------------------------

RUN = {"dynamic": dynamic, "compiled": compiled}


def _results(how: str, name: str, *args: Any, **kwargs: Any) -> Any:
    (found,) = RUN[how]([Case(name, args, None, kwargs)])
    if isinstance(found, Exception):
        raise found
    parts = found if isinstance(found, tuple) else (found,)
    assert all(isinstance(p, gx.Tensor) for p in parts)
    arrays = [p.numpy() for p in parts]
    return type(found)(*arrays) if hasattr(found, "_fields") else arrays[0]


def _matrices(dtype: str, square: bool = False, definite: bool = False) -> Iterator[Any]:
    sizes = [(3, 3), (1, 1), (0, 0)] if square else [(3, 3), (2, 4), (4, 2), (1, 1), (0, 0), (0, 3)]
    for batch, (m, n) in itertools.product(BATCHES, sizes):
        x = sample(dtype, (*batch, m, n), special=False)
        if square:
            x = x + np.asarray(4 * np.eye(n), dtype)
        yield (x @ x.conj().swapaxes(-1, -2) if definite else x).astype(dtype)


def _close(found: Any, wanted: Any, dtype: str) -> None:
    assert found.shape == wanted.shape and found.dtype == np.dtype(dtype), (found.shape, found.dtype, wanted.shape)
    np.testing.assert_allclose(found, wanted, **TOLERANCE[np.finfo(dtype).bits])


TOLERANCE: dict[int, Any] = {32: {"rtol": 2e-4, "atol": 2e-4}, 64: {"rtol": 1e-11, "atol": 1e-11}}


@pytest.mark.parametrize("mode", RUN)
@pytest.mark.parametrize("dtype", FLOATS)
def test_factorisations(mode: str, dtype: str) -> None:
    real = np.zeros((), dtype).real.dtype.name
    for x in _matrices(dtype):
        m, n = x.shape[-2:]
        least = min(m, n)
        for full in (True, False):
            found = _results(mode, "linalg.svd", x, full_matrices=full)
            assert found._fields == ("U", "S", "Vh")
            assert found.U.shape == (*x.shape[:-2], m, m if full else least)
            assert found.Vh.shape == (*x.shape[:-2], n if full else least, n)
            _close((found.U[..., :least] * found.S[..., None, :]) @ found.Vh[..., :least, :], x, dtype)
            assert found.S.dtype == real and (found.S >= 0).all()
        _close(_results(mode, "linalg.svdvals", x), found.S, real)
        found = _results(mode, "linalg.qr", x)
        assert found._fields == ("Q", "R") and found.Q.shape[-1] == found.R.shape[-2] == least
        _close(found.Q @ found.R, x, dtype)
        found = _results(mode, "linalg.qr", x, mode="complete")
        assert found.Q.shape[-2:] == (m, m) and found.R.shape[-2:] == (m, n)
        _close(found.Q @ found.R, x, dtype)
        _close(_results(mode, "linalg.pinv", x), np.linalg.pinv(x), dtype)
        _close(_results(mode, "linalg.pinv", x, rtol=1e-3), np.linalg.pinv(x, rtol=1e-3), dtype)
        if 0 not in (m, n):
            rank = _results(mode, "linalg.matrix_rank", x)
            assert rank.dtype.kind == "i" and np.array_equal(rank, np.linalg.matrix_rank(x))
            assert np.array_equal(_results(mode, "linalg.matrix_rank", x, rtol=0.5), np.linalg.matrix_rank(x, rtol=0.5))


@pytest.mark.parametrize("mode", RUN)
@pytest.mark.parametrize("dtype", FLOATS)
def test_square_matrices(mode: str, dtype: str) -> None:
    real = np.zeros((), dtype).real.dtype.name
    for x in _matrices(dtype, square=True):
        n = x.shape[-1]
        _close(_results(mode, "linalg.det", x) / 100, np.asarray(np.linalg.det(x) / 100, dtype), dtype)
        found = _results(mode, "linalg.slogdet", x)
        assert found._fields == ("sign", "logabsdet")
        wanted = np.linalg.slogdet(x)
        _close(found.sign, np.asarray(wanted.sign), dtype)
        _close(found.logabsdet, np.asarray(wanted.logabsdet), real)
        _close(_results(mode, "linalg.inv", x), np.linalg.inv(x), dtype)
        b = sample(dtype, (*x.shape[:-1], 2), 1, special=False)
        _close(_results(mode, "linalg.solve", x, b), np.linalg.solve(x, b), dtype)
        vector = sample(dtype, (n,), 2, special=False)
        _close(_results(mode, "linalg.solve", x, vector), np.linalg.solve(x, vector), dtype)
    for x in _matrices(dtype, square=True, definite=True):
        for upper in (False, True):
            found = _results(mode, "linalg.cholesky", x, upper=upper)
            across = found.conj().swapaxes(-1, -2)
            _close(across @ found if upper else found @ across, x, dtype)
            assert np.array_equal(found, np.triu(found) if upper else np.tril(found))
        found = _results(mode, "linalg.eigh", x)
        assert found._fields == ("eigenvalues", "eigenvectors") and found.eigenvalues.dtype == real
        across = found.eigenvectors.conj().swapaxes(-1, -2)
        _close((found.eigenvectors * found.eigenvalues[..., None, :]) @ across, x, dtype)
        _close(_results(mode, "linalg.eigvalsh", x), found.eigenvalues, real)


@pytest.mark.parametrize("mode", RUN)
@pytest.mark.parametrize("dtype", FLOATS)
def test_eigenvalues(mode: str, dtype: str) -> None:
    """x v = v * values, and no more is promised; complex whatever x is."""
    wanted = np.result_type(dtype, np.complex64)
    for x in _matrices(dtype, square=True):
        found = _results(mode, "linalg.eig", x)
        assert found._fields == ("eigenvalues", "eigenvectors")
        values, vectors = found
        assert values.dtype == vectors.dtype == wanted
        assert values.shape == x.shape[:-1] and vectors.shape == x.shape
        _close(vectors * values[..., None, :], (x.astype(wanted) @ vectors), wanted.name)
        only = _results(mode, "linalg.eigvals", x)
        assert only.dtype == wanted and only.shape == values.shape
        _close(np.sort_complex(only), np.sort_complex(values), wanted.name)


def test_extension_names_are_those_of_the_namespace() -> None:
    for name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):
        x = sample("float64", (3, 3), special=False)
        args = (gx.asarray(x),) if name == "matrix_transpose" else (gx.asarray(x), gx.asarray(x.T.copy()))
        found = standard.function(f"linalg.{name}")(*args)
        assert difference(found, standard.function(name)(*args).numpy(), 0) is None


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("matmul", ((), (2,))),
        ("matmul", ((2, 3), (2, 3))),
        ("matmul", ((2, 2, 3), (3, 3, 2))),
        ("tensordot", ((2, 3), (3, 2))),
        ("vecdot", ((3,), (4,))),
        ("linalg.cross", ((2, 4), (2, 4))),
        ("linalg.cross", ((2,), (2,))),
        ("linalg.inv", ((2, 3),)),
        ("linalg.det", ((3,),)),
        ("linalg.cholesky", ((2, 3),)),
        ("linalg.solve", ((2, 2), (3,))),
        ("linalg.diagonal", ((3,),)),
        ("linalg.trace", ((3,),)),
        ("linalg.outer", ((2, 2), (2,))),
        ("matrix_transpose", ((3,),)),
    ],
)
def test_errors(name: str, shapes: Any) -> None:
    arrays = [gx.ones(shape) for shape in shapes]
    for run in (standard.function(name), gx.compile(standard.function(name))):
        with pytest.raises(ValueError, match=r"test_linalg\.py"):
            run(*arrays)
