"""Whole compilations against the evaluator: kernels, memory, writes into inputs, failures."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from compilelab import agree, b, flip, graph, inputs, matmul, run, spread

from graphc.codegen.body import in_place
from graphc.codegen.compiler import compile_graph
from graphc.codegen.emitters import EMITTERS
from graphc.dtypes import bool_, float32, float64, int32, int64, uint32
from graphc.errors import BoundsError, CompileError
from graphc.ir.graph import Graph, constant, full, input_value
from graphc.ir.types import TensorType
from graphc.passes.fusion import fuse
from graphc.runtime.executable import Executable

f32 = float32


def kernels(compiled):
    return [row.schedule for row in compiled.kernels]


# -- kernels of every kind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float32, float64, int32, int64], ids=str)
def test_pointwise_and_broadcast(dtype):
    x, y = inputs((dtype, (5, 7)), (dtype, (7,)))
    c = agree(graph((x, y), [(x + spread(y, (5, 7))) * x - 3]))
    assert kernels(c) == ["loop"]


def test_bool_and_select():
    c, x, y = inputs((bool_, (3, 17)), (f32, (3, 17)), (f32, (3, 17)))
    agree(graph((c, x, y), [b.select(b.logical_not(c), x, y), b.logical_not(c)]), None)


def test_softmax_is_one_kernel():
    (x,) = inputs((f32, (6, 33)))

    def kept(r):
        return spread(b.reshape(r, shape=(6, 1)), (6, 33))

    e = b.exp(x - kept(b.max(x, axes=(1,))))
    c = agree(graph((x,), [e / kept(b.sum(e, axes=(1,)))]))
    assert kernels(c) == ["loop"]


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_reduction_with_producer_and_consumer(axes):
    (x,) = inputs((float64, (3, 5, 7)))
    r = b.sum(x * x, axes=axes)
    agree(graph((x,), [b.sqrt(r), r + 1.0]), 1e-12)


def test_matmul_bias_relu_and_mask_are_one_kernel():
    x, w, bias = inputs((f32, (9, 20)), (f32, (20, 35)), (f32, (35,)))
    z = matmul(x, w) + spread(bias, (9, 35))
    c = agree(graph((x, w, bias), [b.maximum(z, 0.0), b.greater(z, 0.0)]))
    assert kernels(c) == ["contraction"]


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_transposed_operands_are_strides(left, right):
    shapes = ((9, 6) if left else (6, 9)), ((7, 9) if right else (9, 7))
    x, y = inputs((f32, shapes[0]), (f32, shapes[1]))
    z = matmul(flip(x) if left else x, flip(y) if right else y)
    c = agree(graph((x, y), [b.tanh(z)]))
    assert kernels(c) == ["contraction"]


@pytest.mark.parametrize(
    "shape", [(1, 5, 1), (4, 5, 1), (1, 5, 6), (3, 0, 4), (0, 5, 4), (3, 5, 0), (1, 1, 1)], ids=str
)
@pytest.mark.parametrize("epilogue", [False, True])
def test_matmul_edges(shape, epilogue):
    m, k, n = shape
    x, y, r, c = inputs((f32, (m, k)), (f32, (k, n)), (f32, (m, n)), (f32, (n,)))
    z = matmul(x, y)
    if epilogue:
        z = (z + r) * spread(c, (m, n))
    agree(graph((x, y, r, c), [z]))


def test_batched_matmul_with_heads():
    """Attention's shapes: x[b, t, h, d] and y[b, s, h, d] contracted over d, batched over b and h."""
    x, y, bias = inputs((f32, (2, 5, 3, 4)), (f32, (2, 6, 3, 4)), (f32, (3, 1, 6)))
    scores = b.dot(x, y, lhs_batch=(0, 2), rhs_batch=(0, 2), lhs_contract=(3,), rhs_contract=(3,))
    c = agree(graph((x, y, bias), [scores * 0.5 + spread(bias, (2, 3, 5, 6))]))
    assert kernels(c) == ["contraction"]


def test_matmul_over_two_axes_and_two_free_axes():
    x, w, bias = inputs((f32, (3, 4, 5, 2)), (f32, (5, 2, 3, 7)), (f32, (4, 1, 7)))
    z = b.dot(x, w, lhs_batch=(), rhs_batch=(), lhs_contract=(2, 3), rhs_contract=(0, 1))
    agree(graph((x, w, bias), [z + spread(bias, (3, 4, 3, 7))]))


