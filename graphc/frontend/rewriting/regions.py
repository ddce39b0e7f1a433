"""Branches and loops on traced conditions: regions of Python code become graphs held by control nodes. Layer 5, rewriting.

A branch runs both sides once each, with the names as they were, and merges what they left in the names. Values must agree in
shape and dtype (Python numbers take the other side's dtype); a name for which they do not is undefined afterwards, and says
why when it is used.

A loop's carries are the names that its body binds. `while` is rotated: the first test is made before the loop, the others at
the end of the body, so the condition is a carry as well. A loop whose number of rounds is known runs its first round outside:
it binds the names that only the body binds, and gives Python numbers their dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.dtypes import bool_
from graphc.errors import GraphcError, ShapeError, TraceError, message
from graphc.frontend import context, pytree
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import as_tensor, convert, op
from graphc.frontend.rewriting.callees import TracedRange
from graphc.frontend.rewriting.conversion import current
from graphc.frontend.rewriting.nodes import apply_cond, apply_while
from graphc.frontend.rewriting.values import RETURN_VALUE, Left, Own, State, Undefined, is_number, left_in
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, Result, Sub, argument_of, subtrace
from graphc.frontend.tensor import Tensor, rank_zero
from graphc.frontend.trace import Traced
from graphc.ir.graph import Value, constant, full, make
from graphc.ir.types import TensorType

__all__ = ["branch", "choose", "iterate", "loop", "no_value", "predicate"]

#: Loops of fewer rounds are never tried as loops of the graph.
_ROLL = 8

Thunk = Callable[[], Any]


def predicate(x: Tensor) -> Tensor:
    """A condition as a bool of rank 0, as Python's bool() would see it."""
    if x.size != 1:
        raise ShapeError(
            message(
                "a condition (`if`, `while`, `and`, `or`, `not`) is an array of one element",
                operands=[("condition", x.type)],
                location=user_location(),
                hint="Reduce it with .any() or .all(), or choose element by element with np.where(condition, a, b).",
            )
        )
    if x.shape:
        x = op("reshape", x, shape=())
    return x if x.type.dtype.is_bool else apply_ufunc("not_equal", x, 0)


def no_value(done: Tensor) -> TraceError:
    """The error for a function that may end without a return on some path."""
    return TraceError(
        message(
            "whether the function returns a value depends on a traced condition: one path falls off its end",
            operands=[("condition", done.type)],
            location=user_location(),
            hint="End every path with a return of the same shape and dtype.",
        )
    )


# -- sides ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Side:
    """One traced region: its graph, and what it left in each name."""

    sub: Sub
    left: tuple[Left | Undefined, ...]


def _traced(run: Thunk, state: State, arguments: Sequence[Argument], bind: Callable[..., None], name: str) -> _Side:
    """Trace a region. `bind(*handles)` sets the names first; they are as before afterwards."""
    before = state.get()
    found: list[tuple[Left | Undefined, ...]] = []

    def body(*handles: Any) -> list[Tensor]:
        trace = context.trace.get()
        assert trace is not None
        outputs: list[Tensor] = []
        conversion = current()
        try:
            state.set(tuple(map(_apart, before)))
            bind(*handles)
            if conversion is None:
                extra = run()
            else:
                with conversion.region():
                    extra = run()
            after = (extra, *state.get()) if extra is not None else state.get()
            found.append(tuple(v if isinstance(v, Undefined) else left_in(v, trace, outputs) for v in after))
        finally:
            state.set(before)
        return outputs

    sub = subtrace(body, arguments, name=name)
    return _Side(sub, found[0])


def _apart(value: Any) -> Any:
    """A value in containers of its own, so that a region does not change the outer ones."""
    if isinstance(value, (list, dict)):
        leaves, _, structure = pytree.flatten(value)
        return pytree.unflatten(structure, leaves)
    return value


# -- branches ---------------------------------------------------------------------------------------------------------------


def branch(test: Tensor, then: Thunk, orelse: Thunk, state: State) -> None:
    """`if test: then() else: orelse()`."""
    condition = predicate(test)
    sides = [_traced(run, state, (), lambda: None, "a branch") for run in (then, orelse)]
    merge = _Merge(sides)
    merged = [merge.name(name, *pair) for name, *pair in zip(state.names, sides[0].left, sides[1].left, strict=True)]
    subs = [_with_outputs(side.sub, values) for side, values in zip(sides, merge.outputs, strict=True)]
    results = apply_cond(condition, subs[0], subs[1])
    state.set(tuple(_resolved(value, results) for value in merged))


