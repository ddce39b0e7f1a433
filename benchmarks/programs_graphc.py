"""The workloads in graphc. Arguments are NumPy arrays, as its users pass them."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from benchmarks.workloads import Data, Program, stateless
from graphc import nn, optim

__all__ = ["gelu", "layer_norm", "matmul", "mlp_inference", "mlp_training", "overhead", "softmax"]


def overhead(data: Data) -> Program:
    """x*2 + y on few elements."""
    x, y = data["x"], data["y"]

    @gx.compile
    def function(x: Any, y: Any) -> Any:
        return x * 2 + y

    return stateless(lambda: function(x, y))


def gelu(data: Data) -> Program:
    """gelu(x*1.5 + 0.25) in its tanh form."""
    x = data["x"]

    @gx.compile
    def function(x: Any) -> Any:
        return gx.gelu(x * 1.5 + 0.25, approximate="tanh")

    return stateless(lambda: function(x))


def softmax(data: Data) -> Program:
    """Over rows."""
    x = data["x"]

    @gx.compile
    def function(x: Any) -> Any:
        return gx.softmax(x, axis=-1)

    return stateless(lambda: function(x))


def layer_norm(data: Data) -> Program:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias over rows."""
    x, weight, bias = data["x"], data["weight"], data["bias"]

    @gx.compile
    def function(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * weight + bias

    return stateless(lambda: function(x, weight, bias))


def matmul(data: Data) -> Program:
    """a @ b."""
    a, b = data["a"], data["b"]

    @gx.compile
    def function(a: Any, b: Any) -> Any:
        return a @ b

    return stateless(lambda: function(a, b))


def _model(data: Data) -> nn.Sequential:
    inputs, hidden = data["w1"].shape
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, data["w2"].shape[1]))
    model.load_state_dict(
        {"0.weight": data["w1"].T, "0.bias": data["b1"], "2.weight": data["w2"].T, "2.bias": data["b2"]}
    )
    return model


def mlp_inference(data: Data) -> Program:
    """Logits of a multilayer perceptron."""
    x, model = data["x"], _model(data)

    @gx.compile
    def predict(x: Any) -> Any:
        with gx.no_grad():
            return model(x)

    return stateless(lambda: predict(x))


def mlp_training(data: Data) -> Program:
    """One step of training with Adam."""
    x, y, model = data["x"], data["y"], _model(data)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    @gx.compile
    def step(x: Any, y: Any) -> Any:
        loss: Any = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def outcome() -> list[object]:
        losses = np.array([float(step(x, y)) for _ in range(5)])
        return [losses, *(p.detach().numpy().T for p in model.parameters())]

    return Program(lambda: step(x, y), outcome)
