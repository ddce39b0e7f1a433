"""Loads and stores of vectors in a kernel, by their stride along the vector axis. Layer 4, codegen.

`Frame` is the state of the open loops. In a vector loop's iteration there are several *copies* of each vector: usually the
vectors that follow one another along the vector axis; in a *jammed* loop, the vectors at the same place of successive
iterations of the loop outside. A square of jammed vectors that lies transposed in memory is read or written by rows and
transposed in registers.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from graphc.codegen.kernel import Access, Node
from graphc.codegen.pointers import Pointers
from graphc.codegen.schedule import Schedule, Slot, transposed
from graphc.codegen.shuffles import reverse, transpose, unzip, zipped
from graphc.codegen.sizes import Size, Sizes
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, int64
from graphc.ir.dims import Dim

__all__ = ["Frame", "Memory", "following"]


def following(access: Access) -> Access:
    """The element after another in memory."""
    return replace(access, offset=access.offset + 1)


@dataclass(slots=True)
class Frame:
    """The open loops: their indices, the copies of the vector loop's iteration with their masks in a tail, and the axis
    of a jammed loop."""

    index: ChainMap[int, Size] = field(default_factory=ChainMap)
    copies: int = 1
    masks: tuple[Vec, ...] | None = None
    jam: int | None = None

    def mask(self, copy: int) -> Vec | None:
        """The tail's mask of a copy."""
        return None if self.masks is None else self.masks[copy]


