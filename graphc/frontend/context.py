"""What the current thread of control is doing: recording gradients or not, tracing or not. Layer 5.

Both live in context variables, so threads and asynchronous tasks do not see each other's.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphc.frontend.trace import Trace

__all__ = ["enable_grad", "grad_enabled", "is_grad_enabled", "no_grad", "trace"]

grad_enabled: ContextVar[bool] = ContextVar("graphc_grad_enabled", default=True)
trace: ContextVar[Trace | None] = ContextVar("graphc_trace", default=None)


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
