"""Fused kernels from hand-built groups against NumPy: pointwise, movement, stages, symbolic sizes."""

from __future__ import annotations

import numpy as np
import pytest
from kernellab import ANY, MAX, SUM, Compiled, Lab, sample, strides

from graphc.codegen.kernel import Access, Add, Buffer, Group, Store
from graphc.dtypes import bool_, float32, float64, int32, int64
from graphc.errors import CompileError
from graphc.ir.dims import symbol
from graphc.target import named

SIZES = [0, 1, 3, 17, 64, 100, 1000]
NUMBERS = [float32, float64, int32, int64]


def pointwise(extents, dtype):
    """y = x * x + w, z = x < w."""
    lab = Lab(extents)
    axes = tuple(range(len(extents)))
    x, w = lab.load(dtype, axes), lab.load(dtype, axes)
    lab.store(lab.op("add", lab.op("mul", x, x), w), axes)
    lab.store(lab.op("lt", x, w), axes)
    return lab.group()


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_pointwise(size, dtype):
    run = Compiled(pointwise((size,), dtype), contract=False)
    x, w = sample((size,), dtype, 1), sample((size,), dtype, 2)
    y, z = run(x, w)
    assert y.tobytes() == (x * x + w).tobytes()
    assert (z == (x < w)).all()


def test_contiguous_axes_become_one_loop():
    run = Compiled(pointwise((3, 5, 7), float32))
    assert run.kernel.tree.count("for ") == 1
    assert "for a2 in 0:105" in run.kernel.tree
    symbolic = Compiled(pointwise((symbol(0), symbol(1), 7), float32))
    assert symbolic.kernel.tree.count("for ") == 1
    x, w = sample((3, 5, 7), float32, 1), sample((3, 5, 7), float32, 2)
    for got, want in zip(symbolic(x, w, sizes=(3, 5)), run(x, w), strict=True):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("shape", [(3, 17), (64, 1), (1, 100), (5, 64), (0, 4), (4, 0)])
@pytest.mark.parametrize("dtype", [float32, int64, bool_], ids=str)
def test_broadcast_operands(shape, dtype):
    lab = Lab(shape)
    x, row, column, one = lab.load(dtype, (0, 1)), lab.load(dtype, (1,)), lab.load(dtype, (0,)), lab.load(dtype, ())
    name = "xor" if dtype is bool_ else "sub"
    lab.store(lab.op(name, lab.op(name, lab.op(name, x, row), column), one), (0, 1))
    values = [sample(s, dtype, i) for i, s in enumerate([shape, shape[1:], shape[:1], ()])]
    x, row, column, one = values
    ufunc = np.logical_xor if dtype is bool_ else np.subtract
    want = ufunc(ufunc(ufunc(x, row), column[:, None]), one)
    assert Compiled(lab.group())(*values).tobytes() == want.tobytes()


@pytest.mark.parametrize("shape", [(3, 17), (100, 64), (1, 5), (33, 40), (0, 3)])
def test_transpose_on_either_side(shape):
    lab = Lab(shape)
    x, y = lab.load(float32, (1, 0)), lab.load(float32, (0, 1))
    total = lab.op("add", x, y)
    lab.store(total, (0, 1))
    lab.store(total, (1, 0))
    x, y = sample(shape[::-1], float32, 1), sample(shape, float32, 2)
    first, second = Compiled(lab.group())(x, y)
    assert (first == x.T + y).all() and (second == (x.T + y).T).all()


