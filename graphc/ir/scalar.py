"""The scalar protocol: some 40 machine-like instructions in which every op's lowering is written. Layer 1.

An op's `scalar` rule is a function `rule(s, *operands)`; `s` is an implementation of this protocol and the operands are
its opaque values. There are two implementations: LLVM vectors (`graphc.codegen.vectors`) and NumPy
(`graphc.ops.numpy_scalar`), which tests every rule and the math library without LLVM.

The instructions are strict: operands have equal dtypes (shifts and `ldexp` included, except where said), nothing is
promoted. Floating-point instructions are single IEEE operations, rounded once. What hardware leaves undefined is
undefined here too and is the rule's business: integer division by zero and of MIN by -1, `convert` of NaN or an
out-of-range float to an integer, shifts by at least the width. Integer add, subtract, multiply and negate wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from graphc.dtypes import DType

__all__ = ["S", "Scalar"]

#: An opaque value of an implementation.
S = Any


class Scalar(Protocol):
    """One implementation of the protocol. `V` below is its opaque value; comparisons give values of dtype bool."""

    # -- values -------------------------------------------------------------------------------------------------
    def const(self, dtype: DType, value: float | int | bool) -> S:
        """The constant `value`, exactly representable or rounded to nearest in `dtype`."""

    def bits(self, dtype: DType, pattern: int) -> S:
        """The constant of `dtype` whose bit pattern is the unsigned integer `pattern`."""

    def dtype(self, x: S) -> DType:
        """The dtype of a value."""

    # -- arithmetic: floats and integers --------------------------------------------------------------------------
    def add(self, x: S, y: S) -> S: ...
    def sub(self, x: S, y: S) -> S: ...
    def mul(self, x: S, y: S) -> S: ...
    def neg(self, x: S) -> S:
        """Float: flips the sign bit (also of zero and NaN). Integer: two's complement."""

    # -- floats ---------------------------------------------------------------------------------------------------
    def div(self, x: S, y: S) -> S: ...
    def fma(self, x: S, y: S, z: S) -> S:
        """x * y + z, rounded once. Always fused, whatever the `contract` option says."""

    def sqrt(self, x: S) -> S: ...
    def abs(self, x: S) -> S:
        """Float: clears the sign bit. Integer: absolute value; MIN stays MIN."""

    def copysign(self, x: S, y: S) -> S: ...
    def floor(self, x: S) -> S: ...
    def ceil(self, x: S) -> S: ...
    def trunc(self, x: S) -> S: ...
    def rint(self, x: S) -> S:
        """Round to the nearest integer, ties to even, as a float."""

    def ldexp(self, x: S, n: S) -> S:
        """x * 2**n for a float `n` of x's dtype holding an integer value, correctly rounded (once), any range of n:
        overflow to infinity, gradual underflow. One instruction (vscalef) where the target has it."""

    # -- integers -------------------------------------------------------------------------------------------------
    def idiv(self, x: S, y: S) -> S:
        """Quotient truncated towards zero."""

    def irem(self, x: S, y: S) -> S:
        """Remainder with the sign of x."""

    def and_(self, x: S, y: S) -> S:
        """Also of bools, as are `or_`, `xor`, `not_`."""

    def or_(self, x: S, y: S) -> S: ...
    def xor(self, x: S, y: S) -> S: ...
    def not_(self, x: S) -> S: ...
    def shl(self, x: S, n: int) -> S:
        """Left shift by a constant, 0 <= n < width."""

    def lshr(self, x: S, n: int) -> S:
        """Logical right shift by a constant."""

    def ashr(self, x: S, n: int) -> S:
        """Arithmetic right shift by a constant."""

    def mul_high(self, x: S, y: S) -> S:
        """The high 32 bits of the 64-bit product of two u32."""

    # -- comparison: floats ordered (false on NaN), `ne` unordered (true on NaN); bools: eq and ne only ------------
    def lt(self, x: S, y: S) -> S: ...
    def le(self, x: S, y: S) -> S: ...
    def gt(self, x: S, y: S) -> S: ...
    def ge(self, x: S, y: S) -> S: ...
    def eq(self, x: S, y: S) -> S: ...
    def ne(self, x: S, y: S) -> S: ...

    # -- what is rare, what is repeated, and tables -------------------------------------------------------------
    def rarely(self, c: S, then: Callable[[], tuple[S, ...]], values: tuple[S, ...]) -> tuple[S, ...]:
        """`then()` where c holds, else `values`. Vectors compute `then()` only if c holds for one of their elements: for
        cases that are far more work than the common one."""

    def repeat(
        self, count: int, active: S, step: Callable[[S, tuple[S, ...]], tuple[S, tuple[S, ...]]], values: tuple[S, ...]
    ) -> tuple[S, ...]:
        """`active, values = step(number, values)` where `active` holds, at most `count` times; `number` counts from 0, as u32.

        Elements that are not active keep their values. Vectors go on until none of their elements is active.
        """

    def lookup(self, table: tuple[float, ...], index: S) -> S:
        """The element of a table of f64 constants at an i64 index, which must be in range."""

    # -- selection and conversion ---------------------------------------------------------------------------------
    def select(self, c: S, x: S, y: S) -> S:
        """Elementwise `x if c else y`; no arithmetic, so NaN of the other side does not leak."""

    def convert(self, x: S, dtype: DType) -> S:
        """Convert the value: float to integer truncates, integer to float and float to float round to nearest, integer to
        integer wraps or extends by its own signedness, bool to number gives 0 or 1. To bool is not a conversion: use
        `ne(x, 0)`."""

    def bitcast(self, x: S, dtype: DType) -> S:
        """The same bits as another dtype of the same width."""
