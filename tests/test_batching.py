"""Every op's batching rule against a loop over examples, in the interpreter and compiled; and the walk over graphs."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from oracle import fault
from randomgraphs import DRAWN, random_graph
from samples import Sample, samples
from shadow import agrees, shadow

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import dtypes
from graphc.dtypes import bool_, float64, int64
from graphc.errors import BoundsError, GraphcError
from graphc.frontend.build import Options, compile_stages
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.batching import Examples, batch_graph, batch_type
from graphc.ir.dims import Dim, symbol
from graphc.ir.graph import Graph, Value, attribute_key, constant, input_value, make
from graphc.ir.op import Control, Elementwise, GraphBuilder, Host, Indexing, Op
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ir.verify import verify
from graphc.runtime.executable import Executable

OPS = list(registry.all_ops())
B = GraphBuilder()
SIZES = (0, 1, 3)
Array = Any

#: Applications in one compiled graph.
BUNDLE = 60


@dataclass(frozen=True)
class Case:
    """An op on `size` examples; `batched` says which operands differ between them."""

    op: Op
    examples: tuple[Sample, ...]
    batched: tuple[bool, ...]
    like: Sample

    @property
    def size(self) -> int:
        return len(self.examples)

    @property
    def types(self) -> tuple[Type, ...]:
        return self.types_of(self.size)

    def types_of(self, size: Dim) -> tuple[Type, ...]:
        return tuple(batch_type(t, size) if f else t for t, f in zip(self.like.types, self.batched, strict=True))

    def arrays(self) -> list[Array]:
        """The operands."""
        found = []
        for k, (x, flag) in enumerate(zip(self.like.operands, self.batched, strict=True)):
            rows = [np.asarray(e.operands[k]) for e in self.examples]
            empty = np.empty((0, *np.shape(x)), None if x is None else x.dtype)
            found.append((np.stack(rows) if rows else empty) if flag else x)
        return found

    def __str__(self) -> str:
        return f"{self.op.name}{self.like}, batched {self.batched}, {self.size} examples"


def chosen(op: Op) -> list[Sample]:
    """One sample of each combination of shapes and attributes, of changing dtypes."""
    groups: dict[Any, list[Sample]] = {}
    for sample in samples(op):
        shapes = tuple(np.shape(x) for x in sample.operands)
        attrs = tuple((k, attribute_key(v)) for k, v in sorted(sample.attrs.items()) if k not in ("dtype", "body"))
        groups.setdefault((shapes, attrs), []).append(sample)
    found = [group[(3 * k) % len(group)] for k, group in enumerate(groups.values())]
    few = 4 if isinstance(op, Elementwise) else 40
    return found[:: -(-len(found) // few)]


def subsets(sample: Sample) -> Iterator[tuple[bool, ...]]:
    """All choices of batched operands: at least one, no token."""
    for flags in itertools.product((False, True), repeat=len(sample.operands)):
        if any(flags) and not any(f and x is None for f, x in zip(flags, sample.operands, strict=True)):
            yield flags


def vary(op: Op, sample: Sample, operand: int, example: int) -> Array:
    """Another operand that is as good."""
    x = sample.operands[operand]
    rng = np.random.default_rng(zlib.crc32(f"{op.name}{operand}{example}".encode()))
    if isinstance(op, Host):
        return (x * (1 + example / 4)).astype(x.dtype)
    if isinstance(op, Indexing) and operand == 1:
        extent = sample.operands[0].shape[sample.attrs["axis"]]
        return rng.integers(0, extent, x.shape).astype(x.dtype) if extent else x
    if isinstance(op, Control) and x.ndim == 0:
        return np.asarray(x ^ bool(example % 2) if x.dtype == np.bool_ else x + example, x.dtype)
    return rng.permutation(x.ravel()).reshape(x.shape)


def cases(op: Op, sizes: Sequence[int] = SIZES) -> Iterator[Case]:
    for sample in chosen(op):
        for flags, size in itertools.product(subsets(sample), sizes):
            yield Case(op, tuple(varied(op, sample, flags, e) for e in range(size)), flags, sample)


def varied(op: Op, sample: Sample, flags: tuple[bool, ...], example: int) -> Sample:
    """Example number `example` like a sample."""
    operands = [vary(op, sample, k, example) if flag else sample.operands[k] for k, flag in enumerate(flags)]
    return Sample(tuple(operands), sample.attrs, sample.special)


def apply(case: Case, operands: Sequence[Value], size: Dim | None = None) -> list[Value]:
    """The results of the rule, those that are not batched too; the size may be a symbol."""
    size = case.size if size is None else size
    results, flags = case.op.batch(B, operands, case.batched, case.like.attrs, Examples(size))
    one = case.op.infer(case.like.types, case.like.attrs)
    for result, flag, type_ in zip(results, flags, one, strict=True):
        assert result.type == (batch_type(type_, size) if flag else type_), case
    alike = [not flag and y.type != TOKEN for y, flag in zip(results, flags, strict=True)]
    return [B.broadcast(y, shape=(size, *y.shape)) if same else y for y, same in zip(results, alike, strict=True)]


def check(case: Case, results: Sequence[Array]) -> None:
    for e, sample in enumerate(case.examples):
        expected = case.op.evaluate(sample.operands, sample.attrs)
        for found, y in zip(results, expected, strict=True):
            if y is not None:
                wrong = fault(case.op, sample, found[e], y)
                assert not wrong, f"{case}, example {e}: {wrong}"


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_rule_against_a_loop(op: Op) -> None:
    for case in cases(op):
        operands = [make("create_token").result if t == TOKEN else input_value(i, t) for i, t in enumerate(case.types)]
        graph = Graph(case.types, tuple(apply(case, operands)), op.name)
        verify(graph)
        check(
            case, evaluate(graph, [None if t == TOKEN else x for t, x in zip(case.types, case.arrays(), strict=True)])
        )


def is_compiled(case: Case) -> bool:
    """Complex numbers are not compiled yet."""
    types = (*case.like.types, *case.op.infer(case.like.types, case.like.attrs))
    return not any(isinstance(t, TensorType) and t.dtype.is_complex for t in types)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_rule_for_any_number_of_examples(op: Op) -> None:
    """With a symbol for the size: the rule writes no number down."""
    for case in list(cases(op, (3,)))[::4]:
        types = case.types_of(symbol(0))
        operands = [make("create_token").result if t == TOKEN else input_value(i, t) for i, t in enumerate(types)]
        graph = Graph(types, tuple(apply(case, operands, symbol(0))), op.name)
        verify(graph)
        check(case, evaluate(graph, [None if t == TOKEN else x for t, x in zip(types, case.arrays(), strict=True)]))


ALL_CASES = [case for op in OPS for case in cases(op, (3,)) if is_compiled(case)]
BUNDLES = [ALL_CASES[k : k + BUNDLE] for k in range(0, len(ALL_CASES), BUNDLE)]


@pytest.mark.parametrize("number", range(len(BUNDLES)))
def test_rules_compiled(number: int) -> None:
    types: list[Type] = []
    arrays: list[Array] = []
    outputs: list[Value] = []
    token = make("create_token").result
    for case in BUNDLES[number]:
        operands = []
        for type_, x in zip(case.types, case.arrays(), strict=True):
            operands.append(token if type_ == TOKEN else input_value(len(types), type_))
            types += [] if type_ == TOKEN else [type_]
            arrays += [] if type_ == TOKEN else [np.asarray(x)]
        found = apply(case, operands)
        outputs += [y for y in found if y.type != TOKEN]
        token = next((y for y in found if y.type == TOKEN), token)
    _, compiled, _ = compile_stages(Graph(tuple(types), (*outputs, token)), {}, Options(contract=False))
    results = iter(Executable(compiled.artifact).run(arrays))
    for case in BUNDLES[number]:
        one = case.op.infer(case.like.types, case.like.attrs)
        check(case, [None if t == TOKEN else next(results) for t in one])


# -- control --------------------------------------------------------------------------------------------------------------


def inputs(*types: TensorType) -> tuple[Value, ...]:
    return tuple(input_value(i, t) for i, t in enumerate(types))


def against_a_loop(graph: Graph, arrays: Sequence[Array], batched: Sequence[bool], size: int) -> None:
    """The batched graph against the graph on each example, in the interpreter and compiled; also with a symbolic size."""
    whole, flags = batch_graph(B, graph, batched, size, outputs=[True] * len(graph.outputs))
    verify(whole)
    assert all(flags)
    rows = [evaluate(graph, [x[e] if f else x for x, f in zip(arrays, batched, strict=True)]) for e in range(size)]
    expected = [np.stack(column) for column in zip(*rows, strict=True)]
    _, compiled, _ = compile_stages(whole, {}, Options(contract=False))
    symbolic, _ = batch_graph(B, graph, batched, symbol(0), outputs=[True] * len(graph.outputs))
    verify(symbolic)
    _, any_size, _ = compile_stages(symbolic, {}, Options(contract=False))
    found = [evaluate(whole, arrays), evaluate(symbolic, arrays)]
    found += [Executable(c.artifact).run([np.asarray(x) for x in arrays]) for c in (compiled, any_size)]
    for results in found:
        for y, e in zip(results, expected, strict=True):
            assert np.array_equal(y, e, equal_nan=True) and y.dtype == e.dtype


F = TensorType(float64, ())
I = TensorType(int64, ())
V = TensorType(float64, (4,))


def test_an_index_out_of_range_in_the_branch_not_taken() -> None:
    p, x, i = inputs(TensorType(bool_, ()), V, I)
    inner = inputs(V, I)
    then = Graph((V, I), (B.take(inner[0], inner[1], axis=0, mode="raise"),))
    else_ = Graph((V, I), (B.sum(inner[0], axes=(0,)),))
    graph = Graph((p.type, V, I), (B.cond(p, x, i, then=then, else_=else_),))
    taken, index = np.array([True, False, True]), np.array([1, 17, 3])
    for batched in ((True, True, True), (True, False, True)):
        values = np.random.default_rng(0).normal(size=(3, 4) if batched[1] else 4)
        against_a_loop(graph, [taken, values, index], batched, 3)
    against_a_loop(graph, [np.array([False, False]), np.ones(4), np.int64(17)], (True, False, False), 2)
    whole, _ = batch_graph(B, graph, (True, False, True), 3)
    with pytest.raises(BoundsError):
        evaluate(whole, [np.array([True, True, True]), np.ones(4), index])


def test_scatters_and_loops_in_a_branch_not_taken() -> None:
    """Collatz steps, which do not end for 0; and a write that would be out of range."""
    (n,) = inputs(I)
    j, count = inputs(I, I)
    odd = B.equal(B.remainder(j, 2), 1)
    step = Graph((I, I), (B.select(odd, B.add(B.multiply(j, 3), 1), B.floor_divide(j, 2)), B.add(count, 1)))
    going = Graph((I, I), (B.not_equal(j, 1),))
    loop = B.while_loop(n, B.like(n, 0), cond=going, body=step)[1]
    x, i, p = inputs(V, I, TensorType(bool_, ()))
    y, k = inputs(V, I)
    write = Graph((V, I), (B.scatter_add(y, k, B.full((), 1.0, float64), axis=0, mode="raise"),))
    keep = Graph((V, I), (y,))
    positive = B.cond(B.greater(n, 0), n, then=Graph((I,), (loop,)), else_=Graph((I,), (n,)))
    against_a_loop(Graph((I,), (positive,)), [np.array([27, 0, 1, 6, -3])], (True,), 5)
    graph = Graph((V, I, p.type), (B.cond(p, x, i, then=write, else_=keep),))
    arrays = [np.arange(12.0).reshape(3, 4), np.array([2, 9, 0]), np.array([True, False, True])]
    against_a_loop(graph, arrays, (True, True, True), 3)
    against_a_loop(graph, [arrays[0][0], *arrays[1:]], (False, True, True), 3)


def test_loops_within_loops_that_end_at_different_times() -> None:
    """For each example another number of outer turns, and in each turn another number of inner ones, with captures."""
    n, w = inputs(I, F)
    k, total, limit, scale = inputs(I, F, I, F)
    inner_body = Graph((I, F, I, F), (B.add(k, 1), B.add(B.multiply(total, scale), 1.0), limit, scale))
    inner_cond = Graph((I, F, I, F), (B.less(k, limit),))
    i, acc, count, factor = inputs(I, F, I, F)
    inner = B.while_loop(B.like(i, 0), acc, i, factor, cond=inner_cond, body=inner_body)
    body = Graph((I, F, I, F), (B.add(i, 1), inner[1], count, factor))
    cond = Graph((I, F, I, F), (B.less(i, count),))
    graph = Graph((I, F), (B.while_loop(B.like(n, 0), B.like(w, 1.0), n, w, cond=cond, body=body)[1],))
    counts, factors = np.array([3, 0, 5, 1]), np.array([0.5, 2.0, -1.0, 3.0])
    against_a_loop(graph, [counts, factors], (True, True), 4)
    against_a_loop(graph, [counts, np.float64(0.5)], (True, False), 4)
    against_a_loop(graph, [np.int64(4), factors], (False, True), 4)


def test_factorisations_in_a_branch_not_taken() -> None:
    """A matrix that is not positive definite is no error where its branch is not taken."""
    m = TensorType(float64, (2, 2))
    p, x = inputs(TensorType(bool_, ()), m)
    (y,) = inputs(m)
    graph = Graph((p.type, m), (B.cond(p, x, then=Graph((m,), (B.cholesky(y),)), else_=Graph((m,), (y,))),))
    matrices = np.array([[[4.0, 1.0], [1.0, 3.0]], [[0.0, 2.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 9.0]]])
    against_a_loop(graph, [np.array([True, False, True]), matrices], (True, True), 3)


def test_nothing_that_no_example_differs_in_is_batched() -> None:
    x, w = inputs(V, V)
    graph = Graph((V, V), (B.add(B.tanh(x), B.exp(w)), B.exp(w)))
    whole, flags = batch_graph(B, graph, (True, False), 7)
    assert flags == (True, False)
    assert whole.outputs[1] is graph.outputs[1]


def test_batches_of_batches() -> None:
    """Twice batched in either order: what is batched first is axis 1."""
    x, w = inputs(TensorType(float64, (2, 3)), TensorType(float64, (3,)))
    y = B.dot(x, w, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))
    graph = Graph((x.type, w.type), (y, B.take(w, constant(np.array([2, 0])), axis=0, mode="raise")))
    once, _ = batch_graph(B, graph, (False, True), 4)
    arrays = [np.random.default_rng(3).normal(size=s) for s in ((5, 2, 3), (5, 4, 3))]
    whole, _ = batch_graph(B, once, (True, True), 5)
    for e in range(5):
        for found, y in zip(evaluate(whole, arrays), evaluate(once, [arrays[0][e], arrays[1][e]]), strict=True):
            assert np.allclose(found[e], y, rtol=1e-14)


# -- random graphs --------------------------------------------------------------------------------------------------------

WITHOUT_EFFECTS = [op for op in DRAWN if not op.effect]


def _examples(arrays: Sequence[Array], flags: Sequence[bool], size: int) -> list[list[Array]]:
    """The arguments of each example: the first as they are, then floats a little larger each time."""

    def scaled(x: Array, e: int) -> Array:
        return np.asarray(x * (1 + e / 64), x.dtype) if dtypes.from_numpy(x.dtype).is_float else x

    return [[scaled(x, e) if f else x for x, f in zip(arrays, flags, strict=True)] for e in range(size)]


def _check_random_graph(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = random_graph(seed, WITHOUT_EFFECTS)
    graph, size = drawn.graph, int(random.integers(1, 4))
    flags = [bool(f) for f in random.integers(0, 2, len(drawn.arrays))]
    if flags:
        flags[random.integers(len(flags))] = True
    examples = _examples(drawn.arrays, flags, size)
    try:
        known = [shadow(graph, arrays) for arrays in examples]
    except (GraphcError, np.linalg.LinAlgError):
        examples = [list(drawn.arrays)] * size  # what is in range for one example is not for another
        known = [shadow(graph, arrays) for arrays in examples]
    columns = list(zip(*examples, strict=True))
    batched = [np.stack(c) if f else c[0] for c, f in zip(columns, flags, strict=True)]
    whole, found_flags = batch_graph(B, graph, flags, size)
    verify(whole)
    _, compiled, _ = compile_stages(whole, {}, Options(contract=False))
    for results in (evaluate(whole, batched), Executable(compiled.artifact).run(batched)):
        for output, y, flag in zip(graph.outputs, results, found_flags, strict=True):
            for e, values in enumerate(known):
                good = agrees(values[output], np.asarray(y[e] if flag else y))
                assert np.all(good), f"seed {seed}, {output}, example {e} of {size}, inputs batched {flags}"


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    _check_random_graph(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(40, 2040, 40))
def test_more_random_graphs(start: int) -> None:
    for seed in range(start, start + 40):
        _check_random_graph(seed)