@pytest.mark.parametrize("dtype", [float32, float64, int64, bool_], ids=str)
@pytest.mark.parametrize("shape", [(16, 16), (33, 40), (8, 100), (64, 7), (3, 50), (2, 20)])
def test_squares_are_transposed_in_registers(shape, dtype):
    """Jammed rows: with values that vary along either axis, with a masked load and a tail on both axes."""

    def build(extents):
        lab = Lab(extents)
        x, y = lab.load(dtype, (1, 0)), lab.load(dtype, (0, 1))
        row, column = lab.load(dtype, (1,)), lab.load(dtype, (0,))
        name = "xor" if dtype is bool_ else "sub"
        value = lab.op(name, lab.op(name, lab.op(name, x, y), row), column)
        inside = lab.dag.within(lab.dag.index([(0, 1)], -2), extents[0] - 2)
        masked = lab.dag.load(dtype, lab.dag.access(0, [(0, 1), (1, extents[0])], -2), inside)
        lab.store(lab.op(name, value, masked), (0, 1))
        lab.store(value, (1, 0))
        return lab.group()

    minus = np.logical_xor if dtype is bool_ else np.subtract
    inputs = [sample(s, dtype, i) for i, s in enumerate([shape[::-1], shape, shape[1:], shape[:1]])]
    x, y, row, column = inputs
    value = minus(minus(minus(x.T, y), row), column[:, None])
    shifted = np.zeros_like(y)
    shifted[2:] = x.T[:-2]
    for run, sizes in [(Compiled(build(shape)), ()), (Compiled(build((symbol(0), symbol(1)))), shape)]:
        if sizes and dtype is not bool_:
            assert "jam" in run.kernel.tree
        first, second = run(*inputs, sizes=sizes)
        assert first.tobytes() == minus(value, shifted).tobytes()
        assert second.tobytes() == np.ascontiguousarray(value.T).tobytes()


def test_transpose_of_three_axes():
    shape = (5, 20, 33)
    lab = Lab(shape)
    x = lab.load(float32, (2, 1, 0))
    lab.store(lab.op("add", x, lab.load(float32, (0, 2))), (0, 1, 2))
    x, y = sample(shape[::-1], float32), sample((5, 33), float32, 1)
    run = Compiled(lab.group())
    assert "for a0 in 0:5, jam" in run.kernel.tree
    assert (run(x, y) == x.T + y[:, None]).all()


@pytest.mark.parametrize("dtype", [float32, float64, int32, bool_], ids=str)
@pytest.mark.parametrize("size", [1, 3, 16, 17, 64, 100, 257])
@pytest.mark.parametrize("step", [1, 2, 3, -1, -2])
def test_slices(size, step, dtype):
    lab = Lab((size,))
    length = (size - 1) * abs(step) + 3
    lab.buffers.append(Buffer(dtype, (length,)))
    first = 1 if step > 0 else length - 2
    x = lab.dag.load(dtype, lab.dag.access(0, [(0, step)], first))
    lab.store(x, (0,))
    x = sample((length,), dtype)
    want = x[first::step][:size]
    assert Compiled(lab.group())(x).tobytes() == want.tobytes()


@pytest.mark.parametrize("size", [1, 16, 40, 100])
def test_reversed_store(size):
    lab = Lab((size,))
    x = lab.load(float32, (0,))
    lab.buffers.append(Buffer(float32, (size,)))
    lab.stores.append(Store(lab.dag.access(1, [(0, -1)], size - 1), x, frozenset({0})))
    x = sample((size,), float32)
    assert (Compiled(lab.group())(x) == x[::-1]).all()


@pytest.mark.parametrize("step", [1, -1, 2, 3])
@pytest.mark.parametrize("dtype", [float32, float64, bool_], ids=str)
@pytest.mark.parametrize(("before", "size", "after"), [(0, 5, 3), (2, 40, 0), (20, 33, 40), (3, 0, 4), (0, 7, 0)])
def test_pad(before, size, after, dtype, step):
    """Pad of a strided slice: lanes outside read no memory (the buffer ends at its guard)."""
    total = before + size + after
    lab = Lab((total,))
    length = max((size - 1) * abs(step) + 1, 0)
    lab.buffers.append(Buffer(dtype, (length,)))
    inside = lab.dag.within(lab.dag.index([(0, 1)], -before), size)
    first = 0 if step > 0 else length - 1
    access = lab.dag.access(0, [(0, step)], first - before * step)
    lab.store(lab.dag.load(dtype, access, inside, lab.dag.const(dtype, 1)), (0,))
    x = sample((length,), dtype)
    want = np.pad(x[::step][:size], (before, after), constant_values=1)
    assert Compiled(lab.group())(x).tobytes() == want.tobytes()


