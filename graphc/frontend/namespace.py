"""What makes graphc an Array API namespace besides its functions: versions, dtypes, devices, DLPack. Layer 5.

Source: Python array API standard, 2024.12, sections "Data types", "Inspection", "Interchange".
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from graphc import dtypes, lazy
from graphc.errors import DTypeError, message
from graphc.frontend.promotion import check_device, result_dtype
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype

__all__ = [
    "API_VERSION",
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
API_VERSION = "2024.12"

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


def finfo(type: Any, /) -> Any:
    """Machine limits of a floating-point dtype (or array)."""
    dtype = _dtype_of(type)
    return lazy.ml_dtypes().finfo(dtype) if dtype.name == "bfloat16" else np.finfo(dtype)


def iinfo(type: Any, /) -> np.iinfo[Any]:
    """Machine limits of an integer dtype (or array)."""
    return np.iinfo(_dtype_of(type))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor that shares memory with any array on the CPU that speaks DLPack (or, with `copy`, has its own).

    Memory that its owner gave out as read-only is copied unless `copy=False`, which is then an error.
    """
    check_device(device)
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
        """Boolean indexing works in dynamic mode; sizes that depend on values do not exist in compiled code."""
        return {"boolean indexing": True, "data-dependent shapes": False, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes that Python numbers become."""
        check_device(device)
        integer = np.dtype(np.int64)
        return {"real floating": default_dtype(), "integral": integer, "indexing": integer}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """All dtypes by name, or those of a kind (see `isdtype`)."""
        check_device(device)
        found = {d.label: d.native for d in dtypes.ALL if d.native is not None}
        return {name: d for name, d in found.items() if kind is None or isdtype(d, kind)}


def array_namespace_info() -> NamespaceInfo:
    """Inspection of the namespace, as the standard asks."""
    return NamespaceInfo()


def _array_namespace(self: Tensor, /, *, api_version: str | None = None) -> ModuleType:
    """The module `graphc`."""
    if api_version is not None and api_version > API_VERSION:
        raise ValueError(f"the namespace follows version {API_VERSION} of the standard, not {api_version}")
    return sys.modules[__name__.partition(".")[0]]


def _dlpack(self: Tensor, /, **options: Any) -> Any:
    """A DLPack capsule of the memory; nothing is copied."""
    return self.concrete("__dlpack__()").__dlpack__(**options)


def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor: there is one device."""
    check_device(device)
    return self


def install() -> None:
    """Put the standard's methods on `Tensor`."""
    methods: dict[str, Any] = {
        "__array_namespace__": _array_namespace,
        "__dlpack__": _dlpack,
        "__dlpack_device__": lambda self: (1, 0),
        "to_device": _to_device,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)
