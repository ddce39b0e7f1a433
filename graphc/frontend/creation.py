"""Making tensors. Layer 5. Names follow the Array API standard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphc.errors import OptionError, ShapeError, UnsupportedError, ZeroStepError, message
from graphc.frontend import context
from graphc.frontend.elementwise import copied
from graphc.frontend.promotion import as_tensor, broadcast_to, check_device, convert, describe, op, refusal
from graphc.frontend.shaping import integer, shape_of
from graphc.frontend.signature import static_arguments
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, checked_dtype, default_complex_dtype, default_dtype, native_array
from graphc.frontend.trace import Traced

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
    made = copied(_lifted(data, dtype)).detach() if _traced(data) else _wrap(native_array(data, dtype, copy=True))
    if requires_grad:
        made.requires_grad = True
    return made


def _default_float(data: Any, dtype: Any) -> Any:
    """The dtype to convert to: the given one; for traced Python floats, alone or among Python numbers, the default one."""
    if dtype is not None:
        return dtype
    leaves = list(_leaves(data))
    weak = all(leaf.weak if isinstance(leaf, Traced) else type(leaf) in (bool, int, float) for leaf in leaves)
    return default_dtype() if weak and any(isinstance(leaf, Traced) for leaf in leaves) else None


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, (list, tuple)):
        for item in data:
            yield from _leaves(item)
    else:
        yield data


def _traced(data: Any) -> bool:
    if context.trace.get() is None:
        return False
    return isinstance(data, Tensor) or (isinstance(data, (list, tuple)) and any(_traced(d) for d in data))


def _lifted(data: Any, dtype: Any) -> Tensor:
    """What holds traced values as a tensor."""
    made = as_tensor(data, _default_float(data, dtype))
    trace = context.trace.get()
    if isinstance(made, Traced) and trace is not None and (made.weak or made.kind != "tensor"):
        return trace.as_tensor_kind(made)
    return made


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`obj` as a Tensor: numbers, nested lists of numbers, arrays or tensors. It shares memory with a tensor or array of the
    dtype that is wanted (the `dtype` given, else its own).

    Parameters
    ----------
    copy
        True: always in memory of its own; False: always in that of `obj`.

    Raises
    ------
    ValueError
        If `copy` is False and the memory cannot be shared.
    """
    check_device(device)
    if copy:
        return tensor(obj, dtype)
    made = _lifted(obj, dtype) if _traced(obj) else as_tensor(obj, dtype)
    if copy is False and not _shared(made, obj):
        raise OptionError(
            message(
                "asarray with copy=False would have to copy",
                operands=[("obj", describe(obj))],
                location=user_location(),
                hint="Numbers and lists, and data of another dtype, are copied: leave copy=False out.",
            )
        )
    if isinstance(made, Traced) and not isinstance(obj, Tensor):
        made.kind = "tensor"
    return made


def _shared(made: Tensor, obj: Any) -> bool:
    """Whether a tensor is made of the memory of `obj` (while tracing: of its value)."""
    if isinstance(made, Traced) or isinstance(obj, Tensor):
        return isinstance(obj, Tensor) and made.dtype == obj.dtype
    return isinstance(obj, np.ndarray) and np.may_share_memory(made.numpy(), obj)


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
        return broadcast_to(_lifted(fill_value, dtype), _shape(shape))
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


@static_arguments("start", "stop", "step")
def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Evenly spaced numbers from start to below stop (from 0 if only one is given); integers give int64."""
    check_device(device)
    low, high = (0, start) if stop is None else (start, stop)
    if any(isinstance(v, Traced) for v in (low, high, step)):
        raise UnsupportedError(
            message(
                "arange has a size that depends on its arguments, whose values are not known while tracing",
                operands=[(name, describe(v)) for name, v in (("start", low), ("stop", high), ("step", step))],
                location=user_location(),
                hint="Pass them as integers, name them in static_argnames, or use gx.linspace, whose size is given.",
            )
        )
    if step == 0:
        what = "arange: a step of zero leads nowhere"
        raise refusal(ZeroStepError, what, "Steps are positive, or negative to go backwards.", start=low, stop=high)
    array = np.arange(low, high, step)
    if dtype is None:
        dtype = np.int64 if array.dtype.kind in "iu" else default_dtype()
    return _wrap(array.astype(native_dtype(dtype)))


def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from start to stop (to one step before it, without `endpoint`)."""
    check_device(device)
    if dtype is None and any(np.dtype(getattr(x, "dtype", type(x))).kind == "c" for x in (start, stop)):
        dtype = default_complex_dtype()
    num = integer("linspace", "num", num)
    if num < 0:
        raise refusal(OptionError, f"linspace: there are no {num} numbers", "num is a count.", start=start, stop=stop)
    if isinstance(start, Traced) or isinstance(stop, Traced):
        return _traced_linspace(start, stop, num, native_dtype(dtype), endpoint)
    return _wrap(np.linspace(start, stop, num, endpoint=endpoint, dtype=native_dtype(dtype)))


def _traced_linspace(start: Any, stop: Any, num: int, dtype: np.dtype[Any], endpoint: bool) -> Tensor:
    """`linspace` of traced bounds, as NumPy computes it: in float64, the last number being stop itself."""
    low, high = (convert(as_tensor(bound), np.float64) for bound in (start, stop))
    parts = num - 1 if endpoint else num
    step = op("divide", op("subtract", high, low), as_tensor(np.float64(parts))) if parts > 0 else high
    places = as_tensor(np.arange(num, dtype=np.float64))
    spread = op("add", op("multiply", places, broadcast_to(step, (num,))), broadcast_to(low, (num,)))
    if endpoint and num > 1:
        spread = op("select", as_tensor(np.arange(num) == num - 1), broadcast_to(high, (num,)), spread)
    return convert(op("floor", spread) if dtype.kind in "iu" else spread, dtype)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on diagonal k, zeros elsewhere."""
    check_device(device)
    shape = _shape((n_rows, n_rows if n_cols is None else n_cols))
    return _wrap(np.eye(shape[0], shape[1], k=k, dtype=native_dtype(dtype)))
