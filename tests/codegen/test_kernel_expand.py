"""Fused bodies against the reference evaluator: every op that has a place in a loop, and compositions of them."""

from __future__ import annotations

import numpy as np
import pytest
from kernellab import Compiled, sample
from oracle import same_bits
from samples import Sample, is_complex, samples

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import interp
from graphc.codegen.expand import expand, expand_scatter
from graphc.codegen.kernel import Load
from graphc.dtypes import DType, bool_, float32, float64, int32, int64, uint32
from graphc.errors import CompileError
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Value, input_value, make
from graphc.ir.op import Elementwise, GraphBuilder, Indexing, Movement, Op, Random, Reduction, lengthened
from graphc.ir.registry import all_ops, get
from graphc.ir.types import TensorType

B = GraphBuilder()


def tensor(shape, dtype: DType = float32) -> TensorType:
    return TensorType(dtype, tuple(shape))


def inputs(*types: TensorType) -> tuple[Value, ...]:
    return tuple(input_value(i, t) for i, t in enumerate(types))


def body(types, outputs) -> Graph:
    return Graph(tuple(types), tuple(outputs))


def check(graph: Graph, *arrays, rtol=0.0, atol=0.0, **options):
    """Compiled against evaluated; bit-equal unless a tolerance is given."""
    group = expand(graph)
    run = Compiled(group, contract=bool(rtol), **options)
    got = run(*arrays)
    want = interp.evaluate(graph, arrays)
    for y, ref in zip(got if len(want) > 1 else [got], want, strict=True):
        assert y.dtype == ref.dtype and y.shape == ref.shape
        if rtol or atol:
            np.testing.assert_allclose(y, ref, rtol=rtol, atol=atol)
        else:
            assert y.tobytes() == ref.tobytes()
    return run


# -- every op --------------------------------------------------------------------------------------------------------------
def has_a_place(op: Op) -> bool:
    if isinstance(op, (Movement, Reduction, Random)):
        return True
    return (isinstance(op, Indexing) and op.name == "take") or op.name in {"iota", "barrier"}


OPS = [op for op in all_ops() if has_a_place(op)]


def legal(s: Sample) -> bool:
    """Not an index that the range check before a kernel would refuse."""
    if s.attrs.get("mode") != "raise":
        return True
    x, indices = s.operands[:2]
    size = x.shape[s.attrs["axis"]]
    return bool(((indices >= -size) & (indices < size)).all())


def native(op):
    """Samples that kernels take: arithmetic of 16-bit floats is widened before, complex numbers are split."""
    return [s for s in samples(op) if lengthened(op, s.operands) is s.operands and not is_complex(op, s)]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op(op):
    """All samples of an op, as kernels of one module. General reshapes are views of an input here."""
    cases = [s for s in native(op) if not (isinstance(op, Indexing) and not legal(s))]
    graphs = [body(s.types, make(op, inputs(*s.types), **s.attrs).results) for s in cases]
    kernels = Compiled.many([expand(g) for g in graphs], contract=False)
    for s, graph, run in zip(cases, graphs, kernels, strict=True):
        want = interp.evaluate(graph, s.operands)[0]
        got = run(*(np.asarray(x, order="C") for x in s.operands))
        assert got.shape == want.shape and got.dtype == want.dtype
        with np.errstate(all="ignore"):
            if isinstance(op, Reduction) and not op.exact and got.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=str(s))
            else:
                np.testing.assert_array_equal(got, want, err_msg=str(s))


def test_elementwise_ops_in_kernels():
    """Exactly rounded ops give the evaluator's bits; the others are the math library's business."""
    checked = 0
    for op in all_ops():
        if not isinstance(op, Elementwise) or not op.exact:
            continue
        cases = native(op)[:12]
        graphs = [body(s.types, make(op, inputs(*s.types), **s.attrs).results) for s in cases]
        for s, graph, run in zip(cases, graphs, Compiled.many(map(expand, graphs), contract=False), strict=True):
            got, want = run(*(np.asarray(x, order="C") for x in s.operands)), interp.evaluate(graph, s.operands)[0]
            assert same_bits(got, want, zeros_equal=True), f"{op.name} {s}"
            checked += 1
    assert checked > 200


