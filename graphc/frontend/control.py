"""Loops and branches as functions: scan, while_loop, fori_loop, map, cond, switch, associative_scan. Layer 5.

Names and argument order are JAX's; carries, sequences and results may be containers of arrays. In dynamic mode the functions
run Python. While tracing, the body is traced once (`graphc.frontend.subtrace`) and becomes a graph held by a control node: a
native loop, whose code does not grow with the number of rounds.

A carry keeps its shape and dtype. One that begins as a Python number takes the dtype that the body gives it: the body is
traced again until types settle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.dtypes import bool_
from graphc.errors import DTypeError, ShapeError, StructureError, TraceError, message
from graphc.frontend import context, pytree
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.rewriting.merging import common_type, with_outputs
from graphc.frontend.rewriting.nodes import apply_cond, apply_scan, apply_while
from graphc.frontend.rewriting.values import is_number
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, Sub, argument_of, in_kind, subtrace
from graphc.frontend.tensor import Tensor
from graphc.ir.graph import Value, make
from graphc.ir.types import TensorType

__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]

Function = Callable[..., Any]


def _check_callable(name: str, *functions: Any) -> None:
    for function in functions:
        if not callable(function):
            raise StructureError(
                message(f"{name} takes functions; {function!r} cannot be called", location=user_location())
            )


# -- carries --------------------------------------------------------------------------------------------------------------


class _Carry:
    """What a loop carries: the arrays among the leaves of `init`, whose types settle, and other leaves, which stay."""

    def __init__(self, name: str, what: str, init: Any) -> None:
        self._name = name
        self.leaves, self._paths, self.structure = pytree.flatten(init, what)
        self.places = [i for i, leaf in enumerate(self.leaves) if is_number(leaf)]
        self.types = [argument_of(self.leaves[i]) for i in self.places]

    def filled(self, handles: Sequence[Any]) -> Any:
        """The carry around other arrays."""
        leaves = list(self.leaves)
        for place, handle in zip(self.places, handles, strict=True):
            leaves[place] = handle
        return pytree.unflatten(self.structure, leaves)

    def initial(self) -> list[Tensor]:
        """The arrays before the first round, in the types that settled."""
        found = []
        for place, how in zip(self.places, self.types, strict=True):
            leaf = self.leaves[place]
            tensor = as_tensor(leaf if isinstance(leaf, Tensor) else np.asarray(leaf))
            found.append(convert(tensor, how.type.dtype.numpy))
        return found

    def wrapped(self, tensors: Sequence[Tensor]) -> Any:
        """The carry around results."""
        return self.filled([in_kind(t, a.kind, weak=a.weak) for t, a in zip(tensors, self.types, strict=True)])

    def settle(self, sub: Sub, structure: pytree.Structure, first: int = 0) -> list[Value] | None:
        """The new carries as values of the body's graph, in the carries' types; None if a type had to change: then the body
        is to be traced again. They are the leaves of the body's result from `first` on."""
        if structure != self.structure:
            raise StructureError(
                message(
                    f"{self._name}: the body changes the structure of the carry",
                    operands=[("before", _shown(self.structure)), ("after", _shown(structure))],
                    location=user_location(),
                    hint="Return the same containers, with the same keys and lengths, as the body was given.",
                )
            )
        values, types = [], []
        places = dict(zip(self.places, self.types, strict=True))
        for i, (leaf, path) in enumerate(zip(self.leaves, self._paths, strict=True)):
            result = sub.results[first + i]
            if (result.index is None) != (i not in places) or (result.index is None and result.value != leaf):
                raise self._changed(path, _shown_leaf(sub, leaf), _shown_leaf(sub, result))
            if result.index is None:
                continue
            wanted, value = places[i], sub.graph.outputs[result.index]
            found = Argument(value.tensor, result.kind, result.weak)
            common = common_type(wanted, found)
            if common is None or (not wanted.weak and common.type != wanted.type):
                raise self._changed(path, str(wanted.type), str(found.type))
            types.append(replace(common, name=wanted.name))
            values.append(value if value.tensor == common.type else _converted(value, common.type))
        settled = [(a.type, a.kind, a.weak) for a in types] == [(a.type, a.kind, a.weak) for a in self.types]
        self.types = types
        return values if settled else None

    def _changed(self, path: str, before: str, after: str) -> TraceError:
        return TraceError(
            message(
                f"{self._name}: the carry changes its type: {path} is {before} before a round and {after} after it",
                operands=[("before", before), ("after", after)],
                location=user_location(),
                hint="A compiled loop keeps shapes and dtypes: give the initial value the final shape and dtype, or convert "
                "with .astype in the body.",
            )
        )


