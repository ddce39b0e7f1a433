"""What a compiled function is specialised on: the leaves of its arguments, and the Python state that its trace read. Layer 5.

Arrays and tensors are traced; Python floats and complex numbers are traced and weakly typed; all else (integers, bools,
strings, None, callables, modules) is static and part of the key. Scalars in globals and closures are guards.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any, TypeVar

import numpy as np

from graphc import dtypes
from graphc.errors import DTypeError, StructureError, message
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked
from graphc.frontend.tensor import Tensor, dtype_hint
from graphc.frontend.trace import Traced
from graphc.ir.types import TensorType

__all__ = [
    "Guard",
    "Static",
    "TracedLeaf",
    "describe_key",
    "leaf_key",
    "native",
    "scalar_guards",
    "static_arguments",
    "traced_leaf",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def static_arguments(*names: str) -> Callable[[_Function], _Function]:
    """Mark arguments of a function of graphc whose values its graph depends on: static when the function itself is compiled."""

    def mark(function: _Function) -> _Function:
        function.static_argnames = names  # type: ignore[attr-defined]
        return function

    return mark


_SCALARS = (bool, int, float, str, type(None))


class Static:
    """A static argument: one leaf, compared by value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and type(self.value) is type(other.value) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def leaf_key(leaf: Any, path: str) -> Hashable:
    """A leaf's part of the signature; traced leaves by type, static ones by value.

    Raises
    ------
    DTypeError, StructureError
        For arrays of dtypes that graphc has not, and for objects that cannot be part of a key.
    """
    if isinstance(leaf, np.ndarray):
        if type(leaf) is not np.ndarray:
            _check_subclass(leaf, path)
        return ("array", _dtype(leaf, path), leaf.shape)
    if isinstance(leaf, Tensor):
        if isinstance(leaf, Traced):
            raise leaf.leaked()
        return ("tensor", leaf.dtype, leaf.shape, leaf._requires_grad)
    if type(leaf) is float:
        return ("float",)
    if type(leaf) is complex:
        return ("complex",)
    if isinstance(leaf, np.generic):
        return ("scalar", _dtype(leaf, path))
    if isinstance(leaf, Iterator):
        raise StructureError(
            message(
                f"argument {path} is an iterator ({type(leaf).__name__}), which one trace would use up",
                location=user_location(),
                hint=f"Pass list({path}) or tuple({path}).",
            )
        )
    try:
        hash(leaf)
    except TypeError:
        raise StructureError(_unhashable(leaf, path)) from None
    return ("static", type(leaf), leaf)


def _unhashable(leaf: Any, path: str) -> str:
    """The message for what cannot be part of a signature."""
    where = user_location()
    if isinstance(leaf, Static):
        value = leaf.value
        array = isinstance(value, (np.ndarray, Tensor))
        return message(
            f"the static argument {path} is a {type(value).__name__}; a static value must be hashable",
            location=where,
            hint="Leave an array out of static_argnames: it is traced then."
            if array
            else "Pass a tuple or another immutable.",
        )
    return message(
        f"argument {path} is a {type(leaf).__name__}, which is neither an array, a number, a container nor hashable",
        location=where,
        hint="Pass arrays, tensors, numbers, dicts, lists, tuples or dataclasses, or give its class a __hash__.",
    )


def _dtype(leaf: Any, path: str) -> np.dtype[Any]:
    try:
        return dtypes.from_numpy(leaf.dtype).numpy
    except DTypeError as error:
        raise DTypeError(
            message(
                str(error),
                operands=[(path, f"{leaf.dtype}{list(leaf.shape)}")],
                location=user_location(),
                hint=dtype_hint(leaf.dtype),
            )
        ) from None


def _check_subclass(leaf: Any, path: str) -> None:
    if isinstance(leaf, (np.matrix, np.ma.MaskedArray)):
        raise DTypeError(
            message(
                f"{path} is a {type(leaf).__name__}, whose operators do not mean what an array's do",
                operands=[(path, f"{leaf.dtype}{list(leaf.shape)}")],
                location=user_location(),
                hint=f"Pass a plain array: np.asarray({path})."
                if isinstance(leaf, np.matrix)
                else f"Pass a plain array: {path}.filled(value), and the mask as another argument if it is needed.",
            )
        )


