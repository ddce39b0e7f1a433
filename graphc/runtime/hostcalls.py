"""Native code calls Python: one C callback for all host calls of an artifact. Layer 4, runtime.

The callback never lets an exception pass through native code: it keeps it, under the address of the call's table of sizes,
which no other running call has, and gives `HOST_FAILED`; native code ends at once and the caller raises what was kept.
This module is copied into exported models.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.artifact import HOST_FAILED, HostCall
from graphc.dtypes import from_name
from graphc.hosts import call, resolve
from graphc.runtime.dimensions import dimension

__all__ = ["HostCalls"]

Array = npt.NDArray[Any]
Locate = Callable[[str], object]

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class HostCalls:
    """The host calls of an artifact, ready to be made. `address` is the callback's.

    Parameters
    ----------
    calls
        The artifact's table.
    symbols
        Names of the symbolic sizes.
    locate
        Gives the user's source line for a call's node, where the compiler has kept it.

    Raises
    ------
    HostCallError
        If a function cannot be found.
    """

    def __init__(self, calls: Sequence[HostCall], symbols: tuple[str, ...], locate: Locate | None) -> None:
        prepared = [_Prepared(entry, symbols, locate) for entry in calls]
        kept: dict[int, BaseException] = {}

        def callback(number: int, pointers: int, sizes: int) -> int:
            try:
                prepared[number].run(pointers, sizes)
            except BaseException as error:  # KeyboardInterrupt too: nothing may pass through native code
                kept[sizes] = error
                return HOST_FAILED
            return 0

        self._kept = kept
        self._callback = _CALLBACK(callback)
        self.address: int = ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def failure(self, sizes_address: int) -> BaseException:
        """What a host call of the run with this table of sizes raised."""
        return self._kept.pop(sizes_address)


class _Prepared:
    """One host call: its function, and how to see its operands and results."""

    __slots__ = ("_function", "_keywords", "_locate", "_name", "_operands", "_results", "_symbols", "_table")

    def __init__(self, entry: HostCall, symbols: tuple[str, ...], locate: Locate | None) -> None:
        self._name = entry.function
        self._function = resolve(entry.function)
        self._keywords = dict(entry.keywords)
        self._operands = [_View(dtype, shape, symbols) for dtype, shape in entry.operands]
        self._results = [_View(dtype, shape, symbols) for dtype, shape in entry.results]
        self._table = ctypes.c_size_t * (len(entry.operands) + len(entry.results))
        self._symbols = ctypes.c_int64 * len(symbols)
        self._locate = None if locate is None else lambda: locate(entry.node)

    def run(self, pointers: int, sizes: int) -> None:
        """Call the function on views of the operands, and copy what it gives into the results."""
        table = self._table.from_address(pointers)[:]
        values = self._symbols.from_address(sizes)[:]
        operands = [view.array(address, values) for view, address in zip(self._operands, table, strict=False)]
        for array in operands:
            array.flags.writeable = False
        expected = [(view.name, view.shape(values)) for view in self._results]
        results = call(self._name, self._function, operands, self._keywords, expected, self._locate)
        for view, address, result in zip(self._results, table[len(operands) :], results, strict=True):
            view.array(address, values)[...] = result


class _View:
    """Makes an array of given dtype and shape at an address."""

    __slots__ = ("_bytes", "_dtype", "_extents", "_shape", "name")

    def __init__(self, name: str, shape: Sequence[int | str], symbols: tuple[str, ...]) -> None:
        self.name = name
        self._dtype = from_name(name).numpy
        self._extents = [dimension(dim, symbols) for dim in shape]
        known = tuple(dim for dim in shape if isinstance(dim, int))
        self._shape = known if len(known) == len(shape) else None
        self._bytes = None if self._shape is None else self._memory(self._shape)

    def _memory(self, shape: tuple[int, ...]) -> Any:
        return ctypes.c_char * (prod(shape) * self._dtype.itemsize)

    def shape(self, sizes: Sequence[int]) -> tuple[int, ...]:
        if self._shape is not None:
            return self._shape
        return tuple([extent(sizes) for extent in self._extents])

    def array(self, address: int, sizes: Sequence[int]) -> Array:
        shape = self.shape(sizes)
        memory = self._memory(shape) if self._bytes is None else self._bytes
        return np.ndarray(shape, self._dtype, memory.from_address(address))