# -- compositions ------------------------------------------------------------------------------------------------------------
def rows(value: Value, shape) -> Value:
    """Repeat a reduction over the last axis along it."""
    return B.broadcast(B.reshape(value, shape=(*shape[:-1], 1)), shape=shape)


def softmax(shape, dtype=float32) -> Graph:
    t = tensor(shape, dtype)
    (x,) = inputs(t)
    last = len(shape) - 1
    e = B.exp(B.subtract(x, rows(B.max(x, axes=(last,)), shape)))
    return body([t], [B.divide(e, rows(B.sum(e, axes=(last,)), shape))])


@pytest.mark.parametrize("shape", [(3, 17), (2, 3, 64), (4, 1), (1, 1000), (5, 5)])
def test_softmax(shape):
    run = check(softmax(shape), sample(shape, float32), rtol=1e-5)
    if shape[-1] > 1:
        assert run.kernel.tree.count("exp(") == 1


def test_softmax_symbolic():
    run = Compiled(expand(softmax((symbol(0), symbol(1)))))
    for shape in [(3, 17), (1, 100), (4, 4), (2, 1)]:
        x = sample(shape, float32)
        want = Compiled(expand(softmax(shape)))(x)
        assert run(x, sizes=shape).tobytes() == want.tobytes(), shape


def test_softmax_of_columns_of_a_square():
    """The kept output of a square is told from the reduced axis by the reduction, not by its size."""
    t = tensor((40, 40))
    (x,) = inputs(t)
    top = B.max(x, axes=(0,))
    e = B.exp(B.subtract(x, B.broadcast(top, shape=(40, 40))))
    total = B.sum(e, axes=(0,))
    graph = body([t], [B.divide(e, B.broadcast(total, shape=(40, 40))), total, top])
    run = check(graph, sample((40, 40), float32), rtol=1e-5)
    assert run.kernel.tree.count("for a1") == 1, "all stages are in one loop over the columns"


def test_layer_norm_with_statistics():
    shape = (6, 50)
    types = [tensor(shape), tensor((50,)), tensor((50,))]
    x, w, b = inputs(*types)
    mean = B.divide(B.sum(x, axes=(1,)), 50.0)
    centred = B.subtract(x, rows(mean, shape))
    variance = B.divide(B.sum(B.square(centred), axes=(1,)), 50.0)
    scale = B.divide(1.0, B.sqrt(B.add(variance, 1e-5)))
    y = B.multiply(B.multiply(centred, rows(scale, shape)), B.broadcast(w, shape=shape))
    graph = body(types, [B.add(y, B.broadcast(b, shape=shape)), mean, scale])
    run = check(
        graph, sample(shape, float32), sample((50,), float32, 1), sample((50,), float32, 2), rtol=1e-4, atol=1e-5
    )
    assert run.kernel.tree.count("for a0") == 1


def test_padding_of_a_computed_value():
    """pad(tanh(x)): what is outside is the padding value, not tanh of it; the same for parts of a concatenation."""
    types = [tensor((3, 20)), tensor((2, 24)), tensor(())]
    x, y, fill = inputs(*types)
    padded = B.pad(B.square(B.add(x, 1.0)), fill, low=(1, 2), high=(0, 2))
    both = B.concatenate(padded, B.negative(y), axis=0)
    ends = B.concatenate(both, B.slice(both, start=(0, 23), size=(6, 7), step=(1, -3)), axis=1)
    check(body(types, [ends]), sample((3, 20), float32), sample((2, 24), float32, 1), sample((), float32, 2))


def test_movement_chains():
    types = [tensor((4, 6, 5), int32)]
    (x,) = inputs(*types)
    y = B.transpose(B.slice(x, start=(3, 0, 1), size=(2, 3, 4), step=(-2, 2, 1)), perm=(2, 0, 1))
    z = B.reshape(B.broadcast(B.reshape(y, shape=(4, 1, 2, 3)), shape=(4, 5, 2, 3)), shape=(4, 5, 2, 1, 3))
    check(body(types, [z]), sample((4, 6, 5), int32))


