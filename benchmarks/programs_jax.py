"""The workloads in JAX, jitted. Data are JAX arrays before the timing starts, except where NumPy in and out is measured."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import Data, Program, stateless

__all__ = ["gelu", "layer_norm", "matmul", "mlp_inference", "mlp_training", "overhead", "softmax"]


def _jitted(function: Any, *arguments: Any) -> Program:
    compiled = jax.jit(function)
    return stateless(lambda: compiled(*arguments).block_until_ready())


def overhead(data: Data) -> Program:
    """x*2 + y on few elements."""
    x, y = data["x"], data["y"]
    compiled = jax.jit(lambda x, y: x * 2 + y)
    return stateless(lambda: np.asarray(compiled(x, y)))


def gelu(data: Data) -> Program:
    """gelu(x*1.5 + 0.25) in its tanh form."""
    return _jitted(lambda x: jax.nn.gelu(x * 1.5 + 0.25, approximate=True), jnp.asarray(data["x"]))


def softmax(data: Data) -> Program:
    """Over rows."""
    return _jitted(lambda x: jax.nn.softmax(x, axis=-1), jnp.asarray(data["x"]))


def layer_norm(data: Data) -> Program:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias over rows."""

    def function(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / jnp.sqrt(variance + 1e-5) * weight + bias

    return _jitted(function, *(jnp.asarray(data[k]) for k in ("x", "weight", "bias")))


def matmul(data: Data) -> Program:
    """a @ b."""
    return _jitted(lambda a, b: a @ b, jnp.asarray(data["a"]), jnp.asarray(data["b"]))


def _logits(parameters: Any, x: Any) -> Any:
    w1, b1, w2, b2 = parameters
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def _parameters(data: Data) -> list[Any]:
    return [jnp.asarray(data[k]) for k in ("w1", "b1", "w2", "b2")]


def mlp_inference(data: Data) -> Program:
    """Logits of a multilayer perceptron."""
    return _jitted(_logits, _parameters(data), jnp.asarray(data["x"]))


def _loss(parameters: Any, x: Any, y: Any) -> Any:
    scores = jax.nn.log_softmax(_logits(parameters, x))
    return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))


def _step(state: Any, x: Any, y: Any) -> Any:
    parameters, moments, squares, steps = state
    loss, gradients = jax.value_and_grad(_loss)(parameters, x, y)
    steps = steps + 1
    correction1, correction2 = 1 - 0.9**steps, 1 - 0.999**steps
    moments = [0.9 * m + 0.1 * g for m, g in zip(moments, gradients, strict=True)]
    squares = [0.999 * v + 0.001 * g * g for v, g in zip(squares, gradients, strict=True)]
    parameters = [
        p - 1e-3 * (m / correction1) / (jnp.sqrt(v / correction2) + 1e-8)
        for p, m, v in zip(parameters, moments, squares, strict=True)
    ]
    return (parameters, moments, squares, steps), loss


class _Training:
    """Holds the state that a step gives away (donates) and gets back."""

    def __init__(self, data: Data) -> None:
        self.x, self.y = jnp.asarray(data["x"]), jnp.asarray(data["y"])
        parameters = _parameters(data)
        self.state = (
            parameters,
            [jnp.zeros_like(p) for p in parameters],
            [jnp.zeros_like(p) for p in parameters],
            jnp.zeros((), jnp.float32),
        )
        self.compiled = jax.jit(_step, donate_argnums=0)

    def step(self) -> Any:
        self.state, loss = self.compiled(self.state, self.x, self.y)
        return jax.block_until_ready((self.state, loss))[1]


def mlp_training(data: Data) -> Program:
    """One step of training with Adam."""
    training = _Training(data)
    return Program(training.step, lambda: [np.array([float(training.step()) for _ in range(5)]), *training.state[0]])
