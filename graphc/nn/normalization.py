"""Normalisation over batches, layers, groups and instances. Layer 6. Names and meanings are PyTorch's.

Means are taken first and deviations squared after (two passes), so that a large common offset does not cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError, message
from graphc.frontend import context, elementwise, reducing, shaping
from graphc.frontend.namespace import finfo
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]

Array = Any
"""A Tensor or what can become one."""


def _floats(name: str, input: Array) -> Any:
    """The input as a Tensor of floats."""
    x = as_tensor(input)
    if not x.type.dtype.is_float:
        raise DTypeError(
            message(
                f"{name}: the input must be floating",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="Convert it with .astype(np.float32).",
            )
        )
    return x


def _refuse(name: str, what: str, hint: str, **operands: Tensor) -> ShapeError:
    return ShapeError(
        message(
            f"{name}: {what}",
            operands=[(key, describe(x)) for key, x in operands.items()],
            location=user_location(),
            hint=hint,
        )
    )


def _scaled(x: Any, weight: Array | None, bias: Array | None, shape: Sequence[int]) -> Tensor:
    """x * weight + bias, both reshaped to `shape`."""
    if weight is not None:
        x = elementwise.multiply(x, shaping.reshape(as_tensor(weight), tuple(shape)))
    if bias is not None:
        x = elementwise.add(x, shaping.reshape(as_tensor(bias), tuple(shape)))
    found: Tensor = x
    return found


def _standardised(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(var + eps), with the mean and the (biased) variance, axes kept."""
    mean: Any = reducing.mean(x, axis=axes, keepdims=True)
    deviation = x - mean
    var: Any = reducing.mean(deviation * deviation, axis=axes, keepdims=True)
    return deviation / elementwise.sqrt(var + eps), mean, var


def _check_features(name: str, x: Tensor, count: Any, operands: dict[str, Array | None]) -> None:
    """Per-channel operands have the size of the channels."""
    for key, value in operands.items():
        if value is not None and as_tensor(value).shape != (count,):
            raise _refuse(
                name,
                f"{key} must have one element a channel, [{count}]",
                "Channels are axis 1 of the input; make the layer for their number.",
                **{"input": x, key: as_tensor(value)},
            )


