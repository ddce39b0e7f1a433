"""Conversion between dtypes. Layer 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from graphc import dtypes
from graphc.dtypes import DType, bool_, float32, int8, int16, int32, int64, uint8, uint16, uint32, uint64
from graphc.errors import DTypeError
from graphc.ir.graph import Attribute
from graphc.ir.op import Builder, Elementwise
from graphc.ir.registry import register
from graphc.ir.scalar import S, Scalar

__all__ = ["convert"]


#: Integers to which floats are converted through a wider one, whose low bits they are: what x86-64 does.
_THROUGH = {int8: int32, uint8: int32, int16: int32, uint16: int32, uint32: int64}


def _types(source: DType, dtype: Attribute) -> DType:
    if not isinstance(dtype, DType):
        raise DTypeError(f"the attribute dtype must be a DType, not {dtype!r}")
    if source.is_complex and not (dtype.is_complex or dtype.is_bool):
        raise DTypeError(f"a complex number has no value in {dtype.name}: take `real`, `imag` or `absolute` of it")
    return dtype


def _numpy(x: NDArray[Any], dtype: DType) -> NDArray[Any]:
    if dtypes.from_numpy(x.dtype).is_short_float and not dtype.is_float:
        x = x.astype(float32.numpy)
    if x.dtype.kind == "f" and dtype in _THROUGH:
        # NumPy's own result outside of u32's range depends on the length of the array.
        return x.astype(_THROUGH[dtype].numpy).astype(dtype.numpy)
    return x.astype(dtype.numpy)


def _to_signed(s: Scalar, x: S, dtype: DType) -> S:
    """Truncation; MIN for NaN and out of range (what x86-64's conversion gives)."""
    source = s.dtype(x)
    least = -(2.0 ** (dtype.bits - 1))
    # For f64 to i32, values in (MIN - 1, MIN] truncate to MIN, as do those below: the bound need not be exact.
    inside = s.and_(s.ge(x, s.const(source, least)), s.lt(x, s.const(source, -least)))
    safe = s.select(inside, x, s.const(source, 0.0))
    return s.select(inside, s.convert(safe, dtype), s.const(dtype, int(least)))


def _to_u64(s: Scalar, x: S) -> S:
    """Below 2**63 (and for NaN) by way of i64; from there on, i64 of x - 2**63 with the top bit flipped."""
    half = s.const(s.dtype(x), 2.0**63)
    upper = s.ge(x, half)
    signed = _to_signed(s, s.select(upper, s.sub(x, half), x), int64)
    top = s.select(upper, s.const(int64, -(2**63)), s.const(int64, 0))
    return s.convert(s.xor(signed, top), uint64)


def _scalar(s: Scalar, x: S, dtype: DType) -> S:
    source = s.dtype(x)
    if dtype is source:
        return x
    if source.is_short_float and not dtype.is_float:
        source, x = float32, s.convert(x, float32)
    if dtype is bool_:
        return s.ne(x, s.const(source, 0))
    if not source.is_float or dtype.is_float:
        return s.convert(x, dtype)
    if dtype in _THROUGH:
        return s.convert(_to_signed(s, x, _THROUGH[dtype]), dtype)
    return _to_u64(s, x) if dtype is uint64 else _to_signed(s, x, dtype)


def _vjp(b: Builder, ct: Any, x: Any, dtype: DType) -> Sequence[Any]:
    source = b.type(x).dtype
    if not source.is_inexact:
        return [None]
    if b.type(ct).dtype.is_complex and not source.is_complex:
        ct = b.real(ct)
    return [b.convert(ct, dtype=source)]


def _parts(b: Builder, x: Any, dtype: DType) -> Any:
    if not isinstance(x, tuple):
        real = _as(b, x, dtype.part)
        return real, b.like(real, 0.0)
    if dtype.is_complex:
        return _as(b, x[0], dtype.part), _as(b, x[1], dtype.part)
    return b.bitwise_or(*(b.not_equal(part, 0.0) for part in x))


def _as(b: Builder, x: Any, dtype: DType) -> Any:
    return x if b.type(x).dtype is dtype else b.convert(x, dtype=dtype)


convert = register(
    Elementwise(
        name="convert",
        doc="""y = x as `dtype`, elementwise. To bool: x != 0 (True for NaN). Bool to a number: 0 or 1. Integer to
        integer: modulo 2**bits. To float: nearest, ties to even; overflow gives infinity; -0.0 and NaN are kept.
        Float to integer: truncated; NaN and out of range as NumPy on x86-64: MIN for i32 and i64; u32 is the low half
        of the conversion to i64; u64 is that conversion's bits below 2**63, 0 from 2**64 on, 2**63 for NaN; 8 and 16
        bits are the low bits of the conversion to i32. To complex: the imaginary part is +0.0; complex to real is not
        defined.""",
        attributes=("dtype",),
        narrow=True,
        arity=1,
        types=_types,
        numpy=_numpy,
        scalar=_scalar,
        parts=_parts,
        vjp=_vjp,
        linear="together",
    )
)
