"""Layers and losses against formulas in NumPy and SciPy, gradients against finite differences, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc as gx
from graphc import nn
from graphc.errors import BoundsError, DTypeError, ShapeError
from graphc.frontend import random
from graphc.nn import functional as F

RNG = np.random.default_rng(21)


def numeric_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences, element by element."""
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[i] += step
        low[i] -= step
        out[i] = (f(high) - f(low)) / (2 * step)
    return out


def check(f: Callable[..., Any], x: np.ndarray, reference: Any, *rest: Any, tolerance: float = 1e-12) -> None:
    """Value and gradient of f(x, *rest) in dynamic mode and compiled, against a value and finite differences."""
    reference = np.asarray(reference)
    seed = np.random.default_rng(0).standard_normal(reference.shape)
    numeric = numeric_gradient(lambda v: float((f(gx.tensor(v), *rest).numpy() * seed).sum()), x)
    for function in (f, gx.compile(f)):
        t = gx.tensor(x, requires_grad=True)
        y = function(t, *rest)
        assert y.shape == reference.shape
        np.testing.assert_allclose(y.numpy(), reference, rtol=tolerance, atol=tolerance)
        y.backward(gx.tensor(seed))
        np.testing.assert_allclose(t.grad.numpy(), numeric, rtol=1e-6, atol=1e-8)


# -- layers -------------------------------------------------------------------------------------------------------------


def test_linear() -> None:
    x, w, b = RNG.standard_normal((4, 5)), RNG.standard_normal((3, 5)), RNG.standard_normal(3)
    check(F.linear, x, x @ w.T + b, w, b)
    check(lambda v, x: F.linear(x, v), w, x @ w.T, x)
    assert F.linear(RNG.standard_normal((2, 7, 5)), w, b).shape == (2, 7, 3)
    assert F.linear(np.zeros(5), w).shape == (3,)
    assert F.linear(np.zeros((0, 5)), w).shape == (0, 3)
    with pytest.raises(ShapeError) as caught:
        F.linear(np.zeros((2, 4)), w)
    assert "f64[2, 4]" in str(caught.value) and "f64[3, 5]" in str(caught.value)


