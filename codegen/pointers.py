"""Addresses of a kernel's accesses, advanced loop by loop. Layer 4, codegen.

Each loop that is opened adds its own step to the pointers made outside of it, so that inner loops do little arithmetic;
accesses that agree so far share a pointer. Pointers live in the scopes of the loops that made them.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.codegen.kernel import Access, Terms
from graphc.codegen.sizes import Size, Sizes
from graphc.dtypes import DType
from graphc.ir.dims import Dim

__all__ = ["Pointers"]

_Key = tuple[int, Dim, Terms]


@dataclass(slots=True)
class Pointers:
    """Pointers of one function; `dtypes` are those of the buffers."""

    sizes: Sizes
    dtypes: tuple[DType, ...]
    #: What has been made: buffer, offset and terms taken into account, to the pointer and the axes that were open.
    made: ChainMap[_Key, tuple[str, frozenset[int]]] = field(default_factory=ChainMap)

    def at(self, access: Access, index: Mapping[int, Size]) -> str:
        """The address of an access, dynamic indices left out, at the open axes' `index`."""
        open_ = frozenset(index)
        terms = tuple((a, s) for a, s in access.terms if a in open_)
        key = (access.buffer, access.offset, terms)
        found = self.made.get(key)
        if found is not None:
            return found[0]
        pointer, taken = self._nearest(access, open_)
        offset = self.sizes.dim(access.offset) if taken is None else 0
        for axis, stride in terms:
            if taken is None or axis not in taken:
                offset = self.sizes.add(offset, self.sizes.mul(index[axis], self.sizes.dim(stride)))
        pointer = self.advance(pointer, self.dtypes[access.buffer], offset)
        self.made[key] = pointer, open_
        return pointer

    def _nearest(self, access: Access, open_: frozenset[int]) -> tuple[str, frozenset[int] | None]:
        """The pointer that takes most of the open axes into account."""
        best: tuple[str, frozenset[int]] | None = None
        for (buffer, offset, terms), (pointer, taken) in self.made.items():
            fits = buffer == access.buffer and offset == access.offset and taken <= open_
            better = best is None or len(taken) > len(best[1])
            if fits and better and terms == tuple((a, s) for a, s in access.terms if a in taken):
                best = pointer, taken
        return best or (f"%b{access.buffer}", None)

    def advance(self, pointer: str, dtype: DType, offset: Size) -> str:
        """The pointer moved by a number of elements."""
        if offset == 0:
            return pointer
        return self.sizes.function.emit(
            f"getelementptr i8, ptr {pointer}, i64 {self.sizes.mul(offset, dtype.itemsize)}"
        )
