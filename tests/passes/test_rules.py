"""Every rewrite rule on special values of every dtype: exact rules keep all bits, the others change some."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import dtypes
from graphc.dtypes import DType, bool_, float32, float64, int32, int64, uint32
from graphc.errors import GraphcError
from graphc.interp import evaluate
from graphc.ir.graph import Graph, Value, constant, input_value, make
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType, Type
from graphc.ir.verify import verify
from graphc.passes import rules
from graphc.passes.base import Journal
from graphc.passes.patterns import Applied, Literal, Pattern, Rule, Scalar, Variable
from graphc.passes.simplify import apply_rules

B = GraphBuilder()


def specials(dtype: DType) -> np.ndarray[Any, Any]:
    """Signed zeros, infinities, NaN, subnormals, extremes, powers of two, ordinary numbers."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        values = [0, 1, 2, 3, 7, 100, limits.max, limits.max - 1, limits.min]
        return np.array(values + ([-1, -2, -5] if dtype.is_signed else []), dtype.numpy)
    if dtype.is_complex:
        parts = specials(dtype.part)[[0, 1, 4, 5, 9, 10, 12, 13, 21, 24]]
        return np.stack(np.meshgrid(parts, parts), axis=-1).reshape(-1, 2).view(dtype.numpy)[::3, 0]
    limits = ml_dtypes.finfo(dtype.numpy)
    positive = [
        0.0,
        np.inf,
        limits.smallest_subnormal,
        limits.tiny,
        limits.max,
        1.0,
        1 + limits.eps,
        2.0,
        0.5,
        0.1,
        3.0,
        1e10,
    ]
    with np.errstate(over="ignore"):
        return np.array([*positive, *(-np.array(positive, dtype.numpy)), np.nan], dtype.numpy)


Instance = tuple[Graph, list[np.ndarray[Any, Any]]]


def instance(arrays: list[np.ndarray[Any, Any]], build: Callable[..., Value]) -> Instance:
    types = tuple(TensorType(dtypes.from_numpy(a.dtype), a.shape) for a in arrays)
    return Graph(types, (build(*(input_value(i, t) for i, t in enumerate(types))),)), arrays


# -- instances of patterns, made from the pattern itself ------------------------------------------------------------


def variables(pattern: Pattern) -> dict[str, type[Pattern]]:
    if isinstance(pattern, Applied):
        return {k: v for p in pattern.operands for k, v in variables(p).items()}
    return {pattern.name: type(pattern)} if isinstance(pattern, (Variable, Scalar)) else {}


def built(pattern: Pattern, shape: tuple[int, ...], dtype: DType, bound: dict[str, Value]) -> Value:
    if isinstance(pattern, Applied):
        return make(pattern.op, [built(p, shape, dtype, bound) for p in pattern.operands]).result
    if isinstance(pattern, Literal):
        kind = bool_ if isinstance(pattern.value, bool) else dtype
        return B.broadcast(constant(np.array(pattern.value, kind.numpy)), shape=shape)
    assert isinstance(pattern, (Variable, Scalar))
    return bound[pattern.name]


def pattern_instances(pattern: Applied, dtype: DType) -> Iterator[Instance]:
    names = variables(pattern)
    free = [n for n, kind in names.items() if kind is Variable]
    kinds = [bool_ if n == "condition" else dtype for n in free]
    grid = np.meshgrid(*(specials(k) for k in kinds), indexing="ij") if free else []
    arrays = [np.ascontiguousarray(g.reshape(-1)) for g in grid]
    shape = arrays[0].shape if arrays else (1,)
    scalars = [n for n, kind in names.items() if kind is Scalar]
    chosen_kind = bool_ if pattern.op == "select" else dtype
    for elements in itertools.product(specials(chosen_kind), repeat=len(scalars)):
        fixed = {n: B.broadcast(constant(np.asarray(e)), shape=shape) for n, e in zip(scalars, elements, strict=True)}
        try:
            yield instance(
                arrays, lambda *xs, f=fixed: built(pattern, shape, dtype, {**dict(zip(free, xs, strict=True)), **f})
            )
        except (GraphcError, OverflowError):
            return  # the ops of this pattern are not defined for this dtype


