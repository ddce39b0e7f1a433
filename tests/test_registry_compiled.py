"""Every op, compiled: many samples in one graph, through the whole pipeline, against the op's NumPy definition.

Samples cover dtypes, ranks, empty and odd sizes and special values (`tests/samples.py`); `oracle.fault` says what is right.
An op whose samples do not compile fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from oracle import fault, same_bits
from samples import Sample, samples

import graphc as gx
import graphc.ops
from graphc.codegen.compiler import compile_graph
from graphc.dtypes import DType, float64, from_numpy, int32, int64, uint32, uint64
from graphc.errors import BoundsError
from graphc.frontend.build import Options, compile_stages
from graphc.frontend.promotion import as_tensor
from graphc.frontend.tensor import apply
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, Value, constant, input_value, make
from graphc.ir.op import Elementwise, Host, Indexing, Op
from graphc.ir.parser import parse
from graphc.ir.printer import large_literals, to_text
from graphc.ir.types import TensorType, Type
from graphc.ir.verify import verify
from graphc.passes.fold import ConstantFold
from graphc.passes.fusion import fuse
from graphc.passes.inline import InlineComposites
from graphc.passes.manager import run_pipeline
from graphc.passes.pipelines import LOWER
from graphc.passes.split import Split
from graphc.passes.widen import Widen
from graphc.runtime.executable import Executable

#: Samples in one graph.
BUNDLE = 50

OPS = list(registry.all_ops())
each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


def bundle(op: Op, chosen: Sequence[Sample]) -> tuple[Graph, list[Any]]:
    """One graph that applies the op to every sample, and its arguments. (NumPy gives scalars for rank 0: made arrays.) Effects
    hang on one chain of tokens."""
    types: list[Type] = []
    arrays: list[Any] = []
    outputs: list[Value] = []
    token = None
    for sample in chosen:
        if op.name == "input":
            sample = Sample((np.zeros(sample.attrs["type"].shape, np.float32),))
        operands: list[Value] = []
        for x, type_ in zip(sample.operands, sample.types, strict=True):
            if x is None:
                operands.append(token or make("create_token").result)
                continue
            operands.append(input_value(len(types), type_))
            types.append(type_)
            arrays.append(np.asarray(x))
        results = operands if op.name == "input" else make(op, operands, **sample.attrs).results
        for value in results:
            if isinstance(value.type, TensorType):
                outputs.append(value)
            else:
                token = value
    outputs += [] if token is None else [token]
    return Graph(tuple(types), tuple(outputs), op.name), arrays


def run(graph: Graph, arrays: Sequence[Any], contract: bool) -> list[Any]:
    _, compiled, _ = compile_stages(graph, {}, Options(contract=contract))
    return Executable(compiled.artifact).run(arrays)


@pytest.mark.parametrize("contract", [False, True], ids=["strict", "contract"])
@each_op
def test_compiled_against_numpy(op: Op, contract: bool) -> None:
    """A node by itself has no product and sum to contract: both settings are held to the same judge."""
    found = samples(op)
    for start in range(0, len(found), BUNDLE):
        chosen = found[start : start + BUNDLE]
        graph, arrays = bundle(op, chosen)
        before = [x.copy() for x in arrays]
        results = iter(run(graph, arrays, contract))
        for sample in chosen:
            expected = op.evaluate(sample.operands, sample.attrs) if op.name != "input" else (arrays[0],)
            for y in (y for y in expected if y is not None):
                wrong = fault(op, sample, next(results), y)
                assert not wrong, wrong
        assert next(results, None) is None
        assert all(same_bits(x, y) for x, y in zip(arrays, before, strict=True)), "an input was overwritten"


@each_op
def test_text_round_trip(op: Op) -> None:
    graph, _ = bundle(op, samples(op))
    verify(graph)
    arrays = {digest: literal.array for digest, literal in large_literals(graph).items()}
    assert parse(to_text(graph), constants=arrays).same_as(graph)


def _values_only(op: Op) -> list[Sample]:
    """The samples that take no token."""
    return [s for s in samples(op) if all(x is not None for x in s.operands)]


@each_op
def test_operands_that_are_splats(op: Op) -> None:
    """Operands that are broadcast literals have no memory of their own. (Without the optimiser, which folds most of them.)"""
    if isinstance(op, Host):
        pytest.skip("operands of Python functions have memory, and matrices of equal elements are singular")
    chosen = [s for s in _values_only(op) if all(x.size for x in s.operands) and any(x.size > 1 for x in s.operands)]
    cases: list[tuple[Sample, tuple[Any, ...]]] = []
    outputs: list[Value] = []
    for sample in chosen[:: max(1, len(chosen) // 20)]:
        filled = [np.full(x.shape, x.flat[0], x.dtype) for x in map(np.asarray, sample.operands)]
        splat = Sample(tuple(filled), sample.attrs, sample.special)
        scalars = [constant(x.flat[0]) for x in filled]
        operands = [make("broadcast", (c,), shape=x.shape).result for c, x in zip(scalars, filled, strict=True)]
        outputs += make(op, operands, **sample.attrs).results
        cases.append((splat, op.evaluate(filled, sample.attrs)))
    graph = InlineComposites().run(Graph((), tuple(outputs), op.name))
    compiled = compile_graph(fuse(Widen().run(Split().run(graph))), contract=False)
    results = iter(Executable(compiled.artifact).run([]))
    for splat, expected in cases:
        for y in expected:
            wrong = fault(op, splat, next(results), y)
            assert not wrong, wrong


@each_op
def test_operands_that_are_constants(op: Op) -> None:
    """Without the optimiser, which folds many."""
    chosen = [s for s in _values_only(op) if s.operands and not any(np.size(x) > 40 for x in s.operands)]
    chosen = chosen[:: max(1, len(chosen) // 20)]
    results = [make(op, [constant(x) for x in s.operands], **s.attrs).results for s in chosen]
    graph = run_pipeline(LOWER, Graph((), tuple(v for values in results for v in values), op.name)).graph
    found = iter(Executable(compile_graph(graph, contract=False).artifact).run([]))
    for sample in chosen:
        for y in op.evaluate(sample.operands, sample.attrs):
            wrong = fault(op, sample, next(found), y)
            assert not wrong, wrong


@each_op
def test_operands_that_are_empty_constants(op: Op) -> None:
    """Arrays without elements have an address, also where no other constant is."""
    chosen = [s for s in _values_only(op) if any(np.size(x) == 0 for x in s.operands)]
    for sample in chosen[:: max(1, len(chosen) // 4)]:
        held = [np.asarray(x) for x in sample.operands if np.size(x)]
        types = tuple(TensorType(from_numpy(x.dtype), x.shape) for x in held)
        given = iter([input_value(k, t) for k, t in enumerate(types)])
        operands = [next(given) if np.size(x) else constant(x) for x in sample.operands]
        graph = run_pipeline(LOWER, Graph(types, make(op, operands, **sample.attrs).results, op.name)).graph
        found = Executable(compile_graph(graph, contract=False).artifact).run(held)
        for y, expected in zip(found, op.evaluate(sample.operands, sample.attrs), strict=True):
            assert not (wrong := fault(op, sample, y, expected)), wrong


@each_op
def test_folding(op: Op) -> None:
    """Constant folding gives the bits of the op's NumPy definition; what may not be folded is left alone."""
    chosen = [s for s in _values_only(op) if s.operands and np.prod([x.size for x in s.operands]) > 0]
    chosen = chosen[:: max(1, len(chosen) // 30)]
    outputs = [v for s in chosen for v in make(op, [constant(x) for x in s.operands], **s.attrs).results]
    folded = ConstantFold().run(Graph((), tuple(outputs), op.name))
    expected = [y for s in chosen for y in op.evaluate(s.operands, s.attrs)]
    for value, y, before in zip(folded.outputs, expected, outputs, strict=True):
        if value.node.op.name == "constant":
            assert same_bits(value.node.attrs["value"].array, np.asarray(y)), before
    if isinstance(op, Elementwise) and op.exact:
        assert all(v.node.op.name == "constant" for v in folded.outputs if v.shape in ((), (5,)))


# -- strides ----------------------------------------------------------------------------------------------------------


def _strided(x: Any) -> list[Any]:
    """Views with the same elements and other strides: Fortran order, every other element, reversed, misaligned."""
    spread = np.zeros((*(2 * n for n in x.shape),), x.dtype)[tuple(slice(None, None, 2) for _ in x.shape)]
    turned = np.empty(x.shape, x.dtype)[tuple(slice(None, None, -1) for _ in x.shape)]
    block = np.zeros(x.nbytes + 1, np.uint8)[1:]
    crooked = np.frombuffer(block.data, x.dtype, count=x.size).reshape(x.shape) if x.size else x.copy()
    views = [np.asfortranarray(x).view(), spread, turned, crooked]
    for view in views[1:]:
        view[...] = x
    return views


@each_op
def test_any_strides(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the frontend: the bits do not depend on the operands' memory layout."""
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    chosen = [s for s in _values_only(op) if any(np.ndim(x) for x in s.operands) and s.operands[0].size]
    chosen = chosen[:: max(1, len(chosen) // 6)]
    if not chosen:
        assert op.effect or not samples(op) or op.name in ("input", "constant", "iota", "create_token")
        return

    @gx.compile(contract=False)
    def function(*arrays: Any) -> list[Any]:
        tensors = iter(as_tensor(x) for x in arrays)
        return [y for s in chosen for y in apply(op, [next(tensors) for _ in s.operands], s.attrs)]

    arrays = [np.asarray(x) for s in chosen for x in s.operands]
    expected = [np.asarray(y) for y in function(*arrays)]
    for k in range(4):
        views = [_strided(x)[k] if x.ndim else x for x in arrays]
        for found, y in zip(function(*views), expected, strict=True):
            assert same_bits(np.asarray(found), y), k
    assert function.stats.compiles == 1
    assert function.stats.copies > 0


# -- range checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [op.name for op in OPS if isinstance(op, Indexing)])
@pytest.mark.parametrize("bad", [5, -6, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_an_error(name: str, bad: int) -> None:
    indices = np.array([0, 4, bad, 1], np.int32)
    operands = [np.arange(5.0), indices] + ([np.ones(4)] if name != "take" else [])
    sample = Sample(tuple(operands), {"axis": 0, "mode": "raise"})
    graph, arrays = bundle(registry.get(name), [sample])
    with pytest.raises(BoundsError, match=f"index {bad} is out of bounds"):
        run(graph, arrays, contract=True)
    arrays[1][2] = -5
    (found,) = run(graph, arrays, contract=True)
    (expected,) = registry.get(name).evaluate(arrays, sample.attrs)
    assert same_bits(found, expected)


@pytest.mark.parametrize("mode", ["wrap", "clip", "raise"])
@pytest.mark.parametrize("dtype", [int32, int64, uint32, uint64], ids=str)
def test_indices_at_the_limits_of_their_dtype(mode: str, dtype: DType) -> None:
    """With an axis of known and of symbolic size: in `wrap` and `clip` every index is legal, unless the axis is empty."""
    limits = np.iinfo(dtype.numpy)
    for size in (5, symbol(0)):
        types = (TensorType(float64, (size,)), TensorType(dtype, (2,)))
        x, indices = (input_value(k, t) for k, t in enumerate(types))
        graph = Graph(types, make("take", (x, indices), axis=0, mode=mode).results)
        _, compiled, _ = compile_stages(graph, {}, Options())
        executable = Executable(compiled.artifact)
        for index in (limits.min, limits.min + 1, 0, 4, 5, limits.max - 1, limits.max):
            arrays = [np.arange(5.0), np.array([index, 1], dtype.numpy)]
            if mode == "raise" and not -5 <= index < 5:
                with pytest.raises(BoundsError):
                    executable.run(arrays)
                continue
            assert same_bits(executable.run(arrays)[0], evaluate(graph, arrays)[0]), index
        if size != 5:
            with pytest.raises(BoundsError):
                executable.run([np.zeros(0), np.zeros(2, dtype.numpy)])
