"""GRAPHC=check: the interpreter before and after a pass. Layer 4, passes.

A pass that says that it preserves values is held to it: both graphs are evaluated on the call's own arguments, or on a
seeded sample, and compared. If they differ and the pass counts its rewrites, replaying it with fewer and fewer of them finds
the first rewrite, and so the rule, that changed a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import BoundsError, RuleError
from graphc.interp import evaluate
from graphc.ir.dims import Dim
from graphc.ir.dims import evaluate as evaluate_dim
from graphc.ir.graph import Graph
from graphc.ir.op import Contraction, Control, Cumulative, Elementwise, Expansion, Op, Reduction
from graphc.ir.printer import held_graphs, to_text
from graphc.ir.types import TensorType, TokenType
from graphc.passes.base import Journal, Pass, Rewriter

__all__ = ["check_pass", "compare", "differences", "is_exact", "sample"]

Array = np.ndarray[Any, Any]

#: Where a graph holds ops that are not exactly rounded, NumPy itself gives other bits for other memory layouts (its vector
#: loops and scalar loops differ): outputs are then compared up to this fraction of their greatest element.
_TOLERANCE = {2: 2e-2, 4: 1e-5, 8: 1e-12}


def sample(graph: Graph, seed: int = 0) -> list[Array | None]:
    """Arguments for a graph: normal floats, integers 0 to 2 (often legal indices), sizes 3, 4, 5, ...; None for tokens."""
    random = np.random.default_rng(seed)
    sizes = {index: 3 + i for i, index in enumerate(graph.symbols())}
    arrays: list[Array | None] = []
    for type_ in graph.inputs:
        if not isinstance(type_, TensorType):
            arrays.append(None)
            continue
        shape = [_size(d, sizes) for d in type_.shape]
        if type_.dtype.is_complex:
            parts = random.standard_normal((*shape, 2))
            arrays.append(np.asarray(parts.view(np.complex128)[..., 0], type_.dtype.numpy))
        elif type_.dtype.is_float:
            arrays.append(np.asarray(random.standard_normal(shape), type_.dtype.numpy))
        else:
            arrays.append(np.asarray(random.integers(0, 2 if type_.dtype.is_bool else 3, shape), type_.dtype.numpy))
    return arrays


def _size(dim: Dim, sizes: dict[int, int]) -> int:
    return evaluate_dim(dim, sizes)


def check_pass(pass_: Pass, before: Graph, after: Graph, arguments: Sequence[Any] | None) -> None:
    """Compare a graph before and after a pass that preserves values. Graphs with effects are left alone.

    Raises
    ------
    RuleError
        Naming the pass, the first rule that changed a value (for passes that count their rewrites), and the difference.
    """
    if any(isinstance(t, TokenType) for node in before.nodes for t in node.types):
        return  # an effect would happen once more for each evaluation
    arrays = sample(before) if arguments is None else list(arguments)
    expected = _evaluate(before, arrays)
    if expected is None:
        return
    found = differences(expected, after, arrays)
    if found is None:
        return

    rule = ""
    if isinstance(pass_, Rewriter):
        rule = _first_bad(pass_, before, lambda limited: differences(expected, limited, arrays) is not None)
    blame = f"pass {pass_.name!r} changed a value" + (f"; first by the rule {rule!r}" if rule else "")
    raise RuleError(f"{blame}\n  {found}\nbefore:\n{to_text(before)}after:\n{to_text(after)}")


def _first_bad(pass_: Rewriter, graph: Graph, bad: Callable[[Graph], bool]) -> str:
    """The rewrite at which a replay turns bad, by bisection: `low` rewrites are good and `high` bad all the time."""
    journal = Journal()
    pass_.apply(graph, journal)
    low, high = 0, journal.total
    if high == 0 or bad(pass_.apply(graph, Journal(0))):
        return ""
    while high - low > 1:
        middle = (low + high) // 2
        if bad(pass_.apply(graph, Journal(middle))):
            high = middle
        else:
            low = middle
    journal = Journal(high)
    pass_.apply(graph, journal)
    return journal.last


def _evaluate(graph: Graph, arrays: Sequence[Any]) -> Sequence[Any] | None:
    """The outputs; None if the arguments are not legal ones (an index of a random sample is out of range)."""
    try:
        return evaluate(graph, arrays)
    except BoundsError:
        return None


def differences(expected: Sequence[Any], graph: Graph, arrays: Sequence[Any]) -> str | None:
    """What differs between `expected` and the graph's outputs, as text; None if nothing does."""
    found = _evaluate(graph, arrays)
    if found is None:
        return "the graph fails now with an index out of range"
    return compare(expected, found, is_exact(graph))


def compare(expected: Sequence[Any], found: Sequence[Any], exact: bool) -> str | None:
    """What differs between outputs, as text; None if nothing does. Bit by bit if `exact`, else up to rounding."""
    for i, (x, y) in enumerate(zip(expected, found, strict=True)):
        if not isinstance(x, (np.ndarray, np.generic)):
            continue
        what = _difference(np.asarray(x), np.asarray(y), exact)
        if what:
            return f"output {i} {what}"
    return None


def _difference(x: Array, y: Array, exact: bool) -> str:
    if x.dtype != y.dtype or x.shape != y.shape:
        return f"was {x.dtype}{list(x.shape)}, is {y.dtype}{list(y.shape)}"
    if x.dtype.kind == "c":
        return _difference(_parts(x), _parts(y), exact)
    nan = np.isnan(x) & np.isnan(y)
    same = nan | (x == y)
    if dtypes.from_numpy(x.dtype).is_float:
        same = nan | (same & (np.signbit(x) == np.signbit(y))) if exact else same | _close(x, y)
    if same.all():
        return ""
    where = tuple(int(i) for i in np.argwhere(~same)[0])
    count = int(same.size - same.sum())
    return f"differs in {count} of {same.size} elements; first at {list(where)}: was {x[where]!r}, is {y[where]!r}"


def _parts(x: Array) -> Array:
    """Real and imaginary parts as a last axis of size 2."""
    return np.stack([x.real, x.imag], axis=-1)


def _close(x: Array, y: Array) -> Any:
    finite = np.isfinite(x) & np.isfinite(y)
    scale = np.abs(x[finite]).max(initial=0.0)
    with np.errstate(all="ignore"):
        return finite & (np.abs(x - y) <= _TOLERANCE[x.dtype.itemsize] * scale)


def is_exact(graph: Graph) -> bool:
    """Whether every op of the graph is exactly rounded, so that NumPy gives one result whatever the layout."""
    graphs = [graph]
    while graphs:
        for node in graphs.pop().nodes:
            graphs += [held for _, held in held_graphs(node)]
            types = [t for t in (*node.types, *(v.type for v in node.operands)) if isinstance(t, TensorType)]
            if any(t.dtype.is_complex for t in types) and node.op.computes and not node.op.narrow:
                return False
            if any(t.dtype.is_float for t in types[: len(node.types)]) and not _op_is_exact(node.op):
                return False
    return True


def _op_is_exact(op: Op) -> bool:
    if isinstance(op, (Elementwise, Expansion, Reduction, Cumulative)):
        return op.exact
    return not isinstance(op, (Contraction, Control))
