"""The public names, with signatures, first lines, and what they are made of. Layer 7.

What a function is made of is read from its code: the ops that it names, and the public functions that it calls, each also by
way of private helpers.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from graphc import data, nn, optim
from graphc.frontend import debug, fft, linalg, random
from graphc.frontend.composed import COMPOSED
from graphc.frontend.elementwise import UFUNCS
from graphc.ir import registry

__all__ = ["Entry", "Section", "sections"]

#: Modules below the root in the order of the page, by the names' prefix.
_MODULES: dict[str, types.ModuleType] = {
    "linalg": linalg,
    "fft": fft,
    "random": random,
    "debug": debug,
    "nn": nn,
    "nn.functional": nn.functional,
    "nn.init": nn.init,
    "optim": optim,
    "data": data,
}


_LOOKED_INTO = ("graphc.frontend.", "graphc.nn.")
#: What all functions use to convert and promote operands, to trace and to say what is wrong.
_PLUMBING = {
    f"graphc.frontend.{name}" for name in ("promotion", "tensor", "trace", "tape", "source", "context", "autograd")
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A public name: how it is called, the first sentence about it, the ops and functions that it is made of."""

    name: str
    signature: str
    line: str
    ops: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """The public names of a module, or of the class Tensor."""

    title: str
    anchor: str
    doc: str
    entries: tuple[Entry, ...]


def sections() -> list[Section]:
    """All public names."""
    owners = {id(thing): name for name, thing in _all_names()}
    # Modules never import the root package; whoever asks for the page has loaded it.
    root = sys.modules["graphc"]
    tensor = root.Tensor
    methods = Section(
        "Methods of Tensor", "methods-of-Tensor", _line(tensor), tuple(_methods("Tensor", tensor, owners))
    )
    return [_section("", root, owners), methods, *(_section(name, m, owners) for name, m in _MODULES.items())]


def _section(name: str, module: types.ModuleType, owners: dict[int, str]) -> Section:
    prefix = f"{name}." if name else ""
    entries: list[Entry] = []
    for own, thing in _names_of(module):
        entries.append(_entry(prefix + own, thing, owners))
        if isinstance(thing, type) and own != "Tensor":
            entries += _methods(prefix + own, thing, owners)
    title = f"graphc.{name}" if name else "graphc"
    return Section(title, f"module-{title}", _line(module), tuple(entries))


def _names_of(module: Any) -> Iterator[tuple[str, Any]]:
    for name in sorted(getattr(module, "__all__", None) or vars(module), key=lambda n: (n.lower(), n)):
        thing = getattr(module, name)
        mine = callable(thing) and str(getattr(thing, "__module__", "")).partition(".")[0] == "graphc"
        if mine and not name.startswith("_"):
            yield name, thing


def _all_names() -> Iterator[tuple[str, Any]]:
    """Every public function by the name of its anchor; the first name of a thing comes last, so that it counts."""
    below = [(f"{name}.{own}", thing) for name, module in _MODULES.items() for own, thing in _names_of(module)]
    return reversed([*_names_of(sys.modules["graphc"]), *below])


def _methods(owner: str, class_: type, owners: dict[int, str]) -> list[Entry]:
    found = []
    for name in sorted(vars(class_)):
        member = inspect.getattr_static(class_, name)
        if name.startswith("_") or not (callable(member) or isinstance(member, (property, classmethod, staticmethod))):
            continue
        thing = member if isinstance(member, property) else getattr(class_, name)
        bound = isinstance(member, types.FunctionType)
        found.append(_entry(f"{owner}.{name}", thing, owners, bound=bound))
    return found


def _entry(name: str, thing: Any, owners: dict[int, str], *, bound: bool = False) -> Entry:
    ops, functions = ((), ()) if isinstance(thing, (type, property)) else _made_of(thing, owners)
    return Entry(name, name + _signature(thing, bound), _line(thing), ops, tuple(f for f in functions if f != name))


