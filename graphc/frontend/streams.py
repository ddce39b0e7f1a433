"""The state of a generator of random numbers, and the states of many examples. Layer 5.

A state is a key of two words and the number of the next stream in two; each draw takes one stream. Example i of a batched
function starts `i * stride` streams after the generator's: with the number of draws of one example as stride, examples
draw what a loop over them would draw.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from graphc.dtypes import uint32, uint64
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, op
from graphc.frontend.tensor import Tensor
from graphc.ir.dims import is_static
from graphc.ir.graph import Graph, Value
from graphc.ir.op import run_graph
from graphc.ir.types import TensorType
from graphc.passes.dead_code import DeadCode

__all__ = ["FAR", "StreamState", "advanced", "example_states", "made", "stride_of"]

#: The stride of examples whose number of draws depends on values.
FAR = 1 << 32

_SERIAL = count()


class StreamState(Tensor):
    """The state of a generator: uint32[4]. `serial` grows with each that is made."""

    __slots__ = ("serial",)

    def __init__(self, words: Any) -> None:
        super().__init__(np.array(words, dtype=np.uint32))
        self.serial = made()


def made() -> int:
    """A number above those of all states that were made before."""
    return next(_SERIAL)


def stride_of(graph: Graph, state: int, new: Value) -> int:
    """How many streams a function's draws take, if `new` is what becomes of its input number `state`; `FAR` where that depends
    on anything else."""
    alone = DeadCode().run(Graph(graph.inputs, (new,)))
    (new,), nodes = alone.outputs, alone.nodes
    inputs = {node.attrs["index"] for node in nodes if node.op.name == "input"}
    if inputs - {state} or any(node.op.effect or not _is_plain(node.types) for node in nodes):
        return FAR
    strides = set()
    for words in ((1, 2, 0, 0), (3, 0, 0xFFFFFFFF, 7)):
        arguments = [np.array(words, np.uint32) if i == state else None for i in range(len(graph.inputs))]
        (after,) = run_graph(Graph(graph.inputs, (new,)), arguments)
        if tuple(after[:2]) != words[:2]:
            return FAR
        strides.add((_stream(after) - _stream(words)) % 2**64)
    return strides.pop() if len(strides) == 1 else FAR


def _is_plain(types: Any) -> bool:
    return all(isinstance(t, TensorType) and is_static(t.shape) for t in types)


def _stream(words: Any) -> int:
    return int(words[2]) + (int(words[3]) << 32)


def example_states(state: Tensor, size: Any, stride: int) -> Tensor:
    """uint32[size, 4]: the states with which examples start."""
    numbers = op("iota", shape=(size,), axis=0, dtype=uint64)
    return _moved(state, op("multiply", numbers, _full(stride, (size,))))


def advanced(state: Tensor, size: Any, stride: int) -> Tensor:
    """The state after all examples."""
    ones = op("broadcast", as_tensor(np.uint64(1)), shape=(size,))
    total = op("multiply", op("sum", ones, axes=(0,)), as_tensor(np.uint64(stride)))
    return op("reshape", _moved(state, op("reshape", total, shape=(1,))), shape=(4,))


def _moved(state: Tensor, steps: Tensor) -> Tensor:
    """uint32[n, 4]: the state some streams on, for each of uint64[n]."""
    (size,) = steps.shape
    low, high = (convert(op("slice", state, start=(k,), size=(1,), step=(1,)), np.uint64) for k in (2, 3))
    upper = op("left_shift", high, _full(32, (1,)))
    stream = op("add", broadcast_to(op("bitwise_or", low, upper), (size,)), steps)
    words = [stream, op("right_shift", stream, _full(32, (size,)))]
    columns = [op("reshape", op("convert", w, dtype=uint32), shape=(size, 1)) for w in words]
    key = op("slice", state, start=(0,), size=(2,), step=(1,))
    return op("concatenate", op("broadcast", key, shape=(size, 2)), *columns, axis=1)


def _full(value: int, shape: tuple[Any, ...]) -> Tensor:
    return broadcast_to(as_tensor(np.uint64(value)), shape)
