"""Nested containers as lists of leaves. Layer 5.

Dicts, lists, tuples, named tuples, slices and dataclass instances are containers; all else is a leaf, None included. A
`Structure` is hashable and rebuilds the containers around other leaves. Dicts keep their order; their structure is that
of their sorted keys where keys can be sorted, so that order does not matter for a signature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import StructureError

__all__ = ["Structure", "flatten", "unflatten"]


@dataclass(frozen=True, slots=True)
class Structure:
    """A container's kind (`list`, `dict`, ..., or "leaf"), its own data (keys, field names) and its children."""

    kind: Any
    data: Any = None
    children: tuple[Structure, ...] = ()

    @property
    def count(self) -> int:
        """Number of leaves."""
        if self.kind == "leaf":
            return 1
        return sum(c.count for c in self.children)


_LEAF = Structure("leaf")


def _parts(x: Any) -> tuple[Any, Any, list[tuple[str, Any]]] | None:
    """Kind, data and (path step, child) pairs of a container; None for a leaf."""
    if isinstance(x, (str, bytes)):
        return None
    if isinstance(x, tuple):
        kind = tuple if type(x) is tuple else type(x)
        fields = getattr(x, "_fields", None)
        steps = [f"[{i}]" for i in range(len(x))] if fields is None else [f".{f}" for f in fields]
        return kind, None, list(zip(steps, x, strict=True))
    if type(x) is list:
        return list, None, [(f"[{i}]", item) for i, item in enumerate(x)]
    if type(x) is slice:
        return slice, None, [(f".{name}", getattr(x, name)) for name in ("start", "stop", "step")]
    if isinstance(x, dict):
        try:
            keys = tuple(sorted(x))
        except TypeError:
            keys = tuple(x)
        return type(x), keys, [(f"[{k!r}]", x[k]) for k in keys]
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        names = tuple(f.name for f in dataclasses.fields(x) if f.init)
        return type(x), names, [(f".{n}", getattr(x, n)) for n in names]
    return None


def flatten(x: Any, path: str = "") -> tuple[list[Any], list[str], Structure]:
    """Leaves, their paths in the user's notation (`[0]['w'].bias`) and the structure."""
    leaves: list[Any] = []
    paths: list[str] = []
    structure = _visit(x, path, leaves, paths)
    return leaves, paths, structure


def _visit(item: Any, where: str, leaves: list[Any], paths: list[str]) -> Structure:
    # Not a closure: a function that refers to itself would keep the leaves alive until the garbage collector runs.
    parts = _parts(item)
    if parts is None:
        leaves.append(item)
        paths.append(where)
        return _LEAF
    kind, data, children = parts
    return Structure(kind, data, tuple(_visit(child, where + step, leaves, paths) for step, child in children))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The containers with the given leaves."""
    if len(leaves) != structure.count:
        raise StructureError(f"{len(leaves)} leaves given for a structure of {structure.count}")
    return _build(structure, iter(leaves))


def _build(s: Structure, supply: Iterator[Any]) -> Any:
    if s.kind == "leaf":
        return next(supply)
    children = [_build(c, supply) for c in s.children]
    if s.kind in (list, tuple):
        return s.kind(children)
    if s.kind is slice:
        return slice(*children)
    if issubclass(s.kind, tuple):
        return s.kind(*children) if hasattr(s.kind, "_fields") else s.kind(children)
    if issubclass(s.kind, dict):
        return s.kind(zip(s.data, children, strict=True))
    return s.kind(**dict(zip(s.data, children, strict=True)))
