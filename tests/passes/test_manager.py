"""The pass manager, GRAPHC=check, and pipelines by text."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import graphs
import numpy as np
import pytest

from graphc.config import Config
from graphc.errors import GraphcError, ParseError, RuleError, VerifyError
from graphc.ir.graph import Graph, Node, Value, make, rebuild
from graphc.ir.parser import load
from graphc.passes import simplify
from graphc.passes.base import Journal, Preserves, Rewriter
from graphc.passes.check import check_pass, sample
from graphc.passes.fold import ConstantFold
from graphc.passes.manager import run_pipeline
from graphc.passes.patterns import Rule, Variable, rule
from graphc.passes.pipelines import OPTIMISE, PASSES, parse_passes
from graphc.passes.rules import EXACT
from graphc.passes.simplify import Simplify

B = graphs.B
T = graphs.tensor((4,))
X, Y = graphs.inputs(T, T)
x, y = Variable("x"), Variable("y")


def example() -> Graph:
    """-(-x) * 1 + (y - 0.0), and a tanh."""
    product = B.multiply(B.negative(B.negative(X)), 1.0)
    return Graph((T, T), (B.add(product, B.subtract(Y, 0.0)), B.tanh(X)), "example", ("x", "y"))


@dataclass(frozen=True)
class Broken(Rewriter):
    """Applies the rules given, of which some are wrong; claims what it is told to."""

    name: ClassVar[str] = "broken"
    rules: tuple[Rule, ...] = ()
    claim: Preserves = "values"

    @property
    def preserves(self) -> Preserves:
        return self.claim

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        return simplify.apply_rules(graph, self.rules, journal)


WRONG = rule("x - 0.0 --> -x", x - 0.0, lambda x: -x)
WRONG_ZERO = rule("0.0 - x --> -x", 0.0 - x, lambda x: -x)


def test_stages_and_counters() -> None:
    done = run_pipeline(OPTIMISE, example())
    assert [s.name for s in done.stages] == ["input", *(p.name for p in OPTIMISE)]
    simplified = done.stages[3]
    assert simplified.counters == {"-(-x) --> x": 1, "x * 1 --> x": 1, "x - 0.0 --> x": 1}
    assert done.graph.outputs == (B.add(X, Y), B.tanh(X))
    assert not done.stopped
    assert str(simplified).startswith("# simplify (")
    assert "#   1 x x * 1 --> x" in str(simplified)


def test_an_empty_pipeline() -> None:
    done = run_pipeline([], example())
    assert done.graph.same_as(example())
    assert len(done.stages) == 1


def test_passes_are_pure() -> None:
    graph = example()
    before = graph.outputs
    assert Simplify().run(graph).same_as(Simplify().run(graph))
    assert graph.outputs == before


def test_running_a_pass_again_changes_nothing() -> None:
    for graph in (example(), *graphs.named(), *(graphs.random_graph(s) for s in range(10))):
        once = run_pipeline(OPTIMISE, graph).graph
        assert run_pipeline(OPTIMISE, once).graph.same_as(once)


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_keep_their_values(seed: int) -> None:
    run_pipeline(OPTIMISE, graphs.random_graph(seed), config=Config(check=True, verify=True))


def test_locations_are_carried() -> None:
    graph = graphs.dense()
    done = run_pipeline(OPTIMISE, graph).graph
    assert done.locations[done.outputs[0].node] == graph.locations[graph.outputs[0].node]


def test_verify_names_the_pass() -> None:
    @dataclass(frozen=True)
    class Vandal(Rewriter):
        name: ClassVar[str] = "vandal"

        def apply(self, graph: Graph, journal: Journal) -> Graph:
            def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
                return Node.unchecked(node.op, operands[:1], {}, node.types).results

            return rebuild(graph, visit)

    graph = Graph((T, T), (B.add(X, Y),))
    with pytest.raises(VerifyError, match=r"after the pass 'vandal'.*\n(.*\n)*.*I4"):
        run_pipeline([Vandal()], graph, config=Config(verify=True))
    run_pipeline([Vandal()], graph)


def test_the_interface_is_always_checked() -> None:
    @dataclass(frozen=True)
    class Dropper(Rewriter):
        name: ClassVar[str] = "dropper"

        def apply(self, graph: Graph, journal: Journal) -> Graph:
            return Graph(graph.inputs, graph.outputs[:1])

    with pytest.raises(GraphcError, match=r"dropper.*interface"):
        run_pipeline([Dropper()], example())


def test_print_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    run_pipeline([Simplify(), Simplify()], example(), config=Config(print=True, time=True))
    text = capsys.readouterr().err
    assert text.count('graph "example"') == 2  # the second run changed nothing
    assert text.count("ms") >= 3
    run_pipeline([Simplify()], example())
    assert capsys.readouterr() == ("", "")


def test_dump(tmp_path: Path) -> None:
    config = Config(dump=str(tmp_path))
    for _ in range(2):
        done = run_pipeline(OPTIMISE, graphs.large(), config=config)
    for folder in ("large", "large.2"):
        files = sorted((tmp_path / folder).glob("*.gir"))
        assert [f.name for f in files][:2] == ["00-input.gir", "01-inline-composites.gir"]
        for file, stage in zip(files, done.stages, strict=True):
            assert load(file).same_as(stage.graph)


def test_stop_after() -> None:
    done = run_pipeline(OPTIMISE, example(), config=Config(stop_after="simplify"))
    assert [s.name for s in done.stages] == ["input", "inline-composites", "loops", "simplify"]
    assert done.stopped


def test_stop_after_a_pass_that_does_not_exist() -> None:
    run_pipeline([Simplify()], example(), config=Config(stop_after="fusion"))
    with pytest.raises(GraphcError, match="Did you mean 'simplify'"):
        run_pipeline([Simplify()], example(), config=Config(stop_after="simplfy"))


def test_changes(golden: Callable[[str], None]) -> None:
    text = run_pipeline(OPTIMISE, example()).changes()
    golden(re.sub(r"\d+\.\d+ ms", "... ms", text))
    assert run_pipeline([], example()).changes() == ""


# -- GRAPHC=check ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 3, len(EXACT)], ids=["first", "early", "last"])
def test_check_names_the_first_wrong_rule(first: int, golden: Callable[[str], None]) -> None:
    broken = Broken(
        (*EXACT[:first], WRONG, *EXACT[first:]) if first < 3 else (*[r for r in EXACT if "- 0.0" not in r.name], WRONG)
    )
    with pytest.raises(RuleError) as caught:
        run_pipeline([broken], example(), config=Config(check=True))
    golden(str(caught.value))


def test_check_finds_the_wrong_one_among_many_rewrites() -> None:
    value = X
    for i in range(40):
        value = B.negative(B.negative(B.tanh(value)))
        if i == 25:
            value = B.subtract(value, 0.0)
    graph = Graph((T, T), (value,))
    rules = (WRONG, *EXACT)
    with pytest.raises(RuleError, match=r"first by the rule 'x - 0.0 --> -x'"):
        run_pipeline([Broken(rules)], graph, config=Config(check=True))


def test_check_uses_the_arguments_of_the_call() -> None:
    """0.0 - x --> -x is wrong at x = 0.0 only: a normal sample misses it, the call's own arguments show it."""
    graph = Graph((T,), (B.subtract(0.0, X),))
    pipeline = [Broken((WRONG_ZERO,))]
    run_pipeline(pipeline, graph, config=Config(check=True))
    arguments = [np.array([1.0, 0.0, -0.0, 2.0], np.float32)]
    with pytest.raises(RuleError, match=r"first at \[1\]: was np.float32\(0.0\), is np.float32\(-0.0\)"):
        run_pipeline(pipeline, graph, config=Config(check=True), sample_arguments=arguments)


