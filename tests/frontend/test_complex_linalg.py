"""Linear algebra of complex matrices: values against NumPy, derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import DTypeError, MatrixError

RNG = np.random.default_rng(41)
L = np.linalg


def numbers(*shape: int) -> Any:
    return RNG.normal(size=shape) + 1j * RNG.normal(size=shape)


def adjoint(x: Any) -> Any:
    return np.conjugate(x).swapaxes(-1, -2)


def hermitian(x: Any) -> Any:
    return (x + x.conj().T) / 2


W, S = numbers(4, 4), numbers(4, 4)
P = S @ adjoint(S) + np.eye(4)
TALL, WIDE, BATCH = numbers(4, 3), numbers(3, 4), numbers(2, 4, 4)
HERMITIAN_BATCH = BATCH @ adjoint(BATCH) + np.eye(4)

#: Functions with results that are unique, and operands.
VALUES: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (L.cholesky, (P,)),
    (lambda x: L.cholesky(x, upper=True), (P,)),
    (L.cholesky, (HERMITIAN_BATCH,)),
    (L.eigvalsh, (HERMITIAN_BATCH,)),
    (lambda x: L.eigvalsh(x, "U"), (S,)),
    (L.svdvals, (TALL,)),
    (L.svdvals, (BATCH,)),
    (L.solve, (S, W)),
    (L.solve, (BATCH, W)),
    (L.solve, (P, W.real)),
    (L.solve, (P.real, W[:, 0])),
    (L.inv, (BATCH,)),
    (L.det, (BATCH,)),
    (lambda x: L.slogdet(x)[0], (BATCH,)),
    (lambda x: L.slogdet(x)[1], (BATCH,)),
    (L.pinv, (WIDE,)),
    (L.pinv, (BATCH,)),
    (lambda x: L.pinv(x, rtol=np.array(0.3)), (S,)),
    (lambda x, y: L.lstsq(x, y)[0], (TALL, W)),
    (lambda x, y: L.lstsq(x, y)[1], (TALL, W)),
    (lambda x, y: L.lstsq(x, y)[3], (WIDE, TALL[:3])),
    (L.matrix_rank, (BATCH,)),
    *((lambda x, p=p: L.cond(x, p), (S,)) for p in (None, 1, -2, np.inf, "fro")),
    *((lambda x, o=o: L.norm(x, o), (TALL,)) for o in (None, "nuc", 1, -1, 2, -2, np.inf)),
    *((lambda x, o=o: L.norm(x, o, axis=0), (TALL,)) for o in (0, 1, 2, 3, np.inf)),
    (lambda x: L.matrix_power(x, -3), (S,)),
]
#: Factorisations: operand, and what gives it back.
FACTORS: list[tuple[Callable[[Any], Any], Any, Callable[..., Any]]] = [
    (L.qr, TALL, lambda q, r: q @ r),
    (L.qr, BATCH, lambda q, r: q @ r),
    (lambda x: L.qr(x, "complete"), TALL, lambda q, r: q @ r),
    (lambda x: L.svd(x, full_matrices=False), WIDE, lambda u, s, vh: (u * s) @ vh),
    (L.svd, BATCH, lambda u, s, vh: (u * s[..., None, :]) @ vh),
    (L.eigh, HERMITIAN_BATCH, lambda w, v: (v * w[..., None, :]) @ adjoint(v)),
    (L.eig, BATCH, lambda w, v: (v * w[..., None, :]) @ L.inv(v)),
]
DTYPES = pytest.mark.parametrize("dtype", [np.complex64, np.complex128])


def narrowed(x: Any, dtype: Any) -> Any:
    return x.astype(dtype if x.dtype.kind == "c" else np.zeros((), dtype).real.dtype)


@DTYPES
def test_values_are_numpys(dtype: Any) -> None:
    rtol = 2e-4 if dtype is np.complex64 else 1e-11
    operands = [tuple(narrowed(x, dtype) for x in xs) for _, xs in VALUES]

    @gx.compile
    def compiled(*xs: Any) -> Any:
        return [f(*x) for (f, _), x in zip(VALUES, xs, strict=True)]

    together = compiled(*operands)
    for number, ((function, _), xs) in enumerate(zip(VALUES, operands, strict=True)):
        expected = np.asarray(function(*xs))
        for found in (function(*map(gx.tensor, xs)), together[number]):
            y = np.asarray(found)
            assert y.dtype == expected.dtype and y.shape == expected.shape, (number, y.dtype, expected.dtype)
            np.testing.assert_allclose(y, expected, rtol=rtol, atol=rtol, err_msg=str(number))


@DTYPES
@pytest.mark.parametrize("number", range(len(FACTORS)))
def test_factorisations_give_the_matrix_back(number: int, dtype: Any) -> None:
    function, x, product = FACTORS[number]
    x = x.astype(dtype)
    tolerance = 1e-4 if dtype is np.complex64 else 1e-12
    for mode in (lambda f: f, gx.compile):
        found = tuple(map(np.asarray, mode(lambda x: tuple(function(x)))(gx.tensor(x))))
        assert [y.dtype for y in found] == [y.dtype for y in function(x)]
        np.testing.assert_allclose(product(*found), x, rtol=tolerance, atol=tolerance)


def test_eigenvalues_of_real_matrices_are_complex() -> None:
    x = np.array([[2.0, 1.0], [1.0, 3.0]], np.float32)
    for y in (gx.linalg.eigvals(x), gx.compile(L.eigvals)(x), gx.linalg.eig(x).eigenvalues):
        assert y.dtype == np.complex64
        np.testing.assert_allclose(np.sort(np.asarray(y).real), L.eigvalsh(x), rtol=1e-6)
    assert gx.linalg.eigvals(np.array([[1, 2], [3, 4]])).dtype == np.complex128
    assert gx.linalg.eigvals(np.zeros((2, 0, 0))).shape == (2, 0)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for part, value in zip(sorted(gx.linalg.eigvals(turn).numpy().imag), (-1, 1), strict=True):
        assert part == pytest.approx(value)


#: Functions of a matrix that do not depend on phases; whether it is Hermitian.
SMOOTH: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "solve": (lambda x: abs(L.solve(x, W) * S).sum(), S),
    "solve, right": (lambda x: abs(L.solve(W, x) * S).sum(), S),
    "inv": (lambda x: (L.inv(x) * W).real.sum(), S),
    "det": (lambda x: (L.det(x) * (1 + 2j)).real, S),
    "slogdet": (lambda x: L.slogdet(x)[1] + (L.slogdet(x)[0] * (1 + 2j)).real, S),
    "slogdet, sign": (lambda x: (L.slogdet(x)[0] * (1 + 2j)).real, S),
    "cholesky": (lambda x: (L.cholesky(hermitian(x)) * W).real.sum(), P),
    "cholesky, upper": (lambda x: (gx_or_np(x, "cholesky", upper=True) * W).imag.sum(), P),
    "eigh": (lambda x: (L.eigh(hermitian(x))[0] * W[0].real).sum() + abs(L.eigh(hermitian(x))[1] * W).sum(), P),
    "eigvalsh": (lambda x: (L.eigvalsh(hermitian(x)) * W[0].real).sum(), P),
    "svd, tall": (lambda x: through_svd(x, W[:, :3], W[:3, :3]), TALL),
    "svd, wide": (lambda x: through_svd(x, W[:3, :3], W[:3]), WIDE),
    "svd, square": (lambda x: through_svd(x, W, S, full=True), S),
    "svdvals": (lambda x: (L.svdvals(x) * W[0, :3].real).sum(), TALL),
    "qr, tall": (lambda x: (L.qr(x)[0] * W[:, :3]).real.sum() + (L.qr(x)[1] * W[:3, :3]).imag.sum(), TALL),
    "qr, wide": (lambda x: (L.qr(x)[0] * W[:3, :3]).real.sum() + (L.qr(x)[1] * W[:3]).imag.sum(), WIDE),
    "pinv": (lambda x: (L.pinv(x) * W[:3]).real.sum(), TALL),
    "lstsq": (lambda x: (L.lstsq(x, W[:, 0])[0] * W[0, :3]).real.sum(), TALL),
    "eigvals": (lambda x: (abs(L.eigvals(x)) ** 2).sum() + (L.eigvals(x) ** 3).imag.sum(), S),
    "eig": (lambda x: (abs(L.eig(x)[1]) * abs(L.eig(x)[0])).sum() + (L.eig(x)[0] ** 2).imag.sum(), S),
    "cond": (L.cond, S),
    "norms": (lambda x: L.norm(x) + L.norm(x, 1) + L.norm(x, 2) + L.norm(x, "nuc"), TALL),
    "eig of a real matrix": (lambda x: (abs(L.eig(x)[1]) ** 3).sum() + (L.eig(x)[0] ** 3).imag.sum(), S.real),
}


def gx_or_np(x: Any, name: str, **options: Any) -> Any:
    return getattr(L, name)(hermitian(x), **options)


def through_svd(x: Any, left: Any, right: Any, full: bool = False) -> Any:
    """Magnitudes, and the product of both factors, which the phases leave alone."""
    u, s, vh = L.svd(x, full_matrices=full)
    return (s * right[0, : s.shape[0]].real).sum() + abs(u * left).sum() + abs(vh * right).sum() + abs(u @ vh).sum()


def slopes(function: Callable[[Any], Any], x: Any) -> Any:
    out = np.zeros(x.shape, x.dtype)
    for k in np.ndindex(x.shape):
        for direction in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
            up, down = x.copy(), x.copy()
            up[k] += 1e-6 * direction
            down[k] -= 1e-6 * direction
            out[k] += direction * (np.real(function(up)) - np.real(function(down))) / 2e-6
    return out


@pytest.mark.parametrize("name", list(SMOOTH))
def test_gradients(name: str) -> None:
    function, x = SMOOTH[name]
    expected = slopes(function, x)
    assert np.abs(expected).max() > 1e-2
    for gradient in (gx.grad(function), gx.compile(gx.grad(function))):
        found = np.asarray(gradient(gx.tensor(x)))
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-7)


def test_faults() -> None:
    for mode in (lambda f: f, gx.compile):
        with pytest.raises(MatrixError, match="square"):
            mode(L.eigvals)(gx.tensor(TALL))
        with pytest.raises(np.linalg.LinAlgError):
            mode(L.cholesky)(gx.tensor(-P))
        with pytest.raises(np.linalg.LinAlgError):
            mode(L.inv)(gx.tensor(0 * S))
    with pytest.raises(DTypeError):
        gx.linalg.eig(gx.tensor(TALL[:3])).eigenvalues.astype(np.float64)