def test_pad_of_the_outer_axis_is_a_scalar_condition():
    lab = Lab((5, 20))
    lab.buffers.append(Buffer(float32, (3, 20)))
    inside = lab.dag.within(lab.dag.index([(0, 1)], -1), 3)
    lab.store(lab.dag.load(float32, lab.dag.access(0, [(0, 20), (1, 1)], -20), inside), (0, 1))
    lab.buffers.append(Buffer(float32, (3,)))
    column = lab.dag.load(float32, lab.dag.access(2, [(0, 1)], -1), inside, lab.dag.const(float32, 2))
    lab.store(column, (0,))
    x, w = sample((3, 20), float32), sample((3,), float32)
    y, z = Compiled(lab.group())(x, w)
    assert (y == np.pad(x, [(1, 1), (0, 0)])).all()
    assert (z == np.pad(w, (1, 1), constant_values=2)).all()


def test_condition_alone_varies_along_the_vector_axis():
    """A padded broadcast: the address is the same for all lanes, the mask is not."""
    lab = Lab((50,))
    lab.buffers.append(Buffer(float32, ()))
    inside = lab.dag.within(lab.dag.index([(0, 1)], -3), 30)
    lab.store(lab.dag.load(float32, lab.dag.access(0, ()), inside, lab.dag.const(float32, 7)), (0,))
    got = Compiled(lab.group())(np.float32(2.5))
    assert (got == np.pad(np.full(30, 2.5), (3, 17), constant_values=7)).all()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_rank_zero(shape):
    lab = Lab(shape)
    axes = tuple(range(len(shape)))
    lab.store(lab.op("add", lab.load(float64, axes), lab.const(float64, 1.5)), axes)
    x = sample(shape, float64)
    assert Compiled(lab.group())(x) == x + 1.5


def test_iota_and_constants():
    lab = Lab((5, 21))
    lab.store(lab.dag.index([(0, 21), (1, 1)], 4), (0, 1))
    lab.store(lab.const(float32, -0.0), (0, 1))
    lab.store(lab.const(bool_, True), (1,))
    numbers, zeros, ones = Compiled(lab.group())()
    assert (numbers == np.arange(105).reshape(5, 21) + 4).all()
    assert (np.signbit(zeros)).all() and ones.all() and ones.shape == (21,)


# -- stages ---------------------------------------------------------------------------------------------------------------
def softmax(extents, dtype, axis=1):
    lab = Lab(extents)
    x = lab.load(dtype, (0, 1))
    shifted = lab.op("sub", x, lab.dag.reduce(MAX, x, (axis,)))
    e = lab.rule("gauss", lambda s, v: s.mul(v, v), shifted, heavy=True)
    lab.store(lab.op("div", e, lab.dag.reduce(SUM, e, (axis,))), (0, 1))
    return lab.group()


def softmax_reference(x, axis):
    x = x.astype(np.float64)
    e = (x - x.max(axis, keepdims=True)) ** 2
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 17), (17, 3), (2, 64), (5, 100), (300, 2), (2, 1000), (130, 130)])
def test_softmax(shape, axis, dtype):
    run = Compiled(softmax(shape, dtype, axis))
    x = sample(shape, dtype)
    np.testing.assert_allclose(run(x), softmax_reference(x, axis), rtol=20 * np.finfo(dtype.numpy).eps)
    assert run.kernel.scratch_bytes != 0
    assert run.kernel.tree.count("gauss(") == 1, "the heavy value is computed once and kept"


def test_three_stages_in_one_row_loop():
    tree = Compiled(softmax((4, 100), float32)).kernel.tree
    assert tree.count("for a0") == 1 and tree.count("  for a1") == 3


