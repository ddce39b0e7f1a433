"""Which names statements bind. Layer 5, rewriting.

Scopes of their own (functions, lambdas, classes, comprehensions) are not entered, walrus targets in comprehensions excepted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

__all__ = ["bound", "declared", "exits"]

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class _Binding(ast.NodeVisitor):
    """Collects names in order of their first binding."""

    def __init__(self, stores: bool) -> None:
        self.names: dict[str, None] = {}
        self._stores = stores

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            self.names[node.id] = None

    def visit_Subscript(self, node: ast.Subscript) -> None:
        # x[i] = v: what x holds becomes another value.
        if self._stores and isinstance(node.ctx, (ast.Store, ast.Del)):
            root: ast.expr = node
            while isinstance(root, ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                self.names[root.id] = None
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.names[node.name] = None

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def _comprehension(self, node: ast.AST) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.visit(inner.target)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.names[(alias.asname or alias.name).split(".")[0]] = None

    visit_ImportFrom = visit_Import

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self.names[node.name] = None
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self.names[node.rest] = None
        self.generic_visit(node)


def bound(nodes: Iterable[ast.AST], *, stores: bool) -> tuple[str, ...]:
    """Names that the nodes bind or delete, and, with `stores`, those whose elements they set; in order."""
    visitor = _Binding(stores)
    for node in nodes:
        visitor.visit(node)
    return tuple(visitor.names)


def declared(function: ast.FunctionDef, kind: type[ast.Global] | type[ast.Nonlocal]) -> frozenset[str]:
    """Names that a function declares global or nonlocal."""
    found: set[str] = set()
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, kind):
            found.update(node.names)
        if not isinstance(node, _SCOPES):
            stack.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def exits(statements: Sequence[ast.stmt], kinds: tuple[type[ast.stmt], ...]) -> bool:
    """Whether a statement of these kinds (Return, Break, Continue) stands in them and leaves them: `break` and `continue`
    of loops inside, and whatever nested functions do, do not count."""
    for statement in statements:
        if isinstance(statement, kinds):
            return True
        if isinstance(statement, _SCOPES):
            continue
        inside = kinds
        if isinstance(statement, (ast.For, ast.While, ast.AsyncFor)):
            if exits(statement.orelse, kinds):
                return True
            inside = tuple(k for k in kinds if k is ast.Return)
            if inside and exits(statement.body, inside):
                return True
            continue
        for block in blocks(statement):
            if exits(block, inside):
                return True
    return False


def blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The statement lists inside a statement."""
    found = [getattr(statement, name) for name in ("body", "orelse", "finalbody") if getattr(statement, name, None)]
    for handler in getattr(statement, "handlers", ()):
        found.append(handler.body)
    for case in getattr(statement, "cases", ()):
        found.append(case.body)
    return found
