"""What calls of NumPy's functions and ufuncs on tensors may carry besides their operands. Layer 5.

NumPy's names for arguments, `ufunc.outer`, and the keywords `dtype=` and `where=`; `graphc.frontend.methods` decides which
function a call goes to.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import DTypeError, message
from graphc.frontend import elementwise, indexing, shaping
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["by_position", "chosen", "in_dtype", "outer"]


@functools.cache
def _needed(func: Any) -> tuple[str, ...]:
    """The names of the arguments that a NumPy function needs, in order."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except ValueError:  # functions in C of older NumPy versions
        return ()
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)


def by_position(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that a NumPy function needs, given by NumPy's names, in their places: graphc's names may be others."""
    if not kwargs:
        return args, kwargs
    moved: dict[str, Any] = {}
    for name in _needed(func)[len(args) :]:
        if name not in kwargs:
            break
        moved[name] = kwargs[name]
    return (*args, *moved.values()), {key: x for key, x in kwargs.items() if key not in moved}


def outer(function: Callable[..., Any], x: Any, y: Any) -> Any:
    """`ufunc.outer(x, y)`: of every element of x with every one of y, the axes of x first."""
    left, right = as_tensor(x), as_tensor(y)
    return function(shaping.reshape(left, (*left.shape, *(1,) * right.ndim)), right)


def in_dtype(ufunc: np.ufunc, operands: tuple[Any, ...], dtype: Any) -> list[Tensor]:
    """Operands of a call with `dtype=`, which says in what dtype the ufunc computes.

    Raises
    ------
    DTypeError
        If an operand is of another kind, which NumPy does not convert here either.
    """
    wanted = np.dtype(dtype)
    tensors = [as_tensor(x) for x in operands]
    given = (*(t.dtype for t in tensors), *(None,) * ufunc.nout)
    signature = (*(None,) * ufunc.nin, *(wanted,) * ufunc.nout)
    try:
        loop = ufunc.resolve_dtypes(given, signature=signature, casting="same_kind")
    except TypeError:
        raise DTypeError(
            message(
                f"numpy.{ufunc.__name__} with dtype={wanted} does not take these dtypes",
                operands=[(f"operand {i}", describe(x)) for i, x in enumerate(operands)],
                location=user_location(),
                hint="Convert the operands with .astype first.",
            )
        ) from None
    return [elementwise.astype(t, d, copy=False) for t, d in zip(tensors, loop, strict=False)]


def chosen(mask: Any, result: Any, target: Tensor) -> Any:
    """What a call with `out=` and `where=` leaves in its target."""
    return result if mask is True else elementwise.where(mask, indexing.assign_cast(target, result), target)
