"""Pipelines as readable lists, and the passes by name. Layer 4, passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches

from graphc.errors import ParseError, message
from graphc.passes.base import Pass
from graphc.passes.batching import Batch
from graphc.passes.dead_code import DeadCode
from graphc.passes.differentiate import Differentiate
from graphc.passes.fold import ConstantFold
from graphc.passes.fusion import Fusion
from graphc.passes.inline import InlineComposites
from graphc.passes.linearize import Linearize
from graphc.passes.loops import Loops
from graphc.passes.simplify import Simplify
from graphc.passes.split import Split
from graphc.passes.widen import Widen

__all__ = ["COMPILE", "LOWER", "OPTIMISE", "PASSES", "parse_passes"]

#: Fewer and simpler nodes, the same values.
OPTIMISE: tuple[Pass, ...] = (
    InlineComposites(),
    Loops(),
    Simplify(),
    ConstantFold(),
    Simplify(),
    Loops(),
    DeadCode(),
)

#: What code generation cannot do without.
LOWER: tuple[Pass, ...] = (InlineComposites(), Split(), Widen(), Fusion())

#: From a traced (and, if asked for, differentiated) graph to kernels.
COMPILE: tuple[Pass, ...] = (*OPTIMISE, Split(), Widen(), Fusion())

#: All passes that can be named on the command line.
PASSES: dict[str, Callable[..., Pass]] = {
    InlineComposites.name: InlineComposites,
    Simplify.name: Simplify,
    ConstantFold.name: ConstantFold,
    DeadCode.name: DeadCode,
    Loops.name: Loops,
    Differentiate.name: Differentiate,
    Linearize.name: Linearize,
    Batch.name: Batch,
    Split.name: Split,
    Widen.name: Widen,
    Fusion.name: Fusion,
}

_PASS = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(?:\{([^{}]*)\})?\s*(,|\Z)")


def parse_passes(text: str) -> tuple[Pass, ...]:
    """Passes from text: names with options in braces, separated by commas; options are the pass's fields.

    Raises
    ------
    ParseError
        If a pass or an option is unknown, or a value is not of the option's type.

    >>> parse_passes("simplify, constant-fold{limit=100, inexact=false}")
    (Simplify(permit_value_changing=False), ConstantFold(limit=100, inexact=False))
    """
    made: list[Pass] = []
    position = 0
    while position < len(text) and text[position:].strip():
        found = _PASS.match(text, position)
        if found is None:
            raise ParseError(f"expected name{{option=value, ...}} at column {position + 1} of the passes {text!r}")
        made.append(_make(found[1], found[2] or ""))
        position = found.end()
    return tuple(made)


def _make(name: str, options: str) -> Pass:
    kind = PASSES.get(name)
    if kind is None:
        near = get_close_matches(name, PASSES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known passes: {', '.join(PASSES)}."
        raise ParseError(message(f"there is no pass {name!r}", hint=hint))
    known: dict[str, Field[object]] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, object] = {}
    for part in filter(None, (p.strip() for p in options.split(","))):
        option, _, value = (p.strip() for p in part.partition("="))
        if option not in known:
            hint = f"Its options are {', '.join(known)}." if known else "It has none."
            raise ParseError(message(f"pass {name!r} has no option {option!r}", hint=hint))
        values[option] = _value(name, known[option], value)
    return kind(**values)


def _value(name: str, field: Field[object], text: str) -> object:
    """An option's value, read as the type of its default: integers, `true` and `false`, names separated by `|`."""
    default = field.default
    assert default is not MISSING, f"{name}: option {field.name} needs a default"
    if isinstance(default, bool):
        if text in ("true", "false"):
            return text == "true"
        raise ParseError(f"pass {name!r}: option {field.name!r} is true or false, not {text!r}")
    if isinstance(default, int):
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        raise ParseError(f"pass {name!r}: option {field.name!r} is an integer, not {text!r}")
    if isinstance(default, tuple):
        return tuple(filter(None, text.split("|")))
    return text