def test_long_rows_are_recomputed_not_kept():
    run = Compiled(softmax((2, 70_000), float32))
    assert run.kernel.scratch_bytes == 0 and run.kernel.tree.count("gauss(") == 2
    x = sample((2, 70_000), float32)
    np.testing.assert_allclose(run(x), softmax_reference(x, 1), rtol=1e-5)


def layer_norm(extents, dtype):
    """y, mean and 1/deviation of rows."""
    lab = Lab(extents)
    x, w, b = lab.load(dtype, (0, 1)), lab.load(dtype, (1,)), lab.load(dtype, (1,))
    scale = lab.const(dtype, 1 / extents[1])
    mean = lab.op("mul", lab.dag.reduce(SUM, x, (1,)), scale)
    centred = lab.op("sub", x, mean)
    variance = lab.op("mul", lab.dag.reduce(SUM, lab.op("mul", centred, centred), (1,)), scale)
    root = lab.op("sqrt", lab.op("add", variance, lab.const(dtype, 1e-5)))
    inverse = lab.op("div", lab.const(dtype, 1), root)
    y = lab.op("add", lab.op("mul", lab.op("mul", centred, inverse), w), b)
    lab.store(y, (0, 1))
    lab.store(mean, (0,))
    lab.store(inverse, (0,))
    return lab.group()


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("shape", [(3, 17), (5, 64), (2, 100), (2, 1000), (1, 5000), (4, 1)])
def test_layer_norm(shape, dtype):
    run = Compiled(layer_norm(shape, dtype))
    x, w, b = sample(shape, dtype), sample(shape[1:], dtype, 1), sample(shape[1:], dtype, 2)
    y, mean, inverse = run(x, w, b)
    x64 = x.astype(np.float64)
    deviation = np.sqrt(x64.var(1, keepdims=True) + 1e-5)
    tolerance = 50 * np.finfo(dtype.numpy).eps
    np.testing.assert_allclose(mean, x64.mean(1), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(inverse, 1 / deviation[:, 0], rtol=tolerance)
    want = (x64 - x64.mean(1, keepdims=True)) / deviation * w + b
    np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance * 4)


def test_cross_entropy_with_gradient():
    """A reduction of row values, a gather by label and a store of the full domain in one kernel."""
    rows, classes = 37, 10
    lab = Lab((rows, classes))
    x = lab.load(float32, (0, 1))
    label = lab.load(int64, (0,))
    e = lab.rule("square", lambda s, v: s.mul(v, v), lab.op("sub", x, lab.dag.reduce(MAX, x, (1,))), heavy=True)
    total = lab.dag.reduce(SUM, e, (1,))
    picked = lab.dag.load(float32, lab.dag.access(0, [(0, classes)], 0, [(label, 1)]))
    loss = lab.op("sub", total, picked)
    hit = lab.op("eq", lab.dag.index([(1, 1)]), label)
    gradient = lab.dag.select(hit, lab.op("sub", e, total), e)
    lab.store(lab.dag.reduce(SUM, loss, (0,)), ())
    lab.store(gradient, (0, 1))
    lab.store(loss, (0,))
    run = Compiled(lab.group())
    x, label = sample((rows, classes), float32), np.arange(rows) * 7 % classes
    total_loss, gradient, loss = run(x, label)
    e = (x - x.max(1, keepdims=True)) ** 2
    want = e.sum(1) - x[np.arange(rows), label]
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    np.testing.assert_allclose(total_loss, want.sum(), rtol=1e-5)
    e[np.arange(rows), label] -= e.sum(1)
    np.testing.assert_allclose(gradient, e, rtol=1e-5, atol=1e-5)


