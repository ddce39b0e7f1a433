"""The state of a trace of rewritten functions: what is rewritten, which objects belong to which region. Layer 5, rewriting.

A region is a branch or a loop body on a traced condition. Its Python code runs while tracing although it is not known whether
and how often it will run; so it may change only those lists, dicts and sets that it made itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

from graphc.frontend import context
from graphc.frontend.rewriting.convert import NoSourceError, convert
from graphc.frontend.source import is_user_code

__all__ = ["Conversion", "current", "rewriting"]

_CURRENT: ContextVar[Conversion | None] = ContextVar("graphc_conversion", default=None)


@dataclass(eq=False, slots=True)
class Conversion:
    """A rewritten trace in progress. `roll`: loops of known length are tried as loops of the graph before they are traced round
    by round. `failures` says why functions stayed as they are."""

    operators: Any
    roll: bool = False
    depth: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    _owners: dict[int, tuple[Any, int]] = field(default_factory=dict)

    def converted(self, function: Any) -> Any:
        """A function, method or callable object with its control flow rewritten; as it is if there is no source."""
        if isinstance(function, MethodType):
            return MethodType(self.converted(function.__func__), function.__self__)
        if not isinstance(function, FunctionType):
            return function
        try:
            return convert(function, self.operators)
        except NoSourceError as error:
            self.failures[function.__qualname__] = str(error)
            return function

    def of_user(self, function: Any) -> Any:
        """`converted`, for functions of users; those of libraries stay as they are."""
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        return self.converted(function) if code is not None and is_user_code(code) else function

    def root(self, function: Any) -> Any:
        """What is compiled: a function, a method, or an object that can be called."""
        if isinstance(function, (FunctionType, MethodType)):
            return self.of_user(function)
        return self.of_user(function.__call__) if callable(function) else function

    def own(self, made: Any) -> None:
        """Note that the present region made an object; it is kept alive, so that its identity stays its own."""
        if self.depth:
            self._owners[id(made)] = (made, self.depth)

    def owns(self, thing: Any) -> bool:
        """Whether the present region (or none) may change an object."""
        return self.depth <= self._owners.get(id(thing), (None, 0))[1]

    @contextmanager
    def region(self) -> Iterator[None]:
        """While a branch or a loop body is traced."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            for key in [k for k, (_, depth) in self._owners.items() if depth > self.depth]:
                del self._owners[key]


def current() -> Conversion | None:
    """The conversion of the trace in progress."""
    return _CURRENT.get()


@contextmanager
def rewriting(operators: Any, *, roll: bool = False) -> Iterator[Conversion]:
    """Functions are rewritten for the time being."""
    conversion = Conversion(operators, roll)
    token, convert_token = _CURRENT.set(conversion), context.converter.set(conversion.of_user)
    try:
        yield conversion
    finally:
        context.converter.reset(convert_token)
        _CURRENT.reset(token)
