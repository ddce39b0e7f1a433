"""One graph, evaluated in every way there is: do all agree? And if not, the smallest part of it that shows it.

`faults(graph, arrays)` compares text and parser, the verifier, the interpreter, every stage of the optimiser, compiled code,
and code compiled by other pipelines (without the optimiser, without one pass) with the graph's shadow (`tests/shadow.py`).
What it finds `report` makes small (`graphc.tools.reduction`) and writes, and

    python tests/differential.py PATH.gir [contract]

replays it, with the arguments beside it. (`graphc replay` does so for any graph, with a tolerance for a judge.)
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from oracle import same_bits, same_elements
from randomgraphs import all_nodes
from shadow import Shadow, agrees, shadow, twin

from graphc.codegen.compiler import Compiled, compile_graph
from graphc.errors import GraphcError
from graphc.frontend.build import Options, compile_stages
from graphc.interp import evaluate
from graphc.ir import registry
from graphc.ir.graph import Graph, Value
from graphc.ir.op import Contraction, Cumulative, Elementwise, Expansion, Reduction
from graphc.ir.parser import load, parse
from graphc.ir.printer import large_literals, to_text
from graphc.ir.types import TensorType
from graphc.ir.verify import verify
from graphc.passes.base import Pass
from graphc.passes.manager import Stage, run_pipeline
from graphc.runtime.executable import Executable
from graphc.tools.reduction import Case, shrink
from graphc.tools.replay import arguments_file, load_arrays, save_case, variants

__all__ = ["PIPELINES", "faults", "main", "report"]

Array = np.ndarray[Any, Any]


#: Pipelines that code is compiled by, beside the usual one.
PIPELINES: Mapping[str, tuple[Pass, ...]] = {name: passes for name, passes in variants().items() if name != "optimised"}


def faults(
    graph: Graph, arrays: Sequence[Array], *, contract: bool = False, pipelines: Sequence[str] = tuple(PIPELINES)
) -> list[str]:
    """What does not agree; empty if all is well. Without `contract`, bits are compared wherever they are determined.
    `pipelines` are the ones beside the usual one that code is compiled by."""
    verify(graph)
    constants = {digest: literal.array for digest, literal in large_literals(graph).items()}
    if not parse(to_text(graph), constants=constants).same_as(graph):
        return ["text: parse(print(graph)) is another graph"]
    known = shadow(graph, arrays, contract=contract)
    judge = _Judge([known.get(v) for v in graph.outputs], prints(graph, known))
    found = judge.run("interpreter", lambda: evaluate(graph, arrays), bits=_all_exact(graph))
    compilation, compiled, _ = compile_stages(graph, {}, Options(contract=contract))
    bits = not contract
    for before, stage in zip(compilation.stages, compilation.stages[1:], strict=False):
        if not stage.graph.same_as(before.graph):
            verify(stage.graph)
            bits = bits and not _folds_inexact(stage)
            found += judge.run(f"after {stage.name}", lambda g=stage.graph: twin(g, arrays), bits=bits)  # type: ignore[misc]
    found += _execute(judge, "compiled", compiled, arrays, bits=bits)
    done = {compilation.graph.key}
    for name in pipelines:
        other = run_pipeline(PIPELINES[name], graph)
        if other.graph.key in done:
            continue
        done.add(other.graph.key)
        inexact = any(map(_folds_inexact, other.stages))
        code = compile_graph(other.graph, contract=contract)
        found += _execute(judge, f"compiled {name}", code, arrays, bits=not contract and not inexact)
    return found


def _execute(judge: _Judge, what: str, compiled: Compiled, arrays: Sequence[Array], *, bits: bool) -> list[str]:
    """Run code twice and compare results, prints, and that inputs are as they were."""
    executable = Executable(compiled.artifact)
    own = [np.array(x) for x in arrays]
    kept: list[list[Array]] = []

    def run() -> list[Array]:
        kept.append([np.array(y) for y in executable.run(own)])
        return kept[-1]

    found = judge.run(what, run, bits=bits) + judge.run(f"{what}, second run", run, bits=bits)
    first, second = kept
    found += [f"{what}: output {k} has other bits then" for k, y in enumerate(second) if not same_bits(y, first[k])]
    inputs = zip(own, arrays, strict=True)
    return found + [f"{what}: input {k} was overwritten" for k, (x, y) in enumerate(inputs) if not same_bits(x, y)]


@dataclass(frozen=True)
class _Judge:
    """What an evaluation may give: shadows of the outputs (None for a token), and what is printed."""

    outputs: Sequence[Shadow | None]
    prints: Sequence[str]

    def run(self, what: str, evaluation: Callable[[], Sequence[Any]], *, bits: bool) -> list[str]:
        """Evaluate, and say what is wrong."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            results = evaluation()
        pairs = zip((s for s in self.outputs if s is not None), (y for y in results if y is not None), strict=True)
        found = [f"{what}: output {k} {text}" for k, (s, y) in enumerate(pairs) if (text := _difference(s, y, bits))]
        lines = printed.getvalue()
        return found if _is_printed(lines, self.prints) else [*found, f"{what}: printed {lines!r}, not {self.prints!r}"]


