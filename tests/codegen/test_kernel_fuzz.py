"""Random bodies of integers: whatever the schedule, kernels give the evaluator's bits."""

from __future__ import annotations

import numpy as np
import pytest
from kernellab import Compiled, sample

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import interp
from graphc.codegen.expand import expand
from graphc.dtypes import bool_, int32, int64
from graphc.errors import CompileError
from graphc.ir.graph import Graph, Value, input_value
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType

B = GraphBuilder()
EXTENTS = (1, 2, 3, 7, 16, 19, 40, 70)


class Generator:
    """Draws values one by one from those made so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = (int32, int64)[self.rng.integers(2)]
        self.types: list[TensorType] = []
        self.values: list[Value] = []

    def draw(self, choices):
        return choices[self.rng.integers(len(choices))]

    def new_input(self, shape) -> Value:
        type_ = TensorType(self.dtype, tuple(shape))
        self.types.append(type_)
        return input_value(len(self.types) - 1, type_)

    def graph(self, steps: int) -> Graph:
        rank = self.draw((1, 2, 2, 3))
        self.values.append(self.new_input([int(self.draw(EXTENTS)) for _ in range(rank)]))
        makers = [self.arithmetic, self.arithmetic, self.compare, self.reduce, self.reduce_back, self.transpose]
        makers += [self.slice, self.pad, self.concatenate, self.broadcast, self.take, self.iota]
        for _ in range(steps):
            self.values.append(self.draw(makers)(self.draw(self.values)))
        outputs = [self.values[-1]]
        if self.rng.random() < 0.4:
            outputs.append(self.draw(self.values))
        return Graph(tuple(self.types), tuple(outputs))

    def same_shape(self, x: Value) -> Value:
        found = [v for v in self.values if v.shape == x.shape]
        return self.draw(found) if self.rng.random() < 0.7 else self.new_input(x.shape)

    def arithmetic(self, x: Value) -> Value:
        return getattr(B, self.draw(("add", "subtract", "multiply", "maximum")))(x, self.same_shape(x))

    def compare(self, x: Value) -> Value:
        return B.select(B.less(x, self.same_shape(x)), x, B.negative(x))

    def axes(self, x: Value) -> tuple[int, ...]:
        return tuple(a for a in range(len(x.shape)) if self.rng.random() < 0.5)

    def reduce(self, x: Value) -> Value:
        return getattr(B, self.draw(("sum", "max", "min", "prod")))(x, axes=self.axes(x))

    def reduce_back(self, x: Value) -> Value:
        axes = self.axes(x)
        if len(axes) == 1 and self.rng.random() < 0.3:
            found = B.convert(B.argmax(x, axes=axes), dtype=self.dtype)
        else:
            found = B.sum(x, axes=axes)
        shape = tuple(1 if a in axes else d for a, d in enumerate(x.shape))
        return B.subtract(x, B.broadcast(B.reshape(found, shape=shape), shape=x.shape))

    def transpose(self, x: Value) -> Value:
        return B.transpose(x, perm=tuple(int(a) for a in self.rng.permutation(len(x.shape))))

    def slice(self, x: Value) -> Value:
        start, size, step = [], [], []
        for extent in x.shape:
            stride = int(self.draw((1, 1, -1, 2, -3)))
            count = int(self.rng.integers(1, (extent - 1) // abs(stride) + 2))
            span = (count - 1) * abs(stride)
            first = int(self.rng.integers(extent - span))
            start.append(first if stride > 0 else first + span)
            size.append(count)
            step.append(stride)
        return B.slice(x, start=tuple(start), size=tuple(size), step=tuple(step))

    def pad(self, x: Value) -> Value:
        low, high = (tuple(int(n) for n in self.rng.integers(0, 4, len(x.shape))) for _ in range(2))
        return B.pad(x, B.full((), 9, self.dtype), low=low, high=high)

    def concatenate(self, x: Value) -> Value:
        if not x.shape:
            return B.negative(x)
        return B.concatenate(x, self.same_shape(x), B.negative(x), axis=int(self.rng.integers(len(x.shape))))

    def broadcast(self, x: Value) -> Value:
        return B.broadcast(x, shape=(int(self.draw(EXTENTS)), *x.shape)) if len(x.shape) < 3 else B.add(x, x)

    def take(self, x: Value) -> Value:
        if not x.shape or len(x.shape) > 2:
            return B.multiply(x, x)
        indices = self.new_input([self.draw(EXTENTS)])
        return B.take(x, indices, axis=int(self.rng.integers(len(x.shape))), mode=self.draw(("wrap", "clip")))

    def iota(self, x: Value) -> Value:
        if not x.shape:
            return B.add(x, x)
        axis = int(self.rng.integers(len(x.shape)))
        return B.add(x, B.iota(shape=x.shape, axis=axis, dtype=self.dtype))


@pytest.mark.parametrize("block", range(6))
def test_random_bodies(block):
    graphs = [Generator(seed).graph(2 + seed % 9) for seed in range(block * 40, block * 40 + 40)]
    kept, groups = [], []
    for graph in graphs:
        size = max((np.prod(v.shape, dtype=np.int64) for node in graph.nodes for v in node.results), default=0)
        if size < 300_000:
            kept.append(graph)
            groups.append(expand(graph))
    compiled = []
    for graph, group in zip(kept, groups, strict=True):
        try:
            compiled.append((graph, Compiled(group)))
        except CompileError as error:
            assert "common loop order" in str(error)
    assert len(compiled) > 25, "too many bodies were refused"
    for graph, run in compiled:
        arrays = [sample(t.shape, t.dtype, i) for i, t in enumerate(graph.inputs)]
        want = interp.evaluate(graph, arrays)
        got = run(*arrays)
        for y, ref in zip(got if len(want) > 1 else [got], want, strict=True):
            assert y.tobytes() == np.ascontiguousarray(ref).tobytes(), (graph.outputs, run.kernel.tree)
    assert bool_ not in {t.dtype for g in kept for t in g.inputs}
