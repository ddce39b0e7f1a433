"""Rewriting the syntax tree of a function: control flow becomes calls of `operators`. Layer 5, rewriting.

    if test:              def then(): nonlocal y; y = f(x)
        y = f(x)    -->   def other(): nonlocal y; y = g(x)
    else:                 gx.if_(test, then, other, state, ("y",))
        y = g(x)

`state` reads and sets the names that the statement binds. `break`, `continue` and early `return` become flags, and what
follows them in their block runs unless a flag is up; where one side of an `if` always leaves, what follows moves to the
other side, so that a function whose paths all return is seen to do so. Nodes keep the user's lines and columns.

Source of the method: Moldovan et al., AutoGraph: imperative-style coding with graph-based performance (MLSys 2019).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import TypeVar

from graphc.frontend.rewriting.names import bound, declared, exits

__all__ = ["PREFIX", "lower"]

#: Names that rewriting makes start with this; the operators themselves have it as their name.
PREFIX = "_gx"

_EXITS = (ast.Return, ast.Break, ast.Continue)
#: Calls that look at the frame of their caller.
_FRAME_BOUND = frozenset(("super", "locals", "globals", "vars", "dir", "eval", "exec", "breakpoint"))


def lower(function: ast.FunctionDef, private: str | None) -> ast.FunctionDef:
    """The function with its control flow rewritten; decorators, defaults and annotations are dropped. `private` is the
    class whose name mangles `__names`."""
    function = copy.deepcopy(function)
    function.decorator_list = []
    return _Function(function, private, first=_first_argument(function)).lowered()


def _first_argument(function: ast.FunctionDef) -> str | None:
    arguments = [*function.args.posonlyargs, *function.args.args]
    return arguments[0].arg if arguments else None


NodeT = TypeVar("NodeT", bound=ast.AST)


class _Template:
    """Source text whose names in capitals are replaced by nodes, at the place of a given node."""

    def __init__(self, text: str) -> None:
        self._tree = ast.parse(text)

    def __call__(self, place: ast.AST, **parts: ast.expr | list[ast.stmt]) -> list[ast.stmt]:
        tree = copy.deepcopy(self._tree)
        for node in ast.walk(tree):
            if isinstance(node, (ast.expr, ast.stmt, ast.arg)):
                # One column: Python 3.11 takes the last line of a long callee for that of the call.
                node.lineno = node.end_lineno = place.lineno  # type: ignore[attr-defined]
                node.col_offset = place.col_offset  # type: ignore[attr-defined]
                node.end_col_offset = place.col_offset + 1  # type: ignore[attr-defined]
        return _Replace(parts).visit(tree).body


class _Replace(ast.NodeTransformer):
    def __init__(self, parts: dict[str, ast.expr | list[ast.stmt]]) -> None:
        self._parts = parts

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        if isinstance(node.value, ast.Name):
            found = self._parts.get(node.value.id)
            if isinstance(found, list):
                return found
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        found = self._parts.get(node.id)
        return node if found is None or isinstance(found, list) else found


class _Function:
    """Rewrites one function; nested functions get one of their own."""

    def __init__(self, function: ast.FunctionDef, private: str | None, *, first: str | None) -> None:
        self._function = function
        self._private = private
        self._first = first
        self._count = 0
        self._globals = declared(function, ast.Global)
        self._nonlocals = declared(function, ast.Nonlocal)
        self._state: dict[str, None] = {}
        self._handlers = _handler_names(function)
        self._flagged = _leaves_early(function.body)
        arguments = function.args
        self._parameters = {
            a.arg
            for a in (
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                *(x for x in (arguments.vararg, arguments.kwarg) if x is not None),
            )
        }

        # Where only elements of a name are set, the name belongs to a scope outside.
        own = {*self._parameters, *bound(function.body, stores=False)}
        self._locals = own | self._nonlocals | self._globals

    def lowered(self) -> ast.FunctionDef:
        f = self._function
        docstring, body = _split_docstring(f.body)
        body = self._block(self._expressions(body), None)
        if self._flagged:
            self._state.pop(f"{PREFIX}_done", None)
            self._state.pop(f"{PREFIX}_value", None)
            body = [*_INIT_RETURN(f.body[0]), *body, *_RETURN(f.body[-1])]
        place = f.body[0]
        known = self._parameters | self._nonlocals | self._globals
        start: list[ast.stmt] = []
        for name in self._state:
            if name.startswith(PREFIX):
                start += _LOWER_FLAG(place, FLAG=_store(name))
            elif name not in known:
                start += _UNDEFINED(place, TARGET=_store(name), TEXT=ast.Constant(name))
        declarations = [s for s in body if isinstance(s, (ast.Global, ast.Nonlocal))]
        rest = [s for s in body if not isinstance(s, (ast.Global, ast.Nonlocal))]
        f.body = [*docstring, *declarations, *start, *rest]
        _strip_signature(f)
        return ast.fix_missing_locations(f)

    def _expressions(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        visitor = _Expressions(self._private, self._first)
        return [visitor.visit(s) for s in statements]

    # -- statements -------------------------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt], loop: str | None) -> list[ast.stmt]:
        """Statements rewritten; `loop` is the number of the loop around them, None outside of loops."""
        out: list[ast.stmt] = []
        for place, statement in enumerate(statements):
            rest = statements[place + 1 :]
            if isinstance(statement, ast.Return) and self._flagged:
                value = statement.value or ast.copy_location(ast.Constant(None), statement)
                return [*out, *_LEAVE(statement, VALUE=value)]
            if isinstance(statement, ast.Return):
                return [*out, statement]
            if isinstance(statement, ast.Break):
                return [*out, *_RAISE_FLAG(statement, FLAG=_store(f"{PREFIX}_break_{loop}"))]
            if isinstance(statement, ast.Continue):
                return [*out, *_RAISE_FLAG(statement, FLAG=_store(f"{PREFIX}_continue_{loop}"))]
            if not exits([statement], _EXITS):
                out += self._statement(statement, loop)
                continue
            if isinstance(statement, ast.If) and rest and _always_leaves(statement.body):
                statement = _with(statement, orelse=[*statement.orelse, *rest])
                return [*out, *self._statement(statement, loop)]
            if isinstance(statement, ast.If) and rest and _always_leaves(statement.orelse):
                statement = _with(statement, body=[*statement.body, *rest])
                return [*out, *self._statement(statement, loop)]
            flags = _exit_flags(statement, loop)
            out += self._statement(statement, loop)
            if rest:
                out += self._unless(flags, rest, loop)
            return out
        return out

    def _unless(self, flags: list[str], rest: Sequence[ast.stmt], loop: str | None) -> list[ast.stmt]:
        """What follows a statement that may leave: it runs unless it has left."""
        inner = self._block(rest, loop)
        for flag in reversed(flags):
            # In the other branch the flag is known to be up: said, so that a function that always returns is seen to.
            inner = self._if(rest[0], _not(flag, rest[0]), inner, _RAISE_FLAG(rest[0], FLAG=_store(flag)))
        return inner

    def _statement(self, s: ast.stmt, loop: str | None) -> list[ast.stmt]:
        if isinstance(s, ast.If):
            return self._if(s, s.test, self._block(s.body, loop), self._block(s.orelse, loop))
        if isinstance(s, ast.While):
            return self._while(s, loop)
        if isinstance(s, ast.For):
            return self._for(s, loop)
        if isinstance(s, ast.FunctionDef):
            if _is_plain(s):
                inner = _Function(s, self._private, first=_first_argument(s))
                arguments, decorators, returns = copy.deepcopy(s.args), s.decorator_list, s.returns
                lowered = inner.lowered()
                lowered.args, lowered.decorator_list, lowered.returns = arguments, decorators, returns
                return [lowered]
            return [s]
        if isinstance(s, ast.Delete) and all(isinstance(t, ast.Name) for t in s.targets):
            names = [t.id for t in s.targets if isinstance(t, ast.Name)]
            self._state.update(dict.fromkeys(names))
            return [n for x in names for n in _UNDEFINED(s, TARGET=_store(x), TEXT=ast.Constant(x))]
        for name in ("body", "orelse", "finalbody"):
            inner_block = getattr(s, name, None)
            if inner_block and not isinstance(s, ast.ClassDef):
                setattr(s, name, self._block(inner_block, loop))
        for handler in getattr(s, "handlers", ()):
            handler.body = self._block(handler.body, loop)
        for case in getattr(s, "cases", ()):
            case.body = self._block(case.body, loop)
        return [s]

    def _if(self, place: ast.stmt, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> list[ast.stmt]:
        names = self._names([*body, *orelse])
        return _IF(
            place,
            TEST=test,
            BODY=[*self._declare(names, place), *(body or [ast.copy_location(ast.Pass(), place)])],
            ORELSE=[*self._declare(names, place), *(orelse or [ast.copy_location(ast.Pass(), place)])],
            **self._access(names, place),
        )

    def _while(self, s: ast.While, outer: str | None) -> list[ast.stmt]:
        loop = self._number()
        flags = self._flags(s, loop)
        body = [*self._reset(s, loop), *self._block(s.body, loop)]
        test = s.test
        for flag in flags:
            test = ast.copy_location(_AND(s, LEFT=_not(flag, s), RIGHT=test), s)
        names = self._names([*body, ast.Expr(test)])
        started = [x for flag in flags if flag != f"{PREFIX}_done" for x in _LOWER_FLAG(s, FLAG=_store(flag))]
        out = [
            *started,
            *self._lowered_continue(s, loop),
            *_WHILE(
                s,
                TEST=test,
                BODY=[*self._declare(names, s), *body],
                DECLARE=self._declare(self._names([ast.Expr(s.test)]), s),
                **self._access(names, s),
            ),
        ]
        return out + self._loop_else(s, flags, outer)

    def _for(self, s: ast.For, outer: str | None) -> list[ast.stmt]:
        loop = self._number()
        flags = self._flags(s, loop)
        item = f"{PREFIX}_item_{loop}"
        assign = ast.copy_location(ast.Assign([s.target], ast.copy_location(ast.Name(item, ast.Load()), s.target)), s)
        body = [assign, *self._reset(s, loop), *self._block(s.body, loop)]
        names = self._names(body)
        more: ast.expr = ast.Constant(None)
        if flags:
            test = _not(flags[0], s)
            for flag in flags[1:]:
                test = _AND(s, LEFT=_not(flag, s), RIGHT=test)
            more = ast.Lambda(ast.arguments([], [], None, [], [], None, []), test)
        more = _relocated(more, s)
        started = [x for flag in flags if flag != f"{PREFIX}_done" for x in _LOWER_FLAG(s, FLAG=_store(flag))]
        out = [
            *started,
            *self._lowered_continue(s, loop),
            *_FOR(
                s,
                ITER=s.iter,
                MORE=more,
                BODY=[*self._declare(names, s), *body],
                **self._access(names, s),
            ),
        ]
        for node in out:
            for inner in ast.walk(node):
                if isinstance(inner, ast.arg) and inner.arg == f"{PREFIX}_item":
                    inner.arg = item
        return out + self._loop_else(s, flags, outer)

    def _loop_else(self, s: ast.For | ast.While, flags: list[str], outer: str | None) -> list[ast.stmt]:
        if not s.orelse:
            return []
        inner = self._block(s.orelse, outer)
        for flag in flags:
            inner = self._if(s.orelse[0], _not(flag, s.orelse[0]), inner, [])
        return inner

    def _flags(self, s: ast.For | ast.While, loop: str) -> list[str]:
        flags = []
        if exits(s.body, (ast.Break,)):
            flags.append(f"{PREFIX}_break_{loop}")
        if exits(s.body, (ast.Return,)):
            flags.append(f"{PREFIX}_done")
        return flags

    def _reset(self, s: ast.For | ast.While, loop: str) -> list[ast.stmt]:
        if not exits(s.body, (ast.Continue,)):
            return []
        return _LOWER_FLAG(s, FLAG=_store(f"{PREFIX}_continue_{loop}"))

    _lowered_continue = _reset

    # -- state --------------------------------------------------------------------------------------------------------

    def _number(self) -> str:
        self._count += 1
        return str(self._count)

    def _names(self, nodes: Sequence[ast.AST]) -> list[str]:
        """The names that make up the state of a region."""
        helpers = (
            f"{PREFIX}_then",
            f"{PREFIX}_else",
            f"{PREFIX}_body",
            f"{PREFIX}_test",
            f"{PREFIX}_state",
            f"{PREFIX}_item",
        )
        names = [
            n
            for n in bound(_flattened(nodes), stores=True)
            if (n in self._locals or n.startswith(PREFIX)) and not n.startswith(helpers) and n not in self._handlers
        ]
        self._state.update(dict.fromkeys(names))
        return names

    def _declare(self, names: Sequence[str], place: ast.AST) -> list[ast.stmt]:
        """`nonlocal` (and `global`) statements for a helper function that binds `names`."""
        found: list[ast.stmt] = []
        outer = [n for n in names if n not in self._globals]
        if outer:
            found.append(ast.copy_location(ast.Nonlocal(outer), place))
        shared = [n for n in names if n in self._globals]
        if shared:
            found.append(ast.copy_location(ast.Global(shared), place))
        return found

    def _access(self, names: Sequence[str], place: ast.AST) -> dict[str, ast.expr | list[ast.stmt]]:
        reads = ast.Tuple([ast.Name(n, ast.Load()) for n in names], ast.Load())
        writes: list[ast.stmt] = [*self._declare(names, place)]
        if names:
            target = ast.Tuple([ast.Name(n, ast.Store()) for n in names], ast.Store())
            writes.append(ast.Assign([target], ast.Name(f"{PREFIX}_values", ast.Load())))
        else:
            writes.append(ast.Pass())
        texts = ast.Tuple([ast.Constant(n) for n in names], ast.Load())
        return {
            "READS": _relocated(reads, place),
            "WRITES": [_relocated(w, place) for w in writes],
            "NAMES": _relocated(texts, place),
        }


def _exit_flags(statement: ast.stmt, loop: str | None) -> list[str]:
    """The flags that a statement may raise."""
    kinds = {ast.Return: "done", ast.Break: f"break_{loop}", ast.Continue: f"continue_{loop}"}
    return [f"{PREFIX}_{name}" for kind, name in kinds.items() if exits([statement], (kind,))]


def _flattened(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    """Nodes, with the bodies of helper functions that rewriting made in the place of their definitions."""
    found: list[ast.AST] = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name.startswith(PREFIX):
            found += _flattened(node.body)
        else:
            found.append(node)
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, name, None)
                if isinstance(inner, list) and not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
                    found += _flattened(inner)
    return found


def _with(node: ast.If, *, body: list[ast.stmt] | None = None, orelse: list[ast.stmt] | None = None) -> ast.If:
    new = ast.If(node.test, node.body if body is None else body, node.orelse if orelse is None else orelse)
    return ast.copy_location(new, node)


def _relocated(node: NodeT, place: ast.AST) -> NodeT:
    for inner in ast.walk(node):
        if isinstance(inner, (ast.expr, ast.stmt)) and not hasattr(inner, "lineno"):
            ast.copy_location(inner, place)
    return node


def _handler_names(function: ast.FunctionDef) -> frozenset[str]:
    """Names bound by `except ... as name`, which Python unbinds itself."""
    return frozenset(n.name for n in ast.walk(function) if isinstance(n, ast.ExceptHandler) and n.name)


def _split_docstring(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[:1], body[1:]
    return [], body


def _leaves_early(body: Sequence[ast.stmt]) -> bool:
    """Whether a `return` stands elsewhere than at the end of the function."""
    return exits(body[:-1], (ast.Return,)) or (
        bool(body) and not isinstance(body[-1], ast.Return) and exits(body[-1:], (ast.Return,))
    )


def _always_leaves(body: Sequence[ast.stmt]) -> bool:
    """Whether a block never runs to its end."""
    if not body:
        return False
    last = body[-1]
    if isinstance(last, (*_EXITS, ast.Raise)):
        return True
    return isinstance(last, ast.If) and _always_leaves(last.body) and _always_leaves(last.orelse)


def _is_plain(function: ast.FunctionDef) -> bool:
    """Whether a function is neither a generator nor looks at its own frame."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
            return False
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("locals", "eval", "exec")
        ):
            return False
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            stack.extend(ast.iter_child_nodes(node))
    return True


