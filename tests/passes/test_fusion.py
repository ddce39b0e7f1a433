"""The fusion pass: what becomes one kernel, what does not, and that the partition is always legal."""

from __future__ import annotations

import numpy as np
import pytest

import graphc.ops  # noqa: F401 - declares the ops
from graphc.dtypes import bool_, float32, int64
from graphc.interp import evaluate
from graphc.ir.access import is_view
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Value, constant, input_value
from graphc.ir.location import FileLocation
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType
from graphc.ir.verify import verify
from graphc.passes.fusion import Fusion, explain, fuse

b = GraphBuilder()
SHAPE = (6, 8)


def f32(index, *shape):
    return input_value(index, TensorType(float32, shape))


def graph(inputs, *outputs):
    return Graph(tuple(v.type for v in inputs), outputs, "test")


def rows(r, shape=SHAPE):
    return b.broadcast(b.reshape(r, shape=(shape[0], 1)), shape=shape)


def bodies(g):
    """The ops of each kernel, sorted, movement left out."""
    quiet = ("input", "constant", "broadcast", "reshape", "transpose")
    fused = [n for n in fuse(g).nodes if n.op.name == "fused"]
    return sorted(sorted(n.op.name for n in k.attrs["body"].nodes if n.op.name not in quiet) for k in fused)


def matmul(x, y):
    return b.dot(x, y, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))


x, y = f32(0, *SHAPE), f32(1, *SHAPE)
w, bias = f32(2, 8, 8), f32(3, 8)
INPUTS = (x, y, w, bias)


def outer_and_again():
    """A vector that a product takes, and what follows the product too."""
    e = bias + bias
    product = matmul(b.reshape(e, shape=(8, 1)), b.reshape(bias, shape=(1, 8)))
    return [product * b.broadcast(e, shape=(8, 8))]