# -- instances of rules that are functions, or that have attributes --------------------------------------------------


def unary(*builds: Callable[[Value], Value]) -> Callable[[DType], Iterator[Instance]]:
    """Instances over one operand of shape [1, 2, k], of special values."""

    def make_instances(dtype: DType) -> Iterator[Instance]:
        values = specials(dtype)
        for build in builds:
            try:
                yield instance([np.concatenate([values, values]).reshape(1, 2, -1)], build)
            except GraphcError:
                continue  # the op is not defined for this dtype

    return make_instances


def grown(x: Value, y: Value, f: Callable[..., Value]) -> Value:
    """f over x broadcast to [3, 2, k] and y broadcast to the same shape."""
    shape = (3, *x.shape)
    return f(B.broadcast(x, shape=shape), B.broadcast(y, shape=shape))


def last(x: Value) -> Value:
    """The shape [2, k] of an operand [1, 2, k]."""
    return B.reshape(x, shape=x.shape[1:])


def part(x: Value, start: int, size: int, step: int) -> Value:
    return B.slice(x, start=(0, 0, start), size=(*x.shape[:2], size), step=(1, 1, step))


def rows(x: Value, start: int, size: int, step: int) -> Value:
    return B.slice(x, start=(0, start, 1), size=(1, size, 1), step=(1, step, 1))


def uniform(dtype: DType) -> Iterator[Instance]:
    for element in specials(dtype):
        yield Graph((), (constant(np.full((2, 1), element)),)), []


def rounded(outer: str) -> list[Callable[[Value], Value]]:
    return [
        lambda x, i=inner: make(outer, (make(i, (x,)).result,)).result for inner in ("floor", "ceil", "trunc", "rint")
    ]


def scalar_of(x: Value) -> Value:
    return B.reshape(B.slice(x, start=(0, 0, 1), size=(1, 1, 1), step=(1, 1, 1)), shape=())


def there_and_back(wide: DType) -> Callable[[Value], Value]:
    return lambda x: B.convert(B.convert(x, dtype=wide), dtype=x.dtype)


def reduced(name: str, *axes: int) -> Callable[[Value], Value]:
    return lambda x: make(name, (x,), axes=axes).result


def splat(x: Value, *shape: int) -> Value:
    return B.broadcast(scalar_of(x), shape=shape)


def lifted(x: Value, value: float, *, scalar: bool = True) -> Value:
    """An exponent for all elements: a broadcast of rank 0."""
    return B.broadcast(constant(np.array(value, x.dtype.numpy)), shape=x.shape)