def choose(test: Tensor, then: Thunk, orelse: Thunk) -> Any:
    """`then() if test else orelse()`."""
    result: list[Any] = [Undefined("the expression")]

    def setter(values: tuple[Any, ...]) -> None:
        result[0] = values[0]

    state = State(("the conditional expression",), lambda: (result[0],), setter)
    branch(test, lambda: setter((then(),)), lambda: setter((orelse(),)), state)
    if isinstance(result[0], Undefined):
        raise result[0].fail()
    return result[0]


class _Joined:
    """A leaf of the state after a control node: its result `index`. (Not a dataclass: those are containers of leaves.)"""

    __slots__ = ("index", "kind", "weak")

    def __init__(self, index: int, kind: str, weak: bool) -> None:
        self.index = index
        self.kind = kind
        self.weak = weak


def _resolved(value: Any, results: Sequence[Tensor]) -> Any:
    """A name's value with the node's results in the places of `_Joined` leaves."""
    if isinstance(value, Undefined):
        return value
    leaves, _, structure = pytree.flatten(value)
    return pytree.unflatten(structure, [_handle(results[x.index], x) if isinstance(x, _Joined) else x for x in leaves])


def _handle(result: Tensor, how: _Joined) -> Tensor:
    if isinstance(result, Traced):
        result.kind, result.weak = how.kind, how.weak
    return result


class _Merge:
    """Joins what the two sides of a branch left; `outputs` are the values to give on each side."""

    def __init__(self, sides: Sequence[_Side]) -> None:
        self._sides = sides
        self.outputs: tuple[list[Value], list[Value]] = ([], [])

    def name(self, name: str, first: Left | Undefined, second: Left | Undefined) -> Any:
        """What a name holds after the branch."""
        if isinstance(first, Undefined) and isinstance(second, Undefined):
            return first if first.why else second
        if isinstance(first, Undefined) or isinstance(second, Undefined):
            if name != RETURN_VALUE:
                return Undefined(name, f"is bound in one branch only ({_place('if')})")
            known, side = (second, 1) if isinstance(first, Undefined) else (first, 0)
            assert isinstance(known, Left)
            return pytree.unflatten(known.structure, [self._beside_zeros(leaf, side) for leaf in known.leaves])
        if first.structure != second.structure:
            return _refused(name, "has another structure in each branch")
        leaves = []
        for path, a, b in zip(first.paths, first.leaves, second.leaves, strict=True):
            joined = self._leaf(a, b)
            if isinstance(joined, str):
                return _refused(name + path, joined)
            leaves.append(joined)
        return pytree.unflatten(first.structure, leaves)

    def _leaf(self, a: Any, b: Any) -> Any:
        """The joined leaf, or in words why there is none."""
        if isinstance(a, Own) and isinstance(b, Own) and a.outer is not None and a.outer is b.outer:
            return a.outer
        if _is_same(a, b):
            return a
        if not all(isinstance(x, Own) or is_number(x) for x in (a, b)):
            return f"is {_shown(a)} in one branch and {_shown(b)} in the other"
        types = [_type(side.sub, x) for side, x in zip(self._sides, (a, b), strict=True)]
        common = _common(*types)
        if common is None:
            return f"is {types[0].type} in one branch and {types[1].type} in the other"
        for side, x in enumerate((a, b)):
            self.outputs[side].append(_value(self._sides[side].sub, x, common.type))
        return _Joined(len(self.outputs[0]) - 1, common.kind, common.weak)

    def _beside_zeros(self, leaf: Any, side: int) -> Any:
        """A leaf of the value that one side returns, beside zeros on the side that goes on (nobody looks at them)."""
        if not (isinstance(leaf, Own) or is_number(leaf)):
            return leaf
        how = _type(self._sides[side].sub, leaf)
        self.outputs[side].append(_value(self._sides[side].sub, leaf, how.type))
        self.outputs[1 - side].append(_zeros(how.type))
        return _Joined(len(self.outputs[0]) - 1, how.kind, how.weak)


def _place(statement: str) -> str:
    return f"the `{statement}` at {user_location()}"