def test_reductions_along_different_axes_get_their_own_loops():
    lab = Lab((30, 40))
    x = lab.load(float32, (0, 1))
    lab.store(lab.dag.reduce(SUM, x, (0,)), (1,))
    lab.store(lab.dag.reduce(SUM, x, (1,)), (0,))
    lab.store(lab.dag.reduce(ANY, lab.op("lt", x, lab.const(float32, -2)), (0, 1)), ())
    x = sample((30, 40), float32)
    columns, rows, low = Compiled(lab.group())(x)
    np.testing.assert_allclose(columns, x.sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows, x.sum(1), rtol=1e-4, atol=1e-5)
    assert low == (x < -2).any()


def test_reductions_without_common_loops_are_refused():
    lab = Lab((3, 4))
    x = lab.load(float32, (0, 1))
    both = lab.op("add", lab.dag.reduce(SUM, x, (0,)), lab.dag.reduce(SUM, x, (1,)))
    lab.store(both, (0, 1))
    with pytest.raises(CompileError, match="no common loop order"):
        Compiled(lab.group())


# -- effects --------------------------------------------------------------------------------------------------------------
def test_in_place_update():
    """Two buffers read and written: all reads of an element come before its writes."""
    size = 1000
    lab = Lab((size,))
    p, g = lab.load(float32, (0,)), lab.load(float32, (0,))
    m = lab.load(float32, (0,))
    new = lab.op("add", m, g)
    for buffer, value in [(0, lab.op("sub", p, new)), (2, new)]:
        lab.stores.append(Store(Access(buffer, ((0, 1),)), value, frozenset({0}), late=True))
    p, g, m = (sample((size,), float32, i) for i in range(3))
    p1, m1 = Compiled(lab.group())(g, inplace={0: p, 2: m})
    assert (m1 == m + g).all() and (p1 == p - (m + g)).all()


def test_in_place_update_comes_after_the_stages_that_read():
    lab = Lab((4, 50))
    x = lab.load(float32, (0, 1))
    total = lab.dag.reduce(SUM, lab.op("sub", x, lab.dag.reduce(MAX, x, (1,))), (1,))
    lab.stores.append(Store(Access(0, ((0, 50), (1, 1))), lab.op("mul", x, x), frozenset({0, 1}), late=True))
    lab.store(total, (0,))
    x = sample((4, 50), float32)
    squares, total = Compiled(lab.group())(inplace={0: x})
    assert (squares == x * x).all()
    np.testing.assert_allclose(total, (x - x.max(1, keepdims=True)).sum(1), rtol=1e-5)


@pytest.mark.parametrize("width", [1, 20])
def test_scatter_add(width):
    """Equal targets add up, in order of the source."""
    rows, classes = 100, 7
    lab = Lab((rows, width))
    x, index = lab.load(float32, (0, 1)), lab.load(int32, (0,))
    lab.buffers.append(Buffer(float32, (classes, width)))
    access = lab.dag.access(2, [(1, 1)], 0, [(index, width)])
    lab.stores.append(Add(access, x, frozenset({0, 1}), lambda s, a, b: s.add(a, b)))
    x, index = sample((rows, width), float32), (np.arange(rows) * 5 % classes).astype(np.int32)
    start = sample((classes, width), float32, 3)
    want = start.copy()
    np.add.at(want, index, x)
    assert (Compiled(lab.group())(x, index, inplace={2: start}) == want).all()


@pytest.mark.parametrize("dtype", [float32, float64, bool_], ids=str)
@pytest.mark.parametrize("count", [1, 16, 45])
def test_take(count, dtype):
    """By rows (scalar address), by elements (gather), and masked in the tail."""
    lab = Lab((count, 20))
    lab.buffers.append(Buffer(dtype, (9, 20)))
    index, position = lab.load(int64, (0,)), lab.load(int32, (1,))
    lab.store(lab.dag.load(dtype, lab.dag.access(0, [(1, 1)], 0, [(index, 20)])), (0, 1))
    lab.store(lab.dag.load(dtype, lab.dag.access(0, [(0, 0)], 0, [(index, 20), (position, 1)])), (0, 1))
    lab.store(lab.dag.load(dtype, lab.dag.access(0, (), 0, [(index, 20)])), (0,))
    x, index = sample((9, 20), dtype), np.arange(count) * 4 % 9
    position = (np.arange(20) * 3 % 20).astype(np.int32)
    rows, elements, first = Compiled(lab.group())(x, index, position)
    assert (rows == x[index]).all()
    assert (elements == x[index][:, position]).all()
    assert (first == x[index, 0]).all()


