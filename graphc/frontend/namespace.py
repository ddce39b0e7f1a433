"""What makes graphc an Array API namespace besides its functions: versions, dtypes, devices, DLPack. Layer 5.

Source: Python array API standard, 2025.12, sections "Data types", "Inspection", "Interchange".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from graphc import dtypes, lazy
from graphc.errors import DTypeError, message
from graphc.frontend import context
from graphc.frontend.promotion import check_device, result_dtype
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_complex_dtype, default_dtype
from graphc.frontend.trace import Traced

__all__ = [
    "API_VERSION",
    "FloatLimits",
    "IntegerLimits",
    "NamespaceInfo",
    "array_namespace_info",
    "can_cast",
    "finfo",
    "from_dlpack",
    "iinfo",
    "install",
    "isdtype",
    "result_type",
]

#: The version of the standard that names and signatures follow.
API_VERSION = "2025.12"
#: NumPy's greatest number of axes.
MAX_DIMENSIONS = 64
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", API_VERSION)

_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, a name such as "integral" or "real floating", or a tuple of these.

    >>> import graphc as gx
    >>> gx.isdtype(gx.float32, "real floating"), gx.isdtype(gx.int32, ("bool", gx.int64))
    (True, False)
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"unknown kind of dtype {kind!r}; kinds are {', '.join(_KINDS)}")
        known = dtypes.from_numpy(dtype) if np.dtype(dtype).name == "bfloat16" else np.dtype(dtype)
        return known.kind in _KINDS[kind]
    return np.dtype(dtype) == np.dtype(kind)


def _dtype_of(x: Any) -> np.dtype[Any]:
    return x.dtype if isinstance(x, (Tensor, np.ndarray, np.generic)) else np.dtype(x)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype (or an array's) converts to another one without loss by the promotion rules."""
    return bool(np.can_cast(_dtype_of(from_), np.dtype(to)))


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype of a result of these arrays, dtypes and Python scalars, by NumPy's rules."""
    samples = [np.zeros((), x) if isinstance(x, (np.dtype, type)) else x for x in arrays_and_dtypes]
    return result_dtype(*samples)


@dataclass(frozen=True, slots=True)
class FloatLimits:
    """Limits of a floating-point dtype, as Python numbers; of a complex dtype, those of its parts.

    `eps` is the distance from 1.0 to the next number; `resolution` is 10**-precision, `precision` the decimal digits that
    survive; the smallest normal number has two names, as in NumPy.
    """

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]
    tiny: float
    smallest_subnormal: float
    resolution: float
    precision: int


@dataclass(frozen=True, slots=True)
class IntegerLimits:
    """Limits of an integer dtype, as Python integers."""

    bits: int
    max: int
    min: int
    dtype: np.dtype[Any]


def finfo(type: Any, /) -> FloatLimits:
    """Limits of a floating-point dtype (or that of an array) as Python floats.

    Raises
    ------
    DTypeError
        For other dtypes.

    >>> import graphc as gx
    >>> gx.finfo(gx.float32).eps == 2**-23, gx.finfo(gx.float32).bits
    (True, 32)
    """
    dtype = _dtype_of(type)
    if dtype.name != "bfloat16" and dtype.kind not in "fc":
        raise _no_limits("finfo", dtype, "floating-point", "Use iinfo for integers.")
    found = lazy.ml_dtypes().finfo(dtype) if dtype.name == "bfloat16" else np.finfo(dtype)
    names = ("eps", "max", "min", "smallest_normal", "tiny", "smallest_subnormal", "resolution")
    numbers = {name: float(getattr(found, name)) for name in names}
    return FloatLimits(bits=int(found.bits), dtype=np.dtype(found.dtype), precision=int(found.precision), **numbers)


def iinfo(type: Any, /) -> IntegerLimits:
    """Limits of an integer dtype (or that of an array) as Python integers.

    Raises
    ------
    DTypeError
        For other dtypes.

    >>> import graphc as gx
    >>> gx.iinfo(gx.int8).min, gx.iinfo(gx.uint8).max
    (-128, 255)
    """
    dtype = _dtype_of(type)
    if dtype.kind not in "iu":
        raise _no_limits("iinfo", dtype, "integer", "Use finfo for floats.")
    found = np.iinfo(dtype)
    return IntegerLimits(bits=int(found.bits), max=int(found.max), min=int(found.min), dtype=dtype)


