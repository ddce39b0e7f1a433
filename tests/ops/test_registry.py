"""Every op of the registry: documented, sampled, typed as NumPy types, lowered as NumPy computes, differentiated rightly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from oracle import fault, same_bits
from samples import Sample, is_complex, samples, smooth_samples

import graphc.ops
from graphc import dtypes
from graphc.dtypes import float32, float64, int64
from graphc.errors import GraphcError
from graphc.forward import jvp_graph
from graphc.interp import NumpyBuilder, evaluate, jvp, vjp
from graphc.ir import registry
from graphc.ir.graph import Graph, input_value, make
from graphc.ir.op import Elementwise, GraphBuilder, Movement, Op, Random, Reduction, Special, lengthened, materialize
from graphc.ir.types import TOKEN, TensorType
from graphc.ir.verify import verify
from graphc.ops.numpy_scalar import NumpyScalar

Array = np.ndarray[Any, Any]
OPS = list(registry.all_ops())
BY_NAME = {op.name: op for op in OPS}
S = NumpyScalar()


def each(ops: Sequence[Op]) -> Any:
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.name)


def of_kind(kind: type[Op]) -> Any:
    found = [op for op in OPS if isinstance(op, kind)]
    assert found
    return each(found)


# -- declarations -----------------------------------------------------------------------------------------------------


@each(OPS)
def test_documented(op: Op) -> None:
    assert len(op.doc) > 30
    assert op.doc.rstrip().endswith(".")


@each(OPS)
def test_declared_under_its_name(op: Op) -> None:
    modules = [getattr(graphc.ops, name) for name in graphc.ops.__all__]
    names = {op.name, op.name + "_"}
    assert [vars(m)[name] for m in modules for name in m.__all__ if name in names] == [op]


@each(OPS)
def test_has_samples(op: Op) -> None:
    found = samples(op)
    assert found
    if op.kind not in ("control", "fused", "composite") and op.name != "input":
        shapes = [t.shape for s in found for t in op.infer(s.types, s.attrs) if isinstance(t, TensorType)]
        assert not shapes or any(0 in shape for shape in shapes)


@each(OPS)
def test_refuses_wrong_operands(op: Op) -> None:
    sample = samples(op)[-1]
    wrong_attributes = {**sample.attrs, "nonsense": 1}
    with pytest.raises(GraphcError, match=op.name):
        op.infer(sample.types, wrong_attributes)
    if not sample.operands:
        return
    for types in ((TOKEN,) * (len(sample.types) + 1), sample.types[:-1] + (TOKEN,) * 2):
        with pytest.raises(GraphcError, match=op.name):
            op.infer(types, sample.attrs)


#: Dtypes of the last operand that go with any of the first ones.
_FREE = {"gamma_from_bits": (float32, float64)}


@of_kind(Elementwise)
def test_refuses_unequal_shapes_and_dtypes(op: Elementwise) -> None:
    sample = next(s for s in samples(op) if s.operands[0].shape == (5,))
    types = sample.types
    if op.arity == 1:
        return
    last = types[-1]
    assert isinstance(last, TensorType)
    with pytest.raises(GraphcError, match=r"equal shapes[\s\S]*operand 1"):
        op.infer((*types[:-1], TensorType(last.dtype, (6,))), sample.attrs)
    for dtype in dtypes.ALL:
        if dtype is not last.dtype and dtype not in _FREE.get(op.name, ()):
            with pytest.raises(GraphcError, match=op.name):
                op.infer((*types[:-1], TensorType(dtype, last.shape)), sample.attrs)


# -- types ------------------------------------------------------------------------------------------------------------


@each([op for op in OPS if op.name != "input"])
def test_inference_agrees_with_numpy(op: Op) -> None:
    for sample in samples(op):
        expected = op.infer(sample.types, sample.attrs)
        with np.errstate(all="ignore"):
            raw = _raw(op, sample)
        results = op.evaluate(sample.operands, sample.attrs)
        assert len(results) == len(expected)
        for type_, result in zip(expected, results, strict=True):
            if isinstance(type_, TensorType):
                assert TensorType(dtypes.from_numpy(result.dtype), result.shape) == type_, sample
                assert raw is None or np.asarray(raw).dtype == type_.dtype.numpy, sample


def _raw(op: Op, sample: Sample) -> Any:
    """What the NumPy function itself gives, before `evaluate` fixes its dtype."""
    if isinstance(op, Elementwise):
        return op.numpy(*sample.operands, **sample.attrs)
    return op.numpy(sample.operands[0], sample.attrs["axes"]) if isinstance(op, Reduction) else None


@each([op for op in OPS if op.name not in ("input", "debug_print", "create_token")])
def test_evaluation_in_a_graph(op: Op) -> None:
    """A node of the op evaluates to what the op does; operands are left alone."""
    for sample in samples(op)[:: max(1, len(samples(op)) // 12)]:
        before = [None if x is None else x.copy() for x in sample.operands]
        inputs = [input_value(k, t) for k, t in enumerate(sample.types)]
        node = make(op, inputs, **sample.attrs)
        found = evaluate(Graph(sample.types, node.results), sample.operands)
        for y, expected in zip(found, op.evaluate(sample.operands, sample.attrs), strict=True):
            if expected is None:
                assert y is None
                continue
            assert same_bits(y, np.asarray(expected)), sample
            assert all(x is None or not np.shares_memory(y, x) for x in sample.operands)
        assert all(x is None or same_bits(x, y) for x, y in zip(sample.operands, before, strict=True))


# -- complex numbers --------------------------------------------------------------------------------------------------


@each([op for op in OPS if op.parts is not None])
def test_parts(op: Op) -> None:
    """What complex numbers become in native code, on arrays: the definition's results."""
    b = NumpyBuilder()
    found = [s for s in samples(op) if is_complex(op, s)]
    assert found
    for sample in found:
        operands = [(x.real.copy(), x.imag.copy()) if x.dtype.kind == "c" else x for x in sample.operands]
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        with np.errstate(all="ignore"):
            assert op.parts is not None
            y = op.parts(b, *operands, **sample.attrs)
        if isinstance(y, tuple):
            whole = np.empty(y[0].shape, expected.dtype)
            whole.real, whole.imag = y
            y = whole
        assert not (wrong := fault(op, sample, np.asarray(y), expected)), wrong