# -- symbolic sizes, targets ------------------------------------------------------------------------------------------------
def test_symbolic_softmax_has_the_bits_of_its_specialised_twin():
    symbolic = Compiled(softmax((symbol(0), symbol(1)), float32))
    for shape in [(3, 17), (1, 64), (5, 100), (2, 1000), (3, 10), (0, 4), (4, 1), (2, 5000)]:
        x = sample(shape, float32)
        with np.errstate(all="ignore"):
            want = Compiled(softmax(shape, float32))(x)
        assert symbolic(x, sizes=shape).tobytes() == want.tobytes(), shape


def test_symbolic_columns_and_strips():
    symbolic = Compiled(softmax((symbol(0), symbol(1)), float64, axis=0))
    for shape in [(3, 17), (100, 5), (40, 64), (600, 3), (2, 100)]:
        x = sample(shape, float64)
        want = Compiled(softmax(shape, float64, axis=0))(x)
        assert symbolic(x, sizes=shape).tobytes() == want.tobytes(), shape


def test_size_expressions():
    """Extents and strides that are sums of products and quotients."""
    n, m = symbol(1), symbol(0)
    extents = (n + 2, 3 * m * n - 1, (m + 5) // 2)
    lab = Lab(extents)
    x = lab.load(float32, (2, 0, 1))
    lab.store(lab.op("neg", x), (0, 1, 2))
    sizes = (4, 3)
    shape = (5, 35, 4)
    x = sample((4, 5, 35), float32)
    got = Compiled(lab.group())(x, sizes=sizes)
    assert got.shape == shape and (got == -x.transpose(1, 2, 0)).all()


@pytest.mark.parametrize("isa", ["x86-64-v2", "x86-64-v3"])
def test_narrower_targets_give_the_same_bits(isa):
    target = named(isa)
    groups = [softmax((5, 100), float32), softmax((40, 33), float64, axis=0), layer_norm((3, 1000), float32)]
    for group in groups:
        inputs = [
            sample(b.shape, b.dtype, i)
            for i, b in enumerate(group.buffers)
            if i not in {s.access.buffer for s in group.stores}
        ]
        got, want = (Compiled(group, target=t, contract=False)(*inputs) for t in (target, None))
        for a, b in zip(got, want, strict=True) if isinstance(got, list) else [(got, want)]:
            assert a.tobytes() == b.tobytes()


def test_group_and_tree_are_printed():
    group = softmax((4, symbol(0)), float32)
    assert "%1 = max(%0; a1)" in str(group)
    tree = Compiled(group, lanes=16).kernel.tree.splitlines()
    assert tree[:5] == [
        "16 lanes along a1",
        "b0: f32[4, s0]",
        "b1: f32[4, s0]",
        "for a0 in 0:4",
        "  for a1 in 0:s0, vector x4, tail x1, acc %1",
    ]
    assert "  %1 = fold acc%1" in tree


def test_summary_counts():
    kernel = Compiled(layer_norm((8, 32), float32)).kernel
    assert kernel.bytes == (8 * 32 * 2 + 2 * 32 + 2 * 8) * 4
    assert kernel.flops == 8 * 32 * (1 + 1 + 2 + 3) + 8 * 5
    symbolic = Compiled(pointwise((symbol(0),), float64)).kernel
    assert str(symbolic.flops) == "3*s0" and str(symbolic.bytes) == "25*s0"


def test_strides_of_empty_shapes_do_not_vanish():
    assert strides((3, 0, 4)) == [4, 4, 1]
    assert Group((3,), (), ()).nodes() == []
