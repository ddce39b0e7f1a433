"""One graph, evaluated in every way there is: do all agree? And if not, the smallest part of it that shows it.

`faults(graph, arrays)` compares text and parser, the verifier, the interpreter, every stage of the optimiser and compiled
code with the graph's shadow (`tests/shadow.py`). `shrink` makes a failing graph small, and

    python tests/differential.py PATH.gir [contract]

replays a graph that a test has written, with the arguments beside it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from oracle import same_bits, same_elements
from shadow import Shadow, agrees, shadow, twin

from graphc.errors import GraphcError
from graphc.frontend.build import Options, compile_stages
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.graph import Graph, Node, Value, input_value, make, rebuild
from graphc.ir.op import Elementwise, Reduction
from graphc.ir.parser import load, parse
from graphc.ir.printer import large_literals, save, to_text
from graphc.ir.verify import verify
from graphc.passes.manager import Stage
from graphc.runtime.executable import Executable

__all__ = ["faults", "report", "shrink"]

Array = np.ndarray[Any, Any]


def faults(graph: Graph, arrays: Sequence[Array], *, contract: bool = False) -> list[str]:
    """What does not agree; empty if all is well. Without `contract`, bits are compared wherever they are determined."""
    verify(graph)
    constants = {digest: literal.array for digest, literal in large_literals(graph).items()}
    if not parse(to_text(graph), constants=constants).same_as(graph):
        return ["text: parse(print(graph)) is another graph"]
    known = shadow(graph, arrays, contract=contract)
    expected = [known[v] for v in graph.outputs]
    found = _compare("interpreter", expected, evaluate(graph, arrays), bits=_all_exact(graph))
    compilation, compiled, _ = compile_stages(graph, {}, Options(contract=contract))
    bits = not contract
    for before, stage in zip(compilation.stages, compilation.stages[1:], strict=False):
        if not stage.graph.same_as(before.graph):
            verify(stage.graph)
            bits = bits and not _folds_inexact(stage)
            found += _compare(f"after {stage.name}", expected, twin(stage.graph, arrays), bits=bits)
    executable = Executable(compiled.artifact)
    own = [np.array(x) for x in arrays]
    first, second = ([np.array(y) for y in executable.run(own)] for _ in range(2))
    found += _compare("compiled", expected, first, bits=bits)
    found += [f"second run: output {k} has other bits" for k, y in enumerate(second) if not same_bits(y, first[k])]
    inputs = zip(own, arrays, strict=True)
    return found + [f"input {k} was overwritten" for k, (x, y) in enumerate(inputs) if not same_bits(x, y)]


def _compare(what: str, expected: Sequence[Shadow], found: Sequence[Array], *, bits: bool) -> list[str]:
    return [f"{what}: output {k} {text}" for k, s in enumerate(expected) if (text := _difference(s, found[k], bits))]


def _difference(s: Shadow, found: Array, bits: bool) -> str:
    if found.dtype != s.value.dtype or found.shape != s.value.shape:
        return f"is {found.dtype}{found.shape}, not {s.value.dtype}{s.value.shape}"
    right, what = agrees(s, found), "outside of the bounds"
    if bits and s.bits:
        what = "with other bits"
        right = same_elements(found, s.value)
    if right.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~right)[0])
    bounds = f" in [{s.lo[at]!r}, {s.hi[at]!r}]" if s.is_float else ""
    wrong = f"{np.count_nonzero(~right)} of {right.size} elements {what}"
    return f"has {wrong}; at {list(at)}: {found[at]!r}, expected {s.value[at]!r}{bounds}"


def _all_exact(graph: Graph) -> bool:
    """Whether the interpreter has the twin's bits: the twin goes other ways for ops that are not exactly rounded."""
    return all(
        not v.dtype.is_float or not isinstance(n.op, (Elementwise, Reduction)) or n.op.exact
        for n in graph.nodes
        for v in n.results
    )


def _folds_inexact(stage: Stage) -> bool:
    """Whether a pass computed, by NumPy, what compiled code computes by its own functions."""
    folded = [registry.get(c.removeprefix("fold ")) for c in stage.counters if c.startswith("fold ")]
    return any(not getattr(op, "exact", True) for op in folded)


# -- making failures small --------------------------------------------------------------------------------------------

Case = tuple[Graph, list[Array]]


