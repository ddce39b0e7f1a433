"""Which calls emitted code may make without Python, and the entries for them. Layer 5.

After a call has gone through Python, `NativeCalls.learn` makes an entry of its signature, if native code can do all of it:
positional arrays, tensors, floats and static scalars, results that are fresh arrays or tensors. All
else, and every call whose guards do not hold, stays with `CompiledFunction.__call__`. `GRAPHC_NATIVE_CALL=off` switches it off.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Hashable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from graphc.callrecord import Entry, GuardKind, ItemKind, Object
from graphc.errors import GraphcError
from graphc.frontend import context, pytree
from graphc.frontend.binding import Settled
from graphc.frontend.build import call_artifact
from graphc.frontend.capture import Output
from graphc.frontend.structure import global_version_address
from graphc.frontend.tensor import Tensor, Version
from graphc.frontend.variant import Variant
from graphc.runtime.buffers import aligned, allocator, pointer
from graphc.runtime.callpath import NativeEntry, layout_is_known, link_chain, native_type, slot_offset, word_at
from graphc.runtime.executable import Frame

__all__ = ["NativeCalls", "native_base"]

Array = np.ndarray[Any, Any]

#: Entries of one function.
_ENTRIES = 16
#: Entries made for one signature at once; each further one waits for twice as many calls.
_EAGER = 6
#: Arrays of at least this size come from the project's own allocator; from the second size on it recycles them itself.
_ALIGNED_BYTES, _POOLED_BYTES = 4096, 1 << 20
_STATIC = (bool, int, str, bytes, type(None))


def native_base(slow: Any) -> type | None:
    """The type whose instances are called natively, or None: switched off, or unknown layout, or no code for this machine."""
    if os.environ.get("GRAPHC_NATIVE_CALL", "").strip().lower() in ("off", "0", "no", "false"):
        return None
    return _native_base(slow)


@cache
def _native_base(slow: Any) -> type | None:
    if not layout_is_known() or _offsets() is None:
        return None
    try:
        artifact = call_artifact()
    except GraphcError:  # no LLVM here, or no linker for this architecture: calls go through Python
        return None
    return native_type(artifact, slow, context.trace, context.grad_enabled)


@cache
def _offsets() -> tuple[int, int, int] | None:
    """Where a Tensor keeps its array, whether it requires a gradient, and its gradient."""
    found = [slot_offset(Tensor, name) for name in ("_array", "_requires_grad", "_grad")]
    probe = Tensor(np.zeros(2))
    for offset, value in zip(found, (probe._array, False, None), strict=True):
        if offset is None or not 0 < offset < Tensor.__basicsize__ or word_at(probe, offset) != id(value):
            return None
    array, requires_grad, grad = (int(offset or 0) for offset in found)
    return array, requires_grad, grad


class NativeCalls:
    """The entries of one compiled function."""

    __slots__ = ("_attempts", "_entries", "_retired")

    def __init__(self) -> None:
        self._entries: list[tuple[Hashable, Variant, NativeEntry]] = []
        self._retired: list[NativeEntry] = []
        self._attempts: dict[Hashable, tuple[int, int]] = {}

    def learn(
        self, owner: Any, key: Hashable, args: tuple[Any, ...], variant: Variant, counter: ctypes.c_int64
    ) -> None:
        """Make or renew the entry for calls like this one, which the variant has just served."""
        if variant.lock is None:
            self._learn(owner, key, args, variant, counter)
        elif variant.lock.acquire(blocking=False):  # or else another thread moves state
            try:
                self._learn(owner, key, args, variant, counter)
            finally:
                variant.lock.release()

    def _learn(
        self, owner: Any, key: Hashable, args: tuple[Any, ...], variant: Variant, counter: ctypes.c_int64
    ) -> None:
        known = next((entry for k, v, entry in self._entries if v is variant and k == key), None)
        if known is not None:
            if known.busy:
                return
            # The variant has found that nothing it read has changed.
            known.words[Entry.VERSION] = variant.version
            if known.scalars_hold() and not _has_moved(known, variant):
                return
        if not self._is_due(key):
            return
        entry = make_entry(args, variant, counter)
        kept = [row for row in self._entries if row[2] is not known]
        if entry is not None:
            kept.append((key, variant, entry))
        kept = kept[-_ENTRIES:]
        link_chain(owner, [row[2] for row in kept])
        # Out of the chain, an entry may still be in use by a call of another thread: its tables must live until then.
        gone = [row[2] for row in self._entries if not any(row is other for other in kept)]
        self._retired = [entry for entry in (*self._retired, *gone) if entry.busy]
        self._entries = kept

    def _is_due(self, key: Hashable) -> bool:
        """Whether to make an entry: where entries do not last, at ever longer intervals."""
        attempts, waited = self._attempts.get(key, (0, 0))
        due = waited >= 2 ** min(attempts, 16) // 2**_EAGER
        self._attempts[key] = (attempts + 1, 0) if due else (attempts, waited + 1)
        return due


def _has_moved(entry: NativeEntry, variant: Variant) -> bool:
    """Whether state is settled at other places than those that the entry has."""
    settled = variant.settled()
    return variant.lock is not None and settled is not None and settled.sources is not entry.token


def make_entry(args: tuple[Any, ...], variant: Variant, counter: ctypes.c_int64) -> NativeEntry | None:
    """The entry for calls like this one, or None if native code cannot make them."""
    captured = variant.captured
    settled = variant.settled() if variant.is_native else None
    if settled is None:
        return None
    entry = NativeEntry(token=settled.sources)
    slots = {position: slot for slot, position in enumerate(captured.leaves)}
    for position, x in enumerate(args):
        if not _add_argument(entry, x, slots.get(position)):
            return None
    inputs = [*(_as_array(args[position]) for position in captured.leaves), *settled.states]
    frame, results = variant.executable.bound_frame(inputs)
    if not _add_state(entry, variant, settled, frame) or not _add_results(entry, variant, settled, frame, results):
        return None
    again = variant.settled()
    if again is None or (variant.lock is not None and again.sources is not settled.sources):
        return None  # a gradient was set meanwhile
    for guard in captured.guards:
        entry.guard_scalar(guard.place, guard.name, guard.read())
    for tensor, present in captured.presence:
        entry.guard(GuardKind.DIFFERS if present else GuardKind.SAME, _grad_place(entry, tensor), id(None))
    entry.held += [frame, variant.executable, counter]
    words = entry.words
    words[Entry.GRAD] = id(context.grad_enabled.get())
    words[Entry.COUNTER], words[Entry.VERSION] = global_version_address(), variant.version
    words[Entry.CALLS] = ctypes.addressof(counter)
    words[Entry.FUNCTION], words[Entry.LONG] = variant.executable.entry_address, variant.executable.is_long
    words[Entry.POINTERS], words[Entry.SIZES] = frame.pointers_address, frame.sizes_address
    words[Entry.ARENA] = frame.arena_address
    structure = captured.structure
    words[Entry.IS_TUPLE] = structure.kind != "leaf"
    if structure.kind != "leaf" and not (structure.kind is tuple and all(c.kind == "leaf" for c in structure.children)):
        words[Entry.WRAP] = entry.refer(partial(pytree.unflatten, structure))
    entry.finish()
    return entry


def _add_state(entry: NativeEntry, variant: Variant, settled: Settled, frame: Frame) -> bool:
    """Pointers of state, and guards that it stays where it is."""
    captured = variant.captured
    number_at = slot_offset(Version, "number")
    if number_at is None:
        return False
    arguments = len(captured.leaves)
    for place, array in enumerate(settled.states, arguments):
        frame.pointers[place] = pointer(array)
    for array in (*settled.states, *(a for a in settled.outputs if a is not None)):
        entry.guard(GuardKind.SAME, entry.refer(array) + Object.ARRAY_DATA, pointer(array))
    owners = [slot.tensor for slot in captured.states if slot.grad]
    owners += [grad.tensor for grad in captured.grads if grad.tensor is not None]
    for tensor in dict.fromkeys(owners):
        entry.guard(GuardKind.SAME, _grad_place(entry, tensor), entry.refer(tensor._grad))
    for grad in captured.grads:
        assert grad.tensor is not None
        if (grad.tensor._grad is None) != (grad.index is None):
            return False
    entry.spans += settled.spans
    entry.bumps += [entry.refer(tensor._version) + number_at for tensor in variant.written()]
    if variant.lock is not None:
        entry.words[Entry.LOCK] = entry.refer(variant.lock.acquire)
        entry.words[Entry.UNLOCK] = entry.refer(variant.lock.release)
    return True


def _grad_place(entry: NativeEntry, tensor: Tensor) -> int:
    """Where a tensor keeps its gradient."""
    offsets = _offsets()
    assert offsets is not None
    return entry.refer(tensor) + offsets[2]


def _add_argument(entry: NativeEntry, x: Any, slot: int | None) -> bool:
    kind = type(x)
    if slot is None:
        if kind not in _STATIC:
            return False
        entry.add_static(x)
    elif kind is np.ndarray:
        entry.add_array(x, slot)
    elif kind is float:
        entry.add_float(slot)
    elif isinstance(x, Tensor) and type(x._array) is np.ndarray:
        offsets = _offsets()
        assert offsets is not None
        entry.add_array(x._array, slot, holder=(kind, offsets[0], offsets[1], x._requires_grad))
    else:
        return False
    return True


def _as_array(x: Any) -> Array:
    return x._array if isinstance(x, Tensor) else np.asarray(x)


def _add_results(
    entry: NativeEntry, variant: Variant, settled: Settled, frame: Frame, results: Sequence[Array]
) -> bool:
    """Outputs and the leaves of the result."""
    captured, buffers = variant.captured, variant.executable.outputs
    numbers: dict[int, int] = {}
    for index, array in enumerate(results):
        slot = frame.first_output + index
        bound = array if buffers[index].writes is not None else settled.outputs[index]
        if bound is not None:
            frame.pointers[slot] = pointer(bound)
        elif any(o.index == index and o.kind != "tensor" for o in captured.outputs) and array.ndim == 0:
            memory = aligned(max(array.nbytes, 8))
            entry.held.append(memory)
            frame.pointers[slot] = numbers[index] = pointer(memory)
        else:
            allocate = allocator(array.shape, array.dtype) if array.nbytes >= _ALIGNED_BYTES else None
            numbers[index] = entry.add_output(array, slot, allocate, recycle=array.nbytes < _POOLED_BYTES)
    first: dict[int, int] = {}
    for place, output in enumerate(captured.outputs):
        if output.index in first:
            entry.add_item(ItemKind.REPEATED, first[output.index])
            continue
        if not _add_item(entry, output, numbers, results):
            return False
        if output.index is not None:
            first[output.index] = place
    return True


def _add_item(entry: NativeEntry, output: Output, numbers: dict[int, int], results: Sequence[Array]) -> bool:
    if output.index is None:
        if output.argument is None:
            entry.add_item(ItemKind.OBJECT, entry.refer(output.value))
        else:
            entry.add_item(ItemKind.ARGUMENT, output.argument)
    elif output.kind == "tensor":
        array = results[output.index]
        template = entry.template(Tensor(array), array, (Version,))
        if template is None:
            return False
        entry.add_item(ItemKind.WRAPPED, numbers[output.index], template)
    elif results[output.index].ndim == 0:
        entry.add_item(ItemKind.SCALAR, numbers[output.index], entry.refer(results[output.index].dtype))
    else:
        entry.add_item(ItemKind.ARRAY, numbers[output.index])
    return True
