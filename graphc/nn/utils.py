"""Gradient clipping: by the norm of all gradients, and by value. Layer 6.

Both are ordinary tensor code over `.grad`: in a compiled step they are part of the graph, and the limit may be traced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from graphc.errors import OptionError, StructureError, message
from graphc.frontend import context, elementwise, reducing
from graphc.frontend.promotion import as_tensor, convert, result_dtype
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm"]

#: What PyTorch adds to the norm before dividing by it.
_TINY = 1e-6


def _tensors(name: str, given: Any) -> list[Tensor]:
    tensors = [given] if isinstance(given, Tensor) else list(given)
    for t in tensors:
        if not isinstance(t, Tensor):
            raise StructureError(
                message(
                    f"{name} takes tensors, not a {type(t).__name__}",
                    location=user_location(),
                    hint="Pass model.parameters().",
                )
            )
    return tensors


def _limit(name: str, value: Any) -> Any:
    """A limit as given, or OptionError if it is a number below zero or not one at all; traced ones are taken as they are."""
    if isinstance(value, Tensor) or (isinstance(value, (int, float, np.number)) and value >= 0):
        return value
    raise OptionError(
        message(f"{name} cannot be {value!r}", location=user_location(), hint="It is a number from 0 on, or a scalar.")
    )


def get_total_norm(tensors: Iterable[Any], norm_type: float = 2.0) -> Tensor:
    """The norm of all elements of all tensors, taken as one vector: a scalar.

    Sums run in float64, so that squares of float32 elements do not overflow; the result has the tensors' common dtype.
    Without tensors it is 0.

    Parameters
    ----------
    tensors
        A Tensor, or any number of them, of floats.
    norm_type
        p of the norm, above 0; `math.inf` for the largest magnitude.

    >>> import graphc as gx
    >>> from graphc import nn
    >>> nn.utils.get_total_norm([gx.tensor([3.0]), gx.tensor([[4.0]])]).item()
    5.0
    """
    if not isinstance(norm_type, (int, float, np.number)) or not norm_type > 0:
        raise OptionError(
            message(
                f"norm_type cannot be {norm_type!r}",
                location=user_location(),
                hint="It is a number above 0, math.inf included.",
            )
        )
    given = [t for t in _tensors("get_total_norm", tensors) if t.size != 0]
    if not given:
        return as_tensor(np.array(0.0, np.float32))
    parts: list[Any] = [_part(convert(t, np.float64), float(norm_type)) for t in given]
    total = parts[0]
    for part in parts[1:]:
        total = elementwise.FUNCTIONS["maximum"](total, part) if norm_type == math.inf else total + part
    return convert(_root(total, float(norm_type)), result_dtype(*given))


def _part(x: Any, norm_type: float) -> Tensor:
    """What one tensor gives to the total."""
    if norm_type == 2.0:
        return reducing.sum(elementwise.square(x))
    size = elementwise.FUNCTIONS["abs"](x)
    if norm_type == math.inf:
        return reducing.max(size)
    return reducing.sum(size if norm_type == 1.0 else elementwise.power(size, norm_type))


def _root(total: Any, norm_type: float) -> Any:
    if norm_type in (1.0, math.inf):
        return total
    return elementwise.FUNCTIONS["sqrt"](total) if norm_type == 2.0 else elementwise.power(total, 1.0 / norm_type)


def clip_grad_norm_(parameters: Any, max_norm: Any, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place; the norm before is returned.

    The norm is that of all gradients as one vector (Pascanu, Mikolov and Bengio, ICML 2013). Parameters without a gradient
    are left out. A norm that is not finite gives gradients that are not finite: look at the result where that may happen.

    Parameters
    ----------
    parameters
        A Tensor, or any number of them.
    max_norm
        A number from 0 on, or a scalar Tensor; it may be traced.
    norm_type
        p of the norm, above 0; `math.inf` for the largest magnitude.

    Raises
    ------
    OptionError
        A ValueError, for a limit below 0 or a norm that there is not.

    >>> import graphc as gx
    >>> from graphc import nn
    >>> w = gx.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> nn.utils.clip_grad_norm_([w], max_norm=5.0).item()
    10.0
    >>> w.grad.numpy().round(3)
    array([3., 4.], dtype=float32)
    """
    limit = _limit("max_norm", max_norm)
    present: list[tuple[Tensor, Any]] = [
        (p, p.grad) for p in _tensors("clip_grad_norm_", parameters) if p.grad is not None
    ]
    with context.no_grad():
        norm: Any = get_total_norm([g for _, g in present], norm_type)
        wide = convert(norm, np.float64)
        scale: Any = elementwise.FUNCTIONS["minimum"](elementwise.divide(limit, elementwise.add(wide, _TINY)), 1.0)
        for p, g in present:
            p.grad = g * convert(scale, g.dtype)
    return norm


def clip_grad_value_(parameters: Any, clip_value: Any) -> None:
    """Limit each element of each gradient to -clip_value .. clip_value, in place.

    Parameters
    ----------
    parameters
        A Tensor, or any number of them; those without a gradient are left out.
    clip_value
        A number from 0 on, or a scalar Tensor; it may be traced.

    Raises
    ------
    OptionError
        A ValueError, for a limit below 0.

    >>> import graphc as gx
    >>> from graphc import nn
    >>> w = gx.tensor([3.0, -0.25], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> nn.utils.clip_grad_value_([w], 1.0)
    >>> w.grad.tolist()
    [1.0, -0.5]
    """
    limit = as_tensor(_limit("clip_value", clip_value))
    with context.no_grad():
        for p in _tensors("clip_grad_value_", parameters):
            if p.grad is not None:
                high: Any = convert(limit, p.grad.dtype)
                p.grad = elementwise.clip(p.grad, -high, high)
