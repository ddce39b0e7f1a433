"""Gradient clipping against NumPy's norms, dynamic and compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.errors import OptionError, StructureError
from graphc.nn import utils

RNG = np.random.default_rng(61)
SHAPES = [(3, 4), (5,), (), (0, 2)]


def parameters(dtype: Any = np.float64) -> list[nn.Parameter]:
    return [nn.Parameter(np.ones(s, dtype)) for s in SHAPES]


def gradients(dtype: Any = np.float64) -> list[np.ndarray]:
    return [np.asarray(RNG.standard_normal(s) * 3, dtype) for s in SHAPES]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 2.5, 3, math.inf])
@pytest.mark.parametrize("max_norm", [1.5, 1e6])
def test_clip_by_norm(max_norm: float, norm_type: float, dtype: Any, compiled: bool) -> None:
    params, without, grads = parameters(dtype), nn.Parameter(np.ones(2)), gradients(dtype)
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in grads]).astype(np.float64), norm_type)

    def step(gs: list[Any], limit: Any) -> Any:
        for p, g in zip(params, gs, strict=True):
            p.grad = g
        return utils.clip_grad_norm_([*params, without], limit, norm_type)

    run = gx.compile(step) if compiled else step
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    got = run([gx.tensor(g) for g in grads], gx.tensor(np.float64(max_norm)))
    assert got.dtype == dtype and got.shape == ()
    np.testing.assert_allclose(got.numpy(), norm, rtol=rtol)
    for p, g in zip(params, grads, strict=True):
        assert p.grad.dtype == dtype and p.grad.shape == g.shape
        np.testing.assert_allclose(p.grad.numpy(), g * min(1.0, max_norm / (norm + 1e-6)), rtol=rtol)
    assert without.grad is None


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_by_value(dtype: Any, compiled: bool) -> None:
    params, without, grads = parameters(dtype), nn.Parameter(np.ones(2)), gradients(dtype)
    grads[0][0, :3] = [np.nan, np.inf, -np.inf]

    def step(gs: list[Any]) -> None:
        for p, g in zip(params, gs, strict=True):
            p.grad = g
        utils.clip_grad_value_([*params, without], 0.75)

    (gx.compile(step) if compiled else step)([gx.tensor(g) for g in grads])
    for p, g in zip(params, grads, strict=True):
        assert p.grad.dtype == dtype
        np.testing.assert_array_equal(p.grad.numpy(), np.clip(g, dtype(-0.75), dtype(0.75)))
    assert without.grad is None


def test_clipping_inside_a_compiled_step() -> None:
    x = RNG.standard_normal((6, 4)) * 10
    ends = []
    for compiled in (False, True):
        w = nn.Parameter(np.arange(4.0))
        optimizer = optim.SGD([w], lr=0.1)

        def step(x: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            ((x @ w) ** 2).mean().backward()
            norm = utils.clip_grad_norm_([w], 1.0)
            optimizer.step()
            return norm

        run = gx.compile(lambda x, step=step: step(x)) if compiled else step
        before = w.numpy().copy()
        assert run(x).item() > 1.0
        np.testing.assert_allclose(np.linalg.norm(w.numpy() - before), 0.1, rtol=1e-6)
        for _ in range(4):
            run(x)
        ends.append(w.numpy())
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-10)
    assert run.stats.compiles == 1


def test_squares_of_large_float32_do_not_overflow() -> None:
    big = gx.tensor(np.array([3e30, 4e30], np.float32))
    np.testing.assert_allclose(utils.get_total_norm(big).numpy(), 5e30, rtol=1e-6)


def test_a_norm_that_is_not_finite_is_seen() -> None:
    p = nn.Parameter(np.ones(2))
    p.grad = gx.tensor(np.array([1.0, np.nan]))
    assert np.isnan(utils.clip_grad_norm_([p], 1.0).item())
    assert np.isnan(p.grad.numpy()).all()


def test_nothing_to_clip() -> None:
    assert utils.clip_grad_norm_([nn.Parameter(np.ones(2))], 1.0).item() == 0.0
    assert utils.clip_grad_norm_([], 1.0).item() == 0.0
    utils.clip_grad_value_([], 1.0)


def test_bad_input() -> None:
    p = nn.Parameter(np.ones(2))
    for call, text in [
        (lambda: utils.clip_grad_norm_([p], -1.0), "max_norm cannot be -1.0"),
        (lambda: utils.clip_grad_norm_([p], float("nan")), "max_norm cannot be nan"),
        (lambda: utils.clip_grad_norm_([p], "x"), "max_norm cannot be 'x'"),
        (lambda: utils.clip_grad_norm_([p], 1.0, 0), "norm_type cannot be 0"),
        (lambda: utils.clip_grad_value_([p], -1.0), "clip_value cannot be -1.0"),
    ]:
        with pytest.raises(OptionError, match=text):
            call()
    with pytest.raises(StructureError, match="clip_grad_value_ takes tensors, not a ndarray"):
        utils.clip_grad_value_([np.ones(2)], 1.0)