def test_reshape_of_an_input_is_a_view():
    types = [tensor((4, 6)), tensor((3, 8))]
    x, y = inputs(*types)
    total = B.add(B.reshape(B.reshape(x, shape=(24,)), shape=(8, 3)), B.transpose(y, perm=(1, 0)))
    check(body(types, [total]), sample((4, 6), float32), sample((3, 8), float32, 1))


def test_reshape_of_a_computed_value_is_refused():
    (x,) = inputs(tensor((4, 6)))
    with pytest.raises(CompileError, match="general reshape"):
        expand(body([tensor((4, 6))], [B.reshape(B.exp(x), shape=(24,))]))


def test_products_are_refused():
    x, y = inputs(tensor((4, 4)), tensor((4, 4)))
    product = B.dot(x, y, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))
    with pytest.raises(CompileError, match="dot has no place"):
        expand(body([tensor((4, 4))] * 2, [product]))


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_take_of_a_computed_value(mode):
    """The operand is computed at the dynamic index; padded, the index is checked against the unpadded size."""
    types = [tensor((9, 4)), tensor((7,), int64)]
    x, i = inputs(*types)
    padded = B.pad(B.multiply(x, x), B.full((), 5.0, float32), low=(2, 0), high=(1, 0))
    y = B.take(padded, i, axis=0, mode=mode)
    index = np.array([0, 11, 3, -1, -12, 2, 1])
    check(body(types, [B.add(y, 1.0)]), sample((9, 4), float32), index)


def test_cross_entropy_picks_by_label():
    shape = (33, 10)
    types = [tensor(shape), tensor((33,), int64)]
    x, label = inputs(*types)
    shifted = B.subtract(x, rows(B.max(x, axes=(1,)), shape))
    log_sum = B.log(B.sum(B.exp(shifted), axes=(1,)))
    hit = B.equal(B.iota(shape=shape, axis=1, dtype=int64), rows(label, shape))
    picked = B.sum(B.select(hit, shifted, B.like(shifted, 0.0)), axes=(1,))
    loss = B.subtract(log_sum, picked)
    gradient = B.subtract(B.divide(B.exp(shifted), rows(B.exp(log_sum), shape)), B.convert(hit, dtype=float32))
    graph = body(types, [gradient, loss])
    run = check(graph, sample(shape, float32), np.arange(33) % 10, rtol=1e-4, atol=1e-6)
    assert run.kernel.tree.count("for a0") == 1


def test_adam_update_of_several_arrays():
    t = tensor((3, 100), float64)
    p, g, m, v = inputs(t, t, t, t)
    m1 = B.add(B.multiply(m, 0.9), B.multiply(g, 0.1))
    v1 = B.add(B.multiply(v, 0.999), B.multiply(B.square(g), 0.001))
    p1 = B.subtract(p, B.divide(B.multiply(m1, 0.01), B.add(B.sqrt(v1), 1e-8)))
    graph = body([t] * 4, [p1, m1, v1])
    arrays = [np.abs(sample((3, 100), float64, i)) for i in range(4)]
    run = check(graph, *arrays)
    assert run.kernel.tree.count("for ") == 1
    aliases = {0: 0, 1: 2, 2: 3}
    old = {0: arrays[0], 2: arrays[2], 3: arrays[3]}
    updated = Compiled(expand(graph, aliases), contract=False)(arrays[1], inplace=old)
    for got, want in zip(updated, interp.evaluate(graph, arrays), strict=True):
        assert got.tobytes() == want.tobytes()


def test_in_place_softmax():
    graph = softmax((7, 33))
    x = sample((7, 33), float32)
    assert Compiled(expand(graph, {0: 0}))(inplace={0: x}).tobytes() == Compiled(expand(graph))(x).tobytes()


def test_symbolic_slices_and_pads():
    """What cannot be seen to be inside is masked; what can is not."""
    n = symbol(0)
    t = tensor((n, 4))
    (x,) = inputs(t)
    inner = B.slice(x, start=(1, 0), size=(n - 2, 4), step=(1, 1))
    assert not any(isinstance(m, Load) and m.mask for m in expand(body([t], [B.negative(inner)])).nodes())
    padded = B.pad(inner, B.full((), 3.0, float32), low=(2, 1), high=(0, 0))
    run = Compiled(expand(body([t], [padded])))
    for size in (2, 3, 9):
        x = sample((size, 4), float32)
        want = np.pad(x[1:-1], [(2, 0), (1, 0)], constant_values=3)
        assert (run(x, sizes=(size,)) == want).all()


