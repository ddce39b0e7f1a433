"""Normalisation: faults of users, special inputs, and the state of modules (conversion, hooks)."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import DTypeError, ShapeError, StateError
from graphc.nn import functional as F

RNG = np.random.default_rng(3)


def test_a_large_offset_does_not_cancel() -> None:
    x = RNG.standard_normal((64, 3)) + 1e7
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    for f in (F.batch_norm, gx.compile(F.batch_norm)):
        np.testing.assert_allclose(f(x, None, None, training=True).numpy(), expected, atol=1e-7)


def test_batch_norm_in_evaluation_mode_uses_the_running_statistics() -> None:
    layer = nn.BatchNorm2d(2, dtype=np.float64)
    x = RNG.standard_normal((5, 2, 3, 3)) * 3 + 1
    step = gx.compile(layer)
    for _ in range(3):
        step(x)
    assert layer.num_batches_tracked.item() == 3
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    left = 0.9**3
    np.testing.assert_allclose(layer.running_mean.numpy(), mean * (1 - left), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), left + var * (1 - left), rtol=1e-12)
    layer.eval()
    shape = (2, 1, 1)
    running = layer.running_mean.numpy().reshape(shape), layer.running_var.numpy().reshape(shape)
    expected = (x - running[0]) / np.sqrt(running[1] + 1e-5)
    np.testing.assert_allclose(step(x).numpy(), expected, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1, 1] and layer.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, np.inf])
def test_normalize(p: float) -> None:
    x = RNG.standard_normal((4, 5))
    expected = x / np.linalg.norm(x, ord=p, axis=1, keepdims=True)
    for f in (lambda x: F.normalize(x, p=p), gx.compile(lambda x: F.normalize(x, p=p))):
        np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-12)
    assert F.normalize(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_faults() -> None:
    with pytest.raises(ShapeError, match="no variance"):
        nn.BatchNorm1d(3)(np.ones((1, 3), np.float32))
    with pytest.raises(ShapeError, match=r"rank 4 and 3 channels(.|\n)*f32\[2, 3\]"):
        nn.BatchNorm2d(3)(np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match="4 channels"):
        nn.InstanceNorm1d(4)(np.ones((2, 3, 5), np.float32))
    with pytest.raises(ShapeError, match="divide"):
        nn.GroupNorm(2, 3)
    with pytest.raises(ShapeError, match="divide"):
        F.group_norm(np.ones((2, 3)), 2)
    with pytest.raises(ShapeError, match=r"\[4\]"):
        nn.LayerNorm(4)(np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match="sizes"):
        nn.RMSNorm(())
    with pytest.raises(ShapeError, match="running_mean"):
        F.batch_norm(np.ones((2, 3)), None, None)
    with pytest.raises(DTypeError, match="floating"):
        F.layer_norm(np.ones((2, 3), np.int32), 3)


def test_conversion_keeps_ties_and_counts() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    model[0].bias.requires_grad = False
    run = gx.compile(model)
    assert run(np.ones((2, 2), np.float32)).dtype == np.float32
    assert model.double() is model and model[2].weight is model[0].weight
    assert run(np.ones((2, 2))).dtype == np.float64
    assert {v.dtype for v in model.state_dict().values()} == {np.dtype(np.float64), np.dtype(np.int64)}
    assert not model[0].bias.requires_grad and model[0].weight.requires_grad
    assert model.half()[0].weight.dtype == np.float16 and model.float()[0].weight.dtype == np.float32
    with pytest.raises(StateError, match="traced"):
        gx.compile(lambda x: (model.half(), x))(np.ones(2))


def test_hooks() -> None:
    layer = nn.Linear(2, 2)
    x = np.ones((1, 2), np.float32)
    plain = layer(x).numpy()
    for run in (layer, gx.compile(layer)):
        before = layer.register_forward_pre_hook(lambda module, args: args[0] * 0.0)
        after = layer.register_forward_hook(lambda module, args, output: output + args[0] + 1.0)
        np.testing.assert_allclose(run(x).numpy(), layer.bias.numpy()[None] + 1, rtol=1e-6)
        before.remove()
        np.testing.assert_allclose(run(x).numpy(), plain + 2, rtol=1e-6)
        after.remove()
        after.remove()
        np.testing.assert_allclose(run(x).numpy(), plain, rtol=1e-6)