def _is_printed(text: str, expected: Sequence[str]) -> bool:
    """Whether the text is made of the expected pieces; one that ends in a colon may go on."""
    pieces = re.split(r"(?=print \d+:)", text)[1:]
    return len(pieces) == len(expected) and all(
        piece.startswith(want) if want.endswith(":") else piece == want
        for piece, want in zip(pieces, expected, strict=True)
    )


def prints(graph: Graph, known: Mapping[Value, Shadow]) -> list[str]:
    """What a graph prints, in order; where an operand is not exactly known, only the beginning."""
    found = []
    for node in graph.nodes:
        if node.op.name == "debug_print":
            template, shadows = node.attrs["template"], [known[v] for v in node.operands[1:]]
            certain = all(not s.is_float and s.known.all() for s in shadows)
            start = template.partition(":")[0] + ":"
            found.append(template.format(*(s.value for s in shadows)) + "\n" if certain else start)
    return found


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
    kinds = (Contraction, Cumulative, Elementwise, Expansion, Reduction)
    return not any(
        isinstance(v.type, TensorType)
        and v.dtype.is_float
        and isinstance(n.op, kinds)
        and not getattr(n.op, "exact", False)
        for n in all_nodes(graph)
        for v in n.results
    )


def _folds_inexact(stage: Stage) -> bool:
    """Whether a pass computed, by NumPy, what compiled code computes by its own functions."""
    folded = [registry.get(c.removeprefix("fold ")) for c in stage.counters if c.startswith("fold ")]
    return any(not getattr(op, "exact", True) for op in folded)


# -- failures ---------------------------------------------------------------------------------------------------------


def report(graph: Graph, arrays: Sequence[Array], found: Sequence[str], path: Path, *, contract: bool = False) -> str:
    """Shrink a failing graph, write it with its arguments, and say how to replay it."""

    def fails(smaller: Case) -> bool:
        try:
            shadow(smaller.graph, smaller.arrays)
        except Exception:  # not a case that the judge knows
            return False
        try:
            return bool(faults(smaller.graph, smaller.arrays, contract=contract))
        except Exception:  # whatever the compiler raises is what is being hunted
            return True

    small = shrink(Case(graph, tuple(arrays)), fails)
    save_case(small, path)
    options = (" contract", "") if contract else ("", " --no-contract")
    return "\n".join(
        [
            *found,
            to_text(small.graph),
            f"replay: python tests/differential.py {path}{options[0]}",
            f"or, judged by a tolerance: graphc replay {path}{options[1]}",
        ]
    )


def main(path: Path, contract: bool) -> int:
    """Replay a graph that `report` has written."""
    graph, given = load(path), load_arrays(arguments_file(path))
    arrays = [given[name] for name in graph.names or [f"input{i}" for i in range(len(graph.inputs))]]
    try:
        found = faults(graph, arrays, contract=contract)
    except GraphcError as error:
        found = [f"{type(error).__name__}: {error}"]
    print("\n".join([to_text(graph), *(found or ["all evaluations agree"])]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "contract" in sys.argv[2:]))
