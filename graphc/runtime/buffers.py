"""Memory for outputs and scratch blocks. Layer 4, runtime.

Every buffer is aligned to a cache line where that matters for speed. Large blocks come from the system in whole pages
and go back into a small pool when the last array over them dies: the first touch of a fresh page costs more than most
elementwise work on it. The pool is safe under threads and finalisers because it only uses atomic operations on deques.
This module is copied into exported models.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALIGNMENT",
    "aligned",
    "allocator",
    "empty",
    "is_aligned",
    "overlapping",
    "pointer",
    "pooled_bytes",
    "release_pool",
]

#: A cache line, and the widest vector.
ALIGNMENT = 64

# Below this size NumPy's own allocation is fastest, and alignment gains less than asking for it costs.
_SMALL_BYTES = 4096
# From this size on, blocks are mapped and recycled.
_LARGE_BYTES = 1 << 20
# What the pool may hold. Sizes are rounded up to 1/8 of a power of two, so that neighbours share blocks.
_POOL_BYTES = 256 << 20


# Where an array object keeps its data pointer: right after the object header of a CPython build with the GIL.
_DATA_OFFSET = 16
_word_at = ctypes.c_size_t.from_address


def _pointer_from_header(array: npt.NDArray[Any]) -> int:
    return _word_at(id(array) + _DATA_OFFSET).value


def _pointer_from_interface(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _header_is_known() -> bool:
    """Whether this Python and NumPy lay out array headers as `_pointer_from_header` assumes, by looking at arrays."""
    if platform.python_implementation() != "CPython" or object.__basicsize__ != _DATA_OFFSET:
        return False
    whole = np.arange(24.0).reshape(4, 6)
    probes = [whole, whole[2:], whole[1:, ::2], whole.T, np.zeros(3, np.int8), np.array(1.0), np.empty((0, 2))]
    return all(_pointer_from_header(array) == _pointer_from_interface(array) for array in probes)


#: The address of an array's first element.
pointer: Callable[[npt.NDArray[Any]], int] = _pointer_from_header if _header_is_known() else _pointer_from_interface


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A fresh C-contiguous array with unspecified content, 64-byte aligned unless it is small."""
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL_BYTES:
        return np.empty(shape, dtype)
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, aligned(size))
    return array


def allocator(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[], npt.NDArray[Any]]:
    """`empty(shape, dtype)` with the decision made once."""
    small = math.prod(shape) * dtype.itemsize < _SMALL_BYTES
    return partial(np.empty if small else empty, shape, dtype)


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """`size` writable bytes at a multiple of `ALIGNMENT`, with unspecified content."""
    if size >= _LARGE_BYTES:
        return np.asarray(_Lease(size))
    block = np.empty(size + ALIGNMENT, np.uint8)
    # Not a slice: NumPy gives an empty slice the address of its base.
    array: npt.NDArray[np.uint8] = np.ndarray((size,), np.uint8, block, -pointer(block) % ALIGNMENT)
    return array


def is_aligned(array: npt.NDArray[Any], alignment: int = ALIGNMENT) -> bool:
    """Whether the array's memory begins at a multiple of `alignment`."""
    return pointer(array) % alignment == 0


def pooled_bytes() -> int:
    """Bytes that wait in the pool."""
    return sum(size * len(blocks) for size, blocks in list(_pool.items()))


def release_pool() -> None:
    """Give the pool's memory back to the system."""
    for blocks in list(_pool.values()):
        blocks.clear()


def overlapping(arrays: Sequence[npt.NDArray[Any]], written: Sequence[int]) -> list[int]:
    """Indices of arrays that must be copied so that writing to `arrays[i]` for i in `written` changes no other one.

    Arrays that are not C-contiguous are judged by their outer bounds. Of two written arrays that overlap, the later one
    is listed. Without overlap, which is the rule, this takes O(n log n).
    """
    spans = sorted((*_bounds(array), i) for i, array in enumerate(arrays) if array.size)
    targets = frozenset(written)
    found: set[int] = set()
    cluster: list[tuple[int, int, int]] = []
    reach = 0
    for span in spans:
        if span[0] >= reach:
            found.update(_conflicts(cluster, targets))
            cluster = []
        cluster.append(span)
        reach = max(reach, span[1])
    found.update(_conflicts(cluster, targets))
    return sorted(found)


def _conflicts(cluster: list[tuple[int, int, int]], written: frozenset[int]) -> Iterator[int]:
    """The arrays to copy among those whose spans touch one another."""
    for low, high, index in cluster if len(cluster) > 1 else []:
        if index not in written:
            continue
        for other_low, other_high, other in cluster:
            if other != index and other_low < high and low < other_high:
                yield max(index, other) if other in written else other


def _bounds(array: npt.NDArray[Any]) -> tuple[int, int]:
    if array.flags.c_contiguous:
        start = pointer(array)
        return start, start + array.nbytes
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


class _Lease:
    """A mapped block that NumPy holds as an array's base; when the array dies, the block goes back to the pool."""

    __slots__ = ("__array_interface__", "_block", "_size")

    def __init__(self, size: int) -> None:
        self._size = _rounded(size)
        self._block = _take(self._size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._block))
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, False)}

    def __del__(self) -> None:
        if hasattr(self, "_block"):
            _give(self._block, self._size)


_pool: dict[int, deque[mmap.mmap]] = {}


def _take(size: int) -> mmap.mmap:
    """A block of the pool or a new one."""
    blocks = _pool.get(size)
    if blocks:
        try:
            return blocks.pop()
        except IndexError:  # another thread took the last one
            pass
    try:
        return _map(size)
    except OSError:
        release_pool()
    try:
        return _map(size)
    except OSError as fault:
        raise MemoryError(f"cannot allocate {size} bytes: {fault}") from None


def _map(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without transparent huge pages
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give(block: mmap.mmap, size: int) -> None:
    if size + pooled_bytes() <= _POOL_BYTES:
        _pool.setdefault(size, deque()).append(block)


def _rounded(size: int) -> int:
    step = max(1 << (size.bit_length() - 4), mmap.PAGESIZE)
    return -(-size // step) * step
