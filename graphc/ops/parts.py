"""Complex numbers and their parts. Layer 2.

Complex values live in graphs and in NumPy's definitions, never in kernels: the pass `split` makes a pair of real values of
each, and the ops below disappear, but for `as_parts` and `from_parts`, which are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import DType
from graphc.errors import DTypeError, ShapeError
from graphc.ir.op import Builder, Elementwise, Special, type_error
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar
from graphc.ir.types import TensorType, Type
from graphc.ops.rules import same_float

__all__ = ["as_parts", "conj", "from_parts", "imag", "make_complex", "real", "without_scalar"]

Array = NDArray[Any]


def without_scalar(s: Scalar, *operands: S) -> S:
    """The scalar rule of ops that take or give complex numbers only: there is none."""
    raise AssertionError("complex values are split before code is generated")


def _complex(dtype: DType) -> DType:
    if not dtype.is_complex:
        raise DTypeError(f"takes complex numbers, not {dtype.name}")
    return dtype


def _whole(*dtypes: DType) -> DType:
    return same_float(*dtypes).with_parts


def _zero_like(b: Builder, x: Any) -> Any:
    return b.like(x, 0.0)


real = register(
    Elementwise(
        name="real",
        doc="y = the real part of a complex x, bits as they are.",
        arity=1,
        types=lambda dtype: _complex(dtype).part,
        numpy=np.real,
        scalar=without_scalar,
        linear="together",
        parts=lambda b, x: x[0],
        vjp=lambda b, ct, x: [b.make_complex(ct, _zero_like(b, ct))],
    )
)

imag = register(
    Elementwise(
        name="imag",
        doc="y = the imaginary part of a complex x, bits as they are.",
        arity=1,
        types=lambda dtype: _complex(dtype).part,
        numpy=np.imag,
        scalar=without_scalar,
        linear="together",
        parts=lambda b, x: x[1],
        vjp=lambda b, ct, x: [b.make_complex(_zero_like(b, ct), ct)],
    )
)

conj = register(
    Elementwise(
        name="conj",
        doc="y = the complex conjugate of x: the sign bit of the imaginary part is flipped, that of zeros and NaN too.",
        arity=1,
        types=_complex,
        numpy=np.conjugate,
        scalar=without_scalar,
        linear="together",
        parts=lambda b, x: (x[0], b.negative(x[1])),
        vjp=lambda b, ct, x: [b.conj(ct)],
    )
)


def _make_numpy(x: Array, y: Array) -> Array:
    """Part by part: x + 1j * y would lose signs of zeros and make NaN of infinities."""
    z = np.empty(x.shape, np.result_type(x.dtype, np.complex64))
    z.real, z.imag = x, y
    return z


make_complex = register(
    Elementwise(
        name="make_complex",
        doc="z = x0 + i * x1: the complex number with these parts, bits as they are.",
        arity=2,
        types=_whole,
        numpy=_make_numpy,
        scalar=without_scalar,
        linear="together",
        parts=lambda b, x, y: (x, y),
        vjp=lambda b, ct, x, y: [b.real(ct), b.imag(ct)],
    )
)


# -- views ------------------------------------------------------------------------------------------------------------


def _operand(name: str, operands: Sequence[Type]) -> TensorType:
    if len(operands) != 1:
        raise ShapeError(type_error(name, f"takes 1 operand, got {len(operands)}", operands))
    (x,) = operands
    if not isinstance(x, TensorType):
        raise DTypeError(type_error(name, "takes tensors, not tokens", operands))
    return x


def _as_parts_rule(*operands: Type) -> tuple[Type, ...]:
    x = _operand("as_parts", operands)
    if not x.dtype.is_complex:
        raise DTypeError(type_error("as_parts", f"takes complex numbers, not {x.dtype.name}", operands))
    return (TensorType(x.dtype.part, (*x.shape, 2)),)


def _from_parts_rule(*operands: Type) -> tuple[Type, ...]:
    x = _operand("from_parts", operands)
    if not x.rank or x.shape[-1] != 2:
        raise ShapeError(
            type_error("from_parts", "the last axis holds real and imaginary part: its size is 2", operands)
        )
    try:
        return (TensorType(_whole(x.dtype), x.shape[:-1]),)
    except DTypeError as error:
        raise DTypeError(type_error("from_parts", str(error), operands)) from None


as_parts = register(
    Special(
        name="as_parts",
        doc="""y[.., 0] = the real, y[.., 1] = the imaginary part of x[..]: the memory of complex numbers as that of twice
        as many floats; moves nothing.""",
        rule=_as_parts_rule,
        numpy=lambda x: np.ascontiguousarray(x).reshape(x.shape)[..., None].view(x.real.dtype),
        vjp=lambda b, operands, results, cotangents: [b.from_parts(cotangents[0])],
        linear="together",
        view=True,
        shift=lambda size: {},
    )
)

from_parts = register(
    Special(
        name="from_parts",
        doc="""y[..] = x[.., 0] + i * x[.., 1]: the memory of floats, in pairs, as that of complex numbers; moves nothing. The
        inverse of as_parts.""",
        rule=_from_parts_rule,
        numpy=lambda x: np.ascontiguousarray(x).view(np.result_type(x.dtype, np.complex64))[..., 0],
        vjp=lambda b, operands, results, cotangents: [b.as_parts(cotangents[0])],
        linear="together",
        view=True,
        shift=lambda size: {},
    )
)
