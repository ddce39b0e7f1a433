"""The state of a trace of rewritten functions: which functions are rewritten, which Python objects belong to which region. Layer 5.

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

from graphc.frontend.rewriting.convert import NoSourceError, convert

__all__ = ["Conversion", "current", "rewriting"]

_CURRENT: ContextVar[Conversion | None] = ContextVar("graphc_conversion", default=None)


@dataclass(eq=False, slots=True)
class Conversion:
    """A rewritten trace in progress. `failures` says why functions stayed as they are."""

    operators: Any
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
def rewriting(operators: Any) -> Iterator[Conversion]:
    """Functions are rewritten for the time being."""
    conversion = Conversion(operators)
    token = _CURRENT.set(conversion)
    try:
        yield conversion
    finally:
        _CURRENT.reset(token)