# -- text ---------------------------------------------------------------------------------------------------------------------


def _signature(thing: Any, bound: bool) -> str:
    """Parameters with their defaults; without the first one for methods."""
    if isinstance(thing, property) or (isinstance(thing, type) and issubclass(thing, BaseException)):
        return ""
    if isinstance(thing, type):
        # Python's versions differ in what they take for the signature of a class.
        made = [m for m in (getattr(thing, n) for n in ("__init__", "__new__")) if isinstance(m, types.FunctionType)]
        if not made:
            return "()"
        thing, bound = made[0], True
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [
        p.replace(annotation=p.empty, default=_Plain(p.default) if p.default is not p.empty else p.empty)
        for p in list(signature.parameters.values())[bound:]
    ]
    return str(inspect.Signature(parameters))


class _Plain:
    """A default value whose text is the same in every process and version."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        name = getattr(self._value, "__name__", None)
        text = str(name) if name is not None else repr(self._value)
        return "..." if re.search(r"<| at 0x", text) else text


def _line(thing: Any) -> str:
    """The first sentence (or line) of a docstring."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0].split()
    return " ".join(paragraph)


# -- what a function is made of -----------------------------------------------------------------------------------------------


def _made_of(function: Any, owners: dict[int, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ops that a function applies, and public functions that it calls, in the order of its code."""
    ops: dict[str, None] = {}
    functions: dict[str, None] = {}
    seen: set[int] = set()
    todo = [function]
    while todo:
        thing = getattr(todo[0], "__func__", todo[0])
        thing = getattr(thing, "__wrapped__", thing)
        todo.pop(0)
        if thing is not function and id(thing) in owners:
            functions[owners[id(thing)]] = None
            continue
        if id(thing) in seen or not isinstance(thing, types.FunctionType):
            continue
        seen.add(id(thing))
        name = thing.__name__
        if thing.__module__ == "graphc.frontend.elementwise" and name in UFUNCS and UFUNCS[name][1]:
            ops[UFUNCS[name][1]] = None
            continue
        if thing.__module__ == "graphc.frontend.composed" and name in COMPOSED:
            todo.append(COMPOSED[name][1])
            continue
        for called in _names_in(thing, ops):
            if id(called) in owners and called is not function:
                functions[owners[id(called)]] = None
            else:
                todo.append(called)
    return tuple(ops), tuple(functions)


def _names_in(function: types.FunctionType, ops: dict[str, None]) -> Iterator[Callable[..., Any]]:
    """The functions of graphc that a function's code refers to; names of ops that it applies go into `ops`."""
    codes = [function.__code__]
    known = {op.name for op in registry.all_ops() if op.kind != "special"}
    while codes:
        code = codes.pop(0)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        ops.update((c, None) for c in code.co_consts if isinstance(c, str) and c in known)
        for name in code.co_names:
            yield from _resolved(function.__globals__, name, code)
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, types.FunctionType):
            yield cell.cell_contents


def _resolved(namespace: dict[str, Any], name: str, code: types.CodeType) -> Iterator[Callable[..., Any]]:
    """What a name in code may mean: a global, an attribute of a module that it names too, a method of its module's class (an
    inherited one too)."""
    own = [c for c in namespace.values() if isinstance(c, type) and c.__module__ == namespace["__name__"]]
    classes = dict.fromkeys(base for c in own for base in c.__mro__)
    candidates = [namespace.get(name), *(vars(c).get(name) for c in classes)]
    for other in code.co_names:
        holder = namespace.get(other)
        if isinstance(holder, types.ModuleType) and holder.__name__.startswith("graphc."):
            candidates.append(vars(holder).get(name))
    for thing in candidates:
        if isinstance(thing, types.FunctionType) and _is_looked_into(thing):
            yield thing


def _is_looked_into(function: types.FunctionType) -> bool:
    module = function.__module__
    return module.startswith(_LOOKED_INTO) and module not in _PLUMBING and function.__name__ != "apply_ufunc"
