"""The version of this graphc. Layer 0."""

from __future__ import annotations

from functools import cache

from graphc.lazy import metadata

__all__ = ["of_package", "version"]


@cache
def version() -> str:
    """graphc's version, or `"unknown"` in a tree that is not installed."""
    return of_package("graphc") or "unknown"


def of_package(name: str) -> str | None:
    """The version of an installed package, without importing it; None if it is not installed."""
    try:
        found: str = metadata().version(name)
    except metadata().PackageNotFoundError:
        return None
    return found