@pytest.mark.parametrize("shape", [(1, 4, 6), (4, 1, 6), (4, 6, 1)], ids=str)
@pytest.mark.parametrize("rows", [4, 1])
def test_epilogue_with_unit_axes(shape, rows):
    """The rest of the epilogue may see the product's result with unit axes put in or taken out."""
    shape = tuple(rows if d == 4 else d for d in shape)
    x, y, r = inputs((f32, (rows, 5)), (f32, (5, 6)), (f32, shape))
    z = matmul(x, y)
    moved = b.reshape(z + 1.0, shape=shape) * r
    agree(
        graph(
            (x, y, r),
            [moved, z, b.greater(b.reshape(moved, shape=(rows, 6)), z), b.broadcast(z, shape=(1, rows, 6)) * 2.0],
        )
    )


def test_sliced_operand_of_a_product():
    x, y = inputs((f32, (8, 9)), (f32, (5, 4)))
    part = b.slice(x, start=(1, 7), size=(3, 5), step=(2, -1))
    c = agree(graph((x, y), [matmul(part, y)]))
    assert kernels(c) == ["contraction"]


@pytest.mark.parametrize("perm", list(permutations(range(3))), ids=str)
def test_transposes(perm):
    (x,) = inputs((f32, (3, 4, 5)))
    agree(graph((x,), [b.transpose(x, perm=perm) * 2.0, b.transpose(x + 1.0, perm=perm)]), None)


def test_slice_pad_concatenate():
    x, y = inputs((f32, (4, 6)), (f32, (2, 6)))
    part = b.slice(x * 3.0, start=(3, 1), size=(2, 2), step=(-2, 3))
    padded = b.pad(part + 1.0, full((), -1.0, f32), low=(1, 0), high=(0, 2))
    joined = b.concatenate(x, y - 1.0, x, axis=0)
    agree(graph((x, y), [part, padded, joined * joined]), None)


def test_general_reshape_is_a_view():
    (x,) = inputs((f32, (4, 6)))
    y = b.reshape(b.exp(x), shape=(3, 8))
    c = agree(graph((x,), [b.sum(y, axes=(1,)), b.reshape(y, shape=(24,))]))
    assert len(c.kernels) == 2


def test_iota_and_argmax():
    (x,) = inputs((float64, (4, 9)))
    where = b.argmax(x, axes=(1,))
    hot = b.equal(b.iota(shape=(4, 9), axis=1, dtype=int64), spread(b.reshape(where, shape=(4, 1)), (4, 9)))
    agree(graph((x,), [where, hot]), None)


def test_random_bits_match_the_evaluator():
    (key,) = inputs((uint32, (2,)))
    bits = b.random_bits(key, shape=(5, 7), dtype=uint32)
    agree(graph((key,), [bits, b.bitwise_and(bits, 255)]), None)


# -- indexing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [int32, int64, uint32], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_take(dtype, axis):
    x, i = inputs((f32, (4, 5)), (dtype, (2, 3)))
    arrays = [np.arange(20, dtype=np.float32).reshape(4, 5), np.array([[0, 3, 1], [2, 2, 0]], dtype.numpy)]
    if dtype is not uint32:
        arrays[1][0, 1] = -1
    agree(graph((x, i), [b.take(x * 2.0, i, axis=axis, mode="raise") + 1.0]), None, arrays=arrays)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-6, 5), (2**31 - 1, 5), (0, 0)])
def test_bad_index_names_index_and_writes_nothing(index, size):
    x, i, state = inputs((f32, (size, 2)), (int64, (3,)), (f32, (4,)))
    y = b.take(x, i, axis=0, mode="raise")
    new = state * 2.0
    g = graph((x, i, state), [new, y])
    e = Executable(compile_graph(fuse(g), writes={0: 2}).artifact)
    arrays = [np.zeros((size, 2), np.float32), np.array([0, index, 0]), np.ones(4, np.float32)]
    bad = index if size else 0
    with pytest.raises(BoundsError, match=f"index {bad} is out of bounds for axis 0 with size {size}"):
        e.run(arrays)
    np.testing.assert_array_equal(arrays[2], 1.0)


