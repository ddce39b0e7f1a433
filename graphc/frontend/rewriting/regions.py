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
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import bool_
from graphc.errors import GraphcError, ShapeError, TraceError, message
from graphc.frontend import context, pytree
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import as_tensor, op
from graphc.frontend.rewriting.callees import TracedRange
from graphc.frontend.rewriting.carries import Carries
from graphc.frontend.rewriting.conversion import current
from graphc.frontend.rewriting.merging import Merge, resolved, value_of_leaf, with_outputs
from graphc.frontend.rewriting.nodes import apply_cond, apply_scan, apply_while
from graphc.frontend.rewriting.values import Left, State, Undefined, left_in
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, Sub, argument_of, subtrace
from graphc.frontend.tensor import Tensor, rank_zero
from graphc.frontend.trace import Traced
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
    merge = Merge([side.sub for side in sides])
    merged = [merge.name(name, *pair) for name, *pair in zip(state.names, sides[0].left, sides[1].left, strict=True)]
    subs = [with_outputs(side.sub, values) for side, values in zip(sides, merge.outputs, strict=True)]
    results = apply_cond(condition, subs[0], subs[1])
    state.set(tuple(resolved(value, results) for value in merged))


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


# -- loops --------------------------------------------------------------------------------------------------------------------


def loop(holds: Tensor, test: Thunk, body: Thunk, state: State, statement: str = "while") -> None:
    """`while test(): body()`, where the first test gave `holds`."""
    before = state.get()

    def run() -> Any:
        body()
        return predicate(as_tensor(test()))

    carried = Carries(statement, state.names, before)
    while True:
        side = _traced(
            run, state, [Argument(_BOOL), *carried.types], lambda _, *handles: carried.bind(state, handles), "a loop"
        )
        going, *left = side.left
        assert isinstance(going, Left)
        values = carried.settle(side.sub, left)
        if values is not None:
            break
    sub = with_outputs(side.sub, [value_of_leaf(side.sub, going.leaves[0], _BOOL), *values])
    results = apply_while(sub, [predicate(holds), *carried.initial()])
    state.set(carried.after(left, results[1:]))


_BOOL = TensorType(bool_, ())


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

    def attempt() -> None:
        before = state.get()
        state.set(tuple(map(_apart, before)))
        try:
            with conversion.region():
                _peeled(items, body, more, state)
        finally:
            state.set(before)

    try:
        subtrace(attempt, (), name="a loop")
    except GraphcError:
        return False
    _peeled(items, body, more, state)
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


def _peeled(items: Any, body: Callable[[Any], None], more: Thunk | None, state: State) -> None:
    """A loop over a tensor's rows or a range, at least one, whose first round is traced outside of it: it binds the names that
    only the body binds, and gives Python numbers the dtype and shape that they keep."""
    body(items[0])
    if more is None:
        rest = as_tensor(np.arange(items.start, items.stop, items.step)[1:]) if isinstance(items, range) else items[1:]
        _scanned(rest, isinstance(items, range), body, state)
        return
    rows: Any = as_tensor(np.asarray(items)) if isinstance(items, range) else items

    def item(i: Any) -> Any:
        element = rows[i + 1]
        if isinstance(items, range) and isinstance(element, Traced):
            element.kind, element.weak = "ndarray", True
        return element

    _counted(len(items) - 1, item, body, more, state)


def _scanned(sequence: Tensor, weak: bool, body: Callable[[Any], None], state: State) -> None:
    """`for item in sequence: body(item)`, once for each row."""
    like = argument_of(sequence)
    element = Argument(TensorType(like.type.dtype, like.type.shape[1:]), like.kind, weak)
    carried = Carries("for", state.names, state.get())
    item: list[Any] = [None]

    def bind(*handles: Traced) -> None:
        carried.bind(state, handles[:-1])
        item[0] = handles[-1]

    def run() -> None:
        row, item[0] = item[0], None
        body(row)

    while True:
        side = _traced(run, state, [*carried.types, element], bind, "a loop")
        values = carried.settle(side.sub, side.left)
        if values is not None:
            break
    sub = with_outputs(side.sub, values)
    results = apply_scan(sub, carried.initial(), [sequence], sequence.shape[0], reverse=False)
    state.set(carried.after(side.left, results))


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