# -- scalar rules -----------------------------------------------------------------------------------------------------


@of_kind(Elementwise)
def test_scalar_rule(op: Elementwise) -> None:
    for sample in samples(op):
        if is_complex(op, sample):
            continue
        with np.errstate(all="ignore"):
            found = op.scalar(S, *lengthened(op, sample.operands), **sample.attrs)
            found = np.broadcast_to(found, sample.operands[0].shape)
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        found = _rounded(found, expected)
        assert not (wrong := fault(op, sample, found, expected)), wrong


def _rounded(found: Array, expected: Array) -> Array:
    """What was computed in float32 as the 16-bit float that is expected."""
    short = dtypes.from_numpy(expected.dtype).is_short_float and found.dtype == np.float32
    with np.errstate(all="ignore"):
        return found.astype(expected.dtype) if short else found


@each([op for op in OPS if isinstance(op, Elementwise) and isinstance(op.numpy, np.ufunc)])
def test_halves_are_numpys(op: Elementwise) -> None:
    """Computing in float32 and rounding gives the bits of NumPy's own loops (rarely a neighbour, for inexact functions)."""
    assert isinstance(op.numpy, np.ufunc)
    for sample in samples(op):
        if any(x.dtype == np.float16 for x in sample.operands):
            with np.errstate(all="ignore"):
                expected = np.asarray(op.numpy(*sample.operands))
            (found,) = op.evaluate(sample.operands, sample.attrs)
            if op.exact or expected.dtype != np.float16:
                assert same_bits(found, expected, zeros_equal=op.name in ("maximum", "minimum")), sample
            else:
                np.testing.assert_array_max_ulp(found[np.isfinite(expected)], expected[np.isfinite(expected)], 1)


