"""Structure versions: how compiled functions learn that Python state they read while tracing has changed. Layer 5.

An object whose attributes are read while tracing (a Module, an Optimizer) is `Tracked`: setting an attribute bumps its
version and a process-wide counter. A compiled function compares the counter, one integer, on every call, and only when
it has moved looks at the versions of the objects that its trace watched.
"""

from __future__ import annotations

import ctypes

__all__ = ["Tracked", "bump_global", "global_version", "global_version_address"]


#: At an address of its own, where native calls read it.
_GLOBAL = ctypes.c_int64(0)


def global_version() -> int:
    """The process-wide counter."""
    return _GLOBAL.value


def global_version_address() -> int:
    """Where native code finds the process-wide counter, 64 bits wide."""
    return ctypes.addressof(_GLOBAL)


def bump_global() -> None:
    """Note that something that traces may have read has changed."""
    _GLOBAL.value += 1


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
