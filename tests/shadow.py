"""What any faithful evaluation of a graph may give: an enclosure of every element, propagated in float64.

`shadow(graph, arrays)` walks a graph once and keeps, for every value,

- `value`: what the *twin* gives, an evaluation by each op's NumPy definition where the op is exactly rounded and by its
  scalar rule through NumPy where it is not (compiled code runs the same rule, so the twin has its bits);
- `bits`: whether an evaluation must have the twin's very bits: no sum, product or dot of floats, whose order of
  summation is the implementation's, and no power (a rule rewrites power(x, 2) to the better square(x));
- for floats, an interval `lo <= y <= hi` of float64 that holds every result in which each op makes an error of at most
  its stated bound. It is a bound, not a tuned tolerance: exactly rounded ops of exactly known operands have lo = hi; an
  op with bound u ulp widens its interval by u + 4 ulp (NumPy's own functions, which the interpreter calls, are within
  4 ulp); a sum of n elements by n * eps * sum(|x|), which holds for any order; rules over intervals are those of interval
  arithmetic, with a few ulp of float64 added for the arithmetic on the ends themselves. An element that is not bounded
  (a division by an interval with zero in it, an overflow) is (-inf, inf);
- for other dtypes, `known`: where the element cannot differ, because no decision before it (a comparison, a rounding to
  an integer, a position of a maximum) is within the errors of its operands.

A branch that is not sure gives what either side may give; a loop whose number of turns is not sure gives no bounds. Tokens have
no shadow. The rules are those of `tests/enclosures.py` and `tests/arrayenclosures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from arrayenclosures import BY_KIND, BY_NAME, OF_SEVERAL
from enclosures import ELEMENTWISE, known_or_not
from intervals import INF, Array, Interval, Rule, Shadow, is_float, marked, widened
from randomvalues import CONTRACTED

from graphc import dtypes
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Composite, Contraction, Control, Elementwise, Fused, Movement, Op, Sorting, lengthened
from graphc.ops.numpy_scalar import NumpyScalar

__all__ = ["Shadow", "agrees", "has_rule", "shadow", "twin"]

_SCALAR = NumpyScalar()
#: Ops without operands: what they give is known.
_LEAVES = ("constant", "iota")
Shadows = list[Shadow | None]


def agrees(s: Shadow, found: Array) -> Array:
    """Where an evaluation's result is one of those that the shadow permits."""
    if s.is_float:
        inside = (s.lo <= found) & (found <= s.hi)
        return np.asarray(inside | ~s.bounded)
    return np.asarray((found == s.value) | ~s.known)


def shadow(graph: Graph, arrays: Sequence[Any], *, contract: bool = False) -> dict[Value, Shadow]:
    """The shadow of every value of `graph` on `arrays`; `contract` permits a product and a sum to be rounded once."""
    with np.errstate(all="ignore"):
        found = _walk(graph, [_exactly(np.asarray(x)) for x in arrays], contract)
    return {value: s for value, s in found.items() if s is not None}


def has_rule(op: Op) -> bool:
    """Whether an op's results are enclosed where its operands are not exactly known."""
    if isinstance(op, Elementwise):
        return op.name in ELEMENTWISE or not _takes_floats(op)
    if isinstance(op, (Composite, Control, Fused)) or op.name in _LEAVES:
        return True
    return op.name in (*BY_NAME, *OF_SEVERAL, *_PASSED) or any(isinstance(op, kind) for kind, _ in BY_KIND)


def _takes_floats(op: Elementwise) -> bool:
    for dtype in dtypes.ALL:
        try:
            if dtype.is_float and op.types(*(dtype,) * op.arity):
                return True
        except (dtypes.DTypeError, TypeError):
            continue
    return False


# -- the twin ---------------------------------------------------------------------------------------------------------