def _refused(name: str, why: str) -> Undefined:
    if name.startswith(RETURN_VALUE):
        raise TraceError(
            message(
                f"the returned value{name[len(RETURN_VALUE) :]} {why}",
                location=user_location(),
                hint="Return the same structure of arrays, with equal shapes and dtypes, on every path.",
            )
        )
    return Undefined(name, f"{why} ({_place('if')})")


def _is_same(a: Any, b: Any) -> bool:
    """Whether two Python values are the same, so that a name keeps a Python value."""
    if a is b:
        return True
    if isinstance(a, (Own, np.ndarray)) or type(a) is not type(b):
        return False
    return bool(a == b) or repr(a) == repr(b) == "nan"


def _shown(x: Any) -> str:
    return "an array" if isinstance(x, Own) else repr(x)


def _type(sub: Sub, leaf: Any) -> Argument:
    if isinstance(leaf, Own):
        return Argument(sub.graph.outputs[leaf.index].tensor, leaf.kind, leaf.weak)
    return argument_of(leaf)


def _common(a: Argument, b: Argument) -> Argument | None:
    """The type of a value that is one or the other; None if no array can be both."""
    if a.type.shape != b.type.shape:
        return None
    kind = "tensor" if "tensor" in (a.kind, b.kind) else "ndarray"
    if a.type == b.type:
        return Argument(a.type, kind, a.weak and b.weak)
    if a.weak and b.weak:
        wider = a if a.type.dtype.is_float else b
        return Argument(wider.type, kind, True)
    weak, strong = (a, b) if a.weak else (b, a)
    if not (weak.weak or weak.type.dtype.is_bool) or (weak.type.dtype.is_float and not strong.type.dtype.is_float):
        return None
    if strong.type.dtype.is_bool:
        return None
    return Argument(strong.type, kind, strong.weak)


def _value(sub: Sub, leaf: Any, wanted: TensorType) -> Value:
    """A leaf as a value of the side's graph, of the wanted type."""
    if not isinstance(leaf, Own):
        return constant(np.asarray(leaf, dtype=wanted.dtype.numpy))
    value = sub.graph.outputs[leaf.index]
    return value if value.tensor == wanted else make("convert", (value,), dtype=wanted.dtype).result


def _zeros(wanted: TensorType) -> Value:
    return full(wanted.shape, 0.0, wanted.dtype)


def _with_outputs(sub: Sub, values: Sequence[Value]) -> Sub:
    """The traced region with other results; writes and effects stay."""
    graph = sub.graph
    kept = graph.outputs[sub.outputs :]
    writes = tuple(replace(w, index=w.index - sub.outputs + len(values)) for w in sub.writes)
    results = tuple(Result(i) for i in range(len(values)))
    structure = pytree.flatten([0] * len(values))[2]
    paths = tuple(f"[{i}]" for i in range(len(values)))
    return replace(
        sub,
        graph=replace(graph, outputs=(*values, *kept)),
        results=results,
        structure=structure,
        paths=paths,
        writes=writes,
    )


# -- loops --------------------------------------------------------------------------------------------------------------------


def loop(holds: Tensor, test: Thunk, body: Thunk, state: State, statement: str = "while") -> None:
    """`while test(): body()`, where the first test gave `holds`."""
    before = state.get()

    def run() -> Any:
        body()
        return predicate(as_tensor(test()))

    carried = _Carries(statement, state.names, before)
    while True:
        side = _traced(
            run, state, [Argument(_BOOL), *carried.types], lambda _, *handles: carried.bind(state, handles), "a loop"
        )
        going, *left = side.left
        assert isinstance(going, Left)
        values = carried.settle(side.sub, left)
        if values is not None:
            break
    sub = _with_outputs(side.sub, [_value(side.sub, going.leaves[0], _BOOL), *values])
    results = apply_while(sub, [predicate(holds), *carried.initial()])
    state.set(carried.after(left, results[1:]))


_BOOL = TensorType(bool_, ())


