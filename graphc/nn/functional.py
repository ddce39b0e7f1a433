"""Functions of models: layers without state, and losses. Layer 6. Names and meanings are PyTorch's.

Losses are composed of primitive ops, so that their derivatives follow and kernels fuse over them. Class labels select by
comparison with 0 .. C-1 (`where(labels == classes, x, 0)`), which fuses with the reductions around it in both
directions; a gather would need a scatter for its derivative. A label out of range is an IndexError in both modes: labels
pass through a `take` from 0 .. C-1 first, one element each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import BoundsError, DTypeError, OptionError, ShapeError, message
from graphc.frontend import context, elementwise, products, reducing, shaping
from graphc.frontend.promotion import as_tensor, convert, describe, op
from graphc.frontend.random import Generator, default_generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.nn.activations import (
    celu,
    elu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu6,
    selu,
    silu,
    softmin,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from graphc.nn.attention import embedding, rotary_embedding, scaled_dot_product_attention, sinusoidal_encoding
from graphc.nn.losses import (
    binary_cross_entropy,
    check_reduction,
    check_same,
    cosine_embedding_loss,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    paired,
    reduce,
    smooth_l1_loss,
    triplet_margin_loss,
)
from graphc.nn.normalization import batch_norm, group_norm, instance_norm, layer_norm, normalize, rms_norm
from graphc.nn.resize import interpolate, pixel_shuffle, pixel_unshuffle, upsample
from graphc.nn.spatial import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    unfold,
)
from graphc.nn.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "check_probability",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "flatten",
    "fold",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "sinusoidal_encoding",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
    "unfold",
    "upsample",
]

Array = Any
"""A Tensor or what can become one."""

relu = elementwise.relu
sigmoid = elementwise.sigmoid
softplus = elementwise.softplus
gelu = elementwise.gelu
tanh = elementwise.FUNCTIONS["tanh"]


# -- layers -----------------------------------------------------------------------------------------------------------


def linear(input: Array, weight: Array, bias: Array | None = None) -> Tensor:
    """input @ weight.T + bias: [..., in] and [out, in] give [..., out].

    Raises
    ------
    ShapeError
        If the input's last axis is not `in`.
    """
    x, w = as_tensor(input), as_tensor(weight)
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            message(
                "linear: the input's last axis must be the weight's second",
                operands=[("input", describe(x)), ("weight", describe(w))],
                location=user_location(),
                hint="Flatten or transpose the input, or make the layer for its size.",
            )
        )
    out = products.matmul(x, shaping.permute_dims(w, (1, 0)))
    return out if bias is None else elementwise.add(out, bias)


def softmax(input: Array, dim: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    return reducing.softmax(input, axis=dim)


def log_softmax(input: Array, dim: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, without cancellation."""
    return reducing.log_softmax(input, axis=dim)