@each([op for op in OPS if isinstance(op, Special) and op.scalar is not None])
def test_scalar_rule_of_leaves(op: Special) -> None:
    for sample in samples(op):
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        index = tuple(np.asarray(i, np.int64) for i in np.indices(expected.shape))
        assert op.scalar is not None
        assert same_bits(np.asarray(op.scalar(S, index, **sample.attrs)), np.asarray(expected))


@of_kind(Random)
def test_scalar_rule_of_random_bits(op: Random) -> None:
    for sample in samples(op):
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        (key,) = sample.operands
        inner = expected.shape[key.ndim - 1 :]
        counter = np.broadcast_to(np.arange(np.prod(inner, dtype=np.int64)).reshape(inner), expected.shape)
        words = [np.asarray(key[..., k]).reshape((*key.shape[:-1], *(1,) * len(inner))) for k in range(key.shape[-1])]
        found = np.broadcast_to(op.scalar(S, counter, *words, **sample.attrs), expected.shape)
        assert same_bits(found, expected), sample


# -- movement and reduction -------------------------------------------------------------------------------------------


@of_kind(Movement)
def test_index_map(op: Movement) -> None:
    if op.view:
        assert op.sources is None
        for sample in samples(op):
            (y,) = op.evaluate(sample.operands, sample.attrs)
            assert np.array_equal(y.ravel(), sample.operands[0].ravel())
        return
    for sample in samples(op):
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        shapes = [x.shape for x in sample.operands]
        for index in np.ndindex(expected.shape):
            assert _element(op, sample, index, shapes) == expected[index], (sample, index)


def _element(op: Movement, sample: Sample, index: tuple[int, ...], shapes: Any) -> Any:
    assert op.sources is not None
    found = op.sources(index, *shapes, **sample.attrs)
    assert not found[-1].guards
    for source in found:
        if all(0 <= guard.index < guard.extent for guard in source.guards):
            operand = sample.operands[source.operand]
            assert all(0 <= i < n for i, n in zip(source.index, operand.shape, strict=True))
            return operand[source.index]
    raise AssertionError("no source")


@of_kind(Reduction)
def test_combine_and_identity(op: Reduction) -> None:
    for sample in samples(op):
        if is_complex(op, sample):
            continue  # combined in parts
        (expected,) = op.evaluate(sample.operands, sample.attrs)
        (x,) = lengthened(op, sample.operands)
        axes = sample.attrs["axes"]
        kept = tuple(k for k in range(x.ndim) if k not in axes)
        rows = x.transpose(*kept, *axes).reshape(*expected.shape, int(np.prod([x.shape[a] for a in axes])))
        found = _rounded(_fold_position(op, rows) if op.arg else _fold(op, rows), expected)
        if not op.empty or x.size:
            assert not (wrong := fault(op, sample, found, expected)), wrong
        else:
            assert same_bits(found, expected, zeros_equal=True), sample


def _fold(op: Reduction, rows: Array) -> Array:
    """Two lanes, as a vector would: each begins with the identity."""
    dtype = dtypes.from_numpy(rows.dtype)
    start = np.broadcast_to(S.const(dtype, op.identity(dtype)), rows.shape[:-1])
    lanes = [start, start]
    with np.errstate(all="ignore"):
        for k in range(rows.shape[-1]):
            lanes[k % 2] = op.combine(S, lanes[k % 2], rows[..., k])
        return np.asarray(op.combine(S, *lanes))


def _fold_position(op: Reduction, rows: Array) -> Array:
    dtype = dtypes.from_numpy(rows.dtype)
    best = np.broadcast_to(S.const(dtype, op.identity(dtype)), rows.shape[:-1])
    position = np.zeros(rows.shape[:-1], np.int64)
    for k in range(rows.shape[-1]):
        wins = op.combine(S, rows[..., k], best)
        best, position = np.where(wins, rows[..., k], best), np.where(wins, k, position)
    return position


