"""Modules as functions of their parameters: one call, per-example gradients, ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import ShapeError, StructureError

RNG = np.random.default_rng(5)
X = RNG.normal(size=(6, 4)).astype(np.float32)
Y = RNG.normal(size=(6, 2)).astype(np.float32)
MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


@MODES
def test_other_parameters_for_a_while(mode: Any) -> None:
    model, other = mlp(), mlp()
    before = dict(model.named_parameters())
    version = model.structure_version
    found = mode(lambda p, x: gx.functional_call(model, p, x))(dict(other.named_parameters()), X)
    np.testing.assert_allclose(found.numpy(), other(gx.asarray(X)).numpy(), rtol=1e-5)
    partly = gx.functional_call(model, {"2.bias": np.full(2, 7.0, np.float32)}, (X,), {})
    own = model(gx.asarray(X)).numpy() - model[2].bias.numpy()
    np.testing.assert_allclose(partly.numpy(), own + 7, rtol=1e-5)
    assert all(p is before[name] for name, p in model.named_parameters()) and model.structure_version == version
    with pytest.raises(ZeroDivisionError):
        gx.functional_call(Failing(), {"w": np.zeros(3, np.float32)}, X)


class Failing(nn.Module):
    def __init__(self) -> None:
        self.w = nn.Parameter(np.ones(3))

    def forward(self, x: Any) -> Any:
        raise ZeroDivisionError


class Tied(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_tied_parameters_and_several_dicts() -> None:
    weight = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    model = Tied()
    for name in ("first.weight", "second.weight"):
        found = gx.functional_call(model, ({}, {name: weight}), np.array([1.0, 3.0], np.float32))
        np.testing.assert_array_equal(found.numpy(), weight @ weight @ [1, 3])


@MODES
def test_gradients_of_each_example(mode: Any) -> None:
    model = mlp()
    parameters = dict(model.named_parameters())

    def loss(p: Any, x: Any, y: Any) -> Any:
        return ((gx.functional_call(model, p, (x,)) - y) ** 2).mean()

    found = mode(gx.vmap(gx.grad(loss), in_axes=(None, 0, 0)))(parameters, X, Y)
    for k in range(len(X)):
        model.zero_grad()
        ((model(gx.asarray(X[k])) - Y[k]) ** 2).mean().backward()
        for name, p in parameters.items():
            np.testing.assert_allclose(found[name].numpy()[k], p.grad.numpy(), rtol=1e-4, atol=1e-6)


@MODES
def test_ensembles(mode: Any) -> None:
    models = [mlp() for _ in range(3)]
    parameters, buffers = gx.stack_module_state(models)
    assert not buffers and all(p.requires_grad and p.is_leaf and p.shape[0] == 3 for p in parameters.values())
    run = mode(gx.vmap(lambda p, x: gx.functional_call(models[0], p, (x,)), in_axes=(0, None)))
    out = run(parameters, X)
    np.testing.assert_allclose(out.numpy(), np.stack([m(gx.asarray(X)).numpy() for m in models]), rtol=1e-4, atol=1e-6)
    (out**2).sum().backward()
    for k, model in enumerate(models):
        (model(gx.asarray(X)) ** 2).sum().backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(parameters[name].grad.numpy()[k], p.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_training_an_ensemble_in_one_step() -> None:
    """Each member learns its own data, as it would alone."""
    models = [nn.Linear(4, 2) for _ in range(3)]
    parameters, _ = gx.stack_module_state(models)
    data = np.stack([X, X[::-1], X * 2])

    @gx.compile
    def step(p: Any, x: Any) -> Any:
        def loss(p: Any, x: Any) -> Any:
            return ((gx.functional_call(models[0], p, (x,)) - Y) ** 2).mean()

        value, gradients = gx.vmap(gx.value_and_grad(loss))(p, x)
        return value, {name: p[name] - 0.1 * gradients[name] for name in p}

    state = {name: p.detach() for name, p in parameters.items()}
    for _ in range(5):
        values, state = step(state, data)
    for k, model in enumerate(models):
        for _ in range(5):
            model.zero_grad()
            loss = ((model(gx.asarray(data[k])) - Y) ** 2).mean()
            loss.backward()
            with gx.no_grad():
                for p in model.parameters():
                    p.assign(p - 0.1 * p.grad)
        np.testing.assert_allclose(values.numpy()[k], loss.item(), rtol=1e-4)
        for name, p in model.named_parameters():
            np.testing.assert_allclose(state[name].numpy()[k], p.numpy(), rtol=1e-4, atol=1e-6)


def test_bad_input() -> None:
    with pytest.raises(StructureError, match=r"no parameter or buffer '0\.weights'\n.*\n.*'0\.weight'"):
        gx.functional_call(mlp(), {"0.weights": X}, X)
    with pytest.raises(ShapeError, match="another shape"):
        gx.functional_call(mlp(), {"0.weight": X}, X)
    with pytest.raises(StructureError, match=r"takes an nn\.Module first"):
        gx.functional_call(np.sin, {}, X)
    with pytest.raises(StructureError, match="no models"):
        gx.stack_module_state([])
    with pytest.raises(StructureError, match=r"model 1: Sequential"):
        gx.stack_module_state([mlp(), nn.Sequential(nn.Linear(4, 2))])
