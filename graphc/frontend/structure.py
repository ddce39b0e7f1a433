"""Structure versions: how compiled functions learn that Python state they read while tracing has changed. Layer 5.

An object whose attributes are read while tracing (a Module, an Optimizer) is `Tracked`: setting an attribute bumps its
version and a process-wide counter. A compiled function compares the counter, one integer, on every call, and only when
it has moved looks at the versions of the objects that its trace watched.
"""

from __future__ import annotations

__all__ = ["Tracked", "bump_global", "global_version"]


class _Counter:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


_GLOBAL = _Counter()


def global_version() -> int:
    """The process-wide counter."""
    return _GLOBAL.number


def bump_global() -> None:
    """Note that something that traces may have read has changed."""
    _GLOBAL.number += 1


class Tracked:
    """An object with a structure version."""

    _structure_version: int = 0

    @property
    def structure_version(self) -> int:
        """Changes whenever an attribute is set or deleted."""
        return self._structure_version

    def bump(self) -> None:
        """Note a change of structure."""
        object.__setattr__(self, "_structure_version", self._structure_version + 1)
        bump_global()