def test_check_leaves_passes_alone_that_promise_less() -> None:
    run_pipeline([Broken((WRONG,), claim="interface")], example(), config=Config(check=True))
    run_pipeline([Simplify(permit_value_changing=True)], example(), config=Config(check=True))


def test_check_blames_a_pass_that_is_wrong_without_any_rewrite() -> None:
    @dataclass(frozen=True)
    class Swap(Rewriter):
        name: ClassVar[str] = "swap"

        def apply(self, graph: Graph, journal: Journal) -> Graph:
            return Graph(graph.inputs, graph.outputs[::-1])

    with pytest.raises(RuleError, match="pass 'swap' changed a value\n"):
        run_pipeline([Swap()], example(), config=Config(check=True))


def test_check_tolerates_what_numpy_rounds_otherwise() -> None:
    """Sums in another order differ in the last bits; that is no fault. A wrong sum is one."""
    t = graphs.tensor((1000,))
    (v,) = graphs.inputs(t)
    before = Graph((t,), (B.sum(v, axes=(0,)),))
    halves = [B.sum(B.slice(v, start=(s,), size=(500,), step=(1,)), axes=(0,)) for s in (0, 500)]
    check_pass(Simplify(), before, Graph((t,), (B.add(*halves),)), None)
    with pytest.raises(RuleError, match="differs in 1 of 1"):
        check_pass(Simplify(), before, Graph((t,), (halves[0],)), None)