def test_linear_layer() -> None:
    layer = nn.Linear(100, 50)
    assert layer.weight.shape == (50, 100) and layer.bias.shape == (50,) and layer.weight.dtype == np.float32
    values = np.concatenate([layer.weight.numpy().ravel(), layer.bias.numpy()])
    assert np.abs(values).max() <= 0.1
    assert abs(values.var() - 0.1**2 / 3) < 2e-4
    assert nn.Linear(3, 2, bias=False).bias is None
    generator = random.Generator(5)
    a = nn.Linear(3, 2, generator=generator).weight.tolist()
    assert a == nn.Linear(3, 2, generator=random.Generator(5)).weight.tolist()
    assert nn.Linear(3, 2, dtype=np.float64).weight.dtype == np.float64


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.Tanh(), np.tanh),
        (nn.Sigmoid(), special.expit),
        (nn.GELU(), lambda x: x * special.ndtr(x)),
        (nn.GELU("tanh"), lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
        (nn.Softmax(), lambda x: special.softmax(x, axis=-1)),
        (nn.Softmax(dim=0), lambda x: special.softmax(x, axis=0)),
        (nn.Identity(1, a=2), lambda x: x * 1),
        (nn.Flatten(), lambda x: x),
        (F.log_softmax, lambda x: special.log_softmax(x, axis=-1)),
        (F.softplus, lambda x: np.logaddexp(x, 0)),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_activations(layer: Any, reference: Any) -> None:
    x = RNG.standard_normal((3, 4)) * 3
    check(lambda v: layer(v) * 1.0, x, reference(x))


def test_softplus_has_its_derivative_at_zero() -> None:
    t = gx.tensor([0.0], requires_grad=True)
    F.softplus(t).sum().backward()
    assert t.grad.tolist() == [0.5]


def test_flatten() -> None:
    x = RNG.standard_normal((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert F.flatten(x).shape == (120,)
    assert F.flatten(x, 1, 2).shape == (2, 12, 5)
    assert F.flatten(x, -2).shape == (2, 3, 20)
    assert F.flatten(np.float64(3)).shape == (1,)
    with pytest.raises(ShapeError, match="comes after"):
        F.flatten(x, 2, 1)
    assert nn.Flatten()(np.zeros((0, 2, 3))).shape == (0, 6)


def test_dropout() -> None:
    x = np.ones((100, 100), np.float32)
    layer = nn.Dropout(0.25, generator=random.Generator(3))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    assert (layer(x).numpy() != y).any()
    again = nn.Dropout(0.25, generator=random.Generator(3))(x).numpy()
    assert (again == y).all()
    layer.eval()
    assert (layer(x).numpy() == x).all()
    t = gx.tensor(x, requires_grad=True)
    F.dropout(t, 0.25, True, random.Generator(3)).sum().backward()
    assert (t.grad.numpy() == y).all()
    assert not F.dropout(np.full(3, np.inf), 1.0).numpy().any()
    assert (F.dropout(x, 0.0).numpy() == x).all()
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            nn.Dropout(p)


def test_compiled_dropout_draws_the_same_and_anew_each_call() -> None:
    layer = nn.Dropout(0.4, generator=random.Generator(8))
    x = np.arange(1, 50, dtype=np.float32)
    expected = [layer(x).numpy() for _ in range(3)]
    layer.generator.manual_seed(8)
    compiled = gx.compile(layer)
    for want in expected:
        assert compiled(x).numpy().tobytes() == want.tobytes()
    assert compiled.stats.compiles == 1


# -- losses -------------------------------------------------------------------------------------------------------------


def nll(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(special.log_softmax(x, axis=1), y[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint32])
def test_cross_entropy(reduction: str, dtype: type) -> None:
    x, y = RNG.standard_normal((6, 4)) * 5, RNG.integers(0, 4, 6).astype(dtype)
    reduce = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction]
    check(lambda v, y: F.cross_entropy(v, y, reduction=reduction), x, reduce(nll(x, y.astype(np.int64))), y)


def test_cross_entropy_of_other_ranks() -> None:
    x = RNG.standard_normal((2, 4, 3))
    y = RNG.integers(0, 4, (2, 3))
    flat = nll(np.moveaxis(x, 1, 2).reshape(6, 4), y.ravel())
    check(lambda v, y: F.cross_entropy(v, y, reduction="none"), x, flat.reshape(2, 3), y)
    check(F.cross_entropy, x[0, :, 0], flat[0], y[0, 0])
    assert np.isnan(F.cross_entropy(np.zeros((0, 3)), np.zeros(0, np.int64)).item())
    assert F.cross_entropy(np.zeros((0, 3)), np.zeros(0, np.int64), reduction="sum").item() == 0


def test_cross_entropy_options() -> None:
    x, y = RNG.standard_normal((6, 4)), np.array([0, 3, -100, 2, -100, 1])
    kept = y >= 0
    each = nll(x, np.where(kept, y, 0))
    check(lambda v, y: F.cross_entropy(v, y, ignore_index=-100), x, each[kept].mean(), y)
    check(lambda v, y: F.cross_entropy(v, y, ignore_index=-100, reduction="none"), x, np.where(kept, each, 0), y)
    smooth = 0.9 * each + 0.1 * -special.log_softmax(x, axis=1).mean(axis=1)
    labels = np.where(kept, y, 0)
    check(lambda v, y: F.cross_entropy(v, y, label_smoothing=0.1), x, smooth.mean(), labels)
    soft = special.softmax(RNG.standard_normal((6, 4)), axis=1)
    check(F.cross_entropy, x, -(soft * special.log_softmax(x, axis=1)).sum(axis=1).mean(), soft)
    mixed = 0.9 * soft + 0.1 / 4
    value = -(mixed * special.log_softmax(x, axis=1)).sum(axis=1).mean()
    check(lambda v, y: F.cross_entropy(v, y, label_smoothing=0.1), x, value, soft)


def test_cross_entropy_of_large_and_infinite_logits() -> None:
    x = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 0.0], [1e38, -1e38, 0.0]])
    for f in (F.cross_entropy, gx.compile(F.cross_entropy)):
        t = gx.tensor(x, requires_grad=True)
        loss = f(t, np.array([1, 2, 0]), reduction="none")
        np.testing.assert_allclose(loss.numpy(), [1e4, np.log(2), 0.0])
        loss.sum().backward()
        np.testing.assert_allclose(t.grad.numpy(), [[1, -1, 0], [0, 0.5, -0.5], [0, 0, 0]], atol=1e-15)
    assert F.cross_entropy(x[1:2], np.array([0]), reduction="none").tolist() == [np.inf]


@pytest.mark.parametrize("label", [4, -1, -5, 2**40, -(2**40)])
@pytest.mark.parametrize("compiled", [False, True])
def test_labels_out_of_range_are_index_errors(label: int, compiled: bool) -> None:
    x, y = np.zeros((3, 4)), np.array([0, label, 1])
    for f in (F.cross_entropy, F.nll_loss):
        function = gx.compile(f) if compiled else f
        with pytest.raises(IndexError) as caught:
            function(x, y)
        if not compiled:
            assert isinstance(caught.value, BoundsError)
            assert f"label {label} (at (1,)) is not one of 4 classes" in str(caught.value)
        assert function(x, np.array([0, 3, 1])).shape == ()