def _converted(value: Value, type_: TensorType) -> Value:
    return make("convert", (value,), dtype=type_.dtype).result


def _shown(structure: pytree.Structure) -> str:
    return str(pytree.unflatten(structure, ["*"] * structure.count)).replace("'*'", "*")


def _shown_leaf(sub: Sub, leaf: Any) -> str:
    index = getattr(leaf, "index", None)
    if isinstance(index, int):
        return str(sub.graph.outputs[index].type)
    leaf = getattr(leaf, "value", leaf)
    return describe(leaf) if is_number(leaf) else repr(leaf)


# -- scan -----------------------------------------------------------------------------------------------------------------


def scan(
    f: Function, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: int | bool = 1
) -> tuple[Any, Any]:
    """Carry a value along sequences: `carry, y[t] = f(carry, x[t])` for each t; gives the last carry and the stacked ys.

    Parameters
    ----------
    f
        Takes the carry and the elements at t, gives the new carry, of the same structure, shapes and dtypes, and y, a container
        of arrays or None.
    init
        The first carry.
    xs
        Arrays whose first axes have the same length, or a container of these; None for none.
    length
        The number of rounds; needed only without `xs`.
    reverse
        From the last element to the first; ys stand where their xs do.
    unroll
        How many rounds one round of the compiled loop does; True for all. Does not change values.

    Raises
    ------
    ShapeError
        If the lengths differ, or there is none.
    StructureError, TraceError
        If the body changes the structure of the carry, or the type of a leaf.

    >>> import numpy as np, graphc as gx
    >>> gx.scan(lambda total, x: (total + x, total * x), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([0., 2., 9.]))
    """
    _check_callable("scan", f)
    count = _length(xs, length)
    if context.trace.get() is None:
        return _scan_python(f, init, xs, count, reverse)
    rounds = count if unroll is True else int(unroll)
    if isinstance(count, int) and rounds > 1:
        return _scan_unrolled(f, init, xs, count, reverse, rounds)
    return _scan_node(f, init, xs, count, reverse)


def _length(xs: Any, length: int | None) -> Any:
    """The number of rounds, a size."""
    leaves, paths, _ = pytree.flatten(xs, "xs")
    found = []
    for leaf, path in zip(leaves, paths, strict=True):
        if leaf is None:
            continue
        if not is_number(leaf) or not np.shape(leaf):
            raise ShapeError(
                message(
                    f"scan: {path} has no axis to walk along",
                    operands=[(path, describe(leaf) if is_number(leaf) else repr(leaf))],
                    location=user_location(),
                    hint="Sequences are arrays with a first axis; what is the same in each round is captured or carried.",
                )
            )
        found.append((path, leaf.shape[0]))
    if length is not None:
        found.append(("length", int(length)))
    if not found or any(n != found[0][1] for _, n in found):
        raise ShapeError(
            message(
                "scan: the sequences must have the same length" if found else "scan: how many rounds is not known",
                operands=[(path, f"length {n}") for path, n in found],
                location=user_location(),
                hint="Give xs whose first axes are equal." if found else "Give xs, or length=.",
            )
        )
    return found[0][1]


def _elements(xs: Any, t: Any) -> Any:
    """The elements at t of all sequences."""
    leaves, _, structure = pytree.flatten(xs)
    return pytree.unflatten(structure, [x if x is None else x[t] for x in leaves])


