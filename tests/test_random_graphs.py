"""10,000 random graphs, evaluated in every way there is (`tests/differential.py`); a few hundred of them in the normal run.

A failing graph is made small and written, and the message says how to replay it.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differential import PIPELINES, faults, main, report
from randomgraphs import DRAWN, NOT_DRAWN, RandomGraph, random_graph
from randomvalues import UNDRAWN_DTYPES
from shadow import agrees, has_rule, shadow

from graphc import dtypes
from graphc.dtypes import float32
from graphc.errors import DTypeError
from graphc.ir import registry
from graphc.ir.graph import Graph, input_value
from graphc.ir.op import Elementwise, GraphBuilder, Reduction
from graphc.ir.parser import load
from graphc.ir.types import TensorType
from graphc.tools.cli import main as graphc
from graphc.tools.reduction import Case, shrink

COUNT = 10_000
NORMAL = 200
CHUNK = 20

#: How the seeds are split: most graphs are compiled strictly, some with contraction.
STRICT, CONTRACTED = range(0, 8_500), range(8_500, COUNT)


def _chunks(seeds: range) -> list[range]:
    return [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]


def _name(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def _check(seed: int, tmp_path: Path, contract: bool = False) -> None:
    """Besides the usual pipeline a graph is compiled without the optimiser, and, in turn, without one of the passes."""
    made = random_graph(seed)
    unoptimised, *others = PIPELINES
    pipelines = (unoptimised, others[seed % len(others)])
    found = faults(made.graph, made.arrays, contract=contract, pipelines=pipelines)
    if found:
        pytest.fail(report(made.graph, made.arrays, found, tmp_path / f"random{seed}.gir", contract=contract))


@pytest.mark.parametrize("seeds", _chunks(STRICT[:NORMAL]), ids=_name)
def test_all_evaluations_agree(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", _chunks(STRICT[NORMAL:]), ids=_name)
def test_more_evaluations_agree(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, tmp_path)


@pytest.mark.parametrize("seeds", _chunks(CONTRACTED[:40]), ids=_name)
def test_within_bounds_with_contraction(seeds: range, tmp_path: Path) -> None:
    """A product and a sum may be rounded once: within the bounds for that."""
    for seed in seeds:
        _check(seed, tmp_path, contract=True)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", _chunks(CONTRACTED[40:]), ids=_name)
def test_more_within_bounds_with_contraction(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, tmp_path, contract=True)


# -- what the graphs are worth ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some() -> list[RandomGraph]:
    return [random_graph(seed) for seed in range(600)]


def _accepted() -> set[tuple[str, str]]:
    """Pairs of op and dtype of the first operand that are legal at all."""
    found = set()
    for op in DRAWN:
        for d in (d for d in dtypes.ALL if d not in UNDRAWN_DTYPES):
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


def test_every_op_is_drawn_or_there_is_a_reason() -> None:
    """A new op needs a step in tests/randomnodes.py, and a rule in tests/enclosures.py or tests/arrayenclosures.py."""
    names = {op.name for op in registry.all_ops()}
    assert {op.name for op in DRAWN} == names - NOT_DRAWN.keys() and NOT_DRAWN.keys() <= names
    assert all(NOT_DRAWN.values()) and all(UNDRAWN_DTYPES.values())
    assert not [op.name for op in DRAWN if not has_rule(op)]


def test_coverage(some: list[RandomGraph]) -> None:
    """Every op occurs often; nearly every elementwise op and reduction with nearly every dtype that it takes."""
    covered: Counter[tuple[str, str]] = Counter()
    for made in some:
        covered.update(made.coverage())
    names = [d.name for d in dtypes.ALL if d not in UNDRAWN_DTYPES]
    table = [f"{'op':18}{''.join(f'{n:>7}' for n in names)}"]
    table += [f"{op.name:18}{''.join(f'{covered[op.name, n] or chr(46):>7}' for n in names)}" for op in DRAWN]
    print("\n".join(table), file=sys.stderr)
    by_op = Counter({op.name: sum(covered[op.name, n] for n in (*names, "")) for op in DRAWN})
    rare = {name: count for name, count in by_op.items() if count < 4}
    assert not rare, rare
    legal = _accepted()
    missing = sorted(pair for pair in legal if not covered[pair])
    assert len(missing) <= 0.08 * len(legal), missing


def test_values_are_worth_comparing(some: list[RandomGraph]) -> None:
    """At least nine tenths of the outputs are finite and vary, and nearly all of their elements are bounded; sizes 0 and 1,
    odd sizes, several outputs and shared values all occur."""
    good = total = elements = exact = 0
    bounded = 0.0
    kinds: Counter[str] = Counter()
    for made in some:
        found = shadow(made.graph, made.arrays)
        kinds["several outputs"] += len(made.graph.outputs) > 1
        users = Counter(x for node in made.graph.nodes for x in node.operands)
        kinds["shared values"] += any(count > 1 and x.node.op.name != "input" for x, count in users.items())
        for v in (v for v in made.graph.outputs if v in found):
            s = found[v]
            total += 1
            exact += s.bits
            finite = bool(np.isfinite(s.value).all()) if s.is_float else True
            varies = s.value.size <= 1 or bool((s.value != s.value.flat[0]).any())
            good += finite and varies
            if s.value.size:  # each output counts alike: one large one shall not decide
                bounded += float(s.bounded.mean())
                elements += 1
            kinds["empty"] += s.value.size == 0
            kinds["one"] += s.value.size == 1
            kinds["odd"] += s.value.size > 1 and s.value.size % 2 == 1
            kinds[f"rank {s.value.ndim}"] += 1
    print(
        f"{good} of {total} outputs finite and varying, {exact} compared by bits, "
        f"{bounded / elements:.4f} of their elements bounded, {kinds}",
        file=sys.stderr,
    )
    assert good >= 0.9 * total
    assert bounded >= 0.98 * elements
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
        assert 10 <= len(first.graph.nodes) <= 80


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
    """A predicate that says that any graph with a tanh fails: what is left is one tanh of one element."""

    def fails(case: Case) -> bool:
        return any(n.op.name == "tanh" for n in case.graph.nodes)

    made = next(m for m in map(random_graph, range(1000)) if fails(Case(m.graph, m.arrays)) and m.arrays[0].ndim)
    small = shrink(Case(made.graph, made.arrays), fails)
    assert [n.op.name for n in small.graph.nodes if n.op.name != "constant"] == ["input", "tanh"]
    assert len(small.arrays) == 1 and small.arrays[0].size <= 1


def test_a_fault_is_found_made_small_written_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowering of rint forgets to round: the whole way from a failing graph to a replayed file."""
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    seeds = (m for m in map(random_graph, range(1000)) if any(n.op.name == "rint" for n in m.graph.nodes))
    path = tmp_path / "found.gir"
    with monkeypatch.context() as patch:
        patch.setitem(vars(registry.get("rint")), "scalar", lambda s, x: s.trunc(x))
        made, found = next((m, f) for m in seeds if (f := faults(m.graph, m.arrays, pipelines=())))
        text = report(made.graph, made.arrays, found, path)
        assert f"replay: python tests/differential.py {path}" in text
        small = load(path)
        assert [n.op.name for n in small.nodes if n.op.name not in ("input", "constant", "broadcast")] == ["rint"]
        assert _quietly(lambda: main(path, False)) == (1, True)
        assert graphc(["replay", str(path), "--no-contract", "--reduce", str(tmp_path / "again.gir")]) == 1
        assert load(tmp_path / "again.gir").same_as(small)
    assert _quietly(lambda: main(path, False)) == (0, False)
    assert graphc(["replay", str(path)]) == 0


def _quietly(run: Any) -> tuple[int, bool]:
    """The exit code, and whether the compiled code was blamed."""
    with redirect_stdout(io.StringIO()) as printed:
        code = run()
    return code, re.search(r"^compiled", printed.getvalue(), re.MULTILINE) is not None
