"""Calling the user's function under a trace: what must hold while it runs and after it. Layer 5.

NumPy hides a refusal to give a value behind an error of its own: the refusal is raised. NumPy's global random numbers would
be frozen: their use is an error. A traced value that survives its trace is an error that names who holds it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CellType, FrameType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from graphc.errors import GraphcError, TraceError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.trace import Trace, Traced

__all__ = ["call_user", "check_leaks"]


def call_user(trace: Trace, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the user's function. NumPy hides a refusal to give a value behind an error of its own (`np.zeros(x)`, `a[0] = x`):
    then the refusal is raised. NumPy's global random numbers would be frozen: their use is an error."""
    before = _global_numbers()
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        if trace.wants_rewriting:  # NumPy puts an error of its own in the place of what it did not expect
            raise context.RewriteNeeded from None
        if (
            isinstance(error, (TypeError, ValueError))
            and not isinstance(error, GraphcError)
            and trace.refused is not None
            and _line_of(error) == str(trace.refused[1])
        ):
            raise trace.refused[0] from None
        raise
    if trace.wants_rewriting:
        raise context.RewriteNeeded
    after = _global_numbers()
    if after is not None and (_drawn(after) if before is None else _differ(before["state"], after["state"])):
        if before is not None:
            np.random.set_state(before)
        raise TraceError(
            message(
                f"{trace.name!r} draws from np.random while it is traced; every call would get the same numbers",
                location=user_location(),
                hint="Use gx.random, which draws anew in each call, or pass the numbers as an argument.",
            )
        )
    return result


def _global_numbers() -> dict[str, Any] | None:
    """The state of NumPy's global random numbers; None while their module is not loaded, which takes 20 ms."""
    if "numpy.random" not in sys.modules:
        return None
    state: Any = np.random.get_state(legacy=False)
    return dict(state)


def _drawn(state: dict[str, Any]) -> bool:
    """Whether numbers were drawn since the generator was seeded: then it has begun its block of 624 words."""
    return bool(state["state"]["pos"] != 624 or state["has_gauss"])


def _differ(before: Any, after: Any) -> bool:
    return any(not np.array_equal(before[name], after[name]) for name in before)


def _line_of(error: BaseException) -> str:
    """The innermost place of a traceback."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"


# -- leaks -----------------------------------------------------------------------------------------------------------------


def check_leaks(trace: Trace) -> None:
    """Raise if a traced value is still alive; the trace is over."""
    while trace.arguments:
        trace.arguments.pop()._reference = None
    trace.grads = {}
    trace.small_arrays.clear()
    if all(reference() is None for reference in trace.handles):
        return
    gc.collect()
    for reference in trace.handles:
        handle = reference()
        holder = None if handle is None else _holder(handle)
        if handle is None or holder is None:
            continue
        raise TraceError(
            message(
                f"a traced value of {trace.name!r} outlives its trace: it is held by {holder}",
                operands=[("value", handle.type), ("called at", user_location())],
                location=next(iter(trace.locations.get(handle._value.node, ())), None) or user_location(),
                hint="Return it, in dicts, lists, tuples or dataclasses; or, to keep state between calls, make a gx.Tensor "
                "(or register a buffer) before the first call and write to it in place.",
            )
        )


def _holder(handle: Traced) -> str | None:
    """Who refers to a leaked value, in words; None if only interpreter internals do."""
    for owner in gc.get_referrers(handle):
        if isinstance(owner, dict):
            return _name_in(owner, handle)
        if isinstance(owner, (list, set)):
            return f"a {type(owner).__name__}"
        if isinstance(owner, CellType):
            return "a closure variable"
        if isinstance(owner, GeneratorType):
            return "a generator that was not run to its end"
        if isinstance(owner, tuple) and not any(isinstance(o, FrameType) for o in gc.get_referrers(owner)):
            return "a tuple"
        # An instance whose attributes are not in a dict of their own (yet), or in slots.
        for name in () if isinstance(owner, (Traced, FrameType, type)) else _attributes(owner):
            if getattr(owner, name, None) is handle:
                return f"attribute {name!r} of a {type(owner).__name__}"
    return None


def _attributes(owner: Any) -> list[str]:
    slots = [s for c in type(owner).__mro__ for s in getattr(c, "__slots__", ()) if isinstance(s, str)]
    return [*slots, *getattr(owner, "__dict__", {})]


def _name_in(space: dict[Any, Any], handle: Traced) -> str:
    """Where in a namespace or dict a value is."""
    key = None
    for name, value in space.items():
        if value is handle:
            key = name
    for outer in gc.get_referrers(space):
        if getattr(outer, "__dict__", None) is space and not isinstance(outer, ModuleType):
            return f"attribute {key!r} of a {type(outer).__name__}"
    if "__name__" in space:
        return f"the global variable {key!r} of {space['__name__']}"
    return f"a dict under {key!r}"
