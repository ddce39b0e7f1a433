"""Linear algebra against NumPy, dynamically and compiled; derivatives against finite differences. The table is enumerated, so
that no function can be dispatched without a case here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import OptionError, ShapeError
from graphc.frontend import decompositions

RNG = np.random.default_rng(5)
S = RNG.standard_normal((4, 4))
B = RNG.standard_normal((2, 3, 4, 4)).astype(np.float32)
T = RNG.standard_normal((2, 5, 3))
W = RNG.standard_normal((3, 5))
V = RNG.standard_normal(4)
I = RNG.integers(-3, 4, (3, 3)) + 5 * np.eye(3, dtype=np.int64)
P = S @ S.T + np.eye(4)
C = S + 1j * RNG.standard_normal(
    (4, 4)
)  # real matrices may have real eigenvalues in NumPy: tests/frontend/test_complex_linalg.py
Q = np.einsum("...ij,...kj->...ik", B, B) + np.eye(4, dtype=np.float32)
LOW = T[0] @ np.diag([1.0, 2.0, 0.0]) @ W[:, :4]  # rank 2
EMPTY = np.zeros((0, 3, 3))
NONE = np.zeros((2, 0, 0))
X3, Y3 = RNG.standard_normal((2, 4, 3)), RNG.standard_normal((4, 3))

L = np.linalg
_ALL = (S, B, I, EMPTY, NONE)
CASES: dict[Any, list[Any]] = {
    L.cholesky: [lambda f, x=x: f(x) for x in (P, Q, EMPTY, NONE)]
    + [lambda f: f(P, upper=True), lambda f: f(S + 9 * P)],
    L.cond: [lambda f: f(S), lambda f: f(T), *[lambda f, p=p: f(S, p) for p in (2, -2, 1, -1, np.inf, -np.inf, "fro")]],
    L.cross: [lambda f: f(X3, Y3), lambda f: f(Y3, X3), lambda f: f(X3.mT, Y3.T, axis=-2), lambda f: f(I, I[::-1])],
    L.det: [lambda f, x=x: f(x) for x in _ALL],
    L.diagonal: [lambda f, k=k, x=x: f(x, offset=k) for k in (0, 2, -1, -9, 9) for x in (S, T, W, I)],
    L.eig: [lambda f: f(C), lambda f: f(np.stack([C, 2 * C])), lambda f: f(C[:0, :0])],
    L.eigvals: [lambda f: f(C), lambda f: f(np.stack([C, 2 * C]).astype(np.complex64))],
    L.eigh: [lambda f, x=x: f(x) for x in (P, Q, S, I, EMPTY, NONE)] + [lambda f: f(S, "U")],
    L.eigvalsh: [lambda f, x=x: f(x) for x in (P, Q, S, I, EMPTY)] + [lambda f: f(S, UPLO="U")],
    L.inv: [lambda f, x=x: f(x) for x in _ALL],
    L.lstsq: [lambda f: f(T[0], T[1][:, 0]), lambda f: f(T[0], T[1]), lambda f: f(W, S[:3]), lambda f: f(S, V, 0.1)],
    L.matmul: [lambda f: f(S, V), lambda f: f(B, S)],
    L.matrix_norm: [
        *[lambda f, o=o: f(T, ord=o) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
        *[lambda f: f(B, keepdims=True), lambda f: f(I)],
    ],
    L.matrix_power: [lambda f, n=n, x=x: f(x, n) for n in (0, 1, 2, 3, 7, -1, -2) for x in (S, B)]
    + [lambda f: f(I, 3), lambda f: f(I, 0), lambda f: f(I, -2)],
    L.matrix_rank: [lambda f, x=x: f(x) for x in (S, T, LOW, V, 0 * V, I, 0 * S)]
    + [lambda f: f(S, rtol=0.5), lambda f: f(T, 0.7)],
    L.matrix_transpose: [lambda f: f(T)],
    L.multi_dot: [lambda f: f([V, S, P, V]), lambda f: f([T[0], W, T[1], W]), lambda f: f([S, V])],
    L.norm: [
        *[lambda f: f(V), lambda f: f(T), lambda f: f(B, axis=1), lambda f: f(I), lambda f: f(T, keepdims=True)],
        *[lambda f, o=o: f(V, o) for o in (0, 1, -1, 2, -2, 3, 2.5, np.inf, -np.inf)],
        *[lambda f, o=o: f(S, o) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
        *[lambda f: f(T, 1, axis=1), lambda f: f(B, "nuc", axis=(1, 3)), lambda f: f(B, 1, (3, 0), True)],
    ],
    L.outer: [lambda f: f(V, V)],
    L.pinv: [lambda f, x=x: f(x) for x in (S, B, T, W, LOW, I)] + [lambda f: f(T, 0.7), lambda f: f(T, rtol=None)],
    L.qr: [lambda f, m=m, x=x: f(x, m) for m in ("reduced", "complete", "r") for x in (S, B, T, W)]
    + [lambda f: f(I), lambda f: f(NONE)],
    L.slogdet: [lambda f, x=x: f(x) for x in (*_ALL, 0 * S)],
    L.solve: [
        *[lambda f: f(S, V), lambda f: f(S, P), lambda f: f(B, V), lambda f: f(B, S), lambda f: f(I, I)],
        *[lambda f: f(S, B), lambda f: f(B, np.float32(2) * B), lambda f: f(NONE, np.zeros((2, 0, 3)))],
    ],
    L.svd: [lambda f, m=m, x=x: f(x, m) for m in (True, False) for x in (S, B, T, W, I, EMPTY)]
    + [lambda f: f(T, compute_uv=False)],
    L.svdvals: [lambda f, x=x: f(x) for x in (S, B, T, W, NONE)],
    L.tensordot: [lambda f: f(S, B, axes=((1,), (2,)))],
    L.trace: [lambda f, x=x: f(x) for x in _ALL] + [lambda f: f(T, offset=1), lambda f: f(I, dtype=np.float32)],
    L.vecdot: [lambda f: f(S, V)],
    L.vector_norm: [
        *[lambda f, o=o: f(T, axis=1, ord=o) for o in (0, 1, 2, 3, -1, np.inf, -np.inf)],
        *[lambda f: f(T), lambda f: f(T, axis=(0, 2), keepdims=True), lambda f: f(I, keepdims=True)],
    ],
    np.cross: [lambda f: f(X3, Y3), lambda f: f(Y3, Y3[::-1]), lambda f: f(X3.mT, Y3, axisa=1, axisc=0)],
}


def test_every_function_has_cases() -> None:
    assert set(decompositions.NUMPY_FUNCTIONS) <= set(CASES)


class Recorder:
    """Replays a case on other arrays: the arrays of the case become arguments."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.arrays: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        getters = [self._getter(a) for a in args]
        return lambda *values: self.function(*(g(values) for g in getters), **kwargs)

    def _getter(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            self.arrays.append(x)
            index = len(self.arrays) - 1
            return lambda values: values[index]
        if isinstance(x, list):
            parts = [self._getter(i) for i in x]
            return lambda values: [p(values) for p in parts]
        return lambda values: x


def same(found: Any, expected: Any, label: str) -> None:
    found, expected = ([*x] if isinstance(x, tuple) else [x] for x in (found, expected))
    assert len(found) == len(expected), label
    for x, y in zip(found, map(np.asarray, expected), strict=True):
        x = np.asarray(x)
        assert x.dtype == y.dtype and x.shape == y.shape, (label, x.dtype, y.dtype, x.shape, y.shape)
        tolerance = 2e-4 if y.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=label)


