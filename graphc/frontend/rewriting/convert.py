"""Functions of rewritten source. Layer 5, rewriting.

A converted function has the globals, the closure cells, the defaults and the lines of the original; only its code is another.
Code is kept by code object, so a function is read, parsed and rewritten once.
"""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any

from graphc.frontend.rewriting.lowering import PREFIX, lower

__all__ = ["NoSourceError", "convert", "is_converted"]

_FACTORY = f"{PREFIX}_factory"
_LAMBDA = f"{PREFIX}_lambda"
#: Generators and coroutines stay as they are.
_UNCONVERTIBLE = 0x20 | 0x80 | 0x100 | 0x200


class NoSourceError(Exception):
    """The source of a function cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class _Source:
    lines: tuple[str, ...]
    tree: ast.Module


_SOURCES: dict[str, _Source] = {}
#: By code and file: equal functions of two files have equal code.
_CODES: dict[tuple[CodeType, str], CodeType] = {}
_CONVERTED: set[CodeType] = set()


def is_converted(function: FunctionType) -> bool:
    """Whether a function's code was made here (functions inside of converted ones count)."""
    return function.__code__ in _CONVERTED


def convert(function: FunctionType, operators: Any) -> FunctionType:
    """The function with its control flow rewritten into calls of `operators`.

    Raises
    ------
    NoSourceError
        If there is no source, or it is not that of the function any more.
    """
    code = function.__code__
    if code in _CONVERTED or code.co_flags & _UNCONVERTIBLE:
        return function
    key = (code, code.co_filename)
    new = _CODES.get(key)
    if new is None:
        new = _CODES[key] = _rewritten(function)
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[PREFIX] = CellType(operators)
    closure = tuple(cells[name] for name in new.co_freevars)
    made = FunctionType(new, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__ = function.__qualname__
    made.__doc__ = function.__doc__
    made.__module__ = function.__module__
    return made


def _rewritten(function: FunctionType) -> CodeType:
    code = function.__code__
    node = _definition(code)
    private = _class_of(function)
    lowered = lower(node, private)
    lowered.name = f"{PREFIX}_made"  # its own name is that of a global or a free variable, if it calls itself
    tree = _factory(lowered, code.co_freevars)
    made = _inner(compile(tree, code.co_filename, "exec", dont_inherit=True, flags=_future_flags(code)), lowered.name)
    made = _renamed(made, code.co_name)
    _note(made)
    return made


def _future_flags(code: CodeType) -> int:
    return code.co_flags & 0x1000000  # from __future__ import annotations


def _factory(function: ast.FunctionDef, free: tuple[str, ...]) -> ast.Module:
    """A module with a function around `function` that binds its free variables."""
    parameters = [ast.arg(name) for name in (PREFIX, *free)]
    body: list[ast.stmt] = [function, ast.Return(ast.Name(function.name, ast.Load()))]
    empty: list[Any] = []
    factory = ast.FunctionDef(_FACTORY, ast.arguments([], parameters, None, [], [], None, []), body, empty)
    if "type_params" in ast.FunctionDef._fields:
        factory.type_params = []  # type: ignore[attr-defined,unused-ignore]
    ast.copy_location(factory, function)
    return ast.fix_missing_locations(ast.Module([factory], []))


def _inner(module: CodeType, name: str) -> CodeType:
    factory = next(c for c in module.co_consts if isinstance(c, CodeType))
    return next(c for c in factory.co_consts if isinstance(c, CodeType) and c.co_name == name)


def _renamed(code: CodeType, name: str) -> CodeType:
    """Code whose helper functions have the name of the function that they are part of, so tracebacks show the user's names."""
    consts = tuple(
        _renamed(c, name if c.co_name.startswith(PREFIX) else c.co_name) if isinstance(c, CodeType) else c
        for c in code.co_consts
    )
    changes: dict[str, Any] = {"co_name": name, "co_consts": consts}
    if hasattr(code, "co_qualname"):
        changes["co_qualname"] = name
    return code.replace(**changes)


def _note(code: CodeType) -> None:
    _CONVERTED.add(code)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            _note(inner)


def _class_of(function: FunctionType) -> str | None:
    """The class that a method is defined in: its name mangles private names."""
    parts = function.__qualname__.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else None


# -- source --------------------------------------------------------------------------------------------------------------


def _definition(code: CodeType) -> ast.FunctionDef:
    """The syntax tree of the function with this code, from its file."""
    source = _source(code.co_filename)
    if code.co_name == "<lambda>":
        return _lambda(source.tree, code)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno and _fits(node, code):
                return node
    raise NoSourceError(f"line {code.co_firstlineno} of {code.co_filename} does not define {code.co_name!r} (any more)")


def _source(filename: str) -> _Source:
    lines = tuple(linecache.getlines(filename))
    known = _SOURCES.get(filename)
    if known is not None and known.lines == lines:
        return known
    if not lines:
        raise NoSourceError(f"there is no source for {filename}")
    try:
        tree = ast.parse("".join(lines), filename)
    except SyntaxError as error:
        raise NoSourceError(f"the source in {filename} cannot be parsed: {error}") from None
    found = _SOURCES[filename] = _Source(lines, tree)
    return found


def _fits(node: ast.FunctionDef, code: CodeType) -> bool:
    """Whether a definition has the parameters and names of the code."""
    arguments = node.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    named += [a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None]
    if tuple(named) != code.co_varnames[: len(named)]:
        return False
    present = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    present |= {
        n.name for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and n.name
    }
    locals_ = [n for n in code.co_varnames[len(named) :] if not n.startswith(".")]
    imported = {
        (a.asname or a.name).split(".")[0]
        for n in ast.walk(node)
        if isinstance(n, (ast.Import, ast.ImportFrom))
        for a in n.names
    }
    return all(n in present or n in imported for n in locals_)


def _lambda(tree: ast.Module, code: CodeType) -> ast.FunctionDef:
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    if len(found) > 1:
        found = [n for n in found if _is_body(n, code)]
        found.sort(key=lambda n: -n.col_offset)  # the innermost of nested ones
    if not found:
        raise NoSourceError(f"line {code.co_firstlineno} of {code.co_filename} has no such lambda (any more)")
    node = found[0]
    body: list[ast.stmt] = [ast.copy_location(ast.Return(node.body), node.body)]
    function = ast.FunctionDef(_LAMBDA, node.args, body, [])
    if "type_params" in ast.FunctionDef._fields:
        function.type_params = []  # type: ignore[attr-defined,unused-ignore]
    return ast.copy_location(function, node)


def _is_body(node: ast.Lambda, code: CodeType) -> bool:
    """Whether code can be that of one of several lambdas on a line: its instructions lie within the body, and reach its end."""
    positions = getattr(code, "co_positions", None)
    if positions is None:  # Python 3.10
        names = {n.id for n in ast.walk(node.body) if isinstance(n, ast.Name)}
        arguments = tuple(a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg))
        return arguments == code.co_varnames[: len(arguments)] and names >= set(code.co_freevars)
    spans = [p for p in positions() if None not in p and p[3] > p[2]]
    first, last = min((p[0], p[2]) for p in spans), max((p[1], p[3]) for p in spans)
    body = node.body
    return (body.lineno, body.col_offset) <= first and last == (body.end_lineno, body.end_col_offset)
