"""Losses against formulas in NumPy and SciPy, gradients against finite differences, in both modes; their modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import spatial, special, stats

import graphc as gx
from graphc import nn
from graphc.errors import OptionError, ShapeError
from graphc.nn import functional as F
from graphc.nn.loss_layers import __all__ as LOSSES

RNG = np.random.default_rng(71)
X, Y, Z = (RNG.standard_normal((4, 5)) for _ in range(3))
P, Q = RNG.uniform(0.05, 0.95, (4, 5)), RNG.uniform(0.05, 1, (4, 5))
Q[0, 0], Q[0, 1] = 0, 1
SIGNS = np.where(RNG.uniform(size=(4, 5)) < 0.5, -1, 1)
LABELS = np.array([1, -1, 1, -1])
VAR = RNG.uniform(0.2, 2, (4, 5))


def huber(x: Any, y: Any, delta: float) -> Any:
    return special.huber(delta, x - y)


def cosine(a: Any, b: Any, y: Any, margin: float) -> Any:
    c = np.array([1 - spatial.distance.cosine(u, v) for u, v in zip(a, b, strict=True)])
    return np.where(y == 1, 1 - c, np.maximum(c - margin, 0))


def triplet(a: Any, b: Any, c: Any, margin: float, p: float, swap: bool = False) -> Any:
    def d(u: Any, v: Any) -> Any:
        return np.array([np.linalg.norm(s - t + 1e-6, p) for s, t in zip(u, v, strict=True)])

    far = np.minimum(d(a, c), d(b, c)) if swap else d(a, c)
    return np.maximum(d(a, b) - far + margin, 0)


def gaussian(x: Any, y: Any, v: Any) -> Any:
    return -stats.norm.logpdf(y, x, np.sqrt(v))


#: Function, its arguments, its options, single losses.
CASES: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
    (F.huber_loss, (X, Y), {}, huber(X, Y, 1.0)),
    (F.huber_loss, (X, Y), {"delta": 0.6}, huber(X, Y, 0.6)),
    (F.smooth_l1_loss, (X, Y), {}, huber(X, Y, 1.0)),
    (F.smooth_l1_loss, (X, Y), {"beta": 0.4}, huber(X, Y, 0.4) / 0.4),
    (F.smooth_l1_loss, (X, Y), {"beta": 0}, np.abs(X - Y)),
    (F.binary_cross_entropy, (P, Q), {}, -special.xlogy(Q, P) - special.xlog1py(1 - Q, -P)),
    (F.binary_cross_entropy, (P, SIGNS > 0), {}, -np.log(np.where(SIGNS > 0, P, 1 - P))),
    (F.kl_div, (np.log(P), Q), {}, special.rel_entr(Q, P)),
    (F.kl_div, (np.log(P), np.log(VAR)), {"log_target": True}, special.rel_entr(VAR, P)),
    (F.hinge_embedding_loss, (X, SIGNS), {}, np.where(SIGNS == 1, X, np.maximum(1 - X, 0))),
    (F.hinge_embedding_loss, (X, SIGNS), {"margin": 0.3}, np.where(SIGNS == 1, X, np.maximum(0.3 - X, 0))),
    (F.cosine_embedding_loss, (X, Y, LABELS), {}, cosine(X, Y, LABELS, 0.0)),
    (F.cosine_embedding_loss, (X, Y, LABELS), {"margin": -0.2}, cosine(X, Y, LABELS, -0.2)),
    (F.triplet_margin_loss, (X, Y, Z), {}, triplet(X, Y, Z, 1.0, 2)),
    (F.triplet_margin_loss, (X, Y, Z), {"p": 3.0, "margin": 0.5, "swap": True}, triplet(X, Y, Z, 0.5, 3, True)),
    (F.triplet_margin_loss, (X, Y, Z), {"p": 1.0}, triplet(X, Y, Z, 1.0, 1)),
    (F.gaussian_nll_loss, (X, Y, VAR), {"full": True}, gaussian(X, Y, VAR)),
    (F.gaussian_nll_loss, (X, Y, VAR[:, :1]), {}, gaussian(X, Y, VAR[:, :1]) - 0.5 * np.log(2 * np.pi)),
    (F.gaussian_nll_loss, (X, Y, VAR[:, 0]), {"full": True}, gaussian(X, Y, VAR[:, :1])),
]


def ids(case: Any) -> str:
    return f"{case[0].__name__}-{'-'.join(case[2])}"


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_values_and_gradients(case: Any, reduction: str) -> None:
    function, arguments, options, single = case
    want = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](single)
    seed = np.asarray(np.random.default_rng(1).standard_normal(want.shape))

    def f(*args: Any) -> Any:
        return function(*args, **options, reduction=reduction)

    floats = [k for k, a in enumerate(arguments) if a.dtype == np.float64 and not (k == 1 and function is F.kl_div)]
    for g in (f, gx.compile(f)):
        tensors = [gx.tensor(a, requires_grad=k in floats) for k, a in enumerate(arguments)]
        got = g(*tensors)
        assert got.shape == want.shape and got.dtype == np.float64
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-10, atol=1e-12)
        got.backward(gx.tensor(seed))
        for k in floats:
            direction = np.random.default_rng(k).standard_normal(arguments[k].shape)
            ends = []
            for h in (1e-6, -1e-6):
                moved = [a + h * direction if j == k else a for j, a in enumerate(arguments)]
                ends.append(float((f(*moved).numpy() * seed).sum()))
            slope = float((tensors[k].grad.numpy() * direction).sum())
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True])
def test_edges_without_nan(compiled: bool) -> None:
    def gradient(f: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
        t = gx.tensor(np.array(x), requires_grad=True)
        y = (gx.compile(f) if compiled else f)(t)
        y.backward()
        return y.item(), t.grad.numpy()

    value, slope = gradient(lambda p: F.binary_cross_entropy(p, np.array([1.0, 0.0]), reduction="sum"), [0.0, 1.0])
    assert value == 200.0 and np.isfinite(slope).all()
    value, slope = gradient(lambda p: F.binary_cross_entropy(p, np.array([0.0, 1.0]), reduction="sum"), [0.0, 1.0])
    assert value == 0.0 and slope.tolist() == [1.0, -1.0]
    value, slope = gradient(lambda t: F.kl_div(np.log([0.5, 0.5]), t, reduction="sum"), [0.0, 0.5])
    assert value == 0.0 and np.isfinite(slope).all()
    value, slope = gradient(lambda v: F.gaussian_nll_loss(np.zeros(1), np.ones(1), v, eps=0.5), [0.0])
    np.testing.assert_allclose(value, 0.5 * (np.log(0.5) + 2))
    np.testing.assert_allclose(slope, 0.5 * (1 / 0.5 - 1 / 0.25))
    value, slope = gradient(lambda x: F.cosine_embedding_loss(x, np.ones(2), np.array(1)), [0.0, 0.0])
    assert value == 1.0 and np.isfinite(slope).all()


def test_batchmean() -> None:
    want = special.rel_entr(Q, P).sum() / 4
    np.testing.assert_allclose(F.kl_div(np.log(P), Q, reduction="batchmean").item(), want, rtol=1e-12)


#: Arguments and options of each module, and the function it calls.
MODULES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "MSELoss": (F.mse_loss, (X, Y), {}),
    "L1Loss": (F.l1_loss, (X, Y), {}),
    "SmoothL1Loss": (F.smooth_l1_loss, (X, Y), {"beta": 0.5}),
    "HuberLoss": (F.huber_loss, (X, Y), {"delta": 0.5}),
    "CrossEntropyLoss": (F.cross_entropy, (X, np.array([0, 4, 2, 1])), {"ignore_index": 2, "label_smoothing": 0.1}),
    "NLLLoss": (F.nll_loss, (X, np.array([0, 4, 2, 1])), {"ignore_index": 2}),
    "BCELoss": (F.binary_cross_entropy, (P, Q), {}),
    "BCEWithLogitsLoss": (F.binary_cross_entropy_with_logits, (X, Q), {}),
    "KLDivLoss": (F.kl_div, (np.log(P), X), {"log_target": True}),
    "HingeEmbeddingLoss": (F.hinge_embedding_loss, (X, SIGNS), {"margin": 0.5}),
    "CosineEmbeddingLoss": (F.cosine_embedding_loss, (X, Y, LABELS), {"margin": 0.1}),
    "TripletMarginLoss": (F.triplet_margin_loss, (X, Y, Z), {"margin": 0.5, "p": 1.0, "eps": 1e-3, "swap": True}),
    "GaussianNLLLoss": (F.gaussian_nll_loss, (X, Y, VAR), {"full": True, "eps": 0.5}),
}


def test_every_module_is_tried() -> None:
    assert set(MODULES) == set(LOSSES)


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    function, arguments, options = MODULES[name]
    for reduction in ("mean", "sum"):
        module = getattr(nn, name)(reduction=reduction, **options)
        want = function(*arguments, reduction=reduction, **options).item()
        assert module(*arguments).item() == want
        np.testing.assert_allclose(gx.compile(module)(*arguments).item(), want, rtol=1e-12)
        assert f"reduction={reduction!r}" in repr(module) and not list(module.parameters())
    if options:
        assert getattr(nn, name)()(*arguments).item() != function(*arguments, **options).item()


def test_bad_input() -> None:
    for function in (F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy, F.kl_div, F.hinge_embedding_loss):
        with pytest.raises(ShapeError, match=r"must have the same shape"):
            function(X, Y[:, :1])
        with pytest.raises(OptionError, match="there is no reduction 'max'"):
            function(X, Y, reduction="max")
    for call, text in [
        (lambda: F.huber_loss(X, Y, delta=0), "delta cannot be 0"),
        (lambda: F.smooth_l1_loss(X, Y, beta=-1.0), "beta cannot be -1.0"),
        (lambda: F.triplet_margin_loss(X, Y, Z, p=0.0), "p cannot be 0.0"),
    ]:
        with pytest.raises(OptionError, match=text):
            call()
    with pytest.raises(ShapeError, match="without the last axis"):
        F.cosine_embedding_loss(X, Y, SIGNS)
    with pytest.raises(ShapeError, match="1 as last axis"):
        F.gaussian_nll_loss(X, Y, VAR[:1])