def test_computed_indices_are_checked_before_the_write_that_depends_on_the_same_kernel():
    """The indices and a state's new value could be one kernel: then the write must wait for the check."""
    x, i, state = inputs((f32, (5,)), (int64, (3,)), (int64, (3,)))
    shared = i * 2 + state
    g = graph((x, i, state), [shared + 1, b.take(x, shared, axis=0, mode="raise")])
    compiled = compile_graph(fuse(g), writes={0: 2})
    e = Executable(compiled.artifact)
    good = [np.arange(5, dtype=np.float32), np.array([0, 1, 1]), np.array([1, 0, 1])]
    np.testing.assert_array_equal(e.run(good)[1], [1, 2, 3])
    np.testing.assert_array_equal(good[2], [2, 3, 4])
    bad = [np.arange(5, dtype=np.float32), np.array([0, 9, 1]), np.array([1, 0, 1])]
    with pytest.raises(BoundsError, match="18"):
        e.run(bad)
    np.testing.assert_array_equal(bad[2], [1, 0, 1])


@pytest.mark.parametrize("mode", ["wrap", "clip"])
def test_take_in_other_modes_never_fails(mode):
    x, i = inputs((f32, (5,)), (int64, (4,)))
    arrays = [np.arange(5, dtype=np.float32), np.array([-7, 12, 4, -1])]
    c = agree(graph((x, i), [b.take(x, i, axis=0, mode=mode)]), None, arrays=arrays)
    assert not c.artifact.failures


@pytest.mark.parametrize("written", [False, True])
def test_scatter_add_in_index_order(written):
    x, i, u = inputs((f32, (4, 3)), (int64, (6,)), (f32, (6, 3)))
    arrays = [np.ones((4, 3), np.float32), np.array([0, 2, 2, -1, 0, 2]), np.arange(18, dtype=np.float32).reshape(6, 3)]
    g = graph((x, i, u), [b.scatter_add(x, i, u * 0.1, axis=0, mode="raise")])
    agree(g, None, arrays=arrays, writes={0: 0} if written else {}, contract=False)


# -- outputs, constants, empty ----------------------------------------------------------------------------------------------


def test_outputs_that_are_inputs_constants_and_repeated():
    (x,) = inputs((f32, (3, 2)))
    y = b.exp(x)
    big = constant(np.arange(600.0))
    results, expected, compiled, own = run(
        graph((x,), [x, y, y, big, constant(np.float32(4.0)), b.reshape(y, shape=(6,))])
    )
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    buffers = [*results, *own]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(buffers) for q in buffers[:i])
    assert len(compiled.artifact.constants) == 1


def test_graph_without_nodes_and_without_outputs():
    (x,) = inputs((f32, (3,)))
    agree(graph((x,), [x]))
    agree(graph((x,), []))
    agree(Graph((), (full((2, 2), 7.0, f32),), "constant"))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_empty_arrays(shape):
    (x,) = inputs((f32, shape))
    agree(graph((x,), [x * 2.0, b.sum(x, axes=(0,)), b.sum(x, axes=tuple(range(len(shape))))]), None)


def test_scalars():
    x, y = inputs((f32, ()), (f32, ()))
    agree(graph((x, y), [x * y + 1.0, b.exp(x), spread(x, (3, 3))]))


def test_unfused_graph_compiles_node_by_node():
    x, w = inputs((f32, (4, 5)), (f32, (5, 6)))
    z = b.tanh(matmul(x, w)) + 1.0
    g = graph((x, w), [b.sum(flip(z), axes=(1,))])
    c = agree(g, fused=False)
    assert len(c.kernels) > 3


def test_equal_kernels_are_emitted_once():
    values = inputs(*[(f32, (8,))] * 4)
    outs = [b.exp(b.reshape(b.sqrt(v), shape=(2, 4))) for v in values]
    c = agree(graph(values, outs), arrays=[np.full(8, i + 1.0, np.float32) for i in range(4)])
    assert sorted(row.calls for row in c.kernels) == [4, 4]
    assert c.llvm.count("define internal void @k") == 2


# -- writes into inputs -------------------------------------------------------------------------------------------------------


def test_update_in_place_needs_no_memory():
    x, g = inputs((f32, (40,)), (f32, (40,)))
    c = agree(graph((x, g), [x - g * 0.1]), writes={0: 0})
    assert c.artifact.arena_bytes == 0


def test_swap():
    x, y = inputs((f32, (5,)), (f32, (5,)))
    agree(graph((x, y), [y, x]), None, writes={0: 0, 1: 1})
    agree(graph((x, y), [b.exp(y), b.exp(x) + 1.0]), writes={0: 0, 1: 1})


