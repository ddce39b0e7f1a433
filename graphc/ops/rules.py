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
    "float_to_bool",
    "same_any",
    "same_bits",
    "same_bool",
    "same_float",
    "same_integer",
    "same_number",
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
same_float = _same("floats", lambda d: d.is_float)
same_integer = _same("integers", lambda d: d.is_integer)
same_bits = _same("integers or bools", lambda d: not d.is_float)
same_bool = _same("bools", lambda d: d.is_bool)


def comparison(*dtypes: DType) -> DType:
    """Operands of one dtype, a bool result."""
    same_any(*dtypes)
    return bool_


def float_to_bool(dtype: DType) -> DType:
    """A float operand, a bool result."""
    same_float(dtype)
    return bool_