def _no_limits(name: str, dtype: np.dtype[Any], kind: str, hint: str) -> DTypeError:
    return DTypeError(message(f"{name} takes {kind} dtypes, not {dtype}", location=user_location(), hint=hint))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor that shares memory with any array on the CPU that speaks DLPack (or, with `copy`, has its own).

    Memory that its owner gave out as read-only is copied unless `copy=False`, which is then an error.
    """
    check_device(device)
    if isinstance(x, Traced):
        return x.copy() if copy else x  # type: ignore[attr-defined]
    # NumPy before 2.1 does not export read-only arrays.
    array = x if isinstance(x, np.ndarray) else np.from_dlpack(x)
    try:
        dtypes.from_numpy(array.dtype)
    except DTypeError as error:
        raise DTypeError(message(str(error), location=user_location())) from None
    if copy or (copy is None and not array.flags.writeable):
        array = array.copy()
    elif copy is False and not array.flags.writeable:
        raise BufferError("the memory is read-only; a Tensor needs memory of its own: leave copy=False out")
    return Tensor(array)


class NamespaceInfo:
    """What `__array_namespace_info__()` gives: capabilities, devices and dtypes."""

    def capabilities(self) -> dict[str, Any]:
        """What can be done here: sizes that depend on values exist in dynamic mode, and not while a function is traced."""
        dynamic = context.trace.get() is None
        return {"boolean indexing": dynamic, "data-dependent shapes": dynamic, "max dimensions": MAX_DIMENSIONS}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes that Python numbers become."""
        check_device(device)
        integer = np.dtype(np.int64)
        part = default_dtype()
        whole = default_complex_dtype()
        return {"real floating": part, "complex floating": whole, "integral": integer, "indexing": integer}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """The standard's dtypes by name, or those of a kind (see `isdtype`); float16 and bfloat16 are none of them."""
        check_device(device)
        found = {d.label: d.native for d in dtypes.ALL if d.native is not None and d is not dtypes.float16}
        return {name: d for name, d in found.items() if kind is None or isdtype(d, kind)}


def array_namespace_info() -> NamespaceInfo:
    """Inspection of the namespace, as the standard asks."""
    return NamespaceInfo()


def _array_namespace(self: Tensor, /, *, api_version: str | None = None) -> ModuleType:
    """The module `graphc`, for every version of the standard so far."""
    if api_version is not None and api_version not in _VERSIONS:
        raise ValueError(
            f"the namespace follows version {API_VERSION} of the standard and older ones, not {api_version}"
        )
    return sys.modules[__name__.partition(".")[0]]


#: DLPack's number for the memory of the CPU, and the number of the device.
_CPU = (1, 0)


def _dlpack(
    self: Tensor,
    /,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule of the memory, of a copy of it if `copy`.

    Raises
    ------
    BufferError
        If another device is asked for, or the memory is read-only and the consumer (by `max_version`) cannot be told so.
    ValueError
        If a stream is given, which the CPU has not.
    """
    array = self.concrete("__dlpack__()")
    if stream is not None:
        raise ValueError(f"__dlpack__: there are no streams on the CPU, stream is {stream!r}")
    if dl_device is not None and tuple(dl_device) != _CPU:
        raise BufferError(f"__dlpack__: the memory is that of the CPU, dl_device={_CPU}, not {dl_device}")
    if copy:
        array = array.copy()
    # NumPy before 2.1 knows capsules without a version only.
    return array.__dlpack__(max_version=max_version) if _VERSIONED else array.__dlpack__()


_VERSIONED = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def _dlpack_device(self: Tensor, /) -> tuple[int, int]:
    """DLPack's name of the CPU."""
    return _CPU


def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor: there is one device."""
    check_device(device)
    return self


def install() -> None:
    """Put the standard's methods on `Tensor`."""
    methods: dict[str, Any] = {
        "__array_namespace__": _array_namespace,
        "__dlpack__": _dlpack,
        "__dlpack_device__": _dlpack_device,
        "to_device": _to_device,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)