def test_rotation_of_three():
    values = inputs(*[(f32, (300,))] * 3)
    x, y, z = values
    agree(graph(values, [y, z, x]), None, writes={0: 0, 1: 1, 2: 2})
    agree(graph(values, [y * 2.0, z + 1.0, x]), None, writes={0: 0, 1: 1, 2: 2})


def test_old_value_is_read_elsewhere_and_returned():
    x, y = inputs((f32, (6,)), (f32, (6,)))
    new = x + y
    agree(graph((x, y), [new, x, new, b.exp(x), b.exp(new)]), writes={0: 0})


@pytest.mark.parametrize(
    "new",
    [
        lambda x: flip(x) + 1.0,
        lambda x: b.slice(x, start=(3, 3), size=(4, 4), step=(-1, -1)) * 2.0,
        lambda x: x - spread(b.reshape(b.max(x, axes=(1,)), shape=(4, 1)), (4, 4)),
        lambda x: x - spread(b.max(x, axes=(0,)), (4, 4)),
        lambda x: matmul(x, x),
        lambda x: matmul(x, x) + x,
        lambda x: x + flip(x),
        lambda x: b.reshape(b.exp(b.reshape(x, shape=(2, 8))), shape=(4, 4)),
    ],
)
def test_hazards_within_one_kernel(new):
    (x,) = inputs((f32, (4, 4)))
    agree(graph((x,), [new(x)]), writes={0: 0})


def test_in_place_epilogue():
    """momentum <- 0.9 momentum + x^T g, in the product's epilogue, over the old momentum."""
    x, g, v = inputs((f32, (6, 9)), (f32, (6, 40)), (f32, (9, 40)))
    c = agree(graph((x, g, v), [v * 0.9 + matmul(flip(x), g)]), writes={0: 2})
    assert kernels(c) == ["contraction"] and "graphc_copy" not in c.llvm


def test_adam_is_one_kernel_in_place():
    p, g, m, v = values = inputs(*[(f32, (50,))] * 4)
    m1 = m * 0.9 + g * 0.1
    v1 = v * 0.999 + g * g * 0.001
    p1 = p - m1 / (b.sqrt(v1) + 1e-8)
    arrays = [np.linspace(0.1, 1.0, 50, dtype=np.float32) * (i + 1) for i in range(4)]
    c = agree(graph(values, [p1, m1, v1]), writes={0: 0, 1: 2, 2: 3}, arrays=arrays)
    assert len(c.kernels) == 1 and c.artifact.arena_bytes == 0 and "graphc_copy" not in c.llvm


def test_two_outputs_into_one_input_are_refused():
    (x,) = inputs((f32, (5,)))
    with pytest.raises(CompileError, match="two outputs"):
        compile_graph(fuse(graph((x,), [x + 1.0, x + 2.0])), writes={0: 0, 1: 0})
    with pytest.raises(CompileError, match="cannot be written"):
        compile_graph(fuse(graph((x,), [b.sum(x, axes=(0,))])), writes={0: 0})


def test_in_place_rule():
    x, y = inputs((f32, (4, 4)), (f32, (4, 4)))

    def rule(value):
        node = fuse(graph((x, y), [value])).outputs[0].node
        operand = next(i for i, v in enumerate(node.operands) if v is x)
        return in_place(node.attrs["body"], operand, 0)

    assert rule(x + y)
    assert rule(matmul(y, y) + x)
    assert not rule(flip(x) + y)
    assert not rule(x + flip(x))
    assert not rule(matmul(x, y))
    assert not rule(x + spread(b.sum(x, axes=(0,)), (4, 4)))


# -- branches and loops --------------------------------------------------------------------------------------------------


def held(types, build):
    """A closed graph of inputs of these types."""
    values = [input_value(i, t) for i, t in enumerate(types)]
    return Graph(tuple(types), tuple(build(*values)), "held")


def test_cond_runs_one_branch():
    p, x, i = inputs((bool_, ()), (f32, (3, 5)), (int64, (2,)))
    types = [x.type, i.type]
    then = held(types, lambda x, i: [b.exp(x), b.take(x, i, axis=0, mode="raise")])
    other = held(types, lambda x, i: [x, b.slice(b.transpose(x, perm=(0, 1)), start=(0, 0), size=(2, 5), step=(1, 1))])
    results = b.cond(p, x * 2.0, i, then=then, else_=other)
    g = graph((p, x, i), [results[0] + 1.0, results[1]])
    data = np.arange(15, dtype=np.float32).reshape(3, 5)
    for predicate in (True, False):
        agree(g, arrays=[np.array(predicate), data, np.array([2, 0])])
    e = Executable(compile_graph(fuse(g)).artifact)
    e.run([np.array(False), data, np.array([9, 0])])  # the check is in the branch that is not taken
    with pytest.raises(BoundsError, match="index 9"):
        e.run([np.array(True), data, np.array([9, 0])])


