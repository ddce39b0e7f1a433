"""The workloads in NumPy. Also the reference: given float64 data, they compute in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads import Data, Program, stateless

__all__ = ["gelu", "layer_norm", "matmul", "mlp_inference", "mlp_training", "overhead", "softmax"]

Array = np.ndarray[Any, Any]


def overhead(data: Data) -> Program:
    """x*2 + y on few elements."""
    x, y = data["x"], data["y"]
    return stateless(lambda: x * 2 + y)


def gelu(data: Data) -> Program:
    """gelu(x*1.5 + 0.25) in its tanh form."""
    x: Any = data["x"]

    def call() -> Array:
        u = x * 1.5 + 0.25
        return 0.5 * u * (1 + np.tanh(0.7978845608028654 * (u + 0.044715 * (u * u * u))))

    return stateless(call)


def softmax(data: Data) -> Program:
    """exp(x - max) / sum over rows."""
    x: Any = data["x"]

    def call() -> Array:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    return stateless(call)


def layer_norm(data: Data) -> Program:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias over rows."""
    x, weight, bias = data["x"], data["weight"], data["bias"]

    def call() -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-5) * weight + bias

    return stateless(call)


def matmul(data: Data) -> Program:
    """a @ b."""
    a, b = data["a"], data["b"]
    return stateless(lambda: a @ b)


def mlp_inference(data: Data) -> Program:
    """Logits of a multilayer perceptron."""
    x, w1, b1, w2, b2 = (data[k] for k in ("x", "w1", "b1", "w2", "b2"))
    return stateless(lambda: np.maximum(x @ w1 + b1, 0) @ w2 + b2)


class _Training:
    """A step by hand: forward, backward, Adam."""

    def __init__(self, data: Data) -> None:
        self.x, self.y = data["x"], data["y"]
        self.parameters: list[Any] = [data[k].copy() for k in ("w1", "b1", "w2", "b2")]
        self.moments = [np.zeros_like(p) for p in self.parameters]
        self.squares = [np.zeros_like(p) for p in self.parameters]
        self.steps = 0

    def gradients(self) -> tuple[float, list[Array]]:
        w1, b1, w2, b2 = self.parameters
        x: Any = self.x
        rows = np.arange(len(x))
        hidden = np.maximum(x @ w1 + b1, 0)
        logits = hidden @ w2 + b2
        shifted = logits - logits.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        total = powers.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - shifted[rows, self.y])
        d_logits = powers / total
        d_logits[rows, self.y] -= 1
        d_logits /= len(x)
        d_hidden = d_logits @ w2.T
        d_hidden[hidden <= 0] = 0
        return loss, [x.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]

    def step(self) -> float:
        loss, gradients = self.gradients()
        self.steps += 1
        correction1, correction2 = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for p, m, v, g in zip(self.parameters, self.moments, self.squares, gradients, strict=True):
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * (g * g)
            p -= 1e-3 / correction1 * m / (np.sqrt(v / correction2) + 1e-8)
        return loss


def mlp_training(data: Data) -> Program:
    """One step of training with Adam."""
    training = _Training(data)
    return Program(training.step, lambda: [np.array([training.step() for _ in range(5)]), *training.parameters])
