"""Type rules that op declarations share. Layer 2.

A rule maps operand dtypes to the result dtype and raises DTypeError, with the reason as text, where the op is not defined.
Operands always have equal dtypes: conversions are explicit nodes.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.dtypes import DType, bool_
from graphc.errors import DTypeError
from graphc.ir.graph import Attribute

__all__ = [
    "comparison",
    "equality",
    "float_to_bool",
    "inexact_to_bool",
    "magnitude",
    "same_any",
    "same_bits",
    "same_bool",
    "same_float",
    "same_inexact",
    "same_integer",
    "same_number",
    "same_ordered",
    "same_real",
]


def _same(what: str, accepts: Callable[[DType], bool]) -> Callable[..., DType]:
    def rule(*dtypes: DType, **_: Attribute) -> DType:
        if any(d is not dtypes[0] for d in dtypes):
            raise DTypeError("operands must have equal dtypes")
        if not accepts(dtypes[0]):
            raise DTypeError(f"takes {what}, not {dtypes[0].name}")
        return dtypes[0]

    return rule


same_any = _same("any dtype", lambda d: True)
same_number = _same("numbers", lambda d: not d.is_bool)
same_real = _same("real numbers", lambda d: not (d.is_bool or d.is_complex))
same_ordered = _same("real numbers or bools", lambda d: not d.is_complex)
same_float = _same("floats", lambda d: d.is_float)
same_inexact = _same("floats or complex numbers", lambda d: d.is_inexact)
same_integer = _same("integers", lambda d: d.is_integer)
same_bits = _same("integers or bools", lambda d: not d.is_inexact)
same_bool = _same("bools", lambda d: d.is_bool)


def comparison(*dtypes: DType) -> DType:
    """Operands of one dtype that has an order, a bool result."""
    same_ordered(*dtypes)
    return bool_


def equality(*dtypes: DType) -> DType:
    """Operands of one dtype, a bool result."""
    same_any(*dtypes)
    return bool_


def magnitude(dtype: DType) -> DType:
    """A number; of a complex one the result has the dtype of its parts."""
    return same_number(dtype).part


def float_to_bool(dtype: DType) -> DType:
    """A float operand, a bool result."""
    same_float(dtype)
    return bool_


def inexact_to_bool(dtype: DType) -> DType:
    """A float or complex operand, a bool result."""
    same_inexact(dtype)
    return bool_