@dataclass(frozen=True, slots=True)
class TracedLeaf:
    """How a leaf enters the graph; None of these for a static leaf."""

    type: TensorType
    kind: str
    weak: bool = False
    requires_grad: bool = False
    number: bool = False


def traced_leaf(key: Any) -> TracedLeaf | None:
    """The traced form of a leaf with this key, or None if it is static."""
    if key[0] == "array":
        return TracedLeaf(TensorType(dtypes.from_numpy(key[1]), key[2]), "ndarray")
    if key[0] == "tensor":
        return TracedLeaf(TensorType(dtypes.from_numpy(key[1]), key[2]), "tensor", requires_grad=key[3])
    if key[0] == "float":
        return TracedLeaf(TensorType(dtypes.float64, ()), "ndarray", weak=True, number=True)
    if key[0] == "complex":
        return TracedLeaf(TensorType(dtypes.complex128, ()), "ndarray", weak=True, number=True)
    if key[0] == "scalar":
        return TracedLeaf(TensorType(dtypes.from_numpy(key[1]), ()), "ndarray", number=True)
    return None


def native(leaf: Any) -> np.ndarray[Any, Any]:
    """The array of a traced leaf in the form that native code takes: C-contiguous, aligned, native byte order."""
    array = leaf._array if isinstance(leaf, Tensor) else leaf
    if type(array) is not np.ndarray:
        array = np.asarray(array, dtype=np.float64 if isinstance(array, float) else None)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return np.array(array, order="C", copy=True)


def describe_key(key: Any) -> str:
    """A leaf's key for messages and statistics."""
    if key[0] in ("array", "tensor"):
        return f"{dtypes.from_numpy(key[1])}{list(key[2])}"
    if key[0] == "scalar":
        return f"{dtypes.from_numpy(key[1])}[]"
    return key[0] if key[0] in ("float", "complex") else repr(key[2])


@dataclass(frozen=True, slots=True)
class Guard:
    """A scalar that the trace may have read, in a cell or under its name in a dict of globals: valid while `read()` gives
    the same value of the same type."""

    name: str
    place: CellType | dict[str, Any]
    value: Any

    def read(self) -> Any:
        """The present value."""
        place = self.place
        return place.get(self.name, _MISSING) if isinstance(place, dict) else _cell_value(place)

    def holds(self) -> bool:
        """Whether the scalar is unchanged (NaN equals NaN)."""
        now = self.read()
        return type(now) is type(self.value) and (now == self.value or repr(now) == repr(self.value))


def scalar_guards(function: Any) -> tuple[Guard, ...]:
    """Guards for scalars in globals and closures of a function, and of the user functions that it names there."""
    found: dict[tuple[int, str], Guard] = {}
    seen: set[int] = set()
    pending = [_plain(function)]
    while pending:
        f = pending.pop()
        if f is None or id(f) in seen:
            continue
        seen.add(id(f))
        for name, value, place in _names(f):
            if isinstance(value, _SCALARS):
                found[id(place), name] = Guard(name, place, value)
            elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] not in ("graphc", "numpy"):
                pending.append(value)
    return tuple(found.values())


def _plain(function: Any) -> FunctionType | None:
    function = getattr(function, "__func__", function)
    if isinstance(function, FunctionType):
        return function
    call = type(function).__dict__.get("__call__")
    return call if isinstance(call, FunctionType) and not isinstance(function, Tracked) else None


def _names(f: FunctionType) -> Iterator[tuple[str, Any, CellType | dict[str, Any]]]:
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        yield name, _cell_value(cell), cell
    for name in f.__code__.co_names:
        if name in f.__globals__:
            yield name, f.__globals__[name], f.__globals__


_MISSING = object()


def _cell_value(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING
