"""Losses of pairs, distances and distributions, and what losses share. Layer 6. Names and meanings are PyTorch's.

All are composed of primitive ops; a side of `where` that is not taken gives no gradient and no NaN.
`functional` re-exports them.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import OptionError, ShapeError, message
from graphc.frontend import elementwise, reducing
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "check_reduction",
    "check_same",
    "cosine_embedding_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "paired",
    "reduce",
    "smooth_l1_loss",
    "triplet_margin_loss",
]

Array = Any
"""A Tensor or what can become one."""

_REDUCTIONS = ("mean", "sum", "none")

_BROADCAST = "Broadcasting would give the mean over all pairs; reshape one of them, for example with squeeze()."


def check_reduction(name: str, reduction: str) -> None:
    """OptionError, a ValueError, unless the reduction is one of three."""
    if reduction not in _REDUCTIONS:
        raise OptionError(
            message(
                f"{name}: there is no reduction {reduction!r}",
                location=user_location(),
                hint=f"reduction is one of {', '.join(map(repr, _REDUCTIONS))}.",
            )
        )


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of single losses, or these."""
    if reduction == "none":
        return loss
    return reducing.mean(loss) if reduction == "mean" else reducing.sum(loss)


def check_same(name: str, x: Tensor, y: Tensor, hint: str = _BROADCAST) -> None:
    """ShapeError unless both have one shape."""
    if x.shape != y.shape:
        raise ShapeError(
            message(
                f"{name}: input and target must have the same shape",
                operands=[("input", describe(x)), ("target", describe(y))],
                location=user_location(),
                hint=hint,
            )
        )


def paired(name: str, input: Array, target: Array, reduction: str) -> tuple[Tensor, Tensor]:
    """Input and target, of equal shapes."""
    check_reduction(name, reduction)
    x, y = as_tensor(input), as_tensor(target)
    check_same(name, x, y)
    return x, y


_abs: Any = elementwise.FUNCTIONS["abs"]
_log: Any = elementwise.FUNCTIONS["log"]
_maximum: Any = elementwise.FUNCTIONS["maximum"]
_sqrt: Any = elementwise.FUNCTIONS["sqrt"]
_where: Any = elementwise.where


def _positive(name: str, value: Any, least: float = 0.0) -> float:
    if not isinstance(value, (int, float)) or not value > least or not math.isfinite(value):
        raise OptionError(
            message(
                f"{name} cannot be {value!r}",
                location=user_location(),
                hint=f"It is a finite number above {least:g}.",
            )
        )
    return float(value)


def _bent(x: Any, limit: float) -> Any:
    """x**2 / 2 up to a magnitude of `limit`, and the tangent line beyond."""
    size = _abs(x)
    return _where(size < limit, 0.5 * x * x, limit * (size - 0.5 * limit))


