"""Helpers for tests of whole compilations: build graphs in a few words, compile them, compare with the evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import graphc.ops  # noqa: F401 - declares the ops
from graphc.codegen.compiler import Compiled, compile_graph
from graphc.dtypes import DType
from graphc.interp import evaluate
from graphc.ir.graph import Graph, Value, input_value
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType
from graphc.passes.fusion import fuse
from graphc.runtime.executable import Executable

b = GraphBuilder()


def inputs(*types: tuple[DType, tuple[int, ...]]) -> tuple[Value, ...]:
    """The inputs of a graph, by dtype and shape."""
    return tuple(input_value(i, TensorType(d, s)) for i, (d, s) in enumerate(types))


def graph(values: Sequence[Value], outputs: Sequence[Value]) -> Graph:
    return Graph(tuple(v.type for v in values), tuple(outputs), "test")


def spread(x: Value, shape: tuple[int, ...]) -> Value:
    """Broadcast to a shape."""
    return b.broadcast(x, shape=shape)


def matmul(x: Value, y: Value) -> Value:
    return b.dot(x, y, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))


def flip(x: Value) -> Value:
    return b.transpose(x, perm=tuple(reversed(range(len(x.shape)))))


def sample(type_: TensorType, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random elements; integers small enough to be legal sizes of everything."""
    if type_.dtype.is_float:
        return rng.standard_normal(type_.shape).astype(type_.dtype.numpy)
    if type_.dtype.is_bool:
        return np.asarray(rng.random(type_.shape) < 0.5)
    return rng.integers(0, 3, type_.shape).astype(type_.dtype.numpy)


def run(
    g: Graph,
    arrays: Sequence[np.ndarray[Any, Any]] | None = None,
    writes: Mapping[int, int] | None = None,
    *,
    fused: bool = True,
    contract: bool = True,
    seed: int = 0,
) -> tuple[list[Any], list[Any], Compiled, list[Any]]:
    """Compile and call: (results, the evaluator's results, what was compiled, the input arrays after the call).

    The original arrays are copied first, results that are written into inputs are compared where they are.
    """
    rng = np.random.default_rng(seed)
    given = [sample(t, rng) for t in g.inputs] if arrays is None else arrays  # type: ignore[arg-type]
    expected = evaluate(g, [np.array(a) for a in given])
    compiled = compile_graph(fuse(g) if fused else g, writes=writes, contract=contract, verify=True)
    own = [np.array(a, order="C") for a in given]
    results = Executable(compiled.artifact).run(own)
    for k, j in (writes or {}).items():
        assert results[k] is own[j] or np.shares_memory(results[k], own[j]) or not own[j].size
    untouched = set(range(len(own))) - set((writes or {}).values())
    for j in untouched:
        np.testing.assert_array_equal(own[j], given[j], err_msg=f"input {j} was overwritten")
    return results, list(expected), compiled, own


def agree(g: Graph, tolerance: float | None = 1e-5, **options: Any) -> Compiled:
    """Compiled results agree with the evaluator's: exactly (tolerance None) or within a tolerance."""
    results, expected, compiled, _ = run(g, **options)
    for k, (got, want) in enumerate(zip(results, expected, strict=True)):
        assert got.dtype == want.dtype and got.shape == want.shape, k
        if tolerance is None or want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want, err_msg=f"output {k}")
        else:
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"output {k}")
    return compiled