def test_identities_are_neutral() -> None:
    """combine(identity, x) is x, bit for bit; that of a sum is -0.0, since +0.0 would turn -0.0 into +0.0."""
    for op, dtype in itertools.product((op for op in OPS if isinstance(op, Reduction) and not op.arg), dtypes.ALL):
        sample = next(
            (s for s in samples(op) if s.operands[0].dtype == dtype.numpy and s.operands[0].shape == (67,)), None
        )
        if sample is None or dtype.is_complex:
            continue
        x = np.append(sample.operands[0], np.negative(np.zeros(1)).astype(dtype.numpy))
        assert same_bits(op.combine(S, S.const(dtype, op.identity(dtype)), x), x), (op.name, dtype)


# -- derivatives ------------------------------------------------------------------------------------------------------

#: Float operands and float results, but no derivative rule, and why.
_NO_DERIVATIVE = {
    "stop_gradient": "a constant by definition",
    "fused": "made after differentiation",
    "composite": "its decomposition is differentiated",
    "host_call": "opaque",
    "pure_call": "its derivative is the user's",
    **dict.fromkeys(("cholesky", "eigh", "eigvalsh"), "for symmetric operands: tests/ops/test_linalg.py"),
    "debug_print": "gives no values",
    "gamma_from_bits": "an error says so: tests/frontend/test_random.py",
}
_DIFFERENTIABLE = [op for op in OPS if op.name not in _NO_DERIVATIVE and smooth_samples(op)]


def test_every_op_of_floats_is_differentiated() -> None:
    floats = {
        op.name
        for op in OPS
        for s in samples(op)
        if any(x is not None and x.dtype == np.float64 for x in s.operands)
        and any(isinstance(t, TensorType) and t.dtype is float64 for t in op.infer(s.types, s.attrs))
    }
    assert floats - set(_NO_DERIVATIVE) <= {op.name for op in _DIFFERENTIABLE}


@each(_DIFFERENTIABLE)
def test_vjp_against_finite_differences(op: Op) -> None:
    rng = np.random.default_rng(1)
    for sample in smooth_samples(op):
        results = op.evaluate(sample.operands, sample.attrs)
        if results[0].dtype != np.float64:
            continue
        cts = [rng.normal(size=y.shape) if y.dtype == np.float64 else None for y in results]
        cotangents = vjp(op, sample.operands, results, cts, sample.attrs)
        assert len(cotangents) == len(sample.operands)
        for k, (x, found) in enumerate(zip(sample.operands, cotangents, strict=True)):
            if x.dtype != np.float64:
                assert found is None, sample
                continue
            found = np.zeros_like(x) if found is None else found
            assert found.shape == x.shape and found.dtype == x.dtype, sample
            expected = _directional(op, sample, k, cts, rng)
            for direction, slope in expected:
                assert np.isclose(np.sum(found * direction), slope, rtol=2e-5, atol=2e-7), (sample, k)