def test_check_notices_nan() -> None:
    before = Graph((T,), (B.sqrt(X),))
    with pytest.raises(RuleError, match="nan"):
        check_pass(Simplify(), before, Graph((T,), (B.sqrt(B.absolute(X)),)), [np.array([1, -1, 4, 0], np.float32)])


def test_check_of_a_call_that_fails_anyway() -> None:
    types = (T, graphs.tensor((1,), graphs.int64))
    values = graphs.inputs(*types)
    graph = Graph(types, (B.add(B.take(*values, axis=0, mode="raise"), 0.0),))
    run_pipeline(OPTIMISE, graph, config=Config(check=True), sample_arguments=[np.zeros(4, np.float32), np.array([9])])


@pytest.mark.parametrize("graph", graphs.named(), ids=lambda g: g.name)
def test_samples_fit(graph: Graph) -> None:
    arrays = sample(graph)
    assert [a is None for a in arrays] == [not hasattr(t, "shape") for t in graph.inputs]
    again = sample(graph)
    assert all(a is b or (a == b).all() for a, b in zip(arrays, again, strict=True))


# -- pipelines by text -----------------------------------------------------------------------------------------------


def test_parse_passes() -> None:
    assert parse_passes("") == ()
    assert parse_passes(" simplify ,constant-fold{limit=100, inexact=false}") == (Simplify(), ConstantFold(100, False))
    (inline,) = parse_passes("inline-composites{keep=softmax|gelu}")
    assert inline.keep == ("softmax", "gelu")


@pytest.mark.parametrize(
    "text", ["simplify constant-fold", "simplify{", "nothing", "simplify{x=1}", "constant-fold{limit=}"]
)
def test_parse_passes_refuses(text: str) -> None:
    with pytest.raises(ParseError):
        parse_passes(text)


def test_every_named_pass_can_be_made_from_its_defaults() -> None:
    for name, kind in PASSES.items():
        (made,) = parse_passes(name)
        assert made == kind()
        assert made.name == name
        assert made.preserves in ("values", "interface", "nothing")
        assert kind.__doc__
        assert all(f.name.isidentifier() for f in fields(kind))


@pytest.mark.parametrize("room", ["passes", "codegen"])
def test_a_second_copy_under_the_bare_name_is_refused(room: str) -> None:
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import {room}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"this package is graphc.{room}" in done.stderr


def test_constant_folding_does_not_grow_graphs() -> None:
    one = make("broadcast", (B.full((), 1.0, graphs.float32),), shape=(64, 64)).result
    folded = ConstantFold().run(Graph((), (B.tanh(one),)))
    assert all(n.attrs["value"].array.size == 1 for n in folded.nodes if n.op.name == "constant")