@dataclass(slots=True)
class Memory:
    """Reads and writes buffers and scratch for one function. `scalar(node)` and `vector(node, copy)` are nodes' values."""

    plan: Schedule
    sizes: Sizes
    narrow: Vectors
    wide: Vectors
    frame: Frame
    pointers: Pointers
    scalar: Callable[[Node, int], Vec]
    vector: Callable[[Node, int], Vec]

    # -- addresses ----------------------------------------------------------------------------------------------------
    def shift(self, step: Callable[[int], Dim], copy: int) -> Size:
        """What a copy adds to an index that grows by `step(axis)` along an axis."""
        if copy == 0:
            return 0
        if self.frame.jam is not None:
            return self.sizes.mul(self.sizes.dim(step(self.frame.jam)), copy)
        if self.plan.vector is None:
            return 0
        return self.sizes.mul(self.sizes.dim(step(self.plan.vector)), copy * self.wide.lanes)

    def _address(self, access: Access, copy: int, *, gathered: bool = False) -> str:
        """The address of a copy's first lane. Dynamic indices that vary by lane (`gathered`) are left out."""
        pointer = self.pointers.at(access, self.frame.index)
        offset = self.shift(access.stride, copy)
        for node, stride in access.dynamic:
            if not gathered:
                position = self.narrow.convert(self.scalar(node, copy), int64)
                offset = self.sizes.add(offset, self.sizes.mul(position.text, self.sizes.dim(stride)))
        return self._advance(access, pointer, offset)

    def _advance(self, access: Access, pointer: str, offset: Size) -> str:
        return self.pointers.advance(pointer, self._dtype(access), offset)

    def _dtype(self, access: Access) -> DType:
        return self.plan.group.buffers[access.buffer].dtype

    def _stride(self, access: Access) -> Dim:
        assert self.plan.vector is not None
        return access.stride(self.plan.vector)

    def _is_gathered(self, access: Access) -> bool:
        return any(self.plan.vector in node.domain for node, _ in access.dynamic)

    def _lane_index(self, access: Access, copy: int) -> tuple[str, Vec]:
        """Base pointer and the index of each lane from there."""
        gathered = self._is_gathered(access)
        base = self._address(access, copy, gathered=gathered)
        index = self.ramp(0, self.sizes.dim(self._stride(access)))
        for node, stride in access.dynamic if gathered else ():
            position = self.wide.convert(self.vector(node, copy), int64)
            index = self.wide.add(index, self.wide.mul(position, self.wide.splat(str(self.sizes.dim(stride)), int64)))
        return base, index

    def ramp(self, first: Size, step: Size) -> Vec:
        """first + step * lane number, as i64."""
        lanes = self.wide.iota(int64)
        if step != 1:
            lanes = self.wide.mul(lanes, self.wide.splat(str(step), int64))
        return lanes if first == 0 else self.wide.add(lanes, self.wide.splat(str(first), int64))

    # -- loads --------------------------------------------------------------------------------------------------------
    def load_scalar(self, access: Access, copy: int, mask: Vec | None, other: Vec | None) -> Vec:
        """One element."""
        return self.narrow.load(self._address(access, copy), self._dtype(access), mask=mask, passthru=other)

    def load_vectors(self, access: Access, masks: Sequence[Vec | None], others: Sequence[Vec | None]) -> list[Vec]:
        """The vectors of all copies; lanes that a mask excludes are `other` (or 0) and touch no memory."""
        if self._is_square(access, masks):
            rows = [self.wide.load(row, self._dtype(access)) for row in self._rows(access)]
            return transpose(self.wide, rows)
        pairs = enumerate(zip(masks, others, strict=True))
        return [self._load_vector(access, copy, mask, other) for copy, (mask, other) in pairs]

    def _load_vector(self, access: Access, copy: int, mask: Vec | None, other: Vec | None) -> Vec:
        dtype, stride = self._dtype(access), self._stride(access)
        unit = stride in (1, -1) or (stride == 2 and mask is None)
        if self._is_gathered(access) or not unit:
            base, index = self._lane_index(access, copy)
            return self.wide.gather(base, index, dtype, mask=mask, passthru=other)
        pointer = self._address(access, copy)
        if stride == 1:
            return self.wide.load(pointer, dtype, mask=mask, passthru=other)
        if stride == -1:
            pointer = self._advance(access, pointer, 1 - self.wide.lanes)
            mask = None if mask is None else reverse(self.wide, mask)
            return reverse(self.wide, self.wide.load(pointer, dtype, mask=mask, passthru=other))
        # The second load ends with the last element that is needed.
        last = self._advance(access, pointer, self.wide.lanes - 1)
        return unzip(self.wide, self.wide.load(pointer, dtype), self.wide.load(last, dtype))

    def _is_square(self, access: Access, masks: Sequence[Vec | None]) -> bool:
        """Whether the copies are a square that lies transposed in memory."""
        jam = self.frame.jam
        full = len(masks) == self.wide.lanes and all(mask is None for mask in masks)
        return jam is not None and full and transposed(access, self.plan.vector, jam)

    def _rows(self, access: Access) -> list[str]:
        """Addresses of the rows of a transposed square."""
        first, step = self._address(access, 0), self.sizes.dim(self._stride(access))
        return [self._advance(access, first, self.sizes.mul(step, i)) for i in range(self.wide.lanes)]

    # -- stores -------------------------------------------------------------------------------------------------------
    def store_scalar(self, access: Access, copy: int, value: Vec) -> None:
        """One element."""
        self.narrow.store(value, self._address(access, copy))

    def store_vectors(self, access: Access, values: Sequence[Vec]) -> None:
        """The vectors of all copies, as far as a tail's masks let them."""
        masks = [self.frame.mask(copy) for copy in range(len(values))]
        if self._is_square(access, masks):
            for row, value in zip(self._rows(access), transpose(self.wide, values), strict=True):
                self.wide.store(value, row)
            return
        for copy, (value, mask) in enumerate(zip(values, masks, strict=True)):
            self._store_vector(access, copy, value, mask)

    def _store_vector(self, access: Access, copy: int, value: Vec, mask: Vec | None) -> None:
        stride = self._stride(access)
        if self._is_gathered(access) or stride not in (1, -1):
            base, index = self._lane_index(access, copy)
            self.wide.scatter(value, base, index, mask=mask)
            return
        pointer = self._address(access, copy)
        if stride == -1:
            pointer = self._advance(access, pointer, 1 - self.wide.lanes)
            value = reverse(self.wide, value)
            mask = None if mask is None else reverse(self.wide, mask)
        self.wide.store(value, pointer, mask=mask)

    def store_pairs(self, access: Access, values: Sequence[Vec], others: Sequence[Vec]) -> None:
        """The vectors of all copies, each element of `values` followed in memory by that of `others`."""
        masks = [self.frame.mask(copy) for copy in range(len(values))]
        adjacent = self._stride(access) == 2 and not self._is_gathered(access) and self.wide.lanes > 1
        if not adjacent or any(mask is not None for mask in masks):
            self.store_vectors(access, values)
            self.store_vectors(following(access), others)
            return
        for copy, pair in enumerate(zip(values, others, strict=True)):
            pointer = self._address(access, copy)
            for part, vector in enumerate(zipped(self.wide, *pair)):
                self.wide.store(vector, self._advance(access, pointer, part * self.wide.lanes))

    # -- scratch ------------------------------------------------------------------------------------------------------
    def slot_address(self, slot: Slot, start: Dim, copy: int) -> str:
        """The place of a copy in a slot that begins at byte `start` of scratch."""
        offset: Size = copy * self.wide.lanes
        for axis, stride in self.plan.slot_strides(slot):
            offset = self.sizes.add(offset, self.sizes.mul(self.frame.index[axis], self.sizes.dim(stride)))
        byte = self.sizes.add(self.sizes.dim(start), self.sizes.mul(offset, slot.node.dtype.itemsize))
        return "%scratch" if byte == 0 else self.sizes.function.emit(f"getelementptr i8, ptr %scratch, i64 {byte}")