def batch_norm(
    input: Array,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel, over all other axes (Ioffe and Szegedy, ICML 2015).

    Parameters
    ----------
    input
        [N, C] or [N, C, ...].
    running_mean, running_var
        [C], or None. In training, updated in place: r += momentum * (new - r), with the unbiased variance. Else
        they take the place of the batch's own.
    weight, bias
        [C], or None.

    Raises
    ------
    ShapeError
        If operands do not fit, or a channel has one value in training.

    >>> import numpy as np
    >>> from graphc import nn
    >>> nn.functional.batch_norm(np.array([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    x = _floats("batch_norm", input)
    if x.ndim < 2:
        raise _refuse(
            "batch_norm", "the input needs axes of samples and channels", "The input is [N, C, ...].", input=x
        )
    channels = x.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_features("batch_norm", x, channels, given)
    shape = (1, channels) + (1,) * (x.ndim - 2)
    if not training:
        if running_mean is None or running_var is None:
            raise _refuse(
                "batch_norm",
                "without training, running_mean and running_var are needed",
                "Pass training=True for the statistics of the batch.",
                input=x,
            )
        mean, var = (shaping.reshape(r, shape) for r in (running_mean, running_var))
        return _scaled((x - mean) / elementwise.sqrt(elementwise.add(var, eps)), weight, bias, shape)
    axes = (0, *range(2, x.ndim))
    count = _count(x, axes)
    if count == 1:
        raise _refuse(
            "batch_norm",
            "one value a channel has no variance",
            "Train on batches of two samples or more, or call eval().",
            input=x,
        )
    y, mean, var = _standardised(x, axes, eps)
    _update(running_mean, shaping.reshape(mean, (channels,)), momentum)
    _update(running_var, _unbiased(shaping.reshape(var, (channels,)), count), momentum)
    return _scaled(y, weight, bias, shape)


def _count(x: Tensor, axes: Sequence[int]) -> Any:
    count: Any = 1
    for axis in axes:
        count = count * x.shape[axis]
    return count


def _unbiased(var: Any, count: Any) -> Any:
    return var * (count / (count - 1)) if count > 1 else var


def _update(running: Tensor | None, new: Any, momentum: Any) -> None:
    """running += momentum * (new - running), in place."""
    if running is None:
        return
    with context.no_grad():
        old: Any = running
        step: Any = momentum if isinstance(momentum, (int, float)) else convert(momentum, running.dtype)
        running.assign(convert(old * (1 - step) + convert(new.detach(), running.dtype) * step, running.dtype))


def instance_norm(
    input: Array,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample normalised by its own mean and variance (Ulyanov et al., 2016): [N, C, ...].

    With `use_input_stats` running statistics are updated with the mean over samples, else they are used.
    """
    x = _floats("instance_norm", input)
    if x.ndim < 3:
        raise _refuse("instance_norm", "the input needs axes after the channels", "It is [N, C, ...].", input=x)
    channels = x.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_features("instance_norm", x, channels, given)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    axes = tuple(range(2, x.ndim))
    count = _count(x, axes)
    if count == 1:
        raise _refuse("instance_norm", "one value a channel has no variance", "Give larger inputs.", input=x)
    y, mean, var = _standardised(x, axes, eps)
    pair = (x.shape[0], channels)
    _update(running_mean, reducing.mean(shaping.reshape(mean, pair), axis=0), momentum)
    _update(running_var, reducing.mean(_unbiased(shaping.reshape(var, pair), count), axis=0), momentum)
    return _scaled(y, weight, bias, (1, channels) + (1,) * (x.ndim - 2))


def group_norm(
    input: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Tensor:
    """Each sample's channels in groups, each group normalised (Wu and He, ECCV 2018): [N, C, ...]."""
    x = _floats("group_norm", input)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise _refuse(
            "group_norm", f"{num_groups} groups must divide the channels", "Channels are axis 1 of the input.", input=x
        )
    _check_features("group_norm", x, x.shape[1], {"weight": weight, "bias": bias})
    grouped = shaping.reshape(x, (x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))
    y = _standardised(grouped, tuple(range(2, grouped.ndim)), eps)[0]
    return _scaled(shaping.reshape(y, x.shape), weight, bias, (1, x.shape[1]) + (1,) * (x.ndim - 2))


def _normalized_axes(name: str, x: Tensor, normalized_shape: Any, operands: dict[str, Array | None]) -> tuple[int, ...]:
    """The last axes, whose sizes must be `normalized_shape`."""
    sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    given = {key: as_tensor(value) for key, value in operands.items() if value is not None}
    fits = 0 < len(sizes) <= x.ndim and tuple(x.shape[x.ndim - len(sizes) :]) == sizes
    if not fits or any(value.shape != sizes for value in given.values()):
        raise _refuse(
            name,
            f"the input's last axes, weight and bias must have the sizes {list(sizes)}",
            "Make the layer for the sizes of the axes that it normalises.",
            **{"input": x, **given},
        )
    return tuple(range(x.ndim - len(sizes), x.ndim))


def layer_norm(
    input: Array,
    normalized_shape: Any,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, of sizes `normalized_shape` (Ba et al., 2016).

    >>> from graphc import nn
    >>> nn.functional.layer_norm([1.0, 3.0], 2, eps=0.0).tolist()
    [-1.0, 1.0]
    """
    x = _floats("layer_norm", input)
    axes = _normalized_axes("layer_norm", x, normalized_shape, {"weight": weight, "bias": bias})
    return _scaled(_standardised(x, axes, eps)[0], weight, bias, x.shape[axes[0] :])


def rms_norm(input: Array, normalized_shape: Any, weight: Array | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + eps) * weight over the last axes (Zhang and Sennrich, NeurIPS 2019).

    `eps` is the spacing of the dtype at 1 if not given.
    """
    x = _floats("rms_norm", input)
    axes = _normalized_axes("rms_norm", x, normalized_shape, {"weight": weight})
    least = float(finfo(x.dtype).eps) if eps is None else eps
    mean: Any = reducing.mean(x * x, axis=axes, keepdims=True)
    return _scaled(x / elementwise.sqrt(mean + least), weight, None, x.shape[axes[0] :])


def normalize(input: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm, eps), with the p-norm along an axis."""
    x = _floats("normalize", input)
    if p == 2:
        total: Any = elementwise.sqrt(reducing.sum(x * x, axis=dim, keepdims=True))
    elif p == float("inf"):
        total = reducing.max(elementwise.abs(x), axis=dim, keepdims=True)
    else:
        powers = elementwise.power(elementwise.abs(x), p)
        total = elementwise.power(reducing.sum(powers, axis=dim, keepdims=True), 1.0 / p)
    found: Tensor = x / elementwise.maximum(total, eps)
    return found
