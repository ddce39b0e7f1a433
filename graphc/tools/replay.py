"""One graph on one set of arguments, evaluated in every way there is: do all agree? Layer 7.

The interpreter says what is right. Compared with it are the graph after every pass, by the interpreter, and native code: of the
usual pipeline, of what code generation needs only, and of the usual one without each of the other passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from graphc import dtypes, interp
from graphc.codegen.compiler import compile_graph
from graphc.errors import GraphcError
from graphc.ir.graph import Graph
from graphc.ir.printer import save
from graphc.passes.base import Pass
from graphc.passes.check import compare, is_exact
from graphc.passes.manager import run_pipeline
from graphc.passes.pipelines import COMPILE, LOWER
from graphc.runtime.executable import Executable
from graphc.tools.reduction import Case, shrink

__all__ = ["arguments_file", "disagreements", "load_arrays", "reduce", "save_case", "variants"]

#: What may come out of a compiler that has a fault.
_CRASHES = (
    GraphcError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def variants() -> dict[str, tuple[Pass, ...]]:
    """Pipelines by which a graph is compiled for comparison, by name."""
    needed = {p.name for p in LOWER}
    optional = dict.fromkeys(p.name for p in COMPILE if p.name not in needed)
    without = {f"without {name}": tuple(p for p in COMPILE if p.name != name) for name in optional}
    return {"optimised": COMPILE, "unoptimised": LOWER, **without}


def disagreements(case: Case, *, contract: bool = True) -> list[str]:
    """What does not agree, each on a line that names the evaluation; empty if all is well.

    Results are compared bit by bit where all ops of the graph are exactly rounded (and `contract` is false, or the values are
    the interpreter's), else up to rounding errors, as a fraction of the greatest element. Where a rounding error decides (a
    comparison, a rounding to an integer), right evaluations may disagree. What the graph prints is not shown.

    Raises
    ------
    GraphcError
        If the interpreter does not evaluate the graph on these arguments.
    """
    with redirect_stdout(StringIO()):
        expected = interp.evaluate(case.graph, case.arrays)
        found = []
        for stage in run_pipeline(COMPILE, case.graph).stages[1:]:
            text = _attempt(partial(interp.evaluate, stage.graph, case.arrays), expected, is_exact(stage.graph))
            found += [f"after {stage.name}: {text}"] if text else []
        exact = is_exact(case.graph) and not contract
        wanted = [y for y in expected if y is not None]
        for name, passes in variants().items():
            text = _attempt(partial(_execute, case, passes, contract), wanted, exact)
            found += [f"compiled, {name}: {text}"] if text else []
    return found


def _attempt(evaluation: Callable[[], Sequence[Any]], expected: Sequence[Any], exact: bool) -> str | None:
    try:
        return compare(expected, evaluation(), exact)
    except _CRASHES as error:
        return f"{type(error).__name__}: {error}"


def _execute(case: Case, passes: Sequence[Pass], contract: bool) -> Sequence[Any]:
    compiled = compile_graph(run_pipeline(passes, case.graph).graph, contract=contract)
    return Executable(compiled.artifact).run([np.array(x, order="C") for x in case.arrays])


def reduce(case: Case, *, contract: bool = True, seconds: float = 60.0) -> Case:
    """The smallest case that can be found whose evaluations disagree as well."""

    def fails(smaller: Case) -> bool:
        try:
            return bool(disagreements(smaller, contract=contract))
        except _CRASHES:
            return True  # a pass cannot do with it

    return shrink(case, fails, seconds)


# -- files ------------------------------------------------------------------------------------------------------------


def arguments_file(path: str | Path) -> Path:
    """Where the arguments of a graph in a .gir file are, if they are beside it."""
    return Path(path).with_suffix(".arguments.npz")


def save_case(case: Case, path: str | Path) -> None:
    """Write a graph, and its arguments beside it."""
    save(case.graph, path)
    np.savez(arguments_file(path), **dict(zip(_names(case.graph), case.arrays, strict=True)))  # type: ignore[arg-type]


def _names(graph: Graph) -> Sequence[str]:
    return graph.names or [f"input{i}" for i in range(len(graph.inputs))]


def load_arrays(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file by name; pickled objects are refused.

    Raises
    ------
    GraphcError
        If the file is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: dtypes.stored(held[name]) for name in held.files}
    except (ValueError, AttributeError, TypeError) as fault:  # not an .npz file, or one with pickled objects
        raise GraphcError(f"cannot read arrays from {path}: {fault}") from None
