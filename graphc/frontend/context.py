"""What the current thread of control is doing: recording gradients or not, tracing or not. Layer 5.

Both live in context variables, so threads and asynchronous tasks do not see each other's.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphc.frontend.trace import Trace

__all__ = [
    "RewriteNeeded",
    "converter",
    "enable_grad",
    "grad_enabled",
    "is_grad_enabled",
    "no_grad",
    "rewritten",
    "trace",
]

grad_enabled: ContextVar[bool] = ContextVar("graphc_grad_enabled", default=True)
trace: ContextVar[Trace | None] = ContextVar("graphc_trace", default=None)
#: While rewritten functions are traced: what to call in the place of a user's function.
converter: ContextVar[Callable[[Any], Any] | None] = ContextVar("graphc_converter", default=None)


class RewriteNeeded(BaseException):
    """Python asked for a value of a traced array; the trace begins anew with functions whose control flow is rewritten. Not an
    Exception: `except Exception` in user code must let it through. `roll`: no value was asked for, but a line was traced so
    often that it is worth trying whether it stands in a loop."""

    def __init__(self, *, roll: bool = False) -> None:
        super().__init__()
        self.roll = roll


def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """What to call in the place of a function that a user gave to a transform."""
    convert = converter.get()
    return function if convert is None else convert(function)


class _GradMode(ContextDecorator):
    """Context manager and decorator that sets the recording of gradients; reentrant."""

    _enabled = True

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> _GradMode:
        self._tokens.append(grad_enabled.set(self._enabled))
        return self

    def __exit__(self, *_: object) -> None:
        grad_enabled.reset(self._tokens.pop())

    def _recreate_cm(self) -> _GradMode:
        return type(self)()


class no_grad(_GradMode):
    """Operations inside are not recorded for differentiation.

    >>> import graphc as gx
    >>> w = gx.tensor([1.0], requires_grad=True)
    >>> with gx.no_grad():
    ...     (w * 2).requires_grad
    False
    """

    _enabled = False


class enable_grad(_GradMode):
    """Operations inside are recorded again (within a `no_grad`)."""

    _enabled = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded for differentiation."""
    return grad_enabled.get()
