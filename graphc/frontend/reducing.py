"""Reductions. Layer 5. Names follow the Array API standard; semantics and result dtypes are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend.elementwise import apply_ufunc, astype, exp, where
from graphc.frontend.promotion import as_tensor, convert, describe, op, refusal
from graphc.frontend.shaping import normalize_axes, normalize_axis, ravel, reshape
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, checked_dtype

__all__ = [
    "accumulator",
    "all",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "softmax",
    "squared_length",
    "std",
    "sum",
    "var",
]

Axis = Any
_EMPTY = "Look at where the size became 0, or treat an empty array apart (sizes are known: x.size)."


def _reduce(name: str, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = normalize_axes(name, axis, x.ndim, x)
    out = op(name, x, axes=axes) if axes else x
    return _keep(out, x, axes) if keepdims else out


def _keep(out: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return reshape(out, tuple(1 if a in axes else d for a, d in enumerate(x.shape)))


def accumulator(x: Tensor, dtype: Any) -> np.dtype[Any]:
    """The dtype in which NumPy sums and multiplies: bool and integers narrower than 64 bits widen."""
    if dtype is not None:
        return checked_dtype(dtype).numpy
    element = x.type.dtype
    if element.is_bool or element.kind == "i":
        return np.dtype(np.int64)
    return np.dtype(np.uint64) if element.kind == "u" else x.dtype


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over axes (all by default)."""
    tensor = as_tensor(x)
    return _reduce("sum", convert(tensor, accumulator(tensor, dtype)), axis, keepdims)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product over axes."""
    tensor = as_tensor(x)
    return _reduce("prod", convert(tensor, accumulator(tensor, dtype)), axis, keepdims)


def _extremum(name: str, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    axes = normalize_axes(name, axis, tensor.ndim, tensor)
    if any_zero(tensor, axes):
        raise ShapeError(
            message(
                f"{name} over an empty axis has no value",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint=_EMPTY,
            )
        )
    if tensor.type.dtype.is_bool:
        return _reduce("any" if name == "max" else "all", tensor, axis, keepdims)
    return _reduce(name, tensor, axis, keepdims)


def any_zero(x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether one of the axes is empty."""
    return 0 in [x.shape[a] for a in axes]


def max(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes; NaN if there is one. The gradient is shared equally among ties."""
    return _extremum("max", x, axis, keepdims)


def min(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes; NaN if there is one. The gradient is shared equally among ties."""
    return _extremum("min", x, axis, keepdims)


def all(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true (not zero)."""
    return _reduce("all", astype(x, np.bool_), axis, keepdims)


def any(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element is true (not zero)."""
    return _reduce("any", astype(x, np.bool_), axis, keepdims)


def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero, as int64."""
    return sum(astype(x, np.bool_), axis=axis, keepdims=keepdims)


def _arg(name: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    flat = ravel(tensor) if axis is None else tensor
    number = 0 if axis is None else normalize_axis(name, axis, tensor.ndim, tensor)
    if flat.shape[number] == 0:
        raise ShapeError(
            message(
                f"{name} over an empty axis has no value",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint=_EMPTY,
            )
        )
    if flat.type.dtype.is_bool:
        flat = convert(flat, np.int32)
    out = op(name, flat, axes=(number,))
    if not keepdims:
        return out
    return reshape(out, (1,) * tensor.ndim) if axis is None else _keep(out, tensor, (number,))


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first largest element (NaN counts as largest), as int64; of the flattened array by default."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first smallest element (NaN counts as smallest), as int64; of the flattened array by default."""
    return _arg("argmin", x, axis, keepdims)


def _count(x: Tensor, axis: Axis) -> int:
    count = 1
    for a in normalize_axes("mean", axis, x.ndim, x):
        count *= x.shape[a]
    return count


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Arithmetic mean over axes; NaN over an empty axis; integers are averaged in float64, 16-bit floats in float32."""
    tensor = as_tensor(x)
    if dtype is None and tensor.type.dtype.is_short_float:
        return convert(mean(tensor, axis=axis, dtype=np.float32, keepdims=keepdims), tensor.dtype)
    if dtype is None and not tensor.type.dtype.is_inexact:
        dtype = np.float64
    total = sum(tensor, axis=axis, dtype=dtype, keepdims=keepdims)
    return apply_ufunc("divide", total, float(_count(tensor, axis)))


def var(x: Any, /, *, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Mean squared distance from the mean, over n - correction; two passes, so that no digits cancel. 16-bit floats are
    computed in float32; of complex numbers the result is real."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_short_float:
        wide = convert(tensor, np.float32)
        return convert(var(wide, axis=axis, correction=correction, keepdims=keepdims), tensor.dtype)
    if not tensor.type.dtype.is_inexact:
        tensor = convert(tensor, np.float64)
    distance = apply_ufunc("subtract", tensor, mean(tensor, axis=axis, keepdims=True))
    total = sum(squared_length(distance), axis=axis, keepdims=keepdims)
    count = _count(tensor, axis)
    if not isinstance(correction, (Tensor, int, float, np.number)):
        raise refusal(
            StructureError, f"var: the correction {correction!r} is no number", "0 divides by n, 1 by n - 1.", x=x
        )
    if isinstance(correction, Tensor):
        rest = apply_ufunc("maximum", apply_ufunc("subtract", float(count), correction), 0.0)
        return apply_ufunc("divide", total, convert(rest, total.dtype))
    return apply_ufunc("divide", total, float(np.maximum(count - correction, 0)))


def squared_length(x: Tensor) -> Tensor:
    """|x|^2 elementwise: the square of a real number, the sum of the squares of a complex one's parts."""
    if not x.type.dtype.is_complex:
        return apply_ufunc("square", x)
    return apply_ufunc("add", *(apply_ufunc("square", op(part, x)) for part in ("real", "imag")))


def std(x: Any, /, *, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Square root of `var`."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_short_float:
        wide = convert(tensor, np.float32)
        return convert(std(wide, axis=axis, correction=correction, keepdims=keepdims), tensor.dtype)
    return apply_ufunc("sqrt", var(tensor, axis=axis, correction=correction, keepdims=keepdims))


def _floating(x: Any) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_float else convert(tensor, np.float64)


def _shift(x: Tensor, axis: Axis) -> Tensor:
    """The maximum over axes where it is finite, else 0, as a constant for differentiation."""
    top = max(x, axis=axis, keepdims=True).detach()
    return where(apply_ufunc("isfinite", top), top, 0)


def logsumexp(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow: the maximum is taken out."""
    tensor = _floating(x)
    axes = normalize_axes("logsumexp", axis, tensor.ndim, tensor)
    shift = _shift(tensor, axis)
    total = sum(exp(apply_ufunc("subtract", tensor, shift)), axis=axis, keepdims=True)
    out = apply_ufunc("add", apply_ufunc("log", total), shift)
    if keepdims:
        return out
    return reshape(out, tuple(d for a, d in enumerate(tensor.shape) if a not in axes))


def softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    tensor = _floating(x)
    normalize_axes("softmax", axis, tensor.ndim, tensor)
    powers = exp(apply_ufunc("subtract", tensor, _shift(tensor, axis)))
    return apply_ufunc("divide", powers, sum(powers, axis=axis, keepdims=True))


def log_softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, without cancellation."""
    tensor = _floating(x)
    normalize_axes("log_softmax", axis, tensor.ndim, tensor)
    shifted = apply_ufunc("subtract", tensor, _shift(tensor, axis))
    return apply_ufunc("subtract", shifted, apply_ufunc("log", sum(exp(shifted), axis=axis, keepdims=True)))
