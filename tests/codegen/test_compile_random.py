"""Random graphs, compiled against the evaluator, to the last bit.

Float values are small whole numbers, so that sums and products are exact in any order; `Pool` keeps a bound on each value
and never builds one that could round.
"""

from __future__ import annotations

import numpy as np
import pytest
from compilelab import agree, b

from graphc.codegen.compiler import compile_graph
from graphc.dtypes import bool_, float32, float64, int32, int64
from graphc.ir.graph import Graph, full, input_value
from graphc.ir.types import TensorType
from graphc.passes.fusion import fuse

LIMIT = 2**22
DTYPES = (float32, float64, int32, int64)


class Pool:
    """Values with bounds on their magnitude, and steps that add one more."""

    def __init__(self, rng, inputs):
        self.rng = rng
        self.bound = {}
        for v in inputs:
            self.bound[v] = 2

    def pick(self, wanted=lambda v: True):
        found = [v for v in self.bound if wanted(v)]
        return found[self.rng.integers(len(found))] if found else None

    def add(self, value, bound):
        if bound < LIMIT and value.shape is not None and np.prod(value.shape, dtype=int) <= 600:
            self.bound[value] = bound

    def step(self):
        steps = [getattr(self, name) for name in dir(self) if name.startswith("try_")]
        steps[self.rng.integers(len(steps))]()

    def number(self):
        return self.pick(lambda v: v.dtype is not bool_)

    def try_binary(self):
        x = self.number()
        y = self.pick(lambda v: v.type == x.type)
        name = ["add", "subtract", "multiply", "maximum", "minimum"][self.rng.integers(5)]
        p, q = self.bound[x], self.bound[y]
        self.add(b.__getattr__(name)(x, y), p * q if name == "multiply" else p + q)

    def try_unary(self):
        x = self.number()
        name = ["negative", "absolute", "square"][self.rng.integers(3)]
        self.add(b.__getattr__(name)(x), self.bound[x] ** (2 if name == "square" else 1))

    def try_compare(self):
        x = self.number()
        y = self.pick(lambda v: v.type == x.type)
        name = ["less", "greater_equal", "equal", "not_equal"][self.rng.integers(4)]
        self.add(b.__getattr__(name)(x, y), 1)

    def try_logic(self):
        x = self.pick(lambda v: v.dtype is bool_)
        if x is not None:
            y = self.pick(lambda v: v.type == x.type)
            self.add(b.bitwise_xor(b.logical_not(x), y), 1)

    def try_select(self):
        c = self.pick(lambda v: v.dtype is bool_)
        x = c is not None and self.pick(lambda v: v.shape == c.shape and v.dtype is not bool_)
        if x:
            y = self.pick(lambda v: v.type == x.type)
            self.add(b.select(c, x, y), max(self.bound[x], self.bound[y]))

    def try_convert(self):
        x = self.pick()
        dtype = DTYPES[self.rng.integers(4)]
        if dtype is not x.dtype:
            self.add(b.convert(x, dtype=dtype), max(1, self.bound[x]))

    def try_reduce(self):
        x = self.pick(lambda v: v.shape)
        rank = len(x.shape)
        axes = tuple(int(a) for a in range(rank) if self.rng.random() < 0.5) or (int(self.rng.integers(rank)),)
        count = int(np.prod([x.shape[a] for a in axes]))
        if x.dtype is bool_:
            self.add(b.__getattr__(["any", "all"][self.rng.integers(2)])(x, axes=axes), 1)
        elif self.rng.random() < 0.5 or count == 0:
            self.add(b.sum(x, axes=axes), self.bound[x] * max(count, 1))
        else:
            self.add(b.__getattr__(["max", "min"][self.rng.integers(2)])(x, axes=axes), self.bound[x])

    def try_arg(self):
        x = self.pick(lambda v: v.shape and v.dtype is not bool_)
        axis = int(self.rng.integers(len(x.shape))) if x is not None else 0
        if x is not None and x.shape[axis]:
            self.add(b.__getattr__(["argmax", "argmin"][self.rng.integers(2)])(x, axes=(axis,)), x.shape[axis])

    def try_transpose(self):
        x = self.pick(lambda v: len(v.shape) > 1)
        if x is not None:
            self.add(b.transpose(x, perm=tuple(map(int, self.rng.permutation(len(x.shape))))), self.bound[x])

    def try_broadcast(self):
        x = self.pick(lambda v: len(v.shape) < 3)
        if self.rng.random() < 0.5 and x.shape:
            at = int(self.rng.integers(len(x.shape) + 1))
            shape = (*x.shape[:at], 1, *x.shape[at:])
            x, kept = b.reshape(x, shape=shape), self.bound[x]
            shape = tuple(3 if a == at else d for a, d in enumerate(shape))
        else:
            shape, kept = (int(self.rng.integers(1, 5)), *x.shape), self.bound[x]
        self.add(b.broadcast(x, shape=shape), kept)

    def try_reshape(self):
        x = self.pick()
        size = int(np.prod(x.shape, dtype=int))
        shape = (size,) if self.rng.random() < 0.5 else (1, size, 1)
        if size % 2 == 0 and size:
            shape = (2, size // 2)
        self.add(b.reshape(x, shape=shape), self.bound[x])

    def try_slice(self):
        x = self.pick(lambda v: v.shape and 0 not in v.shape)
        if x is None:
            return
        size, start, step = [], [], []
        for d in x.shape:
            stride = [1, 1, 2, -1][self.rng.integers(4)]
            count = int(self.rng.integers(1, 1 + -(-d // abs(stride))))
            room = d - 1 - (count - 1) * abs(stride)
            first = int(self.rng.integers(room + 1))
            size.append(count)
            step.append(stride)
            start.append(first if stride > 0 else first + (count - 1) * abs(stride))
        self.add(b.slice(x, start=tuple(start), size=tuple(size), step=tuple(step)), self.bound[x])

    def try_pad(self):
        x = self.number()
        if x.shape:
            low, high = (tuple(map(int, self.rng.integers(0, 3, len(x.shape)))) for _ in range(2))
            self.add(b.pad(x, full((), 1, x.dtype), low=low, high=high), max(1, self.bound[x]))

    def try_concatenate(self):
        x = self.pick(lambda v: v.shape)
        y = self.pick(lambda v: v.type == x.type)
        self.add(b.concatenate(x, y, axis=int(self.rng.integers(len(x.shape)))), max(self.bound[x], self.bound[y]))

    def try_dot(self):
        x = self.pick(lambda v: len(v.shape) == 2 and v.dtype is not bool_)
        y = x is not None and self.pick(lambda v: len(v.shape) == 2 and v.dtype is x.dtype and x.shape[1] in v.shape)
        if y:
            axis = y.shape.index(x.shape[1])
            bound = self.bound[x] * self.bound[y] * max(1, x.shape[1])
            self.add(b.dot(x, y, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(axis,)), bound)

    def try_general_dot(self):
        """A value with itself, any of its axes batched, contracted or free."""
        x = self.pick(lambda v: v.shape and v.dtype is not bool_)
        if x is None:
            return
        part = self.rng.integers(0, 3, len(x.shape))
        batch, summed = (tuple(int(a) for a in self.rng.permutation(np.flatnonzero(part == k))) for k in (0, 1))
        if max(len(x.shape) * 2 - 2 * len(summed) - len(batch), 0) < 4:
            bound = self.bound[x] ** 2 * max(1, int(np.prod([x.shape[a] for a in summed])))
            self.add(b.dot(x, x, lhs_batch=batch, rhs_batch=batch, lhs_contract=summed, rhs_contract=summed), bound)

    def try_take(self):
        x = self.pick(lambda v: v.shape and 0 not in v.shape)
        i = self.pick(lambda v: v.dtype in (int32, int64) and len(v.shape) < 3)
        if x is not None and i is not None and len(x.shape) + len(i.shape) < 5:
            mode = ["wrap", "clip"][self.rng.integers(2)]
            self.add(b.take(x, i, axis=int(self.rng.integers(len(x.shape))), mode=mode), self.bound[x])

    def try_scatter(self):
        x = self.pick(lambda v: v.dtype is not bool_ and len(v.shape) == 1 and 0 not in v.shape)
        i = x is not None and self.pick(lambda v: v.dtype in (int32, int64))
        if i:
            u = self.pick(lambda v: v.dtype is x.dtype and v.shape == i.shape)
            if u is not None:
                bound = self.bound[x] + self.bound[u] * max(1, int(np.prod(i.shape)))
                self.add(b.scatter_add(x, i, u, axis=0, mode="wrap"), bound)

    def try_iota(self):
        x = self.number()
        if x.shape:
            axis = int(self.rng.integers(len(x.shape)))
            self.add(b.iota(shape=x.shape, axis=axis, dtype=x.dtype) + x, self.bound[x] + x.shape[axis])


def random_graph(seed, steps=30):
    rng = np.random.default_rng(seed)
    shapes = [(4, 6), (4, 6), (6, 4), (6,), (4,), (), (17, 3), (0, 4)]
    types = [TensorType(DTYPES[rng.integers(4)], s) for s in shapes] + [TensorType(bool_, (4, 6))]
    inputs = [input_value(i, t) for i, t in enumerate(types)]
    pool = Pool(rng, inputs)
    for _ in range(steps):
        pool.step()
    made = [v for v in pool.bound if v not in inputs]
    outputs = [made[i] for i in rng.integers(0, len(made), 4)] + made[-2:]
    return Graph(tuple(types), tuple(outputs), f"random{seed}"), rng


def sample(type_, rng):
    return (
        rng.integers(0, 2, type_.shape).astype(bool)
        if type_.dtype is bool_
        else rng.integers(-2, 3, type_.shape).astype(type_.dtype.numpy)
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_to_the_last_bit(seed):
    g, rng = random_graph(seed)
    agree(g, None, arrays=[sample(t, rng) for t in g.inputs])


@pytest.mark.parametrize("seed", range(60, 90))
def test_random_writes_into_inputs(seed):
    """Outputs that have an input's type become that input's new value, at random."""
    g, rng = random_graph(seed)
    writes, outputs = {}, list(g.outputs)
    for j, t in enumerate(g.inputs):
        fitting = [v for v in g.nodes for v in v.results if v.type == t and v.node.op.name != "input"]
        if fitting:
            writes[len(outputs)] = j
            outputs.append(fitting[rng.integers(len(fitting))] if rng.random() < 0.8 else input_value(j, t))
    same = {}  # two inputs of one type exchange their old values
    for j, t in enumerate(g.inputs):
        if j not in writes.values():
            if t in same:
                other = same.pop(t)
                writes[len(outputs)] = j
                outputs.append(input_value(other, t))
                writes[len(outputs)] = other
                outputs.append(input_value(j, t))
            else:
                same[t] = j
    whole = Graph(g.inputs, tuple(outputs), g.name)
    agree(whole, None, arrays=[sample(t, rng) for t in g.inputs], writes=writes)


def test_random_graphs_use_every_step():
    """The generator reaches the ops that it claims to."""
    seen = {n.op.name for seed in range(60) for n in random_graph(seed)[0].nodes}
    wanted = {
        "dot",
        "take",
        "scatter_add",
        "pad",
        "concatenate",
        "slice",
        "argmax",
        "sum",
        "select",
        "iota",
        "any",
        "reshape",
    }
    assert wanted <= seen


def test_compiling_twice_gives_equal_code():
    g, _ = random_graph(7)
    first, second = (compile_graph(fuse(g)) for _ in range(2))
    assert first.llvm == second.llvm and first.artifact == second.artifact
