"""Reductions in fused kernels: every kind, dtype, axis and size against NumPy; the fixed order of summation."""

from __future__ import annotations

import numpy as np
import pytest
from kernellab import ALL, ANY, ARGMAX, ARGMIN, MAX, MIN, PROD, SUM, Compiled, Lab, sample

from graphc.dtypes import bool_, float32, float64, int32, int64
from graphc.ir.dims import symbol

SHAPES = [(1, 1), (3, 17), (17, 3), (64, 64), (5, 100), (100, 5), (2, 1000), (1000, 2), (300, 33)]
AXES = [(0,), (1,), (0, 1)]
NUMPY = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all}


def reduction(extents, dtype, combine, axes):
    lab = Lab(extents)
    x = lab.load(dtype, tuple(range(len(extents))))
    position = None
    if combine.arg:
        step, terms = 1, []
        for axis in reversed(axes):
            terms.append((axis, step))
            step = step * extents[axis]
        position = lab.dag.index(terms)
    lab.store(lab.dag.reduce(combine, x, axes, position), tuple(a for a in range(len(extents)) if a not in axes))
    return lab.group()


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("dtype", [float32, float64, int32, int64], ids=str)
@pytest.mark.parametrize("combine", [SUM, PROD, MAX, MIN], ids=lambda c: c.name)
def test_numbers(combine, dtype, axes):
    for shape in SHAPES:
        x = sample(shape, dtype, 4)
        if combine is PROD:
            x = (x / 50 + 1).astype(dtype.numpy) if dtype.is_float else x | 1
        got = Compiled(reduction(shape, dtype, combine, axes))(x)
        want = NUMPY[combine.name](x, axis=axes, **({"dtype": x.dtype} if combine in {SUM, PROD} else {}))
        if dtype.is_float and combine in {SUM, PROD}:
            scale = np.abs(x).sum(axes) if combine is SUM else np.abs(want) * np.sqrt(x.size)
            assert (np.abs(got - want) <= 4 * np.finfo(dtype.numpy).eps * scale + 1e-300).all(), shape
        else:
            assert np.asarray(got).tobytes() == np.asarray(want).tobytes(), shape


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("combine", [ANY, ALL], ids=lambda c: c.name)
def test_bools(combine, axes):
    for shape in [*SHAPES, (0, 5), (5, 0)]:
        for probability in (0.0, 0.02, 0.98, 1.0):
            x = np.random.default_rng(1).random(shape) < probability
            got = Compiled(reduction(shape, bool_, combine, axes))(x)
            assert (got == NUMPY[combine.name](x, axis=axes)).all(), (shape, probability)


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("dtype", [float32, float64, int32], ids=str)
@pytest.mark.parametrize("combine", [ARGMAX, ARGMIN], ids=lambda c: c.name)
def test_arg(combine, dtype, axes):
    """First occurrence, with many ties; NaN wins; infinities; all elements equal to the identity."""
    find = np.argmax if combine is ARGMAX else np.argmin
    for shape in SHAPES:
        run = Compiled(reduction(shape, dtype, combine, axes))
        samples = [np.round(sample(shape, dtype, seed)) for seed in range(3)]
        samples.append(np.full_like(samples[0], 5))
        if dtype.is_float:
            with_nan = samples[0].copy()
            with_nan.ravel()[:: max(with_nan.size // 3, 1)] = np.nan
            samples += [with_nan, np.full_like(samples[0], -np.inf), np.full_like(samples[0], np.inf)]
            samples.append(np.full_like(samples[0], np.nan))
        else:
            samples += [
                np.full_like(samples[0], np.iinfo(np.int32).min),
                np.full_like(samples[0], np.iinfo(np.int32).max),
            ]
        for x in samples:
            want = find(x, axis=None if axes == (0, 1) else axes[0])
            assert (run(x.astype(dtype.numpy)) == want).all(), shape


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("combine", [MAX, MIN], ids=lambda c: c.name)
def test_nan_propagates(combine, axes):
    for shape in [(3, 17), (64, 70), (5, 100)]:
        run = Compiled(reduction(shape, float32, combine, axes))
        for place in range(0, shape[0] * shape[1], 29):
            x = sample(shape, float32)
            x.ravel()[place] = np.nan
            np.testing.assert_array_equal(run(x), NUMPY[combine.name](x, axis=axes))


@pytest.mark.parametrize("dtype", [float32, float64, int64], ids=str)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_axes_give_the_identity(shape, dtype):
    for axes in AXES:
        for combine in (SUM, PROD):
            want = NUMPY[combine.name](np.zeros(shape, dtype.numpy), axis=axes)
            for extents, sizes in [(shape, ()), ((symbol(0), symbol(1)), shape)]:
                got = Compiled(reduction(extents, dtype, combine, axes))(np.zeros(shape, dtype.numpy), sizes=sizes)
                assert np.asarray(got).tobytes() == want.astype(dtype.numpy).tobytes(), (axes, combine.name)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (3, 100)])
