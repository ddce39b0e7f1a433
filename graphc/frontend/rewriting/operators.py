"""What rewritten code calls: Python's control flow, by the values at hand. Layer 5, rewriting.

Each operator first looks whether its condition is a traced value. If not, it does what Python does; a `while` may turn from one
to the other midway. If it is, the region becomes a node (`regions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.rewriting import regions
from graphc.frontend.rewriting.callees import TracedRange, callee
from graphc.frontend.rewriting.regions import State, Undefined
from graphc.frontend.tensor import Tensor

__all__ = ["Undefined", "and_", "callee", "choose", "for_", "if_", "not_", "or_", "returned", "while_"]

Thunk = Callable[[], Any]


def if_(
    test: Any,
    then: Thunk,
    orelse: Thunk,
    get: Callable[[], tuple[Any, ...]],
    set_: Callable[[tuple[Any, ...]], None],
    names: tuple[str, ...],
) -> None:
    """`if test: then() else: orelse()`; the branches bind `names`, which `get` reads and `set_` binds."""
    if isinstance(test, Tensor):
        regions.branch(test, then, orelse, State(names, get, set_))
    elif test:
        then()
    else:
        orelse()


def while_(
    test: Thunk,
    body: Thunk,
    get: Callable[[], tuple[Any, ...]],
    set_: Callable[[tuple[Any, ...]], None],
    names: tuple[str, ...],
) -> None:
    """`while test(): body()`."""
    while True:
        holds = test()
        if isinstance(holds, Tensor):
            regions.loop(test, body, State(names, get, set_))
            return
        if not holds:
            return
        body()


def for_(
    items: Any,
    body: Callable[[Any], None],
    more: Thunk | None,
    get: Callable[[], tuple[Any, ...]],
    set_: Callable[[tuple[Any, ...]], None],
    names: tuple[str, ...],
    targets: tuple[str, ...],
) -> None:
    """`for item in items: body(item)`, as long as `more()` holds. `targets` are the names that an item is bound to."""
    if isinstance(items, (Tensor, TracedRange)):
        regions.iterate(items, body, more, State(names, get, set_), targets)
        return
    if isinstance(items, range) and regions.rolls(items) and regions.rolled(items, body, more, State(names, get, set_), targets):
        return
    _python_for(items, body, more, State(names, get, set_), targets)


def _python_for(
    items: Iterable[Any], body: Callable[[Any], None], more: Thunk | None, state: State, targets: tuple[str, ...]
) -> None:
    if more is None:
        for item in items:
            body(item)
        return
    for item in items:
        holds = more()
        if isinstance(holds, Tensor):
            # Whether the loop goes on is known at run time only: the rest of the items under a condition each.
            regions.branch(holds, lambda item=item: body(item), _nothing, state)  # type: ignore[misc]
        elif holds:
            body(item)
        else:
            return


def _nothing() -> None:
    pass


def and_(left: Any, right: Thunk) -> Any:
    """`left and right()`."""
    if isinstance(left, Tensor):
        return regions.choose(left, right, lambda: left)
    return left and right()


def or_(left: Any, right: Thunk) -> Any:
    """`left or right()`."""
    if isinstance(left, Tensor):
        return regions.choose(left, lambda: left, right)
    return left or right()


def not_(x: Any) -> Any:
    """`not x`."""
    if isinstance(x, Tensor):
        return apply_ufunc("logical_not", regions.predicate(x))
    return not x


def choose(test: Any, then: Thunk, orelse: Thunk) -> Any:
    """`then() if test else orelse()`."""
    if isinstance(test, Tensor):
        return regions.choose(test, then, orelse)
    return then() if test else orelse()


def returned(done: Any, value: Any) -> Any:
    """What a function with early returns gives: `value` if it has returned, else None."""
    if isinstance(done, Tensor):
        raise regions.no_value(done)
    return value if done else None


def is_static(x: Any) -> bool:
    """Whether Python can look at a value while tracing."""
    return not isinstance(x, (Tensor, np.ndarray))
