"""The compile driver's cache key: code is taken from the disk cache only where it is the code that would be made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphc.ops  # noqa: F401  fills the registry
from graphc.dtypes import float32
from graphc.frontend.build import Options, build
from graphc.ir.graph import Graph, Value, input_value
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType

B = GraphBuilder()
TYPE = TensorType(float32, (64,))
RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GRAPHC_CACHE", "on")
    monkeypatch.delenv("GRAPHC", raising=False)


def _inputs(count: int) -> list[Value]:
    return [input_value(i, TYPE) for i in range(count)]


def _fused() -> Graph:
    x, y, z = _inputs(3)
    return Graph((TYPE,) * 3, (B.add(B.multiply(x, y), z),), "f")


def _arrays(count: int) -> list[np.ndarray]:
    return [RNG.normal(size=64).astype(np.float32) for _ in range(count)]


def test_the_second_build_comes_from_the_cache_whatever_the_name() -> None:
    graph = _fused()
    assert not build(graph, {}, Options()).from_cache
    assert build(Graph(graph.inputs, graph.outputs, "other", ("a", "b", "c")), {}, Options()).from_cache


def test_contraction_is_part_of_the_key() -> None:
    x, y, z = _arrays(3)
    once = (x.astype(np.float64) * y + z).astype(np.float32)
    twice = x * y + z
    assert (once != twice).any()
    for contract, expected in ((True, once), (False, twice), (True, once), (False, twice)):
        (found,) = build(_fused(), {}, Options(contract=contract)).executable.run([x, y, z])
        assert np.array_equal(found, expected), contract


def test_writes_are_part_of_the_key() -> None:
    x, y = _inputs(2)
    graph = Graph((TYPE, TYPE), (B.add(x, y), B.multiply(x, y)), "f")
    for writes in ({}, {0: 0}, {0: 1}, {1: 0}, {0: 0, 1: 1}):
        a, b = _arrays(2)
        old = a.copy(), b.copy()
        results = build(graph, writes, Options()).executable.run([a, b])
        expected = old[0] + old[1], old[0] * old[1]
        assert all(np.array_equal(r, e) for r, e in zip(results, expected, strict=True)), writes
        for k, argument in enumerate((a, b)):
            written = [o for o, i in writes.items() if i == k]
            assert np.array_equal(argument, expected[written[0]] if written else old[k]), writes


def test_constants_and_structure_are_part_of_the_key() -> None:
    (x,) = _inputs(1)
    a = _arrays(1)[0]
    for number in (1.0, 2.0, -0.0, 0.0):
        graph = Graph((TYPE,), (B.divide(x, B.like(x, number)),), "f")
        with np.errstate(all="ignore"):
            expected = a / np.float32(number)
        (found,) = build(graph, {}, Options()).executable.run([a])
        assert np.array_equal(found, expected), number