def _pair(name: str, result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        shown = f"a {type(result).__name__}" if not isinstance(result, tuple) else f"{len(result)} values"
        raise StructureError(
            message(
                f"{name}: the function gives the new carry and y, a pair; it gave {shown}",
                location=user_location(),
                hint="Write `return carry, y`; y may be None.",
            )
        )
    return result


def _scan_python(f: Function, init: Any, xs: Any, count: int, reverse: bool) -> tuple[Any, Any]:
    if count == 0:
        return init, _stacked_nothing(f, init, xs)
    carry, rows = init, []
    for t in reversed(range(count)) if reverse else range(count):
        carry, y = _pair("scan", f(carry, _elements(xs, t)))
        rows.append(y)
    return carry, _stacked(rows[::-1] if reverse else rows)


def _stacked(rows: Sequence[Any]) -> Any:
    columns = [pytree.flatten(row) for row in rows]
    structure = columns[0][2]
    for other in columns:
        if other[2] != structure:
            raise StructureError(
                message(
                    "scan: y has another structure in another round",
                    operands=[("first", _shown(structure)), ("then", _shown(other[2]))],
                    location=user_location(),
                )
            )
    return pytree.unflatten(structure, [_stack(leaves) for leaves in zip(*(c[0] for c in columns), strict=True)])


def _stack(leaves: Sequence[Any]) -> Any:
    if not is_number(leaves[0]):
        return leaves[0]
    return np.stack([x if isinstance(x, Tensor) else np.asarray(x) for x in leaves])


def _stacked_nothing(f: Function, init: Any, xs: Any) -> Any:
    """The ys of no rounds: what one would give is found by tracing."""
    leaves, _, structure = pytree.flatten(xs)
    none = [x if x is None else np.zeros(x.shape[1:], x.dtype) for x in leaves]
    sub = subtrace(lambda: _pair("scan", f(init, pytree.unflatten(structure, none)))[1], [], name="the body of scan")
    rows = []
    for result in sub.results:
        if result.index is None:
            rows.append(result.value)
        else:
            type_ = sub.graph.outputs[result.index].tensor
            rows.append(in_kind(Tensor(np.zeros((0, *type_.shape), type_.dtype.numpy)), result.kind))
    return pytree.unflatten(sub.structure, rows)


def _scan_node(f: Function, init: Any, xs: Any, count: Any, reverse: bool) -> tuple[Any, Any]:
    carry = _Carry("scan", "init", init)
    leaves, _, structure = pytree.flatten(xs)
    sequences = [as_tensor(x) for x in leaves if x is not None]
    kinds = [argument_of(x) for x in leaves if x is not None]
    elements = [Argument(TensorType(a.type.dtype, a.type.shape[1:]), a.kind) for a in kinds]
    function = context.rewritten(f)

    def body(*handles: Any) -> Any:
        given = iter(handles[len(carry.places) :])
        x = pytree.unflatten(structure, [None if leaf is None else next(given) for leaf in leaves])
        return _pair("scan", function(carry.filled(handles[: len(carry.places)]), x))

    while True:
        sub = subtrace(body, [*carry.types, *elements], name="the body of scan")
        new = carry.settle(sub, sub.structure.children[0])
        if new is not None:
            break
    ys = [r for r in sub.results[len(carry.leaves) :] if r.index is not None]
    outputs = [*new, *(sub.graph.outputs[r.index] for r in ys)]  # type: ignore[index]
    length = sequences[0].type.shape[0] if sequences else count
    results = apply_scan(with_outputs(sub, outputs), carry.initial(), sequences, length, reverse=reverse)
    stacks = iter(in_kind(t, r.kind) for t, r in zip(results[len(new) :], ys, strict=True))
    rows = [r.value if r.index is None else next(stacks) for r in sub.results[len(carry.leaves) :]]
    return carry.wrapped(results[: len(new)]), pytree.unflatten(sub.structure.children[1], rows)


def _scan_unrolled(f: Function, init: Any, xs: Any, count: int, reverse: bool, rounds: int) -> tuple[Any, Any]:
    """Rounds in groups: what is left over comes last."""
    rounds = min(rounds, max(count, 1))
    groups = count // rounds
    whole = groups * rounds
    split = _mapped(lambda x: np.reshape(x[:whole], (groups, rounds, *x.shape[1:])), xs)
    rest = _mapped(lambda x: x[whole:], xs)

    def group(carry: Any, x: Any) -> Any:
        return _scan_python(f, carry, x, rounds, reverse)

    def joined(first: Any, second: Any) -> Any:
        return _mapped(lambda a, b: np.concatenate([np.reshape(a, (whole, *a.shape[2:])), b]), first, second)

    if groups == 0 or (groups == 1 and whole == count):
        return _scan_python(f, init, xs, count, reverse) if count else _scan_node(f, init, xs, count, reverse)
    carry = init
    if whole == count:
        carry, ys = _scan_node(group, carry, split, groups, reverse)
        return carry, _mapped(lambda a: np.reshape(a, (whole, *a.shape[2:])), ys)
    if reverse:
        carry, last = _scan_python(f, carry, rest, count - whole, reverse)
        carry, ys = _scan_node(group, carry, split, groups, reverse)
    else:
        carry, ys = _scan_node(group, carry, split, groups, reverse)
        carry, last = _scan_python(f, carry, rest, count - whole, reverse)
    return carry, joined(ys, last)


def _mapped(function: Function, *trees: Any) -> Any:
    """`function` of the arrays of trees of one structure."""
    flat = [pytree.flatten(tree) for tree in trees]
    rows = zip(*(leaves for leaves, _, _ in flat), strict=True)
    return pytree.unflatten(flat[0][2], [function(*row) if is_number(row[0]) else row[0] for row in rows])


def map(f: Function, xs: Any) -> Any:
    """`f(x[t])` for each t along the first axes of xs, stacked: one after the other, where `vmap` does all at once.

    >>> import numpy as np, graphc as gx
    >>> gx.map(lambda x: x * x, np.array([1.0, 2.0, 3.0]))
    array([1., 4., 9.])
    """
    _check_callable("map", f)
    function = context.rewritten(f)
    return scan(lambda carry, x: (carry, function(x)), None, xs)[1]


# -- while_loop, fori_loop -------------------------------------------------------------------------------------------


def while_loop(cond_fun: Function, body_fun: Function, init_val: Any) -> Any:
    """Repeat `val = body_fun(val)` as long as `cond_fun(val)` holds.

    Parameters
    ----------
    cond_fun
        Gives a bool of rank 0.
    body_fun
        Gives a value of the same structure, shapes and dtypes.
    init_val
        The first value: an array or a container of arrays.

    Raises
    ------
    ShapeError, DTypeError
        If the condition is no bool of rank 0.
    StructureError, TraceError
        If the body changes the structure of the value, or the type of a leaf.

    >>> import graphc as gx
    >>> gx.while_loop(lambda v: v[0] > 0, lambda v: (v[0] - 1, v[1] * 2.0), (3, 1.0))
    (0, 8.0)
    """
    _check_callable("while_loop", cond_fun, body_fun)
    if context.trace.get() is None:
        value = init_val
        while _truth("while_loop", cond_fun(value)):
            value = body_fun(value)
        return value
    carry = _Carry("while_loop", "init_val", init_val)
    test, step = context.rewritten(cond_fun), context.rewritten(body_fun)

    def body(_: Any, *handles: Any) -> Any:
        value = step(carry.filled(handles))
        return _condition("while_loop", test(value)), value

    while True:
        sub = subtrace(body, [Argument(TensorType(bool_, ())), *carry.types], name="the body of while_loop")
        new = carry.settle(sub, sub.structure.children[1], 1)
        if new is not None:
            break
    going = sub.results[0].index
    assert going is not None
    holds = _condition("while_loop", test(init_val))
    results = apply_while(with_outputs(sub, [sub.graph.outputs[going], *new]), [holds, *carry.initial()])
    return carry.wrapped(results[1:])


def _condition(name: str, x: Any) -> Tensor:
    """A predicate as a bool of rank 0."""
    _check_predicate(name, x)
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_bool else apply_ufunc("not_equal", tensor, 0)


def _check_predicate(name: str, x: Any) -> None:
    if not is_number(x) or np.shape(x) != ():
        raise (ShapeError if is_number(x) else DTypeError)(
            message(
                f"{name}: the predicate is a bool of rank 0",
                operands=[("predicate", describe(x) if is_number(x) else repr(x))],
                location=user_location(),
                hint="Reduce it with .any() or .all(), or choose element by element with gx.where.",
            )
        )
    dtype = as_tensor(x).dtype
    if dtype.kind not in "biu":
        raise DTypeError(
            message(
                f"{name}: the predicate is a bool, not a number of {dtype}",
                operands=[("predicate", describe(x))],
                location=user_location(),
                hint="Compare it: x != 0.",
            )
        )


def _truth(name: str, x: Any) -> bool:
    _check_predicate(name, x)
    return bool(x)


def fori_loop(lower: Any, upper: Any, body_fun: Function, init_val: Any) -> Any:
    """`for i in range(lower, upper): val = body_fun(i, val)`; gives the last val.

    The bounds are integers, Python's or arrays of rank 0. Between Python's bounds the loop is a `scan`, else a `while_loop`.

    >>> import graphc as gx
    >>> gx.fori_loop(0, 5, lambda i, total: total + i, 0)
    10
    """
    _check_callable("fori_loop", body_fun)
    for what, bound in (("lower", lower), ("upper", upper)):
        if not is_number(bound) or np.shape(bound) != () or np.asarray(_sample(bound)).dtype.kind not in "iu":
            raise DTypeError(
                message(
                    f"fori_loop: {what} is an integer of rank 0",
                    operands=[(what, describe(bound) if is_number(bound) else repr(bound))],
                    location=user_location(),
                )
            )
    if context.trace.get() is None:
        value = init_val
        for i in range(int(lower), int(upper)):
            value = body_fun(i, value)
        return value
    function = context.rewritten(body_fun)
    if isinstance(lower, (int, np.integer)) and isinstance(upper, (int, np.integer)):
        start, count = int(lower), max(int(upper) - int(lower), 0)
        step = lambda carry, _: ((carry[0] + 1, function(carry[0], carry[1])), None)  # noqa: E731
        return scan(step, (start, init_val), length=count)[0][1]
    end = as_tensor(upper)
    return while_loop(
        lambda carry: carry[0] < end, lambda carry: (carry[0] + 1, function(carry[0], carry[1])), (lower, init_val)
    )[1]


def _sample(x: Any) -> Any:
    """Zero of x's dtype."""
    return np.zeros((), x.dtype) if isinstance(x, Tensor) else x


# -- branches --------------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fun: Function, false_fun: Function, *operands: Any) -> Any:
    """`true_fun(*operands)` where `pred` holds, else `false_fun(*operands)`; only one of them runs.

    Parameters
    ----------
    pred
        A bool (or integer) of rank 0. One of Python's chooses while tracing.
    true_fun, false_fun
        Give results of the same structure, shapes and dtypes; Python numbers take the dtype of the other branch.

    Raises
    ------
    ShapeError, DTypeError
        If the predicate is no bool of rank 0.
    StructureError, TraceError
        If the results of the branches differ in structure, or in the type of a leaf.

    >>> import numpy as np, graphc as gx
    >>> gx.cond(np.bool_(True), np.sin, np.cos, 0.0)
    np.float64(0.0)
    """
    _check_callable("cond", true_fun, false_fun)
    if not isinstance(pred, Tensor) or context.trace.get() is None:
        return (true_fun if _truth("cond", pred) else false_fun)(*operands)
    return _branches("cond", _condition("cond", pred), [true_fun, false_fun], operands)


def _branches(name: str, holds: Tensor, functions: Sequence[Function], operands: tuple[Any, ...]) -> Any:
    then, orelse = (context.rewritten(f) for f in functions)
    subs = [subtrace(lambda f=f: f(*operands), [], name=f"a branch of {name}") for f in (then, orelse)]
    if subs[0].structure != subs[1].structure:
        raise StructureError(
            message(
                f"{name}: the branches give different structures",
                operands=[(what, _shown(s.structure)) for what, s in zip(_ROLES[name], subs, strict=True)],
                location=user_location(),
                hint="Return the same containers from all branches.",
            )
        )
    outputs: tuple[list[Value], list[Value]] = ([], [])
    leaves: list[Any] = []
    for path, *results in zip(subs[0].paths, subs[0].results, subs[1].results, strict=True):
        if results[0].index is None and results[1].index is None and results[0].value == results[1].value:
            leaves.append((None, results[0].value))
            continue
        found = [
            None if r.index is None else Argument(s.graph.outputs[r.index].tensor, r.kind, r.weak)
            for s, r in zip(subs, results, strict=True)
        ]
        common = None if found[0] is None or found[1] is None else common_type(found[0], found[1])
        if common is None:
            shown = [_shown_leaf(s, r) for s, r in zip(subs, results, strict=True)]
            raise TraceError(
                message(
                    f"{name}: the branches give different types: result{path} is {shown[0]} in one and {shown[1]} in the other",
                    operands=list(zip(_ROLES[name], shown, strict=True)),
                    location=user_location(),
                    hint="Bring them to one shape and dtype: .astype, broadcast_to, zeros_like.",
                )
            )
        leaves.append((common, len(outputs[0])))
        for side, sub, result in zip(outputs, subs, results, strict=True):
            value = sub.graph.outputs[result.index]  # type: ignore[index]
            side.append(value if value.tensor == common.type else _converted(value, common.type))
    tensors = apply_cond(holds, *(with_outputs(s, values) for s, values in zip(subs, outputs, strict=True)))
    wrapped = [x if how is None else in_kind(tensors[x], how.kind, weak=how.weak) for how, x in leaves]
    return pytree.unflatten(subs[0].structure, wrapped)


_ROLES = {"cond": ("true_fun", "false_fun"), "switch": ("one branch", "another")}


def switch(index: Any, branches: Sequence[Function], *operands: Any) -> Any:
    """`branches[index](*operands)`; an index out of range is the nearest one that is not. Only one branch runs.

    The branches' results must agree as those of `cond` must.

    >>> import numpy as np, graphc as gx
    >>> gx.switch(2, [np.sin, np.cos, np.exp], 0.0)
    np.float64(1.0)
    """
    branches = list(branches)
    _check_callable("switch", *branches)
    if (
        not branches
        or not is_number(index)
        or np.shape(index) != ()
        or np.asarray(_sample(index)).dtype.kind not in "iu"
    ):
        raise DTypeError(
            message(
                "switch takes an integer of rank 0 and at least one branch",
                operands=[("index", describe(index) if is_number(index) else repr(index)), ("branches", len(branches))],
                location=user_location(),
            )
        )
    if not isinstance(index, Tensor) or context.trace.get() is None:
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    return _halved(index, 0, branches, operands)


def _halved(index: Tensor, first: int, branches: Sequence[Function], operands: tuple[Any, ...]) -> Any:
    """Branches by halves, numbered from `first` on."""
    if len(branches) == 1:
        return context.rewritten(branches[0])(*operands)
    middle = len(branches) // 2

    def part(start: int, stop: int) -> Function:
        return lambda *given: _halved(index, first + start, branches[start:stop], given)

    below = apply_ufunc("less", index, first + middle)
    return _branches("switch", below, [part(0, middle), part(middle, len(branches))], operands)


# -- associative_scan ------------------------------------------------------------------------------------------------


def associative_scan(fn: Function, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes x[0], fn(x[0], x[1]), fn(fn(x[0], x[1]), x[2]), ... of an associative function, in about 2 log2(n) calls
    of it on many elements at once.

    Parameters
    ----------
    fn
        Takes two containers of arrays like `elems`, with fewer elements along the axis, and combines them element by element.
    elems
        An array or a container of arrays of the same length along `axis`.
    reverse
        From the last element on.

    Source: Blelloch, Prefix Sums and Their Applications (1990).

    >>> import numpy as np, graphc as gx
    >>> gx.associative_scan(np.maximum, np.array([3, 1, 4, 1, 5]))
    array([3, 3, 4, 4, 5])
    """
    _check_callable("associative_scan", fn)
    leaves, paths, structure = pytree.flatten(elems, "elems")
    sizes = {x.shape[axis] if is_number(x) and np.shape(x) else None for x in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ShapeError(
            message(
                "associative_scan: the elements must have the same length along the axis",
                operands=[(p, describe(x)) for p, x in zip(paths, leaves, strict=True)],
                location=user_location(),
            )
        )
    function = context.rewritten(fn)
    front = [np.moveaxis(x, axis, 0) for x in leaves]
    front = [x[::-1] for x in front] if reverse else front

    def combine(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        return pytree.flatten(function(pytree.unflatten(structure, a), pytree.unflatten(structure, b)))[0]

    found = _prefixes(combine, front)
    found = [x[::-1] for x in found] if reverse else found
    return pytree.unflatten(structure, [np.moveaxis(x, 0, axis) for x in found])


def _prefixes(combine: Callable[..., list[Any]], xs: Sequence[Any]) -> list[Any]:
    count = xs[0].shape[0]
    if count < 2:
        return list(xs)
    odd = _prefixes(combine, combine([x[: count - 1 : 2] for x in xs], [x[1::2] for x in xs]))
    if count == 2:
        even = [x[:1] for x in xs]
    else:
        before = [x[: (count - 1) // 2] for x in odd]
        rest = combine(before, [x[2::2] for x in xs])
        even = [np.concatenate([x[:1], y]) for x, y in zip(xs, rest, strict=True)]
    return [_interleaved(a, b) for a, b in zip(even, odd, strict=True)]


def _interleaved(even: Any, odd: Any) -> Any:
    count = odd.shape[0]
    pairs = np.reshape(np.stack([even[:count], odd], axis=1), (2 * count, *odd.shape[1:]))
    return np.concatenate([pairs, even[count:]]) if even.shape[0] > count else pairs