def flatten(input: Array, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` made one."""
    x = as_tensor(input)
    if not x.ndim:
        return shaping.reshape(x, (1,))
    first, last = (shaping.normalize_axis("flatten", d, x.ndim, x) for d in (start_dim, end_dim))
    if first > last:
        raise ShapeError(
            message(
                f"flatten: axis {start_dim} comes after axis {end_dim}",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Give the first and the last axis in this order.",
            )
        )
    size = 1
    for extent in x.shape[first : last + 1]:
        size *= extent
    return shaping.reshape(x, (*x.shape[:first], size, *x.shape[last + 1 :]))


def check_probability(name: str, p: float) -> None:
    """Raise OptionError, a ValueError, unless 0 <= p <= 1."""
    if not isinstance(p, (int, float, np.number)) or not 0.0 <= p <= 1.0:
        raise OptionError(
            message(
                f"{name}: p is a probability, not {p!r}",
                location=user_location(),
                hint="Give a number from 0 to 1.",
            )
        )


def dropout(
    input: Array,
    p: float = 0.5,
    training: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """Each element to zero with probability `p`, the others times 1 / (1 - p); the input itself if not `training`.

    Elements that are dropped have gradient zero. `generator` is the default one if not given.
    """
    check_probability("dropout", p)
    x = as_tensor(input)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return elementwise.where(False, x, 0)
    kept = (generator or default_generator()).bernoulli(1.0 - p, x.shape)
    return elementwise.where(kept, elementwise.multiply(x, 1.0 / (1.0 - p)), 0)


# -- class labels -----------------------------------------------------------------------------------------------------


def one_hot(labels: Array, num_classes: int, dtype: Any = np.int64) -> Tensor:
    """[...] integers to [..., num_classes]: 1 at the label, else 0.

    Raises
    ------
    BoundsError
        An IndexError, for labels outside of 0 .. num_classes-1; from compiled code too.
    """
    return convert(_hot(_labels("one_hot", labels), num_classes, -1), dtype)


def _labels(name: str, labels: Array) -> Tensor:
    tensor = as_tensor(labels)
    if not tensor.type.dtype.is_integer:
        raise DTypeError(
            message(
                f"{name}: class labels must be integers",
                operands=[("labels", describe(tensor))],
                location=user_location(),
                hint="Convert them with .astype(np.int64).",
            )
        )
    return tensor


def _hot(labels: Tensor, classes: int, axis: int) -> Tensor:
    """Bools with a new axis `axis`, true at the label; labels are checked."""
    checked = shaping.expand_dims(_checked(labels, classes), axis=axis)
    shape = [1] * checked.ndim
    shape[axis] = classes
    return elementwise.apply_ufunc("equal", checked, np.arange(classes, dtype=np.int32).reshape(shape))


def _checked(labels: Tensor, classes: int) -> Tensor:
    """Labels as int32; the op fails for those out of range.

    `take` counts negative indices from the end; they are moved out of its range.
    """
    if context.trace.get() is None and labels.size:
        _check_now(labels, classes)
    if labels.type.dtype.is_signed:
        negative = elementwise.less(labels, 0)
        labels = elementwise.where(negative, elementwise.subtract(labels, classes), labels)
    table = as_tensor(np.arange(classes, dtype=np.int32))
    return op("take", table, convert(labels, np.int64), axis=0, mode="raise")


def _check_now(labels: Tensor, classes: int) -> None:
    """The check of dynamic mode, whose message has the label itself."""
    array = labels._array
    wrong = (array < 0) | (array >= classes)
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), array.shape)
        raise BoundsError(
            message(
                f"label {array[place]} (at {tuple(int(i) for i in place)}) is not one of {classes} classes",
                operands=[("labels", describe(labels))],
                location=user_location(),
                hint="Labels run from 0 to C-1; pass ignore_index for a label that marks what does not count.",
            )
        )


# -- losses -----------------------------------------------------------------------------------------------------------


def _class_axis(name: str, x: Tensor, labels: Tensor) -> int:
    """The axis of the classes: the only one, or the second."""
    if not x.ndim:
        raise ShapeError(
            message(
                f"{name}: the input needs an axis of classes",
                operands=[("input", describe(x)), ("target", describe(labels))],
                location=user_location(),
                hint="The input is [C], [N, C] or [N, C, ...] with C classes.",
            )
        )
    axis = 0 if x.ndim == 1 else 1
    if labels.shape != x.shape[:axis] + x.shape[axis + 1 :]:
        raise ShapeError(
            message(
                f"{name}: the target must have the input's shape without the axis of classes (axis {axis})",
                operands=[("input", describe(x)), ("target", describe(labels))],
                location=user_location(),
                hint="For class probabilities as target, give floats of the input's shape (cross_entropy only).",
            )
        )
    return axis


def _pick(x: Tensor, hot: Tensor, axis: int) -> Tensor:
    """x at the label, along the axis of classes."""
    return reducing.sum(elementwise.where(hot, x, 0), axis=axis)


def _classified(loss: Tensor, valid: Tensor | None, reduction: str) -> Tensor:
    """Reduce the losses of single labels; those that are not valid do not count."""
    if valid is None:
        return reduce(loss, reduction)
    loss = elementwise.where(valid, loss, 0)
    if reduction != "mean":
        return reduce(loss, reduction)
    count = reducing.sum(convert(valid, loss.dtype))
    return elementwise.divide(reducing.sum(loss), count)


def _split_ignored(labels: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Labels with 0 in place of the ignored ones, and which are not ignored (None: all)."""
    if ignore_index is None:
        return labels, None
    valid = elementwise.apply_ufunc("not_equal", labels, ignore_index)
    return elementwise.where(valid, labels, 0), valid


def cross_entropy(
    input: Array,
    target: Array,
    *,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy between logits and class labels, in the log-sum-exp form: log(sum(exp(x))) - x[label].

    Parameters
    ----------
    input
        Logits: [C], [N, C] or [N, C, d1, ...].
    target
        Integer labels of the input's shape without C, or probabilities (floats) of the input's shape.
    reduction
        "mean" over the labels, "sum", or "none".
    ignore_index
        A label that does not count (PyTorch's default of -100 must be given here). With all ignored the mean is NaN.
    label_smoothing
        The share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016).

    Raises
    ------
    BoundsError
        An IndexError, for a label out of range; from compiled code too.

    Examples
    --------
    >>> import numpy as np
    >>> from graphc import nn
    >>> logits = np.log([[0.5, 0.5], [0.25, 0.75]])
    >>> nn.functional.cross_entropy(logits, np.array([0, 1]), reduction="none")
    Tensor([0.69314718, 0.28768207], dtype=float64)
    """
    check_reduction("cross_entropy", reduction)
    check_probability("cross_entropy: label_smoothing", label_smoothing)
    x, y = as_tensor(input), as_tensor(target)
    if y.type.dtype.is_float:
        return _soft_cross_entropy(x, y, reduction, label_smoothing)
    y = _labels("cross_entropy", y)
    axis = _class_axis("cross_entropy", x, y)
    labels, valid = _split_ignored(y, ignore_index)
    shifted, log_total = _log_total(x, axis)
    loss = elementwise.subtract(log_total, _pick(shifted, _hot(labels, x.shape[axis], axis), axis))
    if label_smoothing:
        even = elementwise.subtract(log_total, reducing.mean(shifted, axis=axis))
        loss = _mix(loss, even, label_smoothing)
    return _classified(loss, valid, reduction)


def _log_total(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The logits with their maximum taken out, and log(sum(exp)) of these."""
    top = reducing.max(x, axis=axis, keepdims=True).detach()
    shift = elementwise.where(elementwise.apply_ufunc("isfinite", top), top, 0)
    shifted = elementwise.subtract(x, shift)
    return shifted, elementwise.apply_ufunc("log", reducing.sum(elementwise.exp(shifted), axis=axis))


def _mix(loss: Tensor, even: Tensor, share: float) -> Tensor:
    return elementwise.add(elementwise.multiply(loss, 1.0 - share), elementwise.multiply(even, share))


def _soft_cross_entropy(x: Tensor, y: Tensor, reduction: str, label_smoothing: float) -> Tensor:
    """Targets are probabilities; the mean is over labels, not over classes."""
    if y.ndim == x.ndim - 1:
        raise DTypeError(
            message(
                "cross_entropy: class labels must be integers",
                operands=[("input", describe(x)), ("target", describe(y))],
                location=user_location(),
                hint="Convert labels with .astype(np.int64); probabilities of classes have the input's shape.",
            )
        )
    check_same("cross_entropy", x, y, "Probabilities of classes have the input's shape; labels are integers without C.")
    axis = 0 if x.ndim == 1 else 1
    if label_smoothing:
        y = elementwise.add(elementwise.multiply(y, 1.0 - label_smoothing), label_smoothing / max(x.shape[axis], 1))
    products_ = elementwise.multiply(y, reducing.log_softmax(x, axis=axis))
    return reduce(elementwise.FUNCTIONS["negative"](reducing.sum(products_, axis=axis)), reduction)


def nll_loss(
    input: Array,
    target: Array,
    *,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """Minus the log-probability of the label: `cross_entropy` of what `log_softmax` has been applied to."""
    check_reduction("nll_loss", reduction)
    x, y = as_tensor(input), _labels("nll_loss", target)
    axis = _class_axis("nll_loss", x, y)
    labels, valid = _split_ignored(y, ignore_index)
    picked = _pick(x, _hot(labels, x.shape[axis], axis), axis)
    return _classified(elementwise.FUNCTIONS["negative"](picked), valid, reduction)


def mse_loss(input: Array, target: Array, *, reduction: str = "mean") -> Tensor:
    """(input - target)**2, over equal shapes."""
    x, y = paired("mse_loss", input, target, reduction)
    return reduce(elementwise.square(elementwise.subtract(x, y)), reduction)


def l1_loss(input: Array, target: Array, *, reduction: str = "mean") -> Tensor:
    """|input - target|, over equal shapes."""
    x, y = paired("l1_loss", input, target, reduction)
    return reduce(elementwise.FUNCTIONS["abs"](elementwise.subtract(x, y)), reduction)


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    *,
    reduction: str = "mean",
) -> Tensor:
    """-(y log s(x) + (1 - y) log(1 - s(x))) with s the sigmoid, as max(x, 0) - x y + log(1 + exp(-|x|)); no overflow."""
    x, y = paired("binary_cross_entropy_with_logits", input, target, reduction)
    y = convert(y, x.dtype) if not y.type.dtype.is_float else y
    return reduce(elementwise.subtract(softplus(x), elementwise.multiply(x, y)), reduction)