class _Carries:
    """The carries of a loop: what its names hold, leaf by leaf. Types settle by tracing the body until it keeps them."""

    def __init__(self, statement: str, names: Sequence[str], before: Sequence[Any]) -> None:
        self._statement = statement
        self._names = names
        self._values = list(before)
        self._types: dict[tuple[int, int], Argument] = {}
        #: Names that the body binds anew; arrays under other names are captured (and written) as they are.
        self._rebound: set[int] = set()
        self._order: list[tuple[int, int]] = []
        self._lay_out()

    def _lay_out(self) -> None:
        self._order = []
        for i, value in enumerate(self._values):
            if isinstance(value, Undefined):
                continue
            for k, leaf in enumerate(pytree.flatten(value)[0]):
                if is_number(leaf) and (i in self._rebound or not isinstance(leaf, Tensor)):
                    self._order.append((i, k))
                    self._types.setdefault((i, k), argument_of(leaf))

    @property
    def types(self) -> list[Argument]:
        """The types of the carries, in order."""
        return [self._types[key] for key in self._order]

    def initial(self) -> list[Tensor]:
        """The carries before the first round."""
        found = []
        for i, k in self._order:
            leaf = pytree.flatten(self._values[i])[0][k]
            wanted = self._types[i, k].type
            tensor = as_tensor(leaf if isinstance(leaf, Tensor) else np.asarray(leaf))
            found.append(convert(tensor, wanted.dtype.numpy))
        return found

    def bind(self, state: State, handles: Sequence[Traced]) -> None:
        """Bind the names to the handles of a round."""
        state.set(self._filled(state.get(), dict(zip(self._order, handles, strict=True))))

    def _filled(self, values: Sequence[Any], leaves: dict[tuple[int, int], Any]) -> tuple[Any, ...]:
        found = []
        for i, value in enumerate(values):
            mine = {k: leaf for (n, k), leaf in leaves.items() if n == i}
            if mine:
                old, _, structure = pytree.flatten(self._values[i])
                value = pytree.unflatten(structure, [mine.get(k, leaf) for k, leaf in enumerate(old)])
            found.append(value)
        return tuple(found)

    def settle(self, sub: Sub, left: Sequence[Left | Undefined]) -> list[Value] | None:
        """The values of the carries at the end of a round, in their types; None if types had to change and the body is to be
        traced again."""
        again = False
        values: list[Value] = []
        for i, after in enumerate(left):
            before = self._values[i]
            if isinstance(before, Undefined):
                if self._names[i] == RETURN_VALUE and isinstance(after, Left):
                    self._values[i] = self._placeholder(sub, after)
                    self._rebound.add(i)
                    again = True
                continue
            if isinstance(after, Undefined):
                raise self._changed(i, "", after.why or "is not bound at the end of a round")
            old, _, structure = pytree.flatten(before)
            if after.structure != structure:
                raise self._changed(i, "", "changes its structure from round to round")
            for k, (leaf, new) in enumerate(zip(old, after.leaves, strict=True)):
                if (i, k) not in self._types or (i, k) not in self._order:
                    if isinstance(new, Own) and new.outer is leaf:
                        continue
                    if not is_number(leaf) or not (isinstance(new, Own) or is_number(new)):
                        if not _is_same(leaf, new):
                            raise self._changed(
                                i, after.paths[k], f"is {_shown(leaf)} before a round and {_shown(new)} after it"
                            )
                        continue
                    self._rebound.add(i)
                    again = True
                    continue
                wanted = self._types[i, k]
                found = _type(sub, new)
                common = _common(wanted, found)
                if common is None or (not wanted.weak and common.type != wanted.type):
                    raise self._changed(i, after.paths[k], f"is {wanted.type} before a round and {found.type} after it")
                if (common.type, common.weak) != (wanted.type, wanted.weak) and wanted.weak:
                    self._types[i, k] = common
                    again = True
                    continue
                if not again:
                    values.append(_value(sub, new, wanted.type))
        if again:
            self._lay_out()
            return None
        return values

    def _placeholder(self, sub: Sub, after: Left) -> Any:
        """Zeros for a value that the body returns: what is carried until a round returns, and nobody looks at."""

        def zeros(leaf: Any) -> Any:
            if not (isinstance(leaf, Own) or is_number(leaf)):
                return leaf
            wanted = _type(sub, leaf).type
            return np.zeros(wanted.shape, wanted.dtype.numpy)

        return pytree.unflatten(after.structure, [zeros(leaf) for leaf in after.leaves])

    def _changed(self, i: int, path: str, why: str) -> TraceError:
        name = "the returned value" if self._names[i] == RETURN_VALUE else f"variable '{self._names[i]}{path}'"
        return TraceError(
            message(
                f"{name} {why} of a `{self._statement}` loop on traced values",
                location=user_location(),
                hint="A compiled loop keeps the shape and dtype of its variables: give it the final shape and dtype before "
                "the loop (np.zeros(n) instead of a growing list; 0.0 instead of None).",
            )
        )

    def after(self, left: Sequence[Left | Undefined], results: Sequence[Tensor]) -> tuple[Any, ...]:
        """What the names hold after the loop."""
        handles = {}
        for key, result in zip(self._order, results, strict=True):
            how = self._types[key]
            handles[key] = _handle(result, _Joined(0, how.kind, how.weak))
        values = list(self._filled(self._values, handles))
        for i, after in enumerate(left):
            if isinstance(values[i], Undefined) and isinstance(after, Left):
                values[i] = Undefined(
                    self._names[i], f"is bound in a loop only, which may not run ({_place(self._statement)})"
                )
        return tuple(values)


