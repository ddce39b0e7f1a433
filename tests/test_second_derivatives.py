"""Second derivatives: of every op against differences of its first ones; of whole functions under all pairs of transforms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from samples import smooth_samples

import graphc as gx
import graphc.ops
from graphc.dtypes import float64
from graphc.forward import jvp_graph
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.graph import Graph, input_value, make
from graphc.ir.op import Op
from graphc.ir.types import TensorType
from graphc.passes.differentiate import Differentiate

Array = np.ndarray[Any, Any]
#: Held graphs, host calls and constants: see tests/ops/test_registry.py.
_LEFT_OUT = ("fused", "stop_gradient", "host_call", "pure_call", "debug_print", "gamma_from_bits")
#: For symmetric operands: directions must be symmetric, too.
_SYMMETRIC = ("cholesky", "eigh", "eigvalsh")
OPS = [op for op in registry.all_ops() if op.name not in (*_LEFT_OUT, *_SYMMETRIC) and smooth_samples(op)]


def _first(op: Op, sample: Any) -> Graph | None:
    """The vector-Jacobian product of one application; None where there is none."""
    operands = [input_value(i, t) for i, t in enumerate(sample.types)]
    results = make(op, operands, **sample.attrs).results
    smooth = tuple(y for y in results if isinstance(y.type, TensorType) and y.type.dtype is float64)
    if not smooth or not any(isinstance(t, TensorType) and t.dtype is float64 for t in sample.types):
        return None
    return Differentiate().run(Graph(sample.types, smooth))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_of_every_op(op: Op) -> None:
    """Forward over reverse is the slope of the first derivative; reverse over reverse is its transpose."""
    rng = np.random.default_rng(0)
    chosen = [s for s in smooth_samples(op) if all(x is None or x.size <= 60 for x in s.operands)]
    for sample in chosen[:: max(1, len(chosen) // 4)]:
        graph = _first(op, sample)
        if graph is None:
            continue
        count = len(sample.operands)
        point = [*sample.operands, *(rng.normal(size=t.shape) for t in graph.inputs[count:])]
        direction = [rng.normal(size=x.shape) if x.dtype == np.float64 else None for x in point]
        moved = [
            [x if d is None else np.asarray(x + h * d) for x, d in zip(point, direction, strict=True)]
            for h in (1e-6, -1e-6)
        ]
        with np.errstate(all="ignore"):
            slopes = [(u - d) / 2e-6 for u, d in zip(*(evaluate(graph, m) for m in moved), strict=True)]
            linear, _ = jvp_graph(graph, always=[True] * len(graph.outputs))
            found = evaluate(linear, [*point, *(d for d in direction if d is not None)])[len(graph.outputs) :]
            for t, slope in zip(found, slopes, strict=True):
                np.testing.assert_allclose(t, slope, rtol=2e-4, atol=2e-5, err_msg=str(sample))
            cts = [rng.normal(size=t.shape) for t in found]
            back = evaluate(Differentiate().run(graph), [*point, *cts])
        across = sum(float(np.sum(c * t)) for c, t in zip(cts, found, strict=True))
        other = sum(float(np.sum(g * d)) for g, d in zip(back, filter(_there, direction), strict=True))
        assert np.isclose(across, other, rtol=1e-8, atol=1e-8), sample


def _there(x: Any) -> bool:
    return x is not None


# -- whole functions -------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
A, B, C = RNG.normal(size=(4, 4)), RNG.normal(size=(6, 4)), RNG.normal(size=(4, 4)) / 2
LABELS = np.eye(4)[[0, 2, 1, 3, 3, 0]]
MASK = np.array([True, True, False, True])


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def cross_entropy(x: Any) -> Any:
    z = B * x
    return -(LABELS * (z - gx.logsumexp(z, axis=1, keepdims=True))).sum()


def log_determinant(x: Any) -> Any:
    return np.linalg.slogdet(A @ A.T + np.diag(x * x + 1))[1]


def ode(x: Any) -> Any:
    y = x
    for _ in range(8):
        k = np.sin(C @ y)
        y = y + 0.1 * np.sin(C @ (y + 0.05 * k))
    return (y * y).sum()


def attention(x: Any) -> Any:
    h = B * x
    return (gx.softmax(h @ h.T / 2, axis=1) @ h).sum() ** 2


def convolution(x: Any) -> Any:
    return (np.tanh(np.convolve(B.ravel(), x)) ** 2).sum()


def lstm(x: Any) -> Any:
    h = c = np.zeros(4)
    for t in range(4):
        z = C @ h + B[t] * x
        i, f, o = gx.sigmoid(z), gx.sigmoid(z * 0.5), gx.sigmoid(z + 1)
        c = f * c + i * np.tanh(A @ z)
        h = o * np.tanh(c)
    return h.sum()


def masked_normalisation(x: Any) -> Any:
    y = np.where(MASK, x, 0.0)
    mean = y.sum() / 3
    centred = np.where(MASK, x - mean, 0.0)
    return (np.sin(centred / np.sqrt((centred**2).sum() / 3 + 1e-3)) * A[0]).sum()


def safe_root(x: Any) -> Any:
    return (np.where(x > 0, np.sqrt(np.abs(x)), x**3) * A[1]).sum()


def solution(x: Any) -> Any:
    return (np.linalg.solve(A + 6 * np.eye(4) + np.outer(x, x), x) ** 2).sum()


def product(x: Any) -> Any:
    return np.prod(x) + np.cumprod(x).sum()


def sorted_weights(x: Any) -> Any:
    return (np.sort(x) ** 3 * A[2]).sum()


def gaussian(x: Any) -> Any:
    return (gx.erf(x) * np.exp(-x * x) + np.log1p(x * x)).sum()


def gathered(x: Any) -> Any:
    return (np.take(x, np.array([0, 0, 3, 1])) ** 2 * x).sum()


def norm_ratio(x: Any) -> Any:
    return np.linalg.norm(A @ x) / np.linalg.norm(x)


FUNCTIONS = (rosenbrock, cross_entropy, log_determinant, ode, attention, convolution, lstm, masked_normalisation)
FUNCTIONS += (safe_root, solution, product, sorted_weights, gaussian, gathered, norm_ratio)
POINT = np.array([0.4, -0.8, 1.1, 0.65])
V = np.array([0.5, -1.0, 0.25, 2.0])


def _slope(g: Any) -> Any:
    return lambda x: gx.jvp(g, (x,), (V,))[1]


def _by_vjp(g: Any) -> Any:
    return lambda x: gx.vjp(g, x)[1](1.0)[0]


#: Pairs of transforms that give the Hessian times V.
PAIRS: dict[str, Any] = {
    "jvp of grad": lambda f: _slope(gx.grad(f)),
    "grad of jvp": lambda f: gx.grad(_slope(f)),
    "grad of grad": lambda f: gx.grad(lambda x: (gx.grad(f)(x) * V).sum()),
    "jvp of vjp": lambda f: _slope(_by_vjp(f)),
    "vjp of vjp": lambda f: lambda x: gx.vjp(_by_vjp(f), x)[1](V)[0],
    "jacfwd of grad": lambda f: lambda x: gx.jacfwd(gx.grad(f))(x) @ V,
    "jacrev of jacfwd": lambda f: lambda x: gx.jacrev(gx.jacfwd(f))(x) @ V,
    "hessian": lambda f: lambda x: gx.hessian(f)(x) @ V,
    "vmap of hvp": lambda f: lambda x: gx.vmap(lambda v: gx.hvp(f, (x,), (v,)))(np.eye(4)) @ V,
    "grad of checkpoint": lambda f: gx.grad(lambda x: (gx.grad(gx.checkpoint(f))(x) * V).sum()),
}


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_of_functions(f: Any) -> None:
    """To 1e-6 of differences by the five-point rule; the slow suite has all pairs."""
    gradient = gx.compile(gx.grad(f))
    h = 1e-3

    def five(g: Any, d: Array) -> Array:
        return np.asarray(
            (8 * (g(POINT + h * d) - g(POINT - h * d)) - (g(POINT + 2 * h * d) - g(POINT - 2 * h * d))) / 12 / h
        )

    with np.errstate(all="ignore"):
        slope = [float(five(f, d)) for d in np.eye(4)]
        np.testing.assert_allclose(gradient(POINT), slope, rtol=1e-6, atol=1e-6 * np.max(np.abs(slope)))
        expected = five(gradient, V)
    scale = np.max(np.abs(expected))
    for name in ("jvp of grad", "hessian"):
        found = np.asarray(gx.compile(PAIRS[name](f))(POINT))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "name"), list(itertools.product(FUNCTIONS, PAIRS)), ids=lambda x: getattr(x, "__name__", x)
)
@pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_all_pairs(f: Any, name: str, mode: Any) -> None:
    expected = np.asarray(_slope(gx.grad(f))(POINT))
    found = np.asarray(mode(PAIRS[name](f))(POINT))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.max(np.abs(expected)), err_msg=name)