def test_bad_targets() -> None:
    x = np.zeros((3, 4))
    with pytest.raises(ShapeError, match="without the axis of classes"):
        F.cross_entropy(x, np.zeros(4, np.int64))
    with pytest.raises(ShapeError, match="same shape"):
        F.cross_entropy(x, np.zeros((3, 5)))
    with pytest.raises(DTypeError, match="integers"):
        F.cross_entropy(x, np.zeros(3))
    with pytest.raises(DTypeError, match="integers"):
        F.nll_loss(x, np.zeros(3))
    with pytest.raises(DTypeError, match="integers"):
        F.cross_entropy(x, np.zeros(3, bool))
    with pytest.raises(ValueError, match="there is no reduction 'avg'"):
        F.cross_entropy(x, np.zeros(3, np.int64), reduction="avg")
    with pytest.raises(ValueError, match="label_smoothing"):
        F.cross_entropy(x, np.zeros(3, np.int64), label_smoothing=2.0)


def test_nll_loss() -> None:
    x, y = RNG.standard_normal((5, 3)), RNG.integers(0, 3, 5)
    check(F.nll_loss, x, -x[np.arange(5), y].mean(), y)
    check(lambda v, y: F.nll_loss(v, y, ignore_index=0, reduction="sum"), x, -x[np.arange(5), y][y != 0].sum(), y)


def test_one_hot() -> None:
    y = np.array([[0, 2], [1, 2]])
    assert F.one_hot(y, 3).numpy().tolist() == np.eye(3, dtype=int)[y].tolist()
    with pytest.raises(IndexError):
        F.one_hot(y, 2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_pairs(reduction: str) -> None:
    x, y = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
    reduce = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction]
    check(lambda v, y: F.mse_loss(v, y, reduction=reduction), x, reduce((x - y) ** 2), y)
    check(lambda v, y: F.l1_loss(v, y, reduction=reduction), x, reduce(np.abs(x - y)), y)
    p = RNG.uniform(size=(4, 3))
    s = special.expit(x)
    value = reduce(-(p * np.log(s) + (1 - p) * np.log1p(-s)))
    check(lambda v, y: F.binary_cross_entropy_with_logits(v, y, reduction=reduction), x, value, p)


def test_binary_cross_entropy_of_large_logits_and_bools() -> None:
    x, y = np.array([1e4, -1e4, 0.0]), np.array([False, False, True])
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    assert loss.tolist() == [1e4, 0.0, pytest.approx(np.log(2), rel=1e-15)]


def test_shapes_of_pairs_are_not_broadcast() -> None:
    for f in (F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits):
        with pytest.raises(ShapeError, match="same shape"):
            f(np.zeros((3, 1)), np.zeros(3))


# -- initial values -------------------------------------------------------------------------------------------------------


def test_init() -> None:
    w = nn.Parameter(np.zeros((200, 100), np.float32))
    g = random.Generator(1)
    assert nn.init.ones_(w) is w and (w.numpy() == 1).all()
    assert (nn.init.constant_(w, 2.5).numpy() == 2.5).all()
    assert not nn.init.zeros_(w).numpy().any()
    for function, bound in [
        (lambda: nn.init.uniform_(w, -2, 2, g), 2.0),
        (lambda: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g), np.sqrt(6 / 100)),
        (lambda: nn.init.kaiming_uniform_(w, a=5**0.5, generator=g), np.sqrt(1 / 100)),
        (lambda: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="linear", generator=g), np.sqrt(3 / 200)),
        (lambda: nn.init.xavier_uniform_(w, generator=g), np.sqrt(6 / 300)),
    ]:
        x = function().numpy()
        assert 0.99 * bound < np.abs(x).max() <= bound * (1 + 1e-6)
        assert abs(x.var() / (bound**2 / 3) - 1) < 0.03
    for function, std in [
        (lambda: nn.init.normal_(w, 0.0, 3.0, g), 3.0),
        (lambda: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g), np.sqrt(2 / 100)),
        (lambda: nn.init.xavier_normal_(w, generator=g), np.sqrt(2 / 300)),
    ]:
        assert abs(function().numpy().std() / std - 1) < 0.03
    assert w.requires_grad and w.is_leaf
    with pytest.raises(ShapeError, match="rank 2"):
        nn.init.xavier_uniform_(nn.Parameter(np.zeros(3)))
    with pytest.raises(ValueError, match="no gain"):
        nn.init.calculate_gain("swish")
