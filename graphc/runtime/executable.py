"""Calling an artifact. Layer 4, runtime.

`Executable.run` takes arrays that already fit (the caller's guards, or `check`), builds the table of pointers, calls the
entry point once and returns the outputs. It holds no state between calls, so any number of threads may run one
executable at a time: each call takes a *frame* (pointer table, sizes, scratch memory) from a pool and returns it.
Failures that native code reports become the project's errors. This module is copied into exported models.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.artifact import ARENA, CALLBACK, DETAIL, ENTRY, HOST_FAILED, Artifact, Buffer
from graphc.dtypes import ALL, from_name
from graphc.errors import (
    ArtifactError,
    BoundsError,
    DTypeError,
    GraphcError,
    ShapeError,
    StateError,
    StructureError,
    message,
)
from graphc.runtime.buffers import aligned, allocator, empty, is_aligned, pointer
from graphc.runtime.dimensions import dimension
from graphc.runtime.hostcalls import HostCalls
from graphc.runtime.image import MappedImage

__all__ = ["Executable", "Frame"]

Array = npt.NDArray[Any]

# Kernels shorter than this are called with the interpreter lock held: releasing it costs more than others would gain.
_SHORT_WORK = 500_000  # flops + bytes, some 20 us


class Executable:
    """An artifact that can be called.

    Parameters
    ----------
    artifact
        What to run. Its code is mapped here; an ISA level that this machine lacks is refused.
    locate
        Gives the user's source line for a failure's node, where the compiler has kept it.

    Raises
    ------
    ArtifactError
        If this machine cannot run the artifact, or its tables are malformed.
    """

    def __init__(self, artifact: Artifact, *, locate: Callable[[str], object] | None = None) -> None:
        self.artifact = artifact
        self.inputs = artifact.with_role("input")
        self.outputs = artifact.with_role("output")
        self._locate = locate
        self._image = image = MappedImage.of(artifact)
        word = ctypes.c_void_p
        self.is_long = _is_long(artifact)
        self._entry = image.function(ENTRY, (word, word, word), release_gil=self.is_long)
        self._arena_size: Callable[[Any], int] | None = None
        if artifact.arena_bytes is None:
            self._arena_size = image.function(ARENA, (word,), release_gil=False)
        self._sizes = [_find_symbol(name, self.inputs) for name in artifact.symbols]
        self._makers = [_maker(buffer, artifact.symbols) for buffer in self.outputs]
        self._constants = [_held(c.data) for c in artifact.constants]
        self._hosts = HostCalls(artifact.hosts, artifact.symbols, locate) if artifact.hosts else None
        self._frames: deque[Frame] = deque()

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array | None] | None = None) -> list[Array]:
        """Run once.

        Parameters
        ----------
        inputs
            One C-contiguous, element-aligned array an input buffer, of its dtype and a shape that fits. Nothing of this
            is checked here but the count: `check` does. Inputs that an output `writes` are updated in place.
        outputs
            Arrays to write results into, of the right dtype and shape, C-contiguous; None for a fresh one, and where
            the output `writes` an input. They may not share memory with inputs.

        Returns
        -------
        All outputs in order; one that `writes` an input is that input.

        Raises
        ------
        GraphcError
            What the artifact's failure table says (`BoundsError` for an index out of range, ...).
        BaseException
            What a host call raised, with its traceback.
        """
        if len(inputs) != len(self.inputs):
            raise StructureError(f"{len(inputs)} arrays given for {len(self.inputs)} inputs")
        sizes = [inputs[position].shape[axis] for position, axis in self._sizes] if self._sizes else []
        if outputs is None:
            results = [make(inputs, sizes) for make in self._makers]
        else:
            makers = zip(self._makers, outputs, strict=True)
            results = [make(inputs, sizes) if given is None else given for make, given in makers]
        frame = self._take_frame()
        pointers = frame.pointers
        for slot, array in enumerate(inputs):
            pointers[slot] = pointer(array)
        for slot, array in enumerate(results, frame.first_output):
            pointers[slot] = pointer(array)
        if sizes:
            frame.sizes[: len(sizes)] = sizes
            if self._arena_size is not None:
                frame.reserve(self._arena_size(frame.sizes_address))
        status = self._entry(frame.pointers_address, frame.sizes_address, frame.arena_address)
        if status == HOST_FAILED and self._hosts is not None:
            raise self._hosts.failure(frame.sizes_address)
        detail = frame.sizes[frame.detail] if status else 0
        self._frames.append(frame)
        if status:
            raise self._failure(status, detail)
        return results

    def check(self, inputs: Sequence[Array]) -> None:
        """Raise unless `run` may be called with these arrays.

        Raises
        ------
        StructureError, DTypeError, ShapeError, StateError
            With the input's name, what it must be and what it is.
        """
        if len(inputs) != len(self.inputs):
            raise StructureError(f"{len(inputs)} arrays given for {len(self.inputs)} inputs")
        written = {buffer.writes for buffer in self.outputs}
        bound: dict[str, int] = {}
        for index, (buffer, array) in enumerate(zip(self.inputs, inputs, strict=True)):
            _check_input(buffer, array, index in written, bound)
        for buffer, array in zip(self.inputs, inputs, strict=True):
            want = tuple(dimension(dim, tuple(bound))(tuple(bound.values())) for dim in buffer.shape)
            if want != array.shape:
                raise ShapeError(message(f"{buffer.name} has the wrong shape", operands=_comparison(buffer, array)))

    @property
    def calls_host(self) -> bool:
        """Whether native code calls Python functions."""
        return self._hosts is not None

    @property
    def entry_address(self) -> int:
        """Where the entry point's code is; valid while this object lives."""
        return self._image.place(ENTRY)

    def bound_frame(self, inputs: Sequence[Array]) -> tuple[Frame, list[Array]]:
        """A frame of its own with the sizes and scratch memory of calls with such inputs, and such a call's outputs."""
        sizes = [inputs[position].shape[axis] for position, axis in self._sizes]
        frame = self._new_frame()
        frame.sizes[: len(sizes)] = sizes
        if self._arena_size is not None:
            frame.reserve(self._arena_size(frame.sizes_address))
        return frame, [make(inputs, sizes) for make in self._makers]

    def release(self) -> None:
        """Give the scratch memory of idle frames back."""
        self._frames.clear()

    def _take_frame(self) -> Frame:
        try:
            return self._frames.pop()
        except IndexError:
            return self._new_frame()

    def _new_frame(self) -> Frame:
        return Frame(self.artifact, self._constants, None if self._hosts is None else self._hosts.address)

    def _failure(self, status: int, detail: int) -> Exception:
        """The error for a status: 1 + an index into the failure table."""
        index = status - 1
        failures = self.artifact.failures
        if not 0 <= index < len(failures):
            return GraphcError(f"compiled code reports an unknown failure ({status:#x})")
        failure = failures[index]
        location = self._locate(failure.node) if self._locate is not None and failure.node else None
        return _ERRORS.get(failure.error, GraphcError)(
            message(
                failure.text.replace("{detail}", str(detail)).replace("{unsigned}", str(detail % 2**64)),
                location=location,
                hint="Check the indices or labels of this call; nothing was written, all state is as before.",
            )
        )


