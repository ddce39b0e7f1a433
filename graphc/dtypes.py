"""Element types. Layer 0.

A `DType` is interned: equal dtypes are one object, so `is` and dictionaries are exact and fast. The IR, the passes and
the code generator speak `DType`; the frontend shows NumPy dtypes to users. Short names (`f32`) are the IR's spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from graphc.errors import DTypeError
from graphc.lazy import ml_dtypes

__all__ = [
    "ALL",
    "DType",
    "bfloat16",
    "bool_",
    "complex64",
    "complex128",
    "float16",
    "float32",
    "float64",
    "from_name",
    "from_numpy",
    "int8",
    "int16",
    "int32",
    "int64",
    "stored",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """An element type: `name` is the IR's spelling, `kind` one of `b` (bool), `i`, `u`, `f`, `c` (complex); `bits` the value's
    width."""

    name: str
    kind: str
    bits: int
    #: NumPy's dtype; None for bfloat16, which NumPy has from ml_dtypes.
    native: np.dtype[Any] | None

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype.

        Raises
        ------
        MissingDependencyError
            For bfloat16 without ml_dtypes.
        """
        return _bfloat16() if self.native is None else self.native

    @property
    def label(self) -> str:
        """The name that users know: `float32`."""
        return "bfloat16" if self.native is None else str(self.native)

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory (a bool takes one byte)."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_inexact(self) -> bool:
        """A float or complex: what has derivatives."""
        return self.kind in "fc"

    @property
    def part(self) -> DType:
        """The dtype of a complex number's real and imaginary part; a real dtype itself."""
        return _PARTS.get(self.name, self)

    @property
    def with_parts(self) -> DType:
        """The complex dtype whose parts are of this float's dtype.

        Raises
        ------
        DTypeError
            If there is none.
        """
        for whole, part in _PARTS.items():
            if part is self:
                return from_name(whole)
        raise DTypeError(f"there is no complex dtype with parts of {self.label}")

    @property
    def is_short_float(self) -> bool:
        """A float of 16 bits: stored, copied and converted, but computed with in float32."""
        return self.kind == "f" and self.bits == 16

    @property
    def digits(self) -> int:
        """Bits of a float's significand, the implied one included: integers of so many bits are exact."""
        return _DIGITS[self.name]

    @property
    def is_integer(self) -> bool:
        """Signed or unsigned integer; bool is not an integer."""
        return self.kind in "iu"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_signed(self) -> bool:
        return self.kind in "ifc"

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return from_name, (self.name,)


@cache
def _bfloat16() -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(ml_dtypes().bfloat16)
    return found


_DIGITS = {"bf16": 8, "f16": 11, "f32": 24, "f64": 53}

bool_ = DType("bool", "b", 1, np.dtype(np.bool_))
int8 = DType("i8", "i", 8, np.dtype(np.int8))
int16 = DType("i16", "i", 16, np.dtype(np.int16))
int32 = DType("i32", "i", 32, np.dtype(np.int32))
int64 = DType("i64", "i", 64, np.dtype(np.int64))
uint8 = DType("u8", "u", 8, np.dtype(np.uint8))
uint16 = DType("u16", "u", 16, np.dtype(np.uint16))
uint32 = DType("u32", "u", 32, np.dtype(np.uint32))
uint64 = DType("u64", "u", 64, np.dtype(np.uint64))
bfloat16 = DType("bf16", "f", 16, None)
float16 = DType("f16", "f", 16, np.dtype(np.float16))
float32 = DType("f32", "f", 32, np.dtype(np.float32))
float64 = DType("f64", "f", 64, np.dtype(np.float64))
complex64 = DType("c64", "c", 64, np.dtype(np.complex64))
complex128 = DType("c128", "c", 128, np.dtype(np.complex128))

_PARTS = {"c64": float32, "c128": float64}

#: All dtypes, in the order in which tables list them.
ALL = (
    *(bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64),
    *(bfloat16, float16, float32, float64, complex64, complex128),
)

_BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.native: d for d in ALL if d.native is not None}


def from_name(name: str) -> DType:
    """The dtype with the IR name `name` (`"f32"`)."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise DTypeError(f"unknown dtype {name!r}; known are {', '.join(_BY_NAME)}") from None


def from_numpy(dtype: Any) -> DType:
    """The dtype for anything that `np.dtype` accepts; byte-swapped dtypes map to their native twin.

    Raises
    ------
    DTypeError
        If graphc has no such dtype.
    """
    found = _BY_NUMPY.get(dtype) if isinstance(dtype, np.dtype) else None
    if found is not None:
        return found
    if isinstance(dtype, str) and dtype == "bfloat16":
        return bfloat16
    resolved = np.dtype(dtype)
    if resolved.name == "bfloat16":
        return _BY_NUMPY.setdefault(resolved, bfloat16)
    found = _BY_NUMPY.get(resolved) or _BY_NUMPY.get(resolved.newbyteorder("="))
    if found is None:
        raise DTypeError(f"dtype {resolved} is not supported; supported are {', '.join(d.label for d in ALL)}")
    return found


def stored(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array from one of NumPy's files, which keep the bits of bfloat16 but not its name: they come back as `V2`."""
    return array.view(bfloat16.numpy) if array.dtype == np.dtype("V2") else array
