"""1,000 random graphs, evaluated in every way there is (`tests/differential.py`); a quarter of them in the normal run."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from differential import faults, report, shrink
from randomgraphs import DRAWN, RandomGraph, random_graph
from shadow import agrees, shadow

from graphc import dtypes
from graphc.dtypes import float32
from graphc.errors import DTypeError
from graphc.ir.graph import Graph, input_value
from graphc.ir.op import Elementwise, GraphBuilder, Reduction
from graphc.ir.types import TensorType

COUNT = 1000
NORMAL = 250
CHUNK = 25


def _chunks(first: int, last: int) -> list[range]:
    return [range(k, k + CHUNK) for k in range(first, last, CHUNK)]


def _seeds(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def _check(seed: int, tmp_path: Path, contract: bool = False) -> None:
    made = random_graph(seed)
    found = faults(made.graph, made.arrays, contract=contract)
    if found:
        pytest.fail(report(made.graph, made.arrays, found, tmp_path / f"random{seed}.gir", contract=contract))


@pytest.mark.parametrize("seeds", _chunks(0, NORMAL), ids=_seeds)
def test_all_evaluations_agree(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", _chunks(NORMAL, COUNT), ids=_seeds)
def test_more_evaluations_agree(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, tmp_path)


@pytest.mark.parametrize("seeds", _chunks(COUNT, COUNT + 50), ids=_seeds)
def test_within_bounds_with_contraction(seeds: range, tmp_path: Path) -> None:
    """A product and a sum may be rounded once: within the bounds for that."""
    for seed in seeds:
        _check(seed, tmp_path, contract=True)


# -- what the graphs are worth ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some() -> list[RandomGraph]:
    return [random_graph(seed) for seed in range(3 * NORMAL)]


def _accepted() -> set[tuple[str, str]]:
    """Pairs of op and dtype of the first operand that are legal at all."""
    found = set()
    for op in DRAWN:
        for d in dtypes.ALL:
            try:
                if isinstance(op, Elementwise) and op.name not in ("convert", "select"):
                    op.types(*(d,) * op.arity)
                elif isinstance(op, Reduction):
                    op.types(d)
                elif not isinstance(op, Elementwise) or op.name == "select":
                    continue
            except DTypeError:
                continue
            found.add((op.name, d.name))
    return found


def test_coverage(some: list[RandomGraph]) -> None:
    """Every op occurs often; nearly every elementwise op and reduction with nearly every dtype that it takes."""
    covered: Counter[tuple[str, str]] = Counter()
    for made in some:
        covered.update(made.coverage())
    names = [d.name for d in dtypes.ALL]
    table = [f"{'op':18}{''.join(f'{n:>7}' for n in names)}"]
    table += [f"{op.name:18}{''.join(f'{covered[op.name, n] or chr(46):>7}' for n in names)}" for op in DRAWN]
    print("\n".join(table), file=sys.stderr)
    by_op = Counter({op.name: sum(covered[op.name, n] for n in names) for op in DRAWN})
    rare = {name: count for name, count in by_op.items() if count < 5}
    assert not rare, rare
    legal = _accepted()
    missing = sorted(pair for pair in legal if not covered[pair])
    assert len(missing) <= 0.06 * len(legal), missing


def test_values_are_worth_comparing(some: list[RandomGraph]) -> None:
    """At least nine tenths of the outputs are finite and vary, and nine tenths of their elements are bounded; sizes 0 and 1,
    odd sizes, several outputs and shared values all occur."""
    good = total = bounded = elements = exact = 0
    kinds: Counter[str] = Counter()
    for made in some:
        found = shadow(made.graph, made.arrays)
        kinds["several outputs"] += len(made.graph.outputs) > 1
        users = Counter(x for node in made.graph.nodes for x in node.operands)
        kinds["shared values"] += any(count > 1 and x.node.op.name != "input" for x, count in users.items())
        for v in made.graph.outputs:
            s = found[v]
            total += 1
            exact += s.bits
            finite = bool(np.isfinite(s.value).all()) if s.is_float else True
            varies = s.value.size <= 1 or bool((s.value != s.value.flat[0]).any())
            good += finite and varies
            bounded += int(s.bounded.sum())
            elements += s.value.size
            kinds["empty"] += s.value.size == 0
            kinds["one"] += s.value.size == 1
            kinds["odd"] += s.value.size > 1 and s.value.size % 2 == 1
            kinds[f"rank {s.value.ndim}"] += 1
    print(f"{good} of {total} outputs finite and varying, {exact} compared by bits, {kinds}", file=sys.stderr)
    assert good >= 0.9 * total
    assert bounded >= 0.99 * elements
    assert 0.7 * total <= exact <= 0.95 * total
    assert min(kinds[k] for k in ("empty", "one", "odd", "several outputs", "shared values")) >= 10, kinds
    assert min(kinds[f"rank {r}"] for r in range(4)) >= 10, kinds


# -- that the tools work ----------------------------------------------------------------------------------------------

B = GraphBuilder()


def test_generator_is_deterministic() -> None:
    for seed in (0, 7):
        first, second = random_graph(seed), random_graph(seed)
        assert first.graph.same_as(second.graph)
        assert all(np.array_equal(x, y) for x, y in zip(first.arrays, second.arrays, strict=True))
        assert 10 <= len(first.graph.nodes) <= 60


def test_bounds_are_tight() -> None:
    """tanh(x) + sum(y): an error of some ulp is outside of the bounds, and so is a flipped bit of an exact result."""
    types = (TensorType(float32, (50,)), TensorType(float32, (50,)))
    x, y = (input_value(i, t) for i, t in enumerate(types))
    total = B.broadcast(B.sum(y, axes=(0,)), shape=(50,))
    arrays = [np.linspace(0.1, 2, 50, dtype=np.float32), np.linspace(1, 2, 50, dtype=np.float32)]
    graph = Graph(types, (B.tanh(x), B.add(B.tanh(x), total), B.multiply(x, y)))
    exact, summed, product = (shadow(graph, arrays)[v] for v in graph.outputs)
    ulp = np.spacing(exact.value)
    assert agrees(exact, exact.value + ulp).all() and not agrees(exact, exact.value + 16 * ulp).any()
    close = summed.value * (1 + 50 * 2.0**-23)
    assert agrees(summed, close.astype(np.float32)).all()
    assert not agrees(summed, (summed.value * np.float32(1.001))).any()
    assert product.known.all() and not agrees(product, np.nextafter(product.value, np.float32(9))).any()


def test_decisions_within_errors_are_not_compared() -> None:
    """exp(x) > exp(x) rounded otherwise: not known where they meet, known elsewhere."""
    types = (TensorType(float32, (3,)), TensorType(float32, (3,)))
    x, y = (input_value(i, t) for i, t in enumerate(types))
    graph = Graph(types, (B.greater(B.exp(x), y), B.argmax(B.exp(x), axes=(0,))))
    values = np.array([1.0, 1.0, 0.0], np.float32)
    near, position = (shadow(graph, [values, np.exp(values) * np.float32([1, 2, 0.5])])[v] for v in graph.outputs)
    assert near.known.tolist() == [False, True, True]
    assert not position.known


def test_shrinking_finds_the_guilty_node() -> None:
    """A predicate that says that any graph with a tanh of many elements fails: what is left is one tanh."""

    def fails(graph: Graph, arrays: object) -> bool:
        return any(n.op.name == "tanh" for n in graph.nodes)

    made = next(m for m in map(random_graph, range(1000)) if fails(m.graph, ()))
    small, arrays = shrink(made.graph, made.arrays, fails)
    assert [n.op.name for n in small.nodes if n.op.name != "constant"] == ["input", "tanh"]
    assert len(arrays) == 1
