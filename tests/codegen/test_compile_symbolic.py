"""Compilations with symbolic sizes: one artifact, called with several sizes."""

from __future__ import annotations

import numpy as np
import pytest
from compilelab import b, flip, matmul, sample, spread

from graphc.codegen.compiler import compile_graph
from graphc.dtypes import float32, int64
from graphc.errors import BoundsError, CompileError
from graphc.interp import evaluate
from graphc.ir.dims import evaluate as size_of
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, full, input_value
from graphc.ir.types import TensorType
from graphc.passes.fusion import fuse
from graphc.runtime.executable import Executable

f32 = float32
n, m = symbol(0), symbol(1)
SIZES = (0, 1, 3, 8, 64, 100, 209)


def inputs(*types):
    return [input_value(i, TensorType(d, s)) for i, (d, s) in enumerate(types)]


def agree(values, outputs, writes=None, sizes=SIZES, tolerance=1e-4):
    """One compilation, called with each size, against the evaluator."""
    g = Graph(tuple(v.type for v in values), tuple(outputs), "symbolic")
    compiled = compile_graph(fuse(g), writes=writes, verify=True)
    call = Executable(compiled.artifact)
    rng = np.random.default_rng(1)
    for size in sizes:
        bound = {0: size, 1: size + 2}
        types = [TensorType(t.dtype, tuple(size_of(d, bound) for d in t.shape)) for t in g.inputs]
        arrays = [sample(t, rng) for t in types]
        expected = evaluate(g, [np.array(a) for a in arrays])
        for got, want in zip(call.run(arrays), expected, strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"size {size}")
    return compiled


def test_softmax_and_sums():
    x, y = inputs((f32, (n, 7)), (f32, (7,)))
    e = b.exp(x + spread(y, (n, 7)))
    total = b.reshape(b.sum(e, axes=(1,)), shape=(n, 1))
    agree([x, y], [e / spread(total, (n, 7)), b.sum(e, axes=(0,)), b.sum(e, axes=(0, 1))])


def test_arena_size_is_an_expression():
    (x,) = inputs((f32, (n, 7)))
    t = b.exp(b.reshape(b.sqrt(b.absolute(x)), shape=(7, n)))
    compiled = agree([x], [b.sum(t, axes=(0,)), flip(t) + 1.0])
    assert compiled.artifact.arena_bytes is None


def test_two_sizes():
    x, y = inputs((f32, (n, m)), (f32, (m,)))
    agree([x, y], [x * spread(y, (n, m)), b.sum(x, axes=(1,)), flip(x)])


def test_batch_of_a_linear_layer():
    x, w, bias = inputs((f32, (n, 7)), (f32, (7, 20)), (f32, (20,)))
    z = matmul(x, w) + spread(bias, (n, 20))
    compiled = agree([x, w, bias], [b.tanh(z), b.greater(z, 0.0)])
    assert [k.schedule for k in compiled.kernels] == ["contraction"]
    assert compiled.kernels[0].tree.startswith("blocks")


def test_weight_gradient_sums_over_the_batch():
    x, g = inputs((f32, (n, 7)), (f32, (n, 20)))
    compiled = agree([x, g], [matmul(flip(x), g)], tolerance=1e-3)
    assert compiled.kernels[0].tree.startswith("blocks")


def test_weight_gradient_with_an_update():
    x, g, w = inputs((f32, (n, 7)), (f32, (n, 20)), (f32, (7, 20)))
    agree([x, g, w], [w - matmul(flip(x), g) * 0.1], writes={0: 2}, tolerance=1e-3)


def test_blocks_sum_in_the_order_of_known_sizes():
    """A symbolic kernel and its specialised twin sum alike."""
    x, g = inputs((f32, (n, 7)), (f32, (n, 20)))
    symbolic = Executable(compile_graph(fuse(Graph((x.type, g.type), (matmul(flip(x), g),)))).artifact)
    for size in (1, 3, 64, 100):
        p, q = input_value(0, TensorType(f32, (size, 7))), input_value(1, TensorType(f32, (size, 20)))
        twin = Executable(compile_graph(fuse(Graph((p.type, q.type), (matmul(flip(p), q),)))).artifact)
        rng = np.random.default_rng(size)
        arrays = [sample(p.tensor, rng), sample(q.tensor, rng)]
        np.testing.assert_array_equal(symbolic.run(arrays)[0], twin.run(arrays)[0])


def test_products_with_several_unknown_sizes_run_as_loops():
    x, y = inputs((f32, (n, 5)), (f32, (5, m)))
    z = matmul(x, y)
    agree([x, y], [b.exp(z * 0.1), matmul(z, flip(y))], tolerance=1e-3, sizes=(0, 1, 8, 33))


def test_batched_products():
    x, w, bias = inputs((f32, (n, 5, 7)), (f32, (7, 20)), (f32, (5, 20)))
    z = b.dot(x, w, lhs_batch=(), rhs_batch=(), lhs_contract=(2,), rhs_contract=(0,))
    y, v = inputs((f32, (n, 5, 7)), (f32, (n, 7, 3)))
    batched = b.dot(y, v, lhs_batch=(0,), rhs_batch=(0,), lhs_contract=(2,), rhs_contract=(1,))
    agree([x, w, bias], [z + spread(bias, (n, 5, 20))])
    agree([y, v], [batched, batched * 2.0])


def test_take_checks_against_the_size_of_the_call():
    x, i = inputs((f32, (n, 2)), (int64, (3,)))
    g = Graph((x.type, i.type), (b.take(x, i, axis=0, mode="raise"),))
    call = Executable(compile_graph(fuse(g)).artifact)
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(call.run([table, np.array([4, 0, -5])])[0], table[[4, 0, -5]])
    for bad, rows in ((5, 5), (-6, 5), (2, 2), (0, 0)):
        with pytest.raises(BoundsError, match=f"index {bad} is out of bounds"):
            call.run([table[:rows], np.array([bad, bad, bad])])


@pytest.mark.parametrize("mode", ["wrap", "clip"])
def test_take_from_nothing_fails_in_every_mode(mode):
    x, i = inputs((f32, (n,)), (int64, (3,)))
    call = Executable(compile_graph(fuse(Graph((x.type, i.type), (b.take(x, i, axis=0, mode=mode),)))).artifact)
    np.testing.assert_array_equal(call.run([np.ones(2, np.float32), np.array([7, -9, 0])])[0], 1.0)
    with pytest.raises(BoundsError):
        call.run([np.ones(0, np.float32), np.array([0, 0, 0])])


def test_reversed_and_padded_by_unknown_sizes():
    x, w = inputs((f32, (n, 4)), (f32, (4, 3)))
    back = b.slice(x, start=(n - 1, 0), size=(n, 4), step=(-1, 1))
    both = b.slice(x, start=(n - 1, 3), size=(n, 4), step=(-1, -1))
    padded = b.pad(x, full((), 1.0, f32), low=(n, 0), high=(1, 0))
    agree([x, w], [back * 2.0, padded, b.concatenate(x, x, axis=0), matmul(both, w)], sizes=(1, 3, 8, 64))


def test_state_update_in_place():
    x, y = inputs((f32, (n, 4)), (f32, (n, 4)))
    agree([x, y], [y + 1.0, x * 2.0], writes={0: 0, 1: 1})


def test_a_size_that_no_input_has_is_refused():
    (x,) = inputs((f32, (2 * n, 4)))
    with pytest.raises(CompileError, match="s0"):
        compile_graph(Graph((x.type,), (x * 2.0,)))