# What a failure table may name: the builtin exceptions that NumPy would raise, or this project's classes for them.
_ERRORS: dict[str, type[GraphcError]] = {
    "IndexError": BoundsError,
    "ValueError": ShapeError,
    "TypeError": DTypeError,
    **{error.__name__: error for error in (BoundsError, ShapeError, DTypeError, StateError)},
}


_Maker = Callable[[Sequence[Array], Sequence[int]], Array]


def _maker(buffer: Buffer, symbols: tuple[str, ...]) -> _Maker:
    """How a call gets an output's array, from its inputs and sizes."""
    writes, dtype = buffer.writes, from_name(buffer.dtype).numpy
    if writes is not None:
        return lambda inputs, sizes: inputs[writes]
    shape = tuple(dim for dim in buffer.shape if isinstance(dim, int))
    if len(shape) == len(buffer.shape):
        allocate = allocator(shape, dtype)
        return lambda inputs, sizes: allocate()
    extents = [dimension(dim, symbols) for dim in buffer.shape]
    return lambda inputs, sizes: empty(tuple([extent(sizes) for extent in extents]), dtype)


class Frame:
    """What one running call owns: the pointer table with the constants filled in, the sizes table (with the host calls'
    callback and place for a failure's detail behind the sizes), scratch memory."""

    __slots__ = (
        *("arena", "arena_address", "detail", "first_output", "pointers", "pointers_address", "sizes", "sizes_address"),
        "_constants",
    )

    def __init__(self, artifact: Artifact, constants: Sequence[Array], callback: int | None) -> None:
        inputs = len(artifact.with_role("input"))
        self.first_output = inputs + len(constants)
        self.pointers = (ctypes.c_size_t * max(1, len(artifact.buffers)))()
        self.pointers[inputs : self.first_output] = [pointer(array) for array in constants]
        self.pointers_address = ctypes.addressof(self.pointers)
        symbols = len(artifact.symbols)
        self.detail = symbols + DETAIL
        self.sizes = (ctypes.c_int64 * (self.detail + 1))()
        if callback is not None:
            self.sizes[symbols + CALLBACK] = callback
        self.sizes_address = ctypes.addressof(self.sizes)
        self._constants = constants
        self.arena: Array = aligned(0)
        self.arena_address = pointer(self.arena)
        self.reserve(artifact.arena_bytes or 0)

    def reserve(self, size: int) -> None:
        """Make the scratch block at least `size` bytes long; its content is lost."""
        if self.arena.nbytes < size:
            self.arena = aligned(size)
            self.arena_address = pointer(self.arena)