def test_while_loop():
    n, x = inputs((int64, ()), (f32, (4, 4)))
    types = [n.type, x.type, x.type]
    going = held(types, lambda n, x, w: [b.greater(n, 0)])
    body = held(types, lambda n, x, w: [n - 1, b.tanh(matmul(x, w)) + x])
    results = b.while_loop(n, x, b.sin(x), cond=going, body=body)
    g = graph((n, x), [results[0], results[1] * 2.0, results[2]])
    for count in (0, 1, 2, 7):
        agree(g, 1e-4, arrays=[np.array(count), np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)])


def test_carries_change_places():
    """New carries are written over old ones: rotations, copies and readers of old values."""
    n, x, y, z = inputs((int64, ()), (f32, (5,)), (f32, (5,)), (f32, (5,)))
    types = [n.type, x.type, y.type, z.type]
    going = held(types, lambda n, x, y, z: [b.greater(n, 0)])
    for build in (
        lambda n, x, y, z: [n - 1, y, z, x],
        lambda n, x, y, z: [n - 1, y, x, z],
        lambda n, x, y, z: [n - 1, x + y, x, x],
        lambda n, x, y, z: [n - 1, flip(x), x * y, flip(y) + z],
        lambda n, x, y, z: [n - 1, b.broadcast(b.sum(x, axes=(0,)), shape=(5,)), z, y * 0.5],
    ):
        g = graph((n, x, y, z), list(b.while_loop(n, x, y, z, cond=going, body=held(types, build))))
        for count in (0, 1, 2, 5):
            agree(g, arrays=[np.array(count), *(np.arange(5, dtype=np.float32) + k for k in (1, 10, 20))])


def test_scan():
    for length in (0, 1, 2, 9):
        for reverse in (False, True):
            c, x, w, v = inputs((f32, (3,)), (f32, (length, 3)), (f32, (3, 3)), (int64, (length,)))
            number = TensorType(int64, ())
            types = [number, c.type, TensorType(f32, (3,)), number, w.type]

            def build(i, c, x, k, w):
                new = b.tanh(b.reshape(matmul(b.reshape(c, shape=(1, 3)), w), shape=(3,)) + x)
                return [i + k, new, new, c, i, b.sum(x, axes=(0,))]

            body = held(types, build)
            start = constant(np.array(2))
            results = b.scan(start, c, x, v, w, body=body, carries=2, stacked=2, length=length, reverse=reverse)
            agree(graph((c, x, w, v), [*results, results[1] * 2.0]))


def test_scan_updates_an_array_in_place():
    """The carry is written where it stands: no copy of it in the body."""
    x, v = inputs((f32, (1000,)), (int64, (50,)))
    number = TensorType(int64, ())

    def build(x, i, k):
        return [
            b.scatter_add(x, i, b.convert(k, dtype=f32), axis=0, mode="raise"),
            b.take(x, i, axis=0, mode="raise"),
        ]

    body = held([x.type, number, number], build)
    index = constant(np.arange(50) * 7 % 23)
    results = b.scan(x, index, v, body=body, carries=1, stacked=2, length=50, reverse=False)
    compiled = agree(graph((x, v), list(results)))
    assert max(row.bytes for row in compiled.memory) < 4000


def test_a_loop_in_a_loop_updates_an_array_in_place():
    """The inner loop's carry is the outer one's, and both are where the array is."""
    (x,) = inputs((f32, (1000,)))
    number = TensorType(int64, ())
    inner = held([x.type, number], lambda x, i: [b.scatter_add(x, i, full((), 1.0, f32), axis=0, mode="raise")])
    rows = TensorType(int64, (7,))

    def build(x, i):
        x = b.scan(x, i, body=inner, carries=1, stacked=1, length=7, reverse=False)
        return [x, b.sum(x, axes=(0,))]

    index = constant(np.arange(28).reshape(4, 7) * 5 % 31)
    results = b.scan(x, index, body=held([x.type, rows], build), carries=1, stacked=1, length=4, reverse=False)
    compiled = agree(graph((x,), list(results)))
    assert compiled.artifact.arena_bytes < 4000
    kept = b.scan(
        x,
        index,
        body=held([x.type, rows], lambda x, i: [build(x, i)[0], x]),
        carries=1,
        stacked=1,
        length=4,
        reverse=True,
    )
    agree(graph((x,), [*kept, b.sum(x, axes=(0,))]))


