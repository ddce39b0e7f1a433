"""`in_axes` and `out_axes`: which axis of which leaf holds the examples. Layer 5.

Axes are given as a *prefix* of a value's structure: one entry may stand for a whole container.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend import pytree
from graphc.frontend.source import user_location
from graphc.ir.types import TensorType

__all__ = ["argument_names", "axis_of", "spread_axes"]


_COUNTS = {0: "no axes", 1: "one axis"}


def argument_names(function: Callable[..., Any], number: int) -> list[str]:
    """The names of the first positional parameters of a function, `args[i]` where they have none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*named[:number], *(f"args[{i}]" for i in range(len(named), number))]


def spread_axes(what: str, axes: Any, structure: pytree.Structure, subject: str) -> list[int | None]:
    """The axis for each leaf of `structure`.

    Raises
    ------
    StructureError
        If `axes` is not a prefix of it.
    """
    entries, _, own = pytree.flatten(axes)
    found = _spread(own, structure, iter(entries)) if all(map(_is_axis, entries)) else None
    if found is None:
        raise StructureError(
            message(
                f"{what} does not fit the structure of {subject}",
                operands=[(what, repr(axes)), (subject, sketch(structure))],
                location=user_location(),
                hint="Give an integer or None for each array, or one for a whole container (in_axes=(0, None)).",
            )
        )
    return found


def _is_axis(entry: Any) -> bool:
    return entry is None or type(entry) is int


def _spread(own: pytree.Structure, structure: pytree.Structure, supply: Iterator[Any]) -> list[int | None] | None:
    """Axes of all leaves; None where the prefix has another structure."""
    if own.kind == "leaf":
        return [next(supply)] * structure.count
    alike = own.kind is structure.kind and own.data == structure.data and len(own.children) == len(structure.children)
    if not alike:
        return None
    found: list[int | None] = []
    for mine, other in zip(own.children, structure.children, strict=True):
        inner = _spread(mine, other, supply)
        if inner is None:
            return None
        found += inner
    return found


def sketch(structure: pytree.Structure) -> str:
    """A structure for messages: `({'b': *, 'w': *}, *)`."""
    if structure.kind == "leaf":
        return "*"
    inner = [sketch(child) for child in structure.children]
    if structure.kind is list:
        return f"[{', '.join(inner)}]"
    if structure.kind is tuple:
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if structure.data is not None and issubclass(structure.kind, dict):
        return "{" + ", ".join(f"{k!r}: {v}" for k, v in zip(structure.data, inner, strict=True)) + "}"
    return f"{structure.kind.__name__}({', '.join(inner)})"


def axis_of(what: str, axis: int, rank: int, name: str, type_: TensorType | object) -> int:
    """An axis counted from the front.

    Raises
    ------
    ShapeError
        If there is none.
    """
    if -rank <= axis < rank:
        return axis % rank
    raise ShapeError(
        message(
            f"vmap: {what} is {axis} for {name}, which has {_COUNTS.get(rank, f'{rank} axes')}",
            operands=[(name, type_)],
            location=user_location(),
            hint="Axes count from 0, or from -1 backwards; None says that it is the same for all examples.",
        )
    )
