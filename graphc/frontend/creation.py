"""Making tensors. Layer 5. Names follow the Array API standard."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError, message
from graphc.frontend import context
from graphc.frontend.promotion import as_tensor, broadcast_to, check_device
from graphc.frontend.shaping import shape_of
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, checked_dtype, default_dtype, native_array

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]


def _wrap(array: np.ndarray[Any, Any]) -> Tensor:
    trace = context.trace.get()
    if trace is None:
        return Tensor(array)
    made = trace.constant(array)
    made.kind = "tensor"
    return made


def tensor(data: Any, dtype: Any = None, *, requires_grad: bool = False) -> Tensor:
    """A new Tensor with a copy of `data`: numbers, nested lists, arrays or tensors.

    Python floats become the default dtype (float32); arrays keep their dtype.

    >>> import graphc as gx
    >>> gx.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    made = as_tensor(data, dtype).detach() if _traced(data) else _wrap(native_array(data, dtype, copy=True))
    if requires_grad:
        made.requires_grad = True
    return made


def _traced(data: Any) -> bool:
    if context.trace.get() is None:
        return False
    return isinstance(data, Tensor) or (isinstance(data, (list, tuple)) and any(_traced(d) for d in data))


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`obj` as a Tensor; shares memory with a NumPy array of a dtype that graphc has, unless `copy`."""
    check_device(device)
    if isinstance(obj, Tensor) and not copy:
        return as_tensor(obj, dtype)
    if copy:
        return tensor(obj, dtype)
    out = as_tensor(obj, dtype)
    if context.trace.get() is not None and not isinstance(obj, Tensor):
        out.kind = "tensor"  # type: ignore[attr-defined]
    return out


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = shape_of("a new tensor", shape)
    if min(sizes, default=0) < 0:
        raise ShapeError(
            message(f"a shape has no negative sizes: {sizes}", location=user_location(), hint="Sizes are counts.")
        )
    return sizes


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor filled with one value; its dtype follows the value's (Python floats: the default dtype)."""
    check_device(device)
    if _traced(fill_value):
        return broadcast_to(as_tensor(fill_value, dtype), _shape(shape))
    value = native_array(fill_value, dtype)
    return _wrap(np.full(_shape(shape), value, dtype=value.dtype))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of zeros."""
    check_device(device)
    return _wrap(np.zeros(_shape(shape), dtype=native_dtype(dtype)))


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of ones."""
    check_device(device)
    return _wrap(np.ones(_shape(shape), dtype=native_dtype(dtype)))


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor whose elements are not specified (zeros here, so that runs repeat)."""
    check_device(device)
    return zeros(shape, dtype=dtype)


def native_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype` checked to be one of graphc's, or the default one."""
    return default_dtype() if dtype is None else checked_dtype(dtype).numpy


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and dtype."""
    check_device(device)
    return full_like(x, 0, dtype=dtype)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of x's shape and dtype."""
    check_device(device)
    return full_like(x, 1, dtype=dtype)


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and dtype (see `empty`)."""
    check_device(device)
    return full_like(x, 0, dtype=dtype)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of x's shape and dtype filled with one value."""
    check_device(device)
    like = x if isinstance(x, Tensor) else as_tensor(x)
    if _traced(fill_value):
        return broadcast_to(as_tensor(fill_value, like.dtype if dtype is None else dtype), like.shape)
    return _wrap(np.full(like.shape, fill_value, dtype=like.dtype if dtype is None else native_dtype(dtype)))


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Evenly spaced numbers from start to below stop (from 0 if only one is given); integers give int64."""
    check_device(device)
    low, high = (0, start) if stop is None else (start, stop)
    array = np.arange(low, high, step)
    if dtype is None:
        dtype = np.int64 if array.dtype.kind in "iu" else default_dtype()
    return _wrap(array.astype(native_dtype(dtype)))


def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from start to stop."""
    check_device(device)
    return _wrap(np.linspace(start, stop, num, endpoint=endpoint, dtype=native_dtype(dtype)))


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on diagonal k, zeros elsewhere."""
    check_device(device)
    return _wrap(np.eye(n_rows, n_cols, k=k, dtype=native_dtype(dtype)))