def _directional(op: Op, sample: Sample, k: int, cts: list[Any], rng: Any) -> list[tuple[Array, float]]:
    """Derivatives of the sum of all ct * y along three random directions and along single elements, by central differences."""
    x = sample.operands[k]
    if x.size == 0:
        return []
    directions = [rng.normal(size=x.shape) for _ in range(3)]
    for flat in range(0, x.size, max(1, x.size // 8)):
        unit = np.zeros(x.size)
        unit[flat] = 1
        directions.append(unit.reshape(x.shape))
    step = 1e-6
    slopes = []
    for direction in directions:
        up, down = (
            op.evaluate((*sample.operands[:k], np.asarray(x + h * direction), *sample.operands[k + 1 :]), sample.attrs)
            for h in (step, -step)
        )
        changes = zip(cts, up, down, strict=True)
        slopes.append(sum(float(np.sum(ct * ((u - d) / (2 * step)))) for ct, u, d in changes if ct is not None))
    return list(zip(directions, slopes, strict=True))


@each(_DIFFERENTIABLE)
def test_jvp_against_finite_differences_and_vjp(op: Op) -> None:
    """The forward rule gives the slope along a direction, and <ct, J t> is <J^T ct, t> to rounding."""
    rng = np.random.default_rng(3)
    for sample in smooth_samples(op):
        results = op.evaluate(sample.operands, sample.attrs)
        if results[0].dtype != np.float64:
            continue
        moving = [x.dtype == np.float64 for x in sample.operands]
        chosen = [moving]
        if sum(moving) > 1:
            chosen += [[m and i == k for i, m in enumerate(moving)] for k in range(len(moving)) if moving[k]]
        for wanted in chosen:
            tangents = [rng.normal(size=x.shape) if w else None for x, w in zip(sample.operands, wanted, strict=True)]
            found = jvp(op, sample.operands, results, tangents, sample.attrs)
            cts = [rng.normal(size=y.shape) if y.dtype == np.float64 else None for y in results]
            _check_jvp(op, sample, results, tangents, cts, found)


def _check_jvp(op: Op, sample: Sample, results: Any, tangents: list[Any], cts: list[Any], found: Sequence[Any]) -> None:
    step = 1e-6
    up, down = (
        op.evaluate(
            [x if t is None else x + h * t for x, t in zip(sample.operands, tangents, strict=True)], sample.attrs
        )
        for h in (step, -step)
    )
    across = 0.0
    for y, above, below, ct, tangent in zip(results, up, down, cts, found, strict=True):
        if ct is None:
            assert tangent is None, sample
            continue
        tangent = np.zeros_like(y) if tangent is None else tangent
        assert tangent.shape == y.shape and tangent.dtype == y.dtype, sample
        assert np.allclose(tangent, (above - below) / (2 * step), rtol=2e-5, atol=2e-6), sample
        across += float(np.sum(ct * tangent))
    back = vjp(op, sample.operands, results, cts, sample.attrs)
    pairs = [(c, t) for c, t in zip(back, tangents, strict=True) if c is not None and t is not None]
    assert np.isclose(across, sum(float(np.sum(c * t)) for c, t in pairs), rtol=1e-9, atol=1e-9), sample


@each(_DIFFERENTIABLE)
def test_jvp_in_graphs_and_on_arrays_agree(op: Op) -> None:
    """The forward rule builds a well-typed graph, which gives the arrays that the rule gives when it runs on arrays."""
    rng = np.random.default_rng(4)
    chosen = smooth_samples(op)
    for sample in chosen[:: max(1, len(chosen) // 10)]:
        results = op.evaluate(sample.operands, sample.attrs)
        if results[0].dtype != np.float64:
            continue
        tangents = [rng.normal(size=x.shape) if x.dtype == np.float64 else None for x in sample.operands]
        operands = [input_value(i, t) for i, t in enumerate(sample.types)]
        graph, flags = jvp_graph(Graph(sample.types, make(op, operands, **sample.attrs).results))
        verify(graph)
        expected = jvp(op, sample.operands, results, tangents, sample.attrs)
        assert list(flags) == [t is not None for t in expected]
        found = evaluate(graph, (*sample.operands, *(t for t in tangents if t is not None)))
        for y, t in zip(found[len(results) :], [t for t in expected if t is not None], strict=True):
            assert same_bits(y, np.asarray(t)), sample


@each(_DIFFERENTIABLE)
def test_vjp_in_graphs_and_on_arrays_agree(op: Op) -> None:
    """The rule builds a well-typed graph, which gives the arrays that the rule gives when it runs on arrays."""
    chosen = smooth_samples(op)
    for sample in chosen[:: max(1, len(chosen) // 10)]:
        results = op.evaluate(sample.operands, sample.attrs)
        if results[0].dtype != np.float64:
            continue
        rng = np.random.default_rng(2)
        cts = [rng.normal(size=y.shape) if y.dtype == np.float64 else None for y in results]
        given = [ct for ct in cts if ct is not None]
        types = (*sample.types, *(TensorType(float64, ct.shape) for ct in given))
        values = [input_value(i, t) for i, t in enumerate(types)]
        operands, seeds = values[: len(sample.types)], iter(values[len(sample.types) :])
        node = make(op, operands, **sample.attrs)
        b = GraphBuilder()
        value_cts = [None if ct is None else next(seeds) for ct in cts]
        graph_cts = [materialize(b, c) for c in op.differentiate(b, operands, node.results, value_cts, sample.attrs)]
        array_cts = vjp(op, sample.operands, results, cts, sample.attrs)
        for graph_ct, array_ct in zip(graph_cts, array_cts, strict=True):
            assert (graph_ct is None) == (array_ct is None)
            if graph_ct is not None:
                (found,) = evaluate(Graph(types, (graph_ct,)), (*sample.operands, *given))
                assert same_bits(found, np.asarray(array_ct)), sample


def _double_complex(op: Op) -> list[Sample]:
    """Samples of double precision with complex operands or results, of moderate size."""
    doubles = (np.float64, np.complex128)
    found = []
    for sample in samples(op):
        if sample.special or not is_complex(op, sample) or op.name in ("input", "constant"):
            continue
        (y, *_) = op.evaluate(sample.operands, sample.attrs)
        inexact = [x for x in (*sample.operands, y) if dtypes.from_numpy(x.dtype).is_inexact]
        if y.dtype.kind in "fc" and all(x.dtype in doubles for x in inexact) and 0 < y.size <= 400:
            found.append(sample)
    return found[:: max(1, len(found) // 12)]


_HELD = ("control", "host", "fused", "composite")


@each([op for op in OPS if op.kind not in _HELD and op.name != "stop_gradient" and _double_complex(op)])
def test_complex_vjp_against_finite_differences(op: Op) -> None:
    """PyTorch's convention: the real inner product of the cotangent with the change of the result is that of the operand's
    cotangent with the operand's change."""
    rng = np.random.default_rng(3)

    def direction(x: Array) -> Array:
        real = rng.normal(size=x.shape)
        return np.asarray(real + 1j * rng.normal(size=x.shape)) if x.dtype.kind == "c" else np.asarray(real)

    for sample in _double_complex(op):
        (y,) = op.evaluate(sample.operands, sample.attrs)
        ct = direction(y)
        (*cotangents,) = vjp(op, sample.operands, (y,), (ct,), sample.attrs)
        for k, (x, found) in enumerate(zip(sample.operands, cotangents, strict=True)):
            if x.dtype.kind not in "fc":
                assert found is None
                continue
            assert found is None or (found.dtype == x.dtype and found.shape == x.shape), sample
            moved, step = direction(x), 1e-6
            up, down = (
                op.evaluate((*sample.operands[:k], x + h * moved, *sample.operands[k + 1 :]), sample.attrs)[0]
                for h in (step, -step)
            )
            slope = np.sum(np.conj(ct) * (up - down)).real / (2 * step)
            expected = 0.0 if found is None else np.sum(np.conj(found) * moved).real
            scale = 1 + np.sum(np.abs(ct) * np.abs(y))
            assert np.isclose(expected, slope, rtol=1e-5, atol=1e-7 * scale), (sample, k)


def test_builders_lift_literals() -> None:
    b = NumpyBuilder()
    x = np.array([1.0, 2.0], np.float32)
    assert same_bits(b.add(x, 1.0), np.array([2, 3], np.float32))
    assert same_bits(b.select(x > 1, x, 0.0), np.array([0, 2], np.float32))
    assert b.convert(x, dtype=int64).dtype == np.int64
    assert b.sum(x, axes=(0,)).shape == ()