def test_failure_in_a_loop_says_where():
    x, i = inputs((f32, (5,)), (int64, (3,)))
    body = held([TensorType(int64, ()), x.type], lambda i, x: [b.take(x, i, axis=0, mode="raise")])
    results = b.scan(i, x, body=body, carries=0, stacked=1, length=3, reverse=False)
    e = Executable(compile_graph(fuse(graph((x, i), [results]))).artifact)
    e.run([np.zeros(5, np.float32), np.array([0, 4, 2])])
    with pytest.raises(BoundsError, match="index 7"):
        e.run([np.zeros(5, np.float32), np.array([0, 4, 7])])


def test_loops_inside_loops():
    x, m = inputs((f32, (4, 3)), (int64, ()))
    row = TensorType(f32, (3,))
    inner = held([m.type, row], lambda k, c: [k - 1, c * 1.5])
    going = held([m.type, row], lambda k, c: [b.greater(k, 0)])
    outer = held(
        [row, row, m.type],
        lambda c, x, m: [
            b.while_loop(m, c, cond=going, body=inner)[1] + x,
            b.while_loop(m, x, cond=going, body=inner)[1],
        ],
    )
    results = b.scan(b.sum(x, axes=(0,)), x, m, body=outer, carries=1, stacked=1, length=4, reverse=True)
    for count in (0, 1, 3):
        agree(graph((x, m), list(results)), arrays=[np.arange(12, dtype=np.float32).reshape(4, 3), np.array(count)])


def test_control_inside_control():
    n, x = inputs((int64, ()), (f32, (6,)))
    types = [n.type, x.type]
    double, half = held([x.type], lambda x: [x * 2.0]), held([x.type], lambda x: [x * 0.5])
    going = held(types, lambda n, x: [b.greater(n, 0)])
    body = held(
        types,
        lambda n, x: [
            n - 1,
            b.cond(b.equal(b.remainder(n, 2), 0), x, then=double, else_=half) + constant(np.ones(6, "f4")),
        ],
    )
    agree(graph((n, x), list(b.while_loop(n, x, cond=going, body=body))), arrays=[np.array(5), np.ones(6, np.float32)])


def test_failure_inside_a_branch_comes_before_writes_to_state():
    p, x, i, state = inputs((bool_, ()), (f32, (5,)), (int64, (3,)), (f32, (3,)))
    then = held([x.type, i.type], lambda x, i: [b.take(x, i, axis=0, mode="raise")])
    other = held([x.type, i.type], lambda x, i: [b.slice(x, start=(0,), size=(3,), step=(1,))])
    found = b.cond(p, x, i, then=then, else_=other)
    compiled = compile_graph(fuse(graph((p, x, i, state), [state + 1.0, found])), writes={0: 3})
    e = Executable(compiled.artifact)
    arrays = [np.array(True), np.zeros(5, np.float32), np.array([0, 7, 0]), np.zeros(3, np.float32)]
    with pytest.raises(BoundsError):
        e.run(arrays)
    np.testing.assert_array_equal(arrays[3], 0.0)


def test_result_of_control_written_into_state():
    p, x = inputs((bool_, ()), (f32, (5,)))
    then, other = held([x.type], lambda x: [x * 2.0]), held([x.type], lambda x: [x])
    agree(
        graph((p, x), [b.cond(p, x, then=then, else_=other)]), writes={0: 1}, arrays=[np.array(True), np.ones(5, "f4")]
    )


# -- options ------------------------------------------------------------------------------------------------------------


def test_without_contraction_results_are_bit_equal():
    values = inputs(*[(f32, (1000,))] * 3)
    x, y, z = values
    value = (x * y + z) * y - x * z / (y + 3.0)
    agree(graph(values, [value, b.sqrt(b.absolute(value))]), None, contract=False)


def test_every_emitter_is_used():
    """Here the first three; `cumulative` and `sort` by the registry's tests, which compile every op."""
    assert set(EMITTERS) == {"loop", "contraction", "scatter", "cumulative", "sort"}