def test_sum_of_negative_zeros_is_numpys(shape):
    for axes in AXES:
        x = np.full(shape, -0.0, np.float32)
        got = Compiled(reduction(shape, float32, SUM, axes))(x)
        assert np.asarray(got).tobytes() == np.asarray(x.sum(axis=axes)).tobytes()


# -- order of summation -------------------------------------------------------------------------------------------------------
def in_chunks(x, chunk, add_up, levels=2):
    """Sums of chunks, and of groups of 64 chunks, each added to what was before."""
    if levels == 0:
        return add_up(x)
    size = chunk * 64 ** (levels - 1)
    parts = [in_chunks(x[i : i + size], chunk, add_up, levels - 1) for i in range(0, len(x), size)]
    total = np.zeros_like(parts[0])
    for part in parts:
        total = part + total
    return total


def documented_row_sum(x):
    """The tree of graphc.codegen.schedule, in NumPy."""
    main, tail = (64, 16) if x.dtype == np.float32 else (32, 8)

    def chunk(part):
        whole = part.size - part.size % main
        lanes = np.zeros(main, x.dtype)
        for row in part[:whole].reshape(-1, main):
            lanes = row + lanes
        rest = np.zeros(tail, x.dtype)
        for i in range(whole, part.size, tail):
            row = part[i : i + tail]
            rest[: row.size] += row
        lanes[:tail] += rest
        return lanes

    total = in_chunks(x, 64 * main, chunk)
    while total.size > 1:
        total = total[: total.size // 2] + total[total.size // 2 :]
    return total[0]


def documented_column_sum(x):
    def chunk(rows):
        total = np.zeros(x.shape[1], x.dtype)
        for row in rows:
            total = row + total
        return total

    return in_chunks(x, 64, chunk)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
@pytest.mark.parametrize("size", [1, 5, 16, 17, 31, 63, 64, 65, 79, 80, 100, 1000, 2048, 2049, 4095, 4096, 4097, 9000])
def test_rows_are_summed_as_documented(size, dtype):
    x = sample((size,), dtype, 7)
    want = documented_row_sum(x)
    for lanes in (1, 2, 4, 8, 16):
        assert Compiled(reduction((size,), dtype, SUM, (0,)), lanes=lanes)(x) == want, lanes
    assert Compiled(reduction((symbol(0),), dtype, SUM, (0,)))(x, sizes=(size,)) == want


def test_very_long_rows_are_summed_as_documented():
    x = sample((300_000,), float32, 7)
    for lanes in (8, 16):
        assert Compiled(reduction((x.size,), float32, SUM, (0,)), lanes=lanes)(x) == documented_row_sum(x)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 600, 4200])