def huber_loss(input: Array, target: Array, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Huber's loss (1964) of d = input - target: d**2 / 2 where |d| < delta, else delta (|d| - delta / 2)."""
    x, y = paired("huber_loss", input, target, reduction)
    return reduce(_bent(elementwise.subtract(x, y), _positive("huber_loss: delta", delta)), reduction)


def smooth_l1_loss(input: Array, target: Array, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """`huber_loss` with delta = beta, divided by beta; with beta 0 the `l1_loss`."""
    x, y = paired("smooth_l1_loss", input, target, reduction)
    difference: Any = elementwise.subtract(x, y)
    if beta == 0:
        return reduce(_abs(difference), reduction)
    return reduce(_bent(difference, _positive("smooth_l1_loss: beta", beta)) / beta, reduction)


def binary_cross_entropy(input: Array, target: Array, *, reduction: str = "mean") -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) of probabilities p, with logarithms of at least -100, as in PyTorch.

    `binary_cross_entropy_with_logits` is more accurate where the probabilities are a sigmoid's.
    """
    p, target_ = paired("binary_cross_entropy", input, target, reduction)
    y: Any = target_ if target_.type.dtype.is_float else convert(target_, p.dtype)
    rest: Any = elementwise.subtract(1, p)
    return reduce(-(y * _floored_log(p) + (1 - y) * _floored_log(rest)), reduction)


def _floored_log(p: Any) -> Any:
    """log(p), -100 where it is lower; the logarithm that is not used is that of 1."""
    low = p <= math.exp(-100.0)
    return _where(low, -100.0, _log(_where(low, 1.0, p)))


def kl_div(input: Array, target: Array, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence, element by element: t (log t - input), and 0 where t is 0.

    Parameters
    ----------
    input
        Logarithms of probabilities.
    target
        Probabilities of the same shape, or with `log_target` their logarithms.
    reduction
        Also "batchmean": the sum by the size of the first axis, which is the mean of the divergences.
    """
    batch = reduction == "batchmean"
    x, y = paired("kl_div", input, target, "sum" if batch else reduction)
    t: Any = elementwise.exp(y) if log_target else y
    loss: Any = t * elementwise.subtract(y, x) if log_target else _entropy_part(t) - t * x
    if batch:
        return elementwise.divide(reducing.sum(loss), max(x.shape[0] if x.ndim else 1, 1))
    return reduce(loss, reduction)


def _entropy_part(t: Any) -> Any:
    """t log t, with 0 at 0."""
    return _where(t == 0, 0.0, t * _log(_where(t == 0, 1.0, t)))


def hinge_embedding_loss(input: Array, target: Array, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1."""
    x, y = paired("hinge_embedding_loss", input, target, reduction)
    return reduce(_where(elementwise.greater(y, 0), x, _maximum(elementwise.subtract(margin, x), 0)), reduction)


def cosine_embedding_loss(
    input1: Array,
    input2: Array,
    target: Array,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """With c the cosine along the last axis: 1 - c where the target is 1, max(0, c - margin) where it is -1.

    [N, D], [N, D] and [N]; or [D], [D] and a scalar. Squared lengths are taken 1e-12 larger, as in PyTorch.
    """
    first, second = paired("cosine_embedding_loss", input1, input2, reduction)
    y = as_tensor(target)
    if not first.ndim or y.shape != first.shape[:-1]:
        raise ShapeError(
            message(
                "cosine_embedding_loss: the target must have the inputs' shape without the last axis",
                operands=[("input1", describe(first)), ("target", describe(y))],
                location=user_location(),
                hint="One label, 1 or -1, for each pair of vectors.",
            )
        )
    a: Any = first
    b: Any = second
    lengths: Any = (_total(a * a) + 1e-12) * (_total(b * b) + 1e-12)
    cosine = _total(a * b) / _sqrt(lengths)
    return reduce(_where(elementwise.greater(y, 0), 1 - cosine, _maximum(cosine - margin, 0)), reduction)


def _total(x: Any) -> Any:
    return reducing.sum(x, axis=-1)


def _distance(a: Any, b: Any, p: float, eps: float) -> Any:
    """The p-norm of a - b + eps along the last axis."""
    size = _abs(a - b + eps)
    if p == 2.0:
        return _sqrt(_total(size * size))
    return _total(size) if p == 1.0 else elementwise.power(_total(elementwise.power(size, p)), 1.0 / p)


def triplet_margin_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin), by p-norms along the last axis.

    With `swap` the second distance is the smaller of the negative's to anchor and positive (Balntas et al., BMVC 2016).
    `eps` is added to differences.
    """
    a, b = paired("triplet_margin_loss", anchor, positive, reduction)
    _, c = paired("triplet_margin_loss", anchor, negative, reduction)
    order = _positive("triplet_margin_loss: p", p)
    far = _distance(a, c, order, eps)
    if swap:
        far = elementwise.FUNCTIONS["minimum"](far, _distance(b, c, order, eps))
    return reduce(_maximum(_distance(a, b, order, eps) - far + margin, 0), reduction)


def gaussian_nll_loss(
    input: Array,
    target: Array,
    var: Array,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (input - target)**2 / v) / 2 with v the variance, at least eps; with `full` plus log(2 pi) / 2.

    The variance has the input's shape, or 1 as its last axis, or lacks that axis. Its gradient passes the limit unchanged.
    """
    x, y = paired("gaussian_nll_loss", input, target, reduction)
    v: Any = as_tensor(var)
    if x.ndim and v.shape == x.shape[:-1]:
        v = v[..., None]
    if v.shape != x.shape and (not x.ndim or v.shape != (*x.shape[:-1], 1)):
        raise ShapeError(
            message(
                "gaussian_nll_loss: the variance must have the input's shape, or 1 as last axis",
                operands=[("input", describe(x)), ("var", describe(v))],
                location=user_location(),
                hint="One variance for each element, or one for each vector.",
            )
        )
    v = _where(v < eps, eps + (v - elementwise.stop_gradient(v)), v)
    difference: Any = elementwise.subtract(x, y)
    loss = 0.5 * (_log(v) + difference * difference / v)
    return reduce(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
