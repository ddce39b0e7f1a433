"""Activations and dropout of channels: special values, statistics, faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc as gx
from graphc import nn
from graphc.errors import ShapeError
from graphc.nn import functional as F

X = np.array([-1e3, -100.0, -1.0, -0.0, 0.0, 0.5, 3.0, 100.0, 1e3])


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (F.logsigmoid, special.log_expit),
        (F.silu, lambda x: x * special.expit(x)),
        (F.mish, lambda x: x * np.tanh(np.logaddexp(x, 0))),
        (F.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
        (F.softsign, lambda x: x / (1 + np.abs(x))),
        (F.relu6, lambda x: np.clip(x, 0, 6)),
        (F.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ],
    ids=lambda f: getattr(f, "__name__", "reference"),
)
def test_values_far_out(function: Any, reference: Any) -> None:
    for f in (function, gx.compile(function)):
        np.testing.assert_allclose(f(X).numpy(), reference(X), rtol=1e-13, atol=1e-300)
    t = gx.tensor(X, requires_grad=True)
    function(t).sum().backward()
    assert np.isfinite(t.grad.numpy()).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_are_dropped_whole(rank: int) -> None:
    layer = getattr(nn, f"Dropout{rank}d")(0.25, generator=gx.random.Generator(1))
    x = np.ones((50, 40, *(2,) * rank), np.float32)
    for f in (layer, gx.compile(layer)):
        y = f(x).numpy().reshape(50, 40, -1)
        assert (y == y[..., :1]).all() and set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs((y[..., 0] == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)
    layer.eval()
    assert (layer(x).numpy() == 1).all()
    with pytest.raises(ShapeError, match="axes after"):
        layer(np.ones(3, np.float32))


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    layer = nn.AlphaDropout(0.3, generator=gx.random.Generator(1))
    x = np.random.default_rng(1).standard_normal(200_000)
    y = layer(x).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02 and not np.array_equal(x, y)
    layer.eval()
    assert (layer(x).numpy() == x).all()


def test_faults() -> None:
    with pytest.raises(ShapeError, match="even"):
        F.glu(np.zeros((2, 3)))
    np.testing.assert_allclose(F.glu(X[:8]).numpy(), X[:4] * special.expit(X[4:8]))
    with pytest.raises(ShapeError, match="each channel"):
        nn.PReLU(3)(np.zeros((2, 4), np.float32))
    with pytest.raises(ShapeError, match="end in 3 and 2"):
        nn.Bilinear(3, 2, 1)(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