def test_columns_are_summed_as_documented(rows):
    x = sample((rows, 21), float32, 7)
    want = documented_column_sum(x)
    for lanes in (4, 8, 16):
        got = Compiled(reduction((rows, 21), float32, SUM, (0,)), lanes=lanes)(x)
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize("size", [3, 17, 100, 1000, 5000])
def test_sum_of_products_does_not_depend_on_the_vector_length(size, contract):
    """Products are fused into the sum in main loop and tail alike."""

    def build():
        lab = Lab((3, size))
        x, y = lab.load(float32, (0, 1)), lab.load(float32, (0, 1))
        lab.store(lab.dag.reduce(SUM, lab.op("mul", x, y), (1,)), (0,))
        return lab.group()

    x, y = sample((3, size), float32, 1), sample((3, size), float32, 2)
    bits = {lanes: Compiled(build(), lanes=lanes, contract=contract)(x, y).tobytes() for lanes in (4, 8, 16)}
    assert len(set(bits.values())) == 1


def test_long_sums_are_accurate():
    """About pairwise quality: a plain loop over 4 million tenths would be off by some 5 percent in float32."""
    x = np.full(4_000_000, 0.1, np.float32)
    want = float(np.float32(0.1)) * x.size
    got = Compiled(reduction((x.size,), float32, SUM, (0,)))(x)
    assert abs(got - want) / want < 1e-6
    columns = Compiled(reduction((x.size // 4, 4), float32, SUM, (0,)))(x.reshape(-1, 4))
    assert (np.abs(columns - want / 4) / (want / 4) < 5e-6).all()


def test_mixed_widths_keep_their_own_trees():
    """An f32 and an f64 sum over one axis: each as if it were alone."""
    size = 1000
    lab = Lab((size,))
    x, y = lab.load(float32, (0,)), lab.load(float64, (0,))
    lab.store(lab.dag.reduce(SUM, x, (0,)), ())
    lab.store(lab.dag.reduce(SUM, y, (0,)), ())
    lab.store(lab.dag.reduce(MAX, x, (0,)), ())
    x, y = sample((size,), float32, 1), sample((size,), float64, 2)
    first, second, top = Compiled(lab.group())(x, y)
    assert first == documented_row_sum(x) and second == documented_row_sum(y) and top == x.max()


def test_nested_reductions():
    """The sum of row maxima over three axes, of which the outer two cannot be collapsed with the inner one."""
    shape = (7, 5, 40)
    lab = Lab(shape)
    x, w = lab.load(float32, (0, 1, 2)), lab.load(float32, (1,))
    top = lab.dag.reduce(MAX, x, (2,))
    lab.store(lab.dag.reduce(SUM, lab.op("mul", top, w), (0, 1)), ())
    lab.store(lab.dag.reduce(SUM, x, (0, 2)), (1,))
    x, w = sample(shape, float32, 1), sample((5,), float32, 2)
    total, columns = Compiled(lab.group())(x, w)
    np.testing.assert_allclose(total, (x.max(2) * w).sum(), rtol=1e-5)
    np.testing.assert_allclose(columns, x.sum((0, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_three_axes(axes):
    for shape in [(4, 5, 6), (2, 33, 70), (20, 3, 17)]:
        x = sample(shape, float64, 3)
        got = Compiled(reduction(shape, float64, SUM, axes))(x)
        np.testing.assert_allclose(got, x.sum(axes), rtol=1e-12, atol=1e-12)


def test_reduction_of_a_value_that_does_not_vary():
    """The sum of a broadcast scalar along an axis of 37, of which a store needs the axis too."""
    lab = Lab((3, 37))
    x = lab.load(float32, (0,))
    total = lab.dag.reduce(SUM, x, (1,))
    lab.store(total, (0,))
    lab.store(lab.op("add", total, lab.load(float32, (1,))), (0, 1))
    x, y = np.array([1, 2, 3], np.float32), sample((37,), float32)
    totals, sums = Compiled(lab.group())(x, y)
    assert (totals == 37 * x).all()
    assert (sums == (37 * x)[:, None] + y).all()