INSTANCES: dict[str, Callable[[DType], Iterator[Instance]]] = {
    "x * x --> square(x)": unary(lambda x: B.multiply(x, x)),
    "constant of equal elements --> broadcast(scalar)": uniform,
    "broadcast(reshape(x, [1, ..., *x.shape])) --> broadcast(x)": unary(
        lambda x: B.broadcast(B.reshape(scalar_of(x), shape=(1, 1)), shape=(2, 3)),
        lambda x: B.broadcast(B.reshape(last(x), shape=(1, *x.shape)), shape=(3, *x.shape)),
        lambda x: B.broadcast(B.reshape(last(x), shape=x.shape), shape=(3, *x.shape[1:])),
    ),
    "slice(concatenate(x, y)) --> slice(x)": unary(
        lambda x: rows(B.concatenate(x, splat(x, 1, 3, x.shape[2]), axis=1), 0, 2, 1),
        lambda x: rows(B.concatenate(splat(x, 1, 3, x.shape[2]), x, axis=1), 4, 2, -1),
        lambda x: rows(B.concatenate(splat(x, 1, 1, x.shape[2]), x, x, axis=1), 3, 2, 1),
        lambda x: B.slice(B.concatenate(x, x, axis=0), start=(1, 0, 0), size=(1, 2, 1), step=(1, 1, 5)),
    ),
    "round(round'(x)) --> round'(x)": unary(*(f for o in ("floor", "ceil", "trunc", "rint") for f in rounded(o))),
    "convert(x, its dtype) --> x": unary(lambda x: B.convert(x, dtype=x.dtype)),
    "convert(convert(x, wider), x's dtype) --> x": unary(*(there_and_back(d) for d in dtypes.ALL)),
    "transpose(x, identity) --> x": unary(lambda x: B.transpose(x, perm=(0, 1, 2))),
    "transpose(transpose(x, p), q) --> transpose(x, p[q])": unary(
        lambda x: B.transpose(B.transpose(x, perm=(2, 0, 1)), perm=(0, 2, 1)),
        lambda x: B.transpose(B.transpose(x, perm=(1, 2, 0)), perm=(1, 2, 0)),
    ),
    "reshape(x, its shape) --> x": unary(lambda x: B.reshape(x, shape=x.shape)),
    "reshape(reshape(x), s) --> reshape(x, s)": unary(lambda x: B.reshape(last(x), shape=(x.tensor.size, 1))),
    "broadcast(x, its shape) --> x": unary(lambda x: B.broadcast(x, shape=x.shape)),
    "broadcast(broadcast(x), s) --> broadcast(x, s)": unary(
        lambda x: B.broadcast(B.broadcast(x, shape=(3, *x.shape[1:])), shape=(2, 3, *x.shape[1:]))
    ),
    "slice(x, whole) --> x": unary(lambda x: B.slice(x, start=(0, 0, 0), size=x.shape, step=(1, 1, 1))),
    "slice(slice(x, i), j) --> slice(x, i * j)": unary(
        lambda x: part(part(x, 1, x.shape[2] - 1, 1), 0, 1, 3),
        lambda x: part(part(x, x.shape[2] - 1, x.shape[2], -1), x.shape[2] - 1, x.shape[2], -1),
        lambda x: part(part(x, 0, (x.shape[2] + 1) // 2, 2), 0, (x.shape[2] + 3) // 4, 2),
        lambda x: part(part(x, x.shape[2] - 1, (x.shape[2] + 1) // 2, -2), 0, (x.shape[2] + 3) // 4, 2),
        lambda x: part(part(x, 1, 0, 1), 0, 0, 1),
    ),
    "as_parts(from_parts(x)) --> x": unary(lambda x: B.as_parts(B.from_parts(B.reshape(x, shape=(x.shape[2], 2))))),
    "pad(x, nothing) --> x": unary(lambda x: B.pad(x, scalar_of(x), low=(0, 0, 0), high=(0, 0, 0))),
    "concatenate(x) --> x": unary(lambda x: B.concatenate(x, axis=1)),
    "move(broadcast(scalar)) --> broadcast(scalar)": unary(
        lambda x: B.reshape(splat(x, 2, 3), shape=(6,)),
        lambda x: B.reshape(splat(x, 1), shape=()),
        lambda x: B.transpose(splat(x, 2, 3), perm=(1, 0)),
        lambda x: B.slice(splat(x, 5), start=(4,), size=(2,), step=(-2,)),
    ),
    "f(broadcast(x), broadcast(y)) --> broadcast(f(x, y))": unary(
        lambda x: B.add(*(B.broadcast(x, shape=(2, *x.shape)),) * 2),
        lambda x: B.negative(B.broadcast(x, shape=(2, *x.shape))),
        lambda x: grown(x, scalar_of(x), B.subtract),
        lambda x: grown(last(x), x, B.maximum),
        lambda x: grown(x, B.broadcast(scalar_of(x), shape=(1, 1)), lambda a, b: B.select(B.equal(a, b), b, a)),
        lambda x: B.bitwise_and(*(B.broadcast(x, shape=(2, *x.shape)),) * 2),
    ),
    "reduce(x, axes of size 1) --> reshape(x)": unary(
        *(reduced(name, *axes) for name in ("max", "min", "any", "all", "prod") for axes in ((), (0,)))
    ),
    "sum(x, axes of size 1) --> reshape(x) + 0.0": unary(reduced("sum"), reduced("sum", 0)),
}


def instances(rule: Rule, dtype: DType) -> Iterator[Instance]:
    if rule.name in INSTANCES:
        yield from INSTANCES[rule.name](dtype)
    else:
        assert rule.pattern is not None, f"{rule.name}: needs INSTANCES"
        yield from pattern_instances(rule.pattern, dtype)


def same_bits(x: Any, y: Any) -> bool:
    assert x.dtype == y.dtype
    assert x.shape == y.shape
    if x.dtype.kind == "c":
        return same_bits(x.real, y.real) and same_bits(x.imag, y.imag)
    if not dtypes.from_numpy(x.dtype).is_float:
        return bool((x == y).all())
    nan = np.isnan(x) & np.isnan(y)
    return bool((nan | ((x == y) & (np.signbit(x) == np.signbit(y)))).all())


def tried(rule: Rule, dtype: DType) -> Iterator[tuple[Any, Any, Graph, Graph]]:
    """Results before and after, for every instance at which the rule fires."""
    for graph, arrays in instances(rule, dtype):
        journal = Journal()
        rewritten = apply_rules(graph, [rule], journal)
        verify(rewritten)
        if journal.total:
            assert journal.counters[rule.name] == journal.total
            yield evaluate(graph, arrays)[0], evaluate(rewritten, arrays)[0], graph, rewritten


def test_names_are_unique_equations() -> None:
    names = [r.name for r in rules.ALL]
    assert len(set(names)) == len(names)
    assert all("-->" in n for n in names)
    assert set(INSTANCES) <= set(names)


@pytest.mark.parametrize("rule", [r for r in rules.ALL if r.exact], ids=lambda r: r.name)
def test_exact_rule_keeps_all_bits(rule: Rule) -> None:
    fired = 0
    for dtype in dtypes.ALL:
        for before, after, graph, rewritten in tried(rule, dtype):
            fired += 1
            assert same_bits(before, after), (dtype, graph.outputs, rewritten.outputs, before, after)
    assert fired, "the rule never fires"


@pytest.mark.parametrize("rule", [r for r in rules.ALL if not r.exact], ids=lambda r: r.name)
def test_value_changing_rule_changes_values(rule: Rule) -> None:
    """And changes them a little only, where all is finite, ordinary and not nearly cancelling."""
    changed = fired = 0
    for dtype in (float32, float64):
        for before, after, _, _ in tried(rule, dtype):
            fired += 1
            changed += not same_bits(before, after)
    assert fired, "the rule never fires"
    assert changed, "the rule is exact on all special values: is it marked wrongly?"


def test_exact_rules_are_those_without_permission() -> None:
    assert all(r.exact for r in rules.EXACT)
    assert not any(r.exact for r in rules.VALUE_CHANGING)
    assert set(rules.ALL) == set(rules.EXACT) | set(rules.VALUE_CHANGING)


@pytest.mark.parametrize("dtype", [float32, float64, int32, int64, uint32], ids=str)
def test_value_changing_rules_hold_over_the_reals(dtype: DType) -> None:
    """On benign operands the result is close: the equation itself is right."""
    rng = np.random.default_rng(0)
    for rule in rules.VALUE_CHANGING:
        assert rule.pattern is not None
        names = variables(rule.pattern)
        bound_arrays = [rng.uniform(0.5, 2.0, 50).astype(dtype.numpy) for n, k in names.items() if k is Variable]
        free = [n for n, k in names.items() if k is Variable]
        fixed = {
            n: B.broadcast(constant(np.array(3, dtype.numpy)), shape=(50,)) for n, k in names.items() if k is Scalar
        }
        pattern = rule.pattern

        def build(*xs: Value, p: Applied = pattern, f: Any = fixed, n: Any = free) -> Value:
            return built(p, (50,), dtype, {**dict(zip(n, xs, strict=True)), **f})

        try:
            graph, arrays = instance(bound_arrays, build)
        except GraphcError:
            continue
        rewritten = apply_rules(graph, [rule], Journal())
        before, after = evaluate(graph, arrays)[0], evaluate(rewritten, arrays)[0]
        np.testing.assert_allclose(after, before, rtol=1e-5, err_msg=rule.name)


def test_types_of_the_test_itself() -> None:
    """The special values hold what the test promises."""
    values = specials(float32)
    assert np.isnan(values).any() and np.isinf(values).any() and (values == 0).sum() == 2
    assert np.signbit(values[values == 0]).sum() == 1
    assert (np.abs(values[values != 0]) < np.finfo(np.float32).tiny).any()
    t: Type = TensorType(float32, (1,))
    assert t.dtype is float32