def _is_long(artifact: Artifact) -> bool:
    """Whether a call takes long enough for other Python threads to matter; unknown work counts as long."""
    work = 0
    for kernel in artifact.kernels:
        if isinstance(kernel.flops, str) or isinstance(kernel.bytes, str):
            return True
        work += (kernel.flops + kernel.bytes) * kernel.calls
    return not artifact.kernels or work > _SHORT_WORK


def _find_symbol(name: str, inputs: Sequence[Buffer]) -> tuple[int, int]:
    """The (input, axis) whose extent is the symbol."""
    for position, buffer in enumerate(inputs):
        for axis, dim in enumerate(buffer.shape):
            if dim == name:
                return position, axis
    raise ArtifactError(f"no input has {name} as a dimension")


def _held(data: Array) -> Array:
    """A constant in aligned memory."""
    if is_aligned(data):
        return data
    copy = aligned(data.nbytes).view(data.dtype).reshape(data.shape)
    copy[...] = data
    return copy


def _check_input(buffer: Buffer, array: Array, written: bool, bound: dict[str, int]) -> None:
    """Check one input but for symbolic expressions, and bind its symbols."""
    if not isinstance(array, np.ndarray):
        raise StructureError(f"{buffer.name} must be a NumPy array and is a {type(array).__name__}")
    if array.dtype != from_name(buffer.dtype).numpy:
        raise DTypeError(message(f"{buffer.name} has the wrong dtype", operands=_comparison(buffer, array)))
    if array.ndim != len(buffer.shape):
        raise ShapeError(message(f"{buffer.name} has the wrong rank", operands=_comparison(buffer, array)))
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise StructureError(f"{buffer.name} must be C-contiguous and aligned")
    if written and not array.flags.writeable:
        raise StateError(f"{buffer.name} is written in place and its array is read-only")
    for dim, extent in zip(buffer.shape, array.shape, strict=True):
        if isinstance(dim, str) and dim.isidentifier() and bound.setdefault(dim, extent) != extent:
            known = f"{dim} = {bound[dim]} in an earlier place"
            raise ShapeError(message(f"{buffer.name} does not fit: {known}", operands=_comparison(buffer, array)))


def _dtype_name(array: Array) -> str:
    """An array's dtype as artifacts spell it, or as NumPy does if they have none."""
    return next((d.name for d in ALL if d.numpy == array.dtype), str(array.dtype))


def _comparison(buffer: Buffer, array: Array) -> list[tuple[str, object]]:
    want = f"{buffer.dtype}[{', '.join(str(dim) for dim in buffer.shape)}]"
    have = f"{_dtype_name(array)}[{', '.join(str(extent) for extent in array.shape)}]"
    return [("expected", want), ("given", have)]