def twin(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of the twin alone; None for tokens."""
    with np.errstate(all="ignore"):
        return _run(graph, arrays)


def _run(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    found: dict[Value, Any] = {}
    for node in graph.nodes:
        if node.op.name == "input":
            results = [arrays[node.attrs["index"]]]
        else:
            results = _twin(node, [found[v] for v in node.operands])
        found.update(zip(node.results, results, strict=True))
    return [found[v] for v in graph.outputs]


def _twin(node: Node, operands: Sequence[Any]) -> list[Any]:
    operands = [None if x is None else np.ascontiguousarray(x).reshape(np.shape(x)) for x in operands]
    op = node.op
    if isinstance(op, (Composite, Fused)):
        return _run(node.attrs["body"], operands)
    if op.name == "cond":
        return _run(node.attrs["then" if operands[0] else "else_"], operands[1:])
    if op.name == "while_loop":
        carried = len(node.attrs["body"].outputs)
        steps = 0
        while _run(node.attrs["cond"], operands)[0]:
            operands = [*_run(node.attrs["body"], operands), *operands[carried:]]
            steps += 1
        return [*operands[:carried], np.asarray(steps)]
    if op.name == "scan":
        return _turns(node, operands)
    if isinstance(op, Elementwise) and not op.exact:
        found = op.scalar(_SCALAR, *lengthened(op, operands), **node.attrs)
        return [np.array(np.broadcast_to(found, operands[0].shape), node.results[0].dtype.numpy)]
    return [None if y is None else np.asarray(y) for y in op.evaluate(operands, node.attrs)]


def _turns(node: Node, operands: Sequence[Any]) -> list[Any]:
    """A scan, turn after turn."""
    carries, end = node.attrs["carries"], node.attrs["carries"] + node.attrs["stacked"]
    state, rows = list(operands[:carries]), {}
    for t in _order(node):
        elements = [x[t, ...] for x in operands[carries:end]]
        found = _run(node.attrs["body"], [*state, *elements, *operands[end:]])
        state, rows[t] = found[:carries], found[carries:]
    stacks = [np.zeros(t.shape, t.dtype.numpy) for t in node.types[carries:]]  # type: ignore[union-attr, type-var]
    for t, row in rows.items():
        for stack, y in zip(stacks, row, strict=True):
            stack[t] = y
    return [*state, *stacks]


def _order(node: Node) -> range:
    length: int = node.attrs["length"]
    return range(length - 1, -1, -1) if node.attrs["reverse"] else range(length)


# -- the walk ---------------------------------------------------------------------------------------------------------


def _walk(graph: Graph, inputs: Sequence[Shadow | None], contract: bool) -> dict[Value, Shadow | None]:
    found: dict[Value, Shadow | None] = {}
    for node in graph.nodes:
        operands = [found[v] for v in node.operands]
        if node.op.name == "input":
            results: Sequence[Shadow | None] = [inputs[node.attrs["index"]]]
        elif node.op.name in _PASSED:
            results = _PASSED[node.op.name](node, operands)
        else:
            assert all(x is not None for x in operands), node
            results = _results(node, [x for x in operands if x is not None], contract)
        found.update(zip(node.results, results, strict=True))
    return found


def _outputs(graph: Graph, inputs: Sequence[Shadow], contract: bool) -> list[Shadow]:
    found = _walk(graph, inputs, contract)
    outputs = [found[v] for v in graph.outputs]
    assert all(s is not None for s in outputs), "held graphs are drawn without tokens"
    return [s for s in outputs if s is not None]


def _results(node: Node, xs: list[Shadow], contract: bool) -> list[Shadow]:
    if isinstance(node.op, (Composite, Fused)):
        return _outputs(node.attrs["body"], xs, contract)
    if node.op.name == "cond":
        return _branches(node, xs, contract)
    if node.op.name == "while_loop":
        return _loop(node, xs, contract)
    if node.op.name == "scan":
        return _scan(node, xs, contract)
    return _node(node, xs, contract)


def _branches(node: Node, xs: list[Shadow], contract: bool) -> list[Shadow]:
    """The side that is taken; of an unsure predicate what both sides have in common."""
    predicate, captures = xs[0], xs[1:]
    names = ("then", "else_") if predicate.value else ("else_", "then")
    taken = _outputs(node.attrs[names[0]], captures, contract)
    if not predicate.known:
        other = _outputs(node.attrs[names[1]], captures, contract)
        taken = [_either(s, o) for s, o in zip(taken, other, strict=True)]
    return [Shadow(s.value, s.bits and predicate.bits, s.lo, s.hi) for s in taken]


def _either(s: Shadow, other: Shadow) -> Shadow:
    if s.is_float:
        return Shadow(s.value, s.bits, np.minimum(s.lo, other.lo), np.maximum(s.hi, other.hi))
    return Shadow(s.value, s.bits, *marked(s.known & other.known & (s.value == other.value)))


def _loop(node: Node, xs: list[Shadow], contract: bool) -> list[Shadow]:
    """Turn after turn, as the twin's values say; the bounds are those of that number of turns, if it is sure."""
    sure = bits = True
    carried, steps = len(node.attrs["body"].outputs), 0
    while True:
        (again,) = _outputs(node.attrs["cond"], xs, contract)
        sure, bits = sure and bool(again.known), bits and again.bits
        if not again.value:
            break
        xs = [*_outputs(node.attrs["body"], xs, contract), *xs[carried:]]
        steps += 1
    count = Shadow(np.asarray(steps), bits, *marked(np.asarray(sure)))
    if sure:
        return [*(Shadow(s.value, s.bits and bits, s.lo, s.hi) for s in xs[:carried]), count]
    return [*(Shadow(s.value, s.bits and bits, *_nothing(s.value)) for s in xs[:carried]), count]


def _scan(node: Node, xs: list[Shadow], contract: bool) -> list[Shadow]:
    """Turn after turn; the stacks' bounds are those of their rows."""
    carries, end = node.attrs["carries"], node.attrs["carries"] + node.attrs["stacked"]
    state, rows = xs[:carries], {}
    for t in _order(node):
        elements = [Shadow(s.value[t, ...], s.bits, s.lo[t, ...], s.hi[t, ...]) for s in xs[carries:end]]
        found = _outputs(node.attrs["body"], [*state, *elements, *xs[end:]], contract)
        state, rows[t] = found[:carries], found[carries:]
    columns = zip(*(rows[t] for t in sorted(rows)), strict=True)
    stacks = [
        Shadow(
            np.stack([s.value for s in column]),
            all(s.bits for s in column),
            np.stack([s.lo for s in column]),
            np.stack([s.hi for s in column]),
        )
        for column in columns
    ]
    return [*state, *stacks]


def _nothing(value: Array) -> Interval:
    return np.full(value.shape, -INF), np.full(value.shape, INF)


#: Ops with tokens, which pass on what they get.
_PASSED: Mapping[str, Any] = {
    "create_token": lambda node, xs: [None],
    "debug_print": lambda node, xs: [None],
    "host_call": lambda node, xs: [None, *xs[1:]],  # drawn with numpy.copy
}


def _node(node: Node, xs: list[Shadow], contract: bool) -> list[Shadow]:
    values = _twin(node, [x.value for x in xs])
    exact = _is_exact(node, contract)
    bits = all(x.bits for x in xs) and (exact or not _is_unordered(node, contract))
    if all(x.known.all() for x in xs) and exact:
        return [_exactly(value, bits) for value in values]
    if node.op.name in OF_SEVERAL:
        ends = OF_SEVERAL[node.op.name](node, xs, values)
    else:
        ends = [_rule(node.op)(node, xs, values[0])]
    return [_enclosed(node, xs, value, bits, exact, *end) for value, end in zip(values, ends, strict=True)]


def _rule(op: Op) -> Rule:
    if isinstance(op, Elementwise):
        return ELEMENTWISE.get(op.name, known_or_not)
    return BY_NAME.get(op.name) or next(rule for kind, rule in BY_KIND if isinstance(op, kind))


def _enclosed(node: Node, xs: Sequence[Shadow], value: Array, bits: bool, exact: bool, lo: Array, hi: Array) -> Shadow:
    """A shadow from a rule's ends: widened by the op's own error, and nothing where the ends are not finite."""
    if not is_float(value):
        return Shadow(value, bits, *marked(np.broadcast_to(lo == hi, value.shape)))
    certain = np.zeros(value.shape, bool)
    if exact and isinstance(node.op, Elementwise):
        certain = np.logical_and.reduce([x.known for x in xs])
    copies = isinstance(node.op, (Movement, Sorting))
    lo, hi = widened(lo, hi, value.dtype, 0.0 if copies else _ulps(node.op, value.dtype))
    lo, hi = (np.where(certain, value, end) for end in (lo, hi))
    unbounded = ~np.isfinite(lo) | ~np.isfinite(hi) | ~np.isfinite(value)
    greatest = float(ml_dtypes.finfo(value.dtype).max)
    unbounded |= (np.abs(lo) >= greatest) | (np.abs(hi) >= greatest)
    return Shadow(value, bits, np.where(unbounded, -INF, lo), np.where(unbounded, INF, hi))


def _exactly(value: Array, bits: bool = True) -> Shadow:
    if not is_float(value):
        return Shadow(value, bits, *marked(np.ones(value.shape, bool)))
    wide = value.astype(np.float64)
    finite = np.isfinite(wide)
    return Shadow(value, bits, np.where(finite, wide, -INF), np.where(finite, wide, INF))


def _is_exact(node: Node, contract: bool) -> bool:
    """Whether the results are functions of the operands' bits."""
    op = node.op
    if not any(v.dtype.is_float for v in node.results):
        return True
    if contract and op.name in CONTRACTED:
        return False
    return bool(getattr(op, "exact", not isinstance(op, Contraction)))


def _is_unordered(node: Node, contract: bool) -> bool:
    """Whether not even the twin says which bits come out."""
    return not isinstance(node.op, Elementwise) or node.op.name == "power" or (contract and node.op.name in CONTRACTED)


def _ulps(op: Op, dtype: Any) -> float:
    if isinstance(op, Elementwise) and not op.exact and not dtypes.from_numpy(dtype).is_short_float:
        return op.bound(dtypes.from_numpy(dtype)) + 4.0
    return 1.0
