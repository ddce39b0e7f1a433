"""Activations as functions. Layer 6. Names and meanings are PyTorch's; all are elementwise unless they have a `dim`."""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import ShapeError, message
from graphc.frontend import elementwise, reducing, shaping
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "silu",
    "softmin",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]

Array = Any
"""A Tensor or what can become one."""

#: Klambauer et al., NeurIPS 2017: fixed point of mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def elu(input: Array, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else alpha * (exp(x) - 1) (Clevert et al., ICLR 2016)."""
    x: Any = as_tensor(input)
    below: Any = elementwise.expm1(elementwise.minimum(x, 0))
    return elementwise.where(x > 0, x, below * alpha)


def celu(input: Array, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else alpha * (exp(x / alpha) - 1)."""
    x: Any = as_tensor(input)
    below: Any = elementwise.expm1(elementwise.minimum(x, 0) / alpha)  # type: ignore[operator]
    return elementwise.where(x > 0, x, below * alpha)


def selu(input: Array) -> Tensor:
    """1.0507 * elu(x, 1.6733) (Klambauer et al., NeurIPS 2017)."""
    return elementwise.multiply(elu(input, SELU_ALPHA), SELU_SCALE)


def leaky_relu(input: Array, negative_slope: float = 0.01) -> Tensor:
    """x for x > 0, else negative_slope * x."""
    x: Any = as_tensor(input)
    return elementwise.where(x > 0, x, x * negative_slope)


def prelu(input: Array, weight: Array) -> Tensor:
    """x for x > 0, else weight * x, with one weight, or one for each channel (axis 1)."""
    x: Any = as_tensor(input)
    w: Any = as_tensor(weight)
    count = w.shape[0] if w.ndim else 1
    if w.ndim > 1 or (count != 1 and (x.ndim < 2 or x.shape[1] != count)):
        raise ShapeError(
            message(
                "prelu: needs one weight, or one for each channel",
                operands=[("input", describe(x)), ("weight", describe(w))],
                location=user_location(),
                hint="Channels are axis 1 of the input.",
            )
        )
    w = shaping.reshape(w, () if count == 1 else (count,) + (1,) * (x.ndim - 2))
    return elementwise.where(x > 0, x, w * x)


def hardtanh(input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x clipped to [min_val, max_val]; the derivative at and beyond the limits is 0."""
    x: Any = as_tensor(input)
    return elementwise.where(x <= min_val, min_val, elementwise.where(x >= max_val, max_val, x))


def relu6(input: Array) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def hardsigmoid(input: Array) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return elementwise.divide(relu6(elementwise.add(input, 3.0)), 6.0)


def hardswish(input: Array) -> Tensor:
    """x * hardsigmoid(x) (Howard et al., ICCV 2019)."""
    return elementwise.multiply(input, hardsigmoid(input))


def silu(input: Array) -> Tensor:
    """x * sigmoid(x)."""
    return elementwise.multiply(input, elementwise.sigmoid(input))


def mish(input: Array) -> Tensor:
    """x * tanh(softplus(x)) (Misra, BMVC 2020)."""
    return elementwise.multiply(input, elementwise.tanh(elementwise.softplus(input)))


def softsign(input: Array) -> Tensor:
    """x / (1 + |x|)."""
    return elementwise.divide(input, elementwise.add(elementwise.abs(input), 1.0))


def tanhshrink(input: Array) -> Tensor:
    """x - tanh(x)."""
    return elementwise.subtract(input, elementwise.tanh(input))


def softshrink(input: Array, lambd: float = 0.5) -> Tensor:
    """x - lambd for x > lambd, x + lambd for x < -lambd, else 0."""
    x: Any = as_tensor(input)
    return elementwise.where(x > lambd, x - lambd, elementwise.where(x < -lambd, x + lambd, 0))


def hardshrink(input: Array, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    x: Any = as_tensor(input)
    return elementwise.where(elementwise.logical_or(x > lambd, x < -lambd), x, 0)


def logsigmoid(input: Array) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return elementwise.negative(elementwise.softplus(elementwise.negative(input)))


def threshold(input: Array, threshold: float, value: float) -> Tensor:
    """x where x > threshold, else value."""
    x: Any = as_tensor(input)
    return elementwise.where(x > threshold, x, value)


def softmin(input: Array, dim: int = -1) -> Tensor:
    """softmax(-x) along an axis."""
    return reducing.softmax(elementwise.negative(input), axis=dim)


def glu(input: Array, dim: int = -1) -> Tensor:
    """The first half of an axis times the sigmoid of the second (Dauphin et al., ICML 2017)."""
    x = as_tensor(input)
    axis = shaping.normalize_axis("glu", dim, x.ndim, x)
    if x.shape[axis] % 2:
        raise ShapeError(
            message(
                f"glu: axis {dim} must have an even size",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="Its first half is multiplied by the sigmoid of its second.",
            )
        )
    half = x.shape[axis] // 2
    first, second = (shaping.slice_axis(x, axis, start, half) for start in (0, half))
    return elementwise.multiply(first, elementwise.sigmoid(second))


def alpha_dropout_constants(p: float) -> tuple[float, float, float]:
    """The value of dropped elements, then the factor and the offset that keep mean 0 and variance 1."""
    dropped = -SELU_ALPHA * SELU_SCALE
    factor = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * dropped**2))
    return dropped, factor, -factor * p * dropped
