"""Calls of Python functions: printing, the user's functions with and without effects. Layer 2.

`host_call` and `debug_print` have effects: they run once for each time that the program reaches them, in its order. A
`pure_call` is a value like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc import hosts
from graphc.errors import DTypeError, NoDerivativeError, ShapeError
from graphc.ir.op import Builder, Host
from graphc.ir.registry import register
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ops.batched_control import in_turn

__all__ = ["debug_print", "host_call", "pure_call"]

Types = tuple[TensorType, ...]


def _debug_print_function(template: str) -> tuple[str, Mapping[str, Any]]:
    return hosts.PRINT, {"template": template}


debug_print = register(
    Host(
        name="debug_print",
        doc="""Writes a line to standard output: `template`, a format string, filled with the arrays after the token
        (operand 0); a format specification applies to each element.""",
        attributes=("template",),
        rule=lambda *types, template: (TOKEN,),
        function=_debug_print_function,
        batching=in_turn("debug_print"),
        effect=True,
        fallible=True,
    )
)


def _check(name: str, function: Any, types: Any) -> None:
    if not isinstance(function, str) or function.count(":") != 1:
        raise ShapeError(f"{name}: function must be module:name, not {function!r}")
    if not isinstance(types, tuple) or not all(isinstance(t, TensorType) for t in types):
        raise DTypeError(f"{name}: types must be types of tensors")


def _named(function: str, types: Types) -> tuple[str, Mapping[str, Any]]:
    return function, {}


def _host_call_rule(*operands: Type, function: str, types: Types) -> tuple[Type, ...]:
    _check("host_call", function, types)
    return (TOKEN, *types)


host_call = register(
    Host(
        name="host_call",
        doc="""Calls the Python function `module:name` on the arrays after the token (operand 0); results are a token
        and the function's results, a tuple of arrays of exactly the declared `types` (None for no types, an array for
        one).""",
        attributes=("function", "types"),
        rule=_host_call_rule,
        function=_named,
        batching=in_turn("host_call"),
        effect=True,
        fallible=True,
    )
)


def _pure_call_rule(*operands: Type, function: str, types: Types) -> tuple[Type, ...]:
    _check("pure_call", function, types)
    return types


def _pure_call_vjp(
    b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], function: str, types: Types
) -> Sequence[Any]:
    rule = getattr(hosts.resolve(function), "host_vjp", None)
    if rule is None:
        raise NoDerivativeError(
            f"the custom op {function} has no derivative",
            hint="Give one: gx.custom_op(..., vjp=...), or cut the gradient off with .detach().",
        )
    return rule(b, operands, results, cotangents)  # type: ignore[no-any-return]


pure_call = register(
    Host(
        name="pure_call",
        doc="""The results of the Python function `module:name` on the operands, arrays of exactly the declared `types`.
        The function must be pure: equal calls may be made once, and unused ones are not made. Its derivative is the
        `host_vjp` of what the name stands for.""",
        attributes=("function", "types"),
        rule=_pure_call_rule,
        function=_named,
        batching=in_turn("pure_call"),
        vjp=_pure_call_vjp,
        fallible=True,
    )
)