CASES = {
    "an operand of a product that its epilogue takes too": (outer_and_again, [["add"], ["dot", "multiply"]]),
    "pointwise chain": (lambda: [b.tanh(x + y) * 2.0], [["add", "multiply", "tanh"]]),
    "several outputs of one shape": (lambda: [x + y, b.exp(x + y)], [["add", "exp"]]),
    "a diamond": (lambda: [b.exp(x) + b.tanh(b.exp(x))], [["add", "exp", "tanh"]]),
    "softmax": (
        lambda: [b.exp(x - rows(b.max(x, axes=(1,)))) / rows(b.sum(b.exp(x - rows(b.max(x, axes=(1,)))), axes=(1,)))],
        [["divide", "exp", "max", "subtract", "sum"]],
    ),
    "column sum with its producer, which is stored": (
        lambda: [b.exp(x), b.sum(b.exp(x), axes=(0,))],
        [["exp", "sum"]],
    ),
    "reductions over different axes": (
        lambda: [b.sum(b.exp(x), axes=(0,)), b.max(b.exp(x), axes=(1,))],
        [["exp", "sum"], ["max"]],
    ),
    "a reduction of a reduction": (lambda: [b.max(b.sum(x, axes=(1,)), axes=(0,))], [["max"], ["sum"]]),
    "product, bias, activation, mask": (
        lambda: [b.maximum(matmul(x, w) + b.broadcast(bias, shape=SHAPE), 0.0), b.greater(matmul(x, w), 0.0)],
        [["add", "dot", "greater", "maximum"]],
    ),
    "product and residual": (lambda: [matmul(x, w) + y], [["add", "dot"]]),
    "a reduction does not go into a product": (
        lambda: [b.sum(matmul(x, w) * 2.0, axes=(1,))],
        [["dot", "multiply"], ["sum"]],
    ),
    "softmax after a product: the difference waits for the maximum": (
        lambda: [matmul(x, w) - rows(b.max(matmul(x, w), axes=(1,)))],
        [["dot"], ["max", "subtract"]],
    ),
    "an optimiser's sweep stays out of the product": (
        lambda: [
            matmul(x, w) * 0.1 + y * 0.9,
            b.square(matmul(x, w)) * 0.1 + b.exp(y) * b.broadcast(bias, shape=SHAPE) + constant(np.ones(SHAPE, "f4")),
        ],
        None,
    ),
    "a general reshape separates": (lambda: [b.exp(b.reshape(b.exp(x), shape=(48,)))], [["exp"], ["exp"]]),
    "a heavy producer of a repeated operand is stored": (
        lambda: [x + b.broadcast(b.tanh(b.exp(bias)), shape=SHAPE)],
        [["add"], ["exp", "tanh"]],
    ),
    "a light producer of a repeated operand is not": (
        lambda: [x * b.broadcast(bias + 1.0, shape=SHAPE)],
        [["add", "multiply"]],
    ),
    "the only user reads transposed": (lambda: [b.exp(b.transpose(b.tanh(x), perm=(1, 0)))], [["exp", "tanh"]]),
    "one of two users reads transposed": (
        lambda: [b.exp(b.transpose(b.tanh(w), perm=(1, 0))), b.tanh(w)],
        [["exp"], ["tanh"]],
    ),
    "a heavy value and its transpose": (
        lambda: [b.exp(w) + b.transpose(b.exp(w), perm=(1, 0))],
        [["add"], ["exp"]],
    ),
    "an outer sum": (
        lambda: [
            b.broadcast(b.tanh(bias), shape=(8, 8)) + b.broadcast(b.reshape(b.tanh(bias), shape=(8, 1)), shape=(8, 8))
        ],
        [["add"], ["tanh"]],
    ),
    "slices of a heavy value, twice": (
        lambda: [
            b.slice(b.tanh(x), start=(0, 0), size=(5, 8), step=(1, 1))
            + b.slice(b.tanh(x), start=(1, 0), size=(5, 8), step=(1, 1))
        ],
        [["add", "slice", "slice"], ["tanh"]],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    outputs, expected = CASES[name]
    g = graph(INPUTS, *outputs())
    if expected is not None:
        assert bodies(g) == sorted(sorted(body) for body in expected)
    check_values(g)


def check_values(g):
    rng = np.random.default_rng(3)
    arrays = [np.asarray(rng.standard_normal(t.shape), t.dtype.numpy) for t in g.inputs]
    fused = fuse(g)
    verify(fused)
    for before, after in zip(evaluate(g, arrays), evaluate(fused, arrays), strict=True):
        np.testing.assert_array_equal(before, after)
    for node in fused.nodes:
        assert node.op.name in ("input", "constant", "fused") or is_view(node), node


def test_wide_sweeps_after_a_product_are_one_kernel_of_their_own():
    g, m, v, p = matmul(b.transpose(x, perm=(1, 0)), y), f32(2, 8, 8), f32(3, 8, 8), f32(4, 8, 8)
    m1, v1 = m * 0.9 + g * 0.1, v * 0.99 + g * g * 0.01
    found = bodies(graph((x, y, m, v, p), m1, v1, p - m1 / b.sqrt(v1)))
    assert len(found) == 2 and ["dot"] in found


def test_no_cycle_between_kernels():
    """exp and add could share loops, but the product between them cannot."""
    e = b.exp(w)
    g = graph((x, y, w), e + matmul(e, b.tanh(e)))
    fused = fuse(g)
    assert fused.nodes  # topological order exists: `nodes` would not end otherwise
    check_values(g)


def test_cycle_through_a_group_with_an_older_member():
    """A group may hold a member that is older than all of ours and another that needs ours."""
    e, t = b.exp(x), b.tanh(y)
    late = t * rows(b.sum(e, axes=(1,)))
    g = graph(INPUTS, b.sum(t * 2.0, axes=(0,)), late, e * rows(b.max(late, axes=(1,))))
    check_values(g)


def test_take_has_its_indices_in_memory():
    i = input_value(4, TensorType(int64, (3,)))
    g = graph((*INPUTS, i), b.take(b.exp(x), i * 2, axis=0, mode="raise") + 1.0)
    fused = fuse(g)
    for node in fused.nodes:
        if node.op.name == "fused":
            for inner in node.attrs["body"].nodes:
                if inner.op.name == "take":
                    assert all(v.node.op.name == "input" for v in inner.operands)


def test_symbolic_shapes():
    n = symbol(0)
    x = input_value(0, TensorType(float32, (n, 8)))
    e = b.exp(x)
    total = b.broadcast(b.reshape(b.sum(e, axes=(1,)), shape=(n, 1)), shape=(n, 8))
    assert bodies(graph((x,), e / total)) == [["divide", "exp", "sum"]]


def test_locations_are_carried_to_kernel_and_body():
    z = b.tanh(x + y)
    where = {z.node: (FileLocation("m.py", 2),), z.node.operands[0].node: (FileLocation("m.py", 1),)}
    fused = fuse(Graph((x.type, y.type), (z,), "test", (), where))
    node = fused.outputs[0].node
    assert set(map(str, fused.locations[node])) == {"m.py:1", "m.py:2"}
    assert {str(p) for places in node.attrs["body"].locations.values() for p in places} == {"m.py:1", "m.py:2"}


def test_equal_work_gives_equal_bodies():
    p, q = f32(0, 5), f32(1, 5)
    fused = fuse(graph((p, q), b.exp(b.sqrt(p) + 1.0), b.exp(b.sqrt(q) + 1.0)))
    assert len({v.node.attrs["body"].key for v in fused.outputs if v.node.op.name == "fused"}) == 1


def test_decisions_say_why_not():
    g = graph(INPUTS, b.sum(b.exp(x), axes=(0,)), b.max(b.exp(x), axes=(1,)))
    refused = [d for d in explain(g) if not d.fused]
    assert len(refused) == 1 and "different axes" in refused[0].reason


def test_pass_is_idempotent_on_kernels():
    g = fuse(graph(INPUTS, b.tanh(x + y)))
    assert Fusion().run(g).same_as(g)


def test_deep_chain_and_many_nodes():
    value: Value = x
    for _ in range(1500):
        value = b.sin(value) + y
    fused = fuse(graph(INPUTS, value))
    kernels = [n for n in fused.nodes if n.op.name == "fused"]
    assert len(kernels) > 10


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_keep_their_values(seed):
    rng = np.random.default_rng(seed)
    pool: list[Value] = [x, y, w, bias]
    for _ in range(25):
        pool.append(random_node(rng, pool))
    outputs = [pool[i] for i in rng.integers(4, len(pool), 3)]
    g = Graph(tuple(v.type for v in INPUTS), (*outputs, pool[-1]), "random")
    check_values(g)


def random_node(rng, pool):
    """One more node from earlier values: products, reductions, movement, arithmetic."""
    v = pool[rng.integers(len(pool))]
    if v.dtype is bool_:
        return b.convert(v, dtype=float32)
    rank = len(v.shape)
    choice = rng.integers(9)
    if choice == 0 and rank:
        return b.sum(v, axes=(int(rng.integers(rank)),))
    if choice == 1 and rank:
        return b.max(v, axes=tuple(range(rank)))
    if choice == 2 and rank == 2:
        return b.transpose(v, perm=(1, 0))
    if choice == 3 and rank == 2:
        return matmul(v, b.transpose(v, perm=(1, 0)))
    if choice == 4 and rank == 1:
        return b.broadcast(b.reshape(v, shape=(*v.shape, 1)), shape=(*v.shape, 3))
    if choice == 5 and rank:
        size = (max(1, v.shape[0] - 1), *v.shape[1:])
        return b.slice(v, start=(0,) * rank, size=size, step=(1,) * rank)
    if choice == 6:
        return b.broadcast(v, shape=(2, *v.shape)) if rank < 3 else b.reshape(v, shape=(int(np.prod(v.shape)),))
    others = [u for u in pool if u.type == v.type]
    return b.tanh(v) if choice == 7 else v * 0.5 + others[rng.integers(len(others))]