def iterate(items: Any, body: Callable[[Any], None], more: Thunk | None, state: State) -> None:
    """`for item in items: body(item)` as long as `more()` holds."""
    if isinstance(items, TracedRange):
        start, step = items.start, items.step
        _counted(_length(items), lambda i: start + i * step, body, more, state)
        return
    if isinstance(items, Tensor) and not items.shape:
        raise rank_zero("iteration", items)
    if not (isinstance(items, (Tensor, range)) and _rolled(items, body, more, state)):
        _unrolled(items, body, more, state)


def _rolled(items: Any, body: Callable[[Any], None], more: Thunk | None, state: State) -> bool:
    """Run a loop of known length as a loop of the graph, if its rounds after the first are alike; False, and nothing done, if
    they are not."""
    conversion = current()
    if conversion is None or not conversion.roll or len(items) < _ROLL:
        return False

    def item(i: Any) -> Any:
        if isinstance(items, range) and isinstance(i, Tensor):
            return i * items.step + items.start  # type: ignore[operator]
        return items[i]

    def attempt() -> None:
        before = state.get()
        state.set(tuple(map(_apart, before)))
        try:
            with conversion.region():
                _peeled(len(items), item, body, more, state)
        finally:
            state.set(before)

    try:
        subtrace(attempt, (), name="a loop")
    except GraphcError:
        return False
    _peeled(len(items), item, body, more, state)
    return True


def _unrolled(items: Iterable[Any], body: Callable[[Any], None], more: Thunk | None, state: State) -> None:
    """Run a loop round by round while tracing."""
    for item in items:
        holds = True if more is None else more()
        if isinstance(holds, Tensor):
            # Whether the loop goes on is known at run time only: each of the other rounds under a condition.
            branch(holds, lambda item=item: body(item), _nothing, state)  # type: ignore[misc]
        elif holds:
            body(item)
        else:
            return


def _nothing() -> None:
    pass


def _peeled(
    count: int, item: Callable[[Any], Any], body: Callable[[Any], None], more: Thunk | None, state: State
) -> None:
    """A loop of `count` rounds, at least one, the first of which is traced outside of it: it binds the names that only the body
    binds, and gives Python numbers the dtype and shape that they keep."""
    body(item(0))
    _counted(count - 1, lambda i: item(i + 1), body, more, state)


def _counted(
    count: Any, item: Callable[[Any], Any], body: Callable[[Any], None], more: Thunk | None, state: State
) -> None:
    """`for i in range(count): body(item(i))` as long as `more()` holds."""
    holds = True if more is None else more()
    if not isinstance(holds, Tensor) and not holds:
        return
    started = apply_ufunc("greater", count, 0)
    if isinstance(holds, Tensor):
        started = apply_ufunc("logical_and", started, predicate(holds))
    number: list[Any] = [0]

    def one_round() -> None:
        body(item(number[0]))
        number[0] = number[0] + 1

    def goes_on() -> Any:
        inside = apply_ufunc("less", number[0], count)
        again = True if more is None else more()
        return apply_ufunc("logical_and", inside, predicate(as_tensor(again)))

    extended = State(
        (*state.names, "the number of the round"),
        lambda: (*state.get(), number[0]),
        lambda values: _set_with_number(state, number, values),
    )
    loop(started, goes_on, one_round, extended, "for")


def _set_with_number(state: State, number: list[Any], values: tuple[Any, ...]) -> None:
    state.set(values[:-1])
    number[0] = values[-1]


def _length(items: TracedRange) -> Tensor:
    """The number of rounds of a range with traced bounds (negative for none)."""
    extent = items.stop - items.start
    if items.step > 0:
        return (extent + (items.step - 1)) // items.step
    return (-extent + (-items.step - 1)) // -items.step