@pytest.mark.parametrize("function", CASES, ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_against_numpy(function: Any) -> None:
    """On tensors dynamically, on tensors and on arrays compiled; kinds of results are those of the operands."""
    replays, arrays = [], []
    for call in CASES[function]:
        recorder = Recorder(function)
        replays.append(call(recorder))
        arrays.append(recorder.arrays)
    tensors = [[gx.tensor(x) for x in operands] for operands in arrays]

    def together(operands: list[list[Any]]) -> list[Any]:
        return [replay(*xs) for replay, xs in zip(replays, operands, strict=True)]

    expected = together(arrays)
    for kind, results in (
        ("dynamic", together(tensors)),
        ("compiled", gx.compile(together)(tensors)),
        ("compiled on arrays", gx.compile(together)(arrays)),
    ):
        for number, (found, wanted) in enumerate(zip(results, expected, strict=True)):
            same(found, wanted, f"{function.__name__} {number}, {kind}")
            assert getattr(found, "_fields", None) == getattr(wanted, "_fields", None)
            first = found[0] if isinstance(found, tuple) else found
            assert isinstance(first, gx.Tensor) is (kind != "compiled on arrays")


def test_namespace() -> None:
    """What the Array API's extension asks for, with its signatures and its own defaults."""
    names = "cholesky cross det diagonal eigh eigvalsh inv matmul matrix_norm matrix_power matrix_rank matrix_transpose outer "
    names += "pinv qr slogdet solve svd svdvals tensordot trace vecdot vector_norm"
    for name in names.split():
        assert getattr(gx.linalg, name).__doc__
        assert name in gx.linalg.__all__
    x = gx.tensor(T)
    same(gx.linalg.pinv(x), L.pinv(T, rtol=None), "pinv")
    same(gx.linalg.pinv(x, rtol=gx.asarray([0.5, 0.9])), L.pinv(T, rtol=np.array([0.5, 0.9])), "pinv")
    same(gx.linalg.matrix_rank(x, rtol=gx.asarray([0.5, 0.9])), L.matrix_rank(T, rtol=np.array([0.5, 0.9])), "rank")
    assert gx.linalg.eigh(gx.tensor(P)).eigenvalues.shape == (4,)
    assert gx.linalg.svd(x).Vh.shape == (2, 3, 3) and gx.linalg.qr(x).Q.shape == (2, 5, 3)


@pytest.mark.parametrize("run", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_errors(run: Any) -> None:
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        run(np.linalg.inv)(np.zeros((2, 2)))
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        run(gx.linalg.cholesky)(gx.tensor(-np.eye(2)))
    for function, fault in (
        (gx.linalg.inv, "inv: the last two axes must be equal"),
        (lambda x: gx.linalg.solve(gx.matmul(x, gx.matrix_transpose(x)), x[0]), "solve: x2 must have as many rows"),
        (lambda x: gx.linalg.svd(x[0]), "svd takes matrices"),
    ):
        with pytest.raises(ShapeError, match=rf"{fault}[\s\S]*at .*test_decompositions.py[\s\S]*hint"):
            run(function)(gx.tensor(RNG.standard_normal((3, 5))))
    with pytest.raises(OptionError, match=r"qr: there is no mode 'raw'"):
        run(lambda x: np.linalg.qr(x, mode="raw"))(gx.tensor(S))
    with pytest.raises(OptionError, match=r"matrix_norm: there is no ord 3"):
        run(lambda x: gx.linalg.matrix_norm(x, ord=3))(gx.tensor(S))


GRADIENTS: dict[str, tuple[Any, Any]] = {
    "cholesky": (lambda x: gx.linalg.cholesky(x @ x.mT + gx.eye(4)), B),
    "upper": (lambda x: gx.linalg.cholesky(x @ x.mT + gx.eye(4), upper=True), B),
    "cond": (gx.linalg.cond, T),
    "cross": (lambda x: gx.linalg.cross(x, x[::-1] * x), X3),
    "det": (gx.linalg.det, B),
    "diagonal": (lambda x: gx.linalg.diagonal(x, offset=1), T),
    "eigh": (lambda x: gx.linalg.eigh(x + x.mT).eigenvectors ** 2, S),
    "eigvalsh": (lambda x: gx.linalg.eigvalsh(x + x.mT), B),
    "inv": (gx.linalg.inv, S),
    "lstsq": (lambda x: gx.linalg.lstsq(x, gx.asarray(V[:, None]) * x)[0], S[:, :2]),
    "residuals": (lambda x: gx.linalg.lstsq(x, gx.asarray(V) + x[:, 0])[1], S[:, 1:3]),
    "power": (lambda x: gx.linalg.matrix_power(x, 5), S / 2),
    "negative power": (lambda x: gx.linalg.matrix_power(x, -3), S),
    "pinv": (gx.linalg.pinv, T),
    "pinv by svd": (lambda x: gx.linalg.pinv(x, rtol=gx.asarray([1e-9, 1e-9])), T),
    "q": (lambda x: gx.linalg.qr(x).Q, W),
    "r": (lambda x: gx.linalg.qr(x).R, T),
    "slogdet": (lambda x: gx.linalg.slogdet(x).logabsdet, B),
    "solve": (lambda x: gx.linalg.solve(x, x[..., :2] * 2), B),
    "solve broadcast": (lambda x: gx.linalg.solve(x, gx.asarray(B.astype(np.float64))), S),
    "svd": (lambda x: gx.linalg.svd(x, full_matrices=False).U ** 2, T),
    "svdvals": (gx.linalg.svdvals, T),
    "trace": (gx.linalg.trace, T),
    "norm": (lambda x: gx.linalg.vector_norm(x, ord=3, axis=-1), T),
    **{f"norm {o}": (lambda x, o=o: gx.linalg.matrix_norm(x, ord=o), T) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf)},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    """Through the tape, compiled as a whole, and a compiled function under the tape, against central differences."""
    function, x = GRADIENTS[name]
    x = x.astype(np.float64)
    weights = RNG.standard_normal(np.shape(function(gx.tensor(x))))

    def loss(x: Any) -> Any:
        return (function(gx.asarray(x)) * gx.asarray(weights)).sum()

    direction = RNG.standard_normal(x.shape)
    slope = float(loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    gradient = np.asarray(gx.grad(loss)(x))
    assert np.isclose(np.sum(gradient * direction), slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(gx.compile(gx.grad(loss))(x)), gradient, rtol=1e-8, atol=1e-8)
    leaf = gx.tensor(x, requires_grad=True)
    gx.compile(loss)(leaf).backward()
    np.testing.assert_allclose(np.asarray(leaf.grad), gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["inv", "det", "solve", "cholesky", "eigvalsh", "svdvals"])
def test_second_derivatives(name: str) -> None:
    function, x = GRADIENTS[name]
    x = x.astype(np.float64)

    def first(x: Any) -> Any:
        gradient = gx.grad(lambda y: (function(gx.asarray(y)) ** 2).sum())(x)
        return (gradient * gradient).sum()

    direction = RNG.standard_normal(x.shape)
    slope = float(first(x + 1e-6 * direction) - first(x - 1e-6 * direction)) / 2e-6
    for run in (lambda f: f, gx.compile):
        gradient = np.asarray(run(gx.grad(first))(x))
        assert np.isclose(np.sum(gradient * direction), slope, rtol=1e-4, atol=1e-5)


def test_host_calls_are_listed_and_exported(tmp_path: Path) -> None:
    @gx.compile
    def whiten(x: Any) -> Any:
        low = np.linalg.cholesky(x.T @ x + np.eye(3))
        return np.linalg.solve(low, x.T) + np.linalg.qr(x, mode="reduced")[0].T

    x = T[0]
    report = whiten.inspect(x)
    assert {row.function for row in report.host_calls} == {f"numpy.linalg:{f}" for f in ("cholesky", "solve", "qr")}
    whiten.export(tmp_path / "whiten", x)
    np.save(tmp_path / "x.npy", x)
    script = "import numpy as np, whiten; np.save('y.npy', whiten.whiten(np.load('x.npy')))"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), whiten(x))
