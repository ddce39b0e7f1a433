"""Binding a call's arguments and state to the buffers of native code. Layer 5.

What is bound must be contiguous, and what native code writes must share memory with nothing else that it reads: an
argument that does is copied. State seldom moves between calls, so what was found out about it is kept for as long as
every array is the same object.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np

from graphc.errors import StateError, message
from graphc.frontend.capture import Captured
from graphc.frontend.signature import native
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import StateSlot
from graphc.ir.types import TensorType
from graphc.runtime.buffers import overlapping, pointer

__all__ = ["Binding", "Settled", "count_copies"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """State that stays bound from call to call: where it comes from (one list object for as long as it holds), the state's
    arrays, outputs to write into, and the spans of addresses that are written."""

    sources: list[Array | None]
    states: list[Array]
    outputs: list[Array | None]
    spans: list[tuple[int, int]]


class Binding:
    """The state of a captured function, ready to be passed to native code.

    `bind` gives inputs (arguments, then state), outputs to write into (None for a fresh array), and how many arguments
    had to be copied.
    """

    def __init__(self, captured: Captured) -> None:
        self._slots = captured.states
        self._written = frozenset(captured.writes.values())
        self._arguments = len(captured.leaves)
        self._mutates = bool(captured.mutated)
        self._outputs = sum(isinstance(v.type, TensorType) for v in captured.graph.outputs)
        self._gradients = tuple(
            (grad.index, grad.tensor)
            for grad in captured.grads
            if grad.index is not None and grad.state is None and grad.tensor is not None
        )
        self._sources: list[Array | None] | None = None
        self._states: list[Array] = []
        self._fresh: list[Array | None] = []
        self._spans: list[tuple[int, int]] = []

    def bind(self, arguments: list[Array]) -> tuple[list[Array], list[Array | None], int]:
        """Arrays for one call."""
        sources = self._current()
        if self._sources is None or any(s is None for s in sources) or not all(map(is_, sources, self._sources)):
            return self._bind_anew(arguments, sources)
        copied = 0
        for i, array in enumerate(arguments):
            if self._touches(array):
                arguments[i] = array.copy()
                copied += 1
        return [*arguments, *self._states], [*self._fresh], copied

    def settled(self) -> Settled | None:
        """What the last call bound, if the next one will bind the same."""
        if self._sources is None or not all(map(is_, self._sources, self._current())):
            return None
        return Settled(self._sources, self._states, self._fresh, self._spans)

    def _current(self) -> list[Array | None]:
        sources = [_source(slot) for slot in self._slots]
        sources += [_gradient_array(tensor) for _, tensor in self._gradients]
        return sources

    def _bind_anew(
        self, arguments: list[Array], sources: list[Array | None]
    ) -> tuple[list[Array], list[Array | None], int]:
        """Bind and check everything; keep what holds for the next call."""
        states = [self._state(slot) for slot in self._slots]
        outputs: list[Array | None] = [None] * self._outputs
        for index, tensor in self._gradients:
            outputs[index] = _gradient_array(tensor)
        inputs = [*arguments, *states]
        fresh = [a for a in outputs if a is not None]
        written = [*self._written, *range(len(inputs), len(inputs) + len(fresh))]
        copied = 0
        for index in overlapping([*inputs, *fresh], written) if written else ():
            if index < len(inputs):
                inputs[index] = inputs[index].copy()
                copied += 1
        settled = not self._mutates and all(s is not None for s in sources)
        if settled and all(map(is_, inputs[self._arguments :], states)):
            self._sources, self._states, self._fresh = sources, states, outputs
            arrays = [inputs[i] for i in sorted(self._written)] + fresh
            self._spans = sorted((pointer(a), pointer(a) + a.nbytes) for a in arrays if a.size)
        else:
            self._sources = None
        return inputs, outputs, copied

    def _state(self, slot: StateSlot) -> Array:
        array = _source(slot)
        if array is None:
            # The buffer of an absent gradient: -0.0, the exact additive identity.
            dtype = slot.tensor.dtype
            return np.full(slot.tensor.shape, complex(-0.0, -0.0) if dtype.kind == "c" else -0.0, dtype=dtype)
        if slot.index in self._written and not array.flags.writeable:
            raise StateError(
                message(
                    "the function writes to a captured tensor whose memory is read-only",
                    operands=[("tensor", slot.tensor.type)],
                    location=user_location(),
                    hint="Make it with gx.tensor, which copies, instead of gx.asarray.",
                )
            )
        return native(array)

    def _touches(self, array: Array) -> bool:
        """Whether an argument shares memory with what is written (spans are disjoint and sorted)."""
        if not self._spans:
            return False
        start = pointer(array)
        place = bisect_right(self._spans, (start, start + array.nbytes))
        return any(
            low < start + array.nbytes and start < high for low, high in self._spans[max(place - 1, 0) : place + 1]
        )


def _source(slot: StateSlot) -> Array | None:
    if not slot.grad:
        return slot.tensor._array
    grad = slot.tensor._grad
    return None if grad is None else grad._array


def _gradient_array(tensor: Tensor) -> Array | None:
    """The array to write a gradient into: the one that is there, so that its memory is used again."""
    if tensor._grad is None:
        return None
    array = tensor._grad._array
    return array if array.flags.c_contiguous and array.flags.writeable and array.dtype == tensor.dtype else None


def count_copies(arguments: Sequence[Array], leaves: Sequence[Any]) -> int:
    """How many array arguments had to be copied to be contiguous."""
    return sum(a is not leaf for a, leaf in zip(arguments, leaves, strict=True) if isinstance(leaf, np.ndarray))