def shrink(
    graph: Graph, arrays: Sequence[Array], fails: Callable[[Graph, Sequence[Array]], bool], seconds: float = 20.0
) -> Case:
    """A smaller graph that still fails: one output, nodes replaced by inputs that hold their values, or by an operand,
    arguments cut to a part, as far as that goes."""
    case = graph, list(arrays)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        smaller = next((c for c in _smaller(*case) if time.monotonic() < end and fails(*c)), None)
        if smaller is None:
            break
        case = smaller
    return case


def _smaller(graph: Graph, arrays: list[Array]) -> Any:
    if len(graph.outputs) > 1:
        yield from (_pruned(Graph(graph.inputs, (v,), graph.name), arrays) for v in graph.outputs)
    nodes = [n for n in graph.nodes if n.op.name not in ("input", "constant")]
    values = {v: s.value for v, s in shadow(graph, arrays).items()}
    outputs = {v.node for v in graph.outputs}
    for node in nodes:
        if node not in outputs:
            yield _pruned(*_cut(graph, arrays, node, values))
    for node in reversed(nodes):
        for operand in node.operands:
            if len(node.results) == 1 and operand.type == node.result.type:
                yield _pruned(_replaced(graph, node, operand), arrays)
    for node in reversed(nodes):
        for operand in node.operands:
            if len(graph.outputs) == 1 and operand.node in nodes and node in outputs:
                yield _pruned(Graph(graph.inputs, (operand,), graph.name), arrays)


def _cut(graph: Graph, arrays: list[Array], node: Node, values: dict[Value, Array]) -> Case:
    """The node's results become inputs."""
    count = len(graph.inputs)
    fresh = [input_value(count + k, v.type) for k, v in enumerate(node.results)]

    def visit(old: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        return fresh if old is node else _remade(old, operands)

    inputs = (*graph.inputs, *(v.type for v in node.results))
    cut = rebuild(graph, visit, inputs=inputs, input_values=graph.input_values())
    return cut, [*arrays, *(values[v] for v in node.results)]


def _remade(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
    return make(node.op, operands, **node.attrs).results


def _replaced(graph: Graph, node: Node, operand: Value) -> Graph:
    """The node's result becomes one of its operands."""

    def visit(old: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if old is node:
            return [operands[old.operands.index(operand)]]
        return _remade(old, operands)

    return rebuild(graph, visit)


def _pruned(graph: Graph, arrays: Sequence[Array]) -> Case:
    """Without inputs that nothing uses."""
    used = sorted({n.attrs["index"] for n in graph.nodes if n.op.name == "input"})
    inputs = tuple(graph.inputs[i] for i in used)
    values = [input_value(used.index(i), t) if i in used else input_value(i, t) for i, t in enumerate(graph.inputs)]
    pruned = rebuild(graph, _remade, inputs=inputs, input_values=values)
    return pruned, [arrays[i] for i in used]


# -- replaying --------------------------------------------------------------------------------------------------------


def report(graph: Graph, arrays: Sequence[Array], found: Sequence[str], path: Path, *, contract: bool = False) -> str:
    """Shrink a failing graph, write it, and say how to replay it."""

    def fails(smaller: Graph, given: Sequence[Array]) -> bool:
        try:
            twin(smaller, given)
        except GraphcError:
            return False  # not a legal case any more: an index is out of range
        try:
            return bool(faults(smaller, given, contract=contract))
        except Exception:  # whatever the compiler raises is what is being hunted
            return True

    small, given = shrink(graph, arrays, fails)
    save(small, path)
    np.savez(_arguments(path), *given)
    option = " contract" if contract else ""
    return "\n".join([*found, to_text(small), f"replay: python tests/differential.py {path}{option}"])


def _arguments(path: Path) -> Path:
    return path.with_suffix(".arguments.npz")


def main(path: Path, contract: bool) -> int:
    graph = load(path)
    with np.load(_arguments(path)) as stored:
        arrays = [stored[f"arr_{k}"] for k in range(len(graph.inputs))]
    try:
        found = faults(graph, arrays, contract=contract)
    except GraphcError as error:
        found = [f"{type(error).__name__}: {error}"]
    print("\n".join([to_text(graph), *(found or ["all evaluations agree"])]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "contract" in sys.argv[2:]))
