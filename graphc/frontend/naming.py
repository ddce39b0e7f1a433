"""Names for captured tensors: how the user's function reaches them. Layer 5.

State is captured by identity and has no name of its own. For reports, errors and exported weights, names are found by
looking through what the function can see: its closure, its globals and its `self`, and inside these through
containers and through the attributes of modules and optimisers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import FunctionType
from typing import Any

from graphc.frontend.random import Generator, default_generator
from graphc.frontend.structure import Tracked
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import StateSlot

__all__ = ["state_names", "tensor_names"]

_DEPTH = 12
# Longer containers hold data, not tensors of a model.
_MANY = 4096


def state_names(function: Callable[..., Any], arguments: Sequence[Any], states: Sequence[StateSlot]) -> list[str]:
    """A unique name for each state slot: `model.0.weight`, `w`, `w.grad`, or `state3` where no way to it was found.

    `arguments` are static arguments, among which there may be modules.
    """
    found = tensor_names(function, arguments, [slot.tensor for slot in states])
    names: list[str] = []
    for name, slot in zip(found, states, strict=True):
        name += ".grad" if slot.grad else ""
        again = 2
        unique = name
        while unique in names:
            unique, again = f"{name}#{again}", again + 1
        names.append(unique)
    return names


def tensor_names(function: Callable[..., Any], arguments: Sequence[Any], tensors: Sequence[Tensor]) -> list[str]:
    """A name for each tensor that the function reaches without its arguments."""
    wanted = {id(tensor) for tensor in tensors}
    found: dict[int, str] = {}
    seen: set[int] = set()
    roots = [*_roots(function, arguments), ("gx.random.default_generator()", default_generator())]
    # Parameters are known by their module's name, not by the optimiser's.
    for name, thing in sorted(roots, key=lambda root: not hasattr(root[1], "named_parameters")):
        _search(thing, name, wanted, found, seen)
    return [found.get(id(tensor), f"state{number}") for number, tensor in enumerate(tensors)]


def _roots(function: Any, arguments: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """What the function can see, with names; functions that it names are looked through, too."""
    for thing in arguments:
        if isinstance(thing, Tracked):
            yield type(thing).__name__.lower(), thing
    pending = [function]
    seen: set[int] = set()
    while pending:
        f = pending.pop()
        owner = getattr(f, "__self__", None) or getattr(f, "_module", None)
        if owner is not None:
            yield "", owner
        plain = getattr(f, "__func__", f)
        plain = getattr(plain, "__wrapped__", plain)
        if not isinstance(plain, FunctionType) or id(plain) in seen:
            continue
        seen.add(id(plain))
        for name, thing in _visible(plain):
            if isinstance(thing, FunctionType):
                pending.append(thing)
            yield name, thing


def _visible(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that is not set yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _search(thing: Any, name: str, wanted: set[int], found: dict[int, str], seen: set[int], depth: int = 0) -> None:
    """Note names of wanted tensors in `thing`. Recursion is over the user's containers and is limited in depth."""
    if isinstance(thing, Tensor):
        if id(thing) in wanted:
            found.setdefault(id(thing), name.lstrip(".") or "tensor")
        return
    if id(thing) in seen or depth > _DEPTH:
        return
    seen.add(id(thing))
    for step, child in _children(thing, found):
        _search(child, name + step, wanted, found, seen, depth + 1)


def _children(thing: Any, found: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    """What is inside a container, module, optimiser or generator, with the steps that lead there."""
    if isinstance(thing, dict):
        for key, value in islice(thing.items(), _MANY):
            # An optimiser's state is kept by parameter; modules are searched first, so that these have names.
            yield f"[{key!r}]" if isinstance(key, (str, int)) else f"[{found.get(id(key), '...')}]", value
    elif isinstance(thing, (list, tuple)):
        for number, value in enumerate(thing[:_MANY]):
            yield f"[{number}]", value
    elif isinstance(thing, Generator):
        yield ".state", thing.state
    elif isinstance(thing, Tracked) or dataclasses.is_dataclass(thing):
        for field, value in getattr(thing, "__dict__", {}).items():
            yield f".{field.lstrip('_')}", value
    elif isinstance(thing, Mapping):  # a group of an optimiser
        for field in getattr(type(thing), "__slots__", ()):
            yield f".{field.lstrip('_')}", getattr(thing, field, None)
    elif isinstance(getattr(thing, "_module", None), Tracked):  # a compiled module
        yield "", thing._module
