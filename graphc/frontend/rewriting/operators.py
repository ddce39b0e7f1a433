"""What rewritten code calls: Python's control flow, by the values at hand. Layer 5, rewriting.

Each operator first looks whether its condition is a traced value. If not, it does what Python does; a `while` may turn from one
to the other midway. If it is, the region becomes a node (`regions`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.rewriting import regions
from graphc.frontend.rewriting.callees import callee, changed, fresh
from graphc.frontend.rewriting.values import State, Undefined, check_defined
from graphc.frontend.tensor import Tensor

__all__ = [
    "Undefined",
    "and_",
    "callee",
    "changed",
    "choose",
    "for_",
    "fresh",
    "if_",
    "not_",
    "or_",
    "returned",
    "while_",
]

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
            regions.loop(holds, test, body, State(names, get, set_))
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
) -> None:
    """`for item in items: body(item)`, as long as `more()` holds."""
    regions.iterate(items, body, more, State(names, get, set_))


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
    if not done:
        return None
    check_defined(value)
    return value
