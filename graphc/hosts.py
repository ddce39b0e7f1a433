"""Python functions that graphs call: their names, a checked call, printing. Layer 0.

A host function is known by `module:qualified.name`, so that graphs that call it can be printed, cached and run by another
process. A function that is not found under its own name (a closure, a lambda, a bound method) gets a name of this
process, `local:N`; it lives as long as a graph or an executable has the name. This module is copied into exported models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from graphc.dtypes import from_name
from graphc.errors import HostCallError, MatrixError

__all__ = ["PRINT", "LocalName", "call", "is_local", "is_portable", "name_of", "resolve"]

Array = npt.NDArray[Any]
Expected = tuple[str, tuple[int, ...]]
"""The IR's name of a result's dtype, and its shape."""

#: The name under which graphs call `_show`.
PRINT = "graphc:print"

_LOCAL = "local:"
_NUMBERS = count()


class _Holder:
    """Keeps a local function alive."""

    __slots__ = ("__weakref__", "function", "name")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = f"{_LOCAL}{next(_NUMBERS)}"


_BY_NAME: WeakValueDictionary[str, _Holder] = WeakValueDictionary()
_BY_FUNCTION: WeakValueDictionary[int, _Holder] = WeakValueDictionary()


class LocalName(str):
    """The name of a local function, which lives as long as its name."""

    __slots__ = ("holder",)
    holder: _Holder


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function: `module:qualified.name` if that leads back to it, else a `LocalName`."""
    module = getattr(function, "__module__", None) or ("numpy" if isinstance(function, np.ufunc) else None)
    qualified = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if isinstance(module, str) and isinstance(qualified, str) and "<" not in qualified:
        name = f"{module}:{qualified}"
        if _find(name) is function:
            return name
    holder = _BY_FUNCTION.get(id(function))
    if holder is None:
        holder = _Holder(function)
        _BY_NAME[holder.name] = _BY_FUNCTION[id(function)] = holder
    local = LocalName(holder.name)
    local.holder = holder
    return local


def is_local(name: str) -> bool:
    """Whether a name means something in this process only."""
    return name.startswith(_LOCAL)


def is_numpy(name: str) -> bool:
    """Whether a function is NumPy's own."""
    return name.partition(":")[0].partition(".")[0] == "numpy"


def is_portable(name: str) -> bool:
    """Whether the loader of an exported model finds the function wherever it is run."""
    return name == PRINT or is_numpy(name)


def resolve(name: str) -> Any:
    """What a name stands for.

    Raises
    ------
    HostCallError
        If there is no such function.
    """
    if name == PRINT:
        return _show
    if is_local(name):
        holder = _BY_NAME.get(name)
        if holder is None:
            raise HostCallError(
                f"host call: the function {name} is gone: it was a closure of another process or time",
                hint="Make it a function of a module, which is called by its name.",
            )
        return holder.function
    found = _find(name)
    if found is None:
        raise HostCallError(
            f"host call: cannot find {name!r} (module:name)",
            hint="It was there when the graph was made: import the module that defines it, under the same name.",
        )
    return found


def _find(name: str) -> Any:
    module, _, qualified = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def call(
    name: str,
    function: Any,
    operands: Sequence[Array],
    keywords: Mapping[str, Any],
    expected: Sequence[Expected],
    locate: Callable[[], object] | None = None,
) -> list[Array]:
    """Call a host function and check what it gives.

    A user's function gets copies, which it may keep and change; NumPy's own get the operands themselves. A Python number
    takes the declared dtype, as it does in NumPy's expressions.

    Parameters
    ----------
    name, function
        The name, and what it stands for; an object with a `host_function` stands for that.
    operands
        The arrays.
    keywords
        Static keyword arguments.
    expected
        Dtype and shape of each result: none for None, one for an array, else a sequence.
    locate
        Gives the user's place, for messages.

    Raises
    ------
    HostCallError
        If the results are not as expected.
    MatrixError
        A LinAlgError, where NumPy raises one.
    """
    function = getattr(function, "host_function", function)
    if is_numpy(name):
        returned = _by_numpy(name, function, operands, keywords, locate)
    else:
        returned = function(*[np.array(x) for x in operands], **keywords)
    results = _as_sequence(returned, len(expected))
    if len(results) != len(expected):
        raise _unexpected(name, f"gave {len(results)} results, declared are {len(expected)}", locate)
    return [_checked(name, result, want, locate) for result, want in zip(results, expected, strict=True)]


def _by_numpy(
    name: str,
    function: Any,
    operands: Sequence[Array],
    keywords: Mapping[str, Any],
    locate: Callable[[], object] | None,
) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(*operands, **keywords)
    except np.linalg.LinAlgError as error:
        what = f"{name.rpartition(':')[2]}: {error}"
        hint = "Add a small multiple of the identity, or use pinv or lstsq, which take any matrix."
        raise MatrixError(what, hint=hint, location=None if locate is None else locate()) from error


def _as_sequence(returned: Any, wanted: int) -> Sequence[Any]:
    if returned is None:
        return ()
    several = isinstance(returned, tuple) or (isinstance(returned, list) and wanted != 1)
    return returned if several else (returned,)


def _checked(name: str, result: Any, expected: Expected, locate: Callable[[], object] | None) -> Array:
    dtype, shape = from_name(expected[0]).numpy, expected[1]
    weak = type(result) in (bool, int, float, complex)
    array = np.asarray(result, dtype=dtype) if weak else np.asarray(result)
    if array.dtype != dtype or array.shape != shape:
        found, wanted = f"{array.dtype}{list(array.shape)}", f"{dtype}{list(shape)}"
        raise _unexpected(name, f"gave {found}, declared is {wanted}", locate)
    return array


def _unexpected(name: str, what: str, locate: Callable[[], object] | None) -> HostCallError:
    return HostCallError(
        f"host call: {name} {what}",
        location=None if locate is None else locate(),
        hint="Declare what the function gives, or convert its results with np.asarray(result, dtype).",
    )


# -- printing ------------------------------------------------------------------------------------------------------------


class _Shown:
    """An array in a format string: a specification is applied to each element."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array

    def __format__(self, spec: str) -> str:
        if self._array.ndim == 0:
            return format(self._array[()], spec)
        if not spec:
            return str(self._array)
        return np.array2string(self._array, formatter={"all": lambda x: format(x, spec)})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)

    def __getitem__(self, index: Any) -> Any:
        return _Shown(np.asarray(self._array[index]))


def _show(*arrays: Array, template: str) -> None:
    """Write a line to standard output: `template`, a format string, filled with the arrays."""
    sys.stdout.write(template.format(*map(_Shown, arrays)) + "\n")