def _strip_signature(f: ast.FunctionDef) -> None:
    """Drop what would be evaluated again: defaults (their number stays) and annotations."""
    f.returns = None
    arguments = f.args
    for a in ast.walk(arguments):
        if isinstance(a, ast.arg):
            a.annotation = None
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if d is None else ast.Constant(None) for d in arguments.kw_defaults]


def _store(name: str) -> ast.expr:
    return ast.Name(name, ast.Store())


def _not(flag: str, place: ast.AST) -> ast.expr:
    return _relocated(_NOT(place, OPERAND=ast.Name(flag, ast.Load())), place)


# -- expressions -------------------------------------------------------------------------------------------------------


class _Expressions(ast.NodeTransformer):
    """Rewrites conditional expressions, boolean operators, chained comparisons and the functions of calls."""

    def __init__(self, private: str | None, first: str | None) -> None:
        self._private = private
        self._first = first

    def _scope(self, node: ast.AST) -> ast.AST:
        return node

    # Nested functions are visited when they are lowered themselves; their decorators and defaults belong to this scope.
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        node.args.defaults = [self.visit(d) for d in node.args.defaults]
        node.args.kw_defaults = [None if d is None else self.visit(d) for d in node.args.kw_defaults]
        return node

    visit_AsyncFunctionDef = visit_ClassDef = _scope

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if self._private and node.attr.startswith("__") and not node.attr.endswith("__"):
            node.attr = f"_{self._private.lstrip('_')}{node.attr}"
        self.generic_visit(node)
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            node.value = _CHANGED(node, THING=node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name == "super" and not node.args and not node.keywords and self._first is not None:
            node.args = [ast.copy_location(ast.Name(n, ast.Load()), node) for n in ("__class__", self._first)]
            return node
        node = self.generic_visit(node)  # type: ignore[assignment]
        if name not in _FRAME_BOUND:
            node.func = _CALLEE(node, FUNCTION=node.func)
        return node

    def _made(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            return node
        return _FRESH(node, MADE=node)  # type: ignore[arg-type]

    visit_List = visit_Dict = visit_Set = visit_ListComp = visit_DictComp = visit_SetComp = _made

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        return node if _binds(node) else _IFEXP(node, TEST=node.test, THEN=node.body, ORELSE=node.orelse)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if _binds(node):
            return node
        template = _AND if isinstance(node.op, ast.And) else _OR
        result = node.values[-1]
        for value in reversed(node.values[:-1]):
            result = template(value, LEFT=value, RIGHT=result)
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return _NOT(node, OPERAND=node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) < 2 or _binds(node):
            return node
        # a < b < c: b is computed once, c only if a < b holds.
        names = [ast.Name(f"{PREFIX}_x{i}", ast.Load()) for i in range(len(node.ops) + 1)]
        rest: ast.expr | None = None
        for i in reversed(range(len(node.ops))):
            test: ast.expr = ast.Compare(names[i], [node.ops[i]], [names[i + 1]])
            if rest is not None:
                test = _AND(node, LEFT=_relocated(test, node), RIGHT=rest)
            rest = ast.Call(_lambda(names[i + 1].id, test), [node.comparators[i]], [])
        return _relocated(ast.Call(_lambda(names[0].id, rest), [node.left], []), node)


def _lambda(parameter: str, body: ast.expr | None) -> ast.Lambda:
    assert body is not None
    return ast.Lambda(ast.arguments([], [ast.arg(parameter)], None, [], [], None, []), body)


def _binds(node: ast.AST) -> bool:
    """Whether an expression has a walrus (which would bind in the wrong scope) or awaits."""
    return any(isinstance(n, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)) for n in ast.walk(node))


class _ExpressionTemplate(_Template):
    def __call__(self, place: ast.AST, **parts: ast.expr | list[ast.stmt]) -> ast.expr:  # type: ignore[override]
        statement = super().__call__(place, **parts)[0]
        assert isinstance(statement, ast.Expr)
        return statement.value


_NOT = _ExpressionTemplate(f"{PREFIX}.not_(OPERAND)")
_AND = _ExpressionTemplate(f"{PREFIX}.and_(LEFT, lambda: RIGHT)")
_OR = _ExpressionTemplate(f"{PREFIX}.or_(LEFT, lambda: RIGHT)")
_IFEXP = _ExpressionTemplate(f"{PREFIX}.choose(TEST, lambda: THEN, lambda: ORELSE)")
_FRESH = _ExpressionTemplate(f"{PREFIX}.fresh(MADE)")
_CHANGED = _ExpressionTemplate(f"{PREFIX}.changed(THING)")
_CALLEE = _ExpressionTemplate(f"{PREFIX}.callee(FUNCTION)")

_UNDEFINED = _Template(f"TARGET = {PREFIX}.Undefined(TEXT)")
_INIT_RETURN = _Template(f"{PREFIX}_done = False\n{PREFIX}_value = {PREFIX}.Undefined('the return value')")
_LEAVE = _Template(f"{PREFIX}_value = VALUE\n{PREFIX}_done = True")
_RETURN = _Template(f"return {PREFIX}.returned({PREFIX}_done, {PREFIX}_value)")
_RAISE_FLAG = _Template("FLAG = True")
_LOWER_FLAG = _Template("FLAG = False")
_STATE = f"""
def {PREFIX}_state_get(): return READS
def {PREFIX}_state_set({PREFIX}_values): WRITES
"""
_IF = _Template(
    _STATE
    + f"""
def {PREFIX}_then(): BODY
def {PREFIX}_else(): ORELSE
{PREFIX}.if_(TEST, {PREFIX}_then, {PREFIX}_else, {PREFIX}_state_get, {PREFIX}_state_set, NAMES)
"""
)
_WHILE = _Template(
    _STATE
    + f"""
def {PREFIX}_test():
    DECLARE
    return TEST
def {PREFIX}_body(): BODY
{PREFIX}.while_({PREFIX}_test, {PREFIX}_body, {PREFIX}_state_get, {PREFIX}_state_set, NAMES)
"""
)
_FOR = _Template(
    _STATE
    + f"""
def {PREFIX}_body({PREFIX}_item): BODY
{PREFIX}.for_(ITER, {PREFIX}_body, MORE, {PREFIX}_state_get, {PREFIX}_state_set, NAMES)
"""
)