def test_random_bits_under_movement():
    key = tensor((2,), uint32)
    (k,) = inputs(key)
    bits = B.random_bits(k, shape=(5, 30), dtype=uint32)
    graph = body([key], [B.transpose(bits, perm=(1, 0)), B.slice(bits, start=(1, 3), size=(2, 20), step=(3, 1))])
    check(graph, np.array([7, 9], np.uint32))


def test_iota_under_movement():
    numbers = B.iota(shape=(6, 40), axis=1, dtype=float32)
    pieces = B.slice(numbers, start=(0, 39), size=(6, 13), step=(1, -3))
    check(body([], [B.transpose(pieces, perm=(1, 0)), B.iota(shape=(13, 6), axis=0, dtype=int64)]))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
@pytest.mark.parametrize("dtype", [float32, int64], ids=str)
def test_scatter_add(dtype, mode, axis):
    types = [tensor((5, 18), dtype), tensor((4, 6), int32)]
    shape = (4, 6, 18) if axis == 0 else (5, 4, 6)
    types.append(tensor(shape, dtype))
    arrays = [sample(t.shape, t.dtype, i) for i, t in enumerate(types)]
    arrays[1] = (arrays[1] % 5).astype(np.int32) - (1 if mode == "raise" else 3)
    want = get("scatter_add").evaluate(arrays, {"axis": axis, "mode": mode})[0]
    got = Compiled(expand_scatter(types, axis, mode, get("scatter_add").combine))(*arrays)
    assert got.tobytes() == want.tobytes()
    updated = Compiled(expand_scatter(types, axis, mode, get("scatter_add").combine, aliased=True))(
        *arrays[1:], inplace={0: arrays[0]}
    )
    assert updated.tobytes() == want.tobytes()


def test_deep_bodies():
    """Walks are iterative: three thousand nodes one after the other."""
    t = tensor((3,), float64)
    (x,) = inputs(t)
    y = x
    for _ in range(3000):
        y = B.add(B.negative(y), x)
    check(body([t], [y]), sample((3,), float64))


def test_several_outputs_of_one_value_and_empty_results():
    t = tensor((0, 5))
    (x,) = inputs(t)
    total = B.sum(x, axes=(0,))
    run = Compiled(expand(body([t], [total, total, B.exp(x), B.any(B.equal(x, x), axes=(0, 1))])))
    first, second, empty, none = run(np.zeros((0, 5), np.float32))
    assert first.tobytes() == second.tobytes() == np.zeros(5, np.float32).tobytes()
    assert empty.shape == (0, 5) and none.dtype == bool_.numpy and not none


@pytest.mark.parametrize("dtype", [float32, float64, int32, bool_], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (131,), (5, 6), (3, 1, 33)], ids=str)
def test_two_columns_are_stored_together(shape, dtype):
    """As real and imaginary parts are: one store of both, without a loop over the last axis."""
    t = tensor(shape, dtype)
    x, y = inputs(t, t)
    columns = [B.reshape(v, shape=(*shape, 1)) for v in (B.select(B.equal(x, y), y, x), B.broadcast(y, shape=shape))]
    graph = body([t, t], [B.concatenate(*columns, axis=len(shape)), B.equal(x, y)])
    (pair, plain) = expand(graph).stores
    assert pair.other is not None and plain.other is None
    check(graph, sample(shape, dtype, 1), sample(shape, dtype, 2))


def test_columns_that_are_not_two_single_ones_are_stored_as_they_were():
    t = tensor((6, 1))
    x, y = inputs(t, t)
    three = B.concatenate(x, y, x, axis=1)
    rows = B.concatenate(B.broadcast(x, shape=(6, 2)), B.broadcast(y, shape=(6, 2)), axis=0)
    padded = B.pad(x, B.full((), 0.5, float32), low=(0, 1), high=(0, 0))
    graph = body([t, t], [three, rows, padded])
    assert all(store.other is None for store in expand(graph).stores[:2])
    check(graph, sample((6, 1), float32, 1), sample((6, 1), float32, 2))
