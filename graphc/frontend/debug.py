"""Looking at values of running code: `gx.debug`. Layer 5."""

from __future__ import annotations

import builtins
import string
from typing import Any

from graphc.errors import OptionError, message
from graphc.frontend.extension import apply_effect
from graphc.frontend.promotion import as_tensor
from graphc.frontend.source import user_location

__all__ = ["print"]


def print(template: str, /, *values: Any) -> None:
    """Print a line with values, in compiled code too: in the program's order, each time that it comes here.

    Parameters
    ----------
    template
        A format string, `"loss {:.3f}, w {}"`; a format specification applies to each element of an array.
    values
        Tensors, arrays or numbers, in order.

    Raises
    ------
    OptionError
        If the template and the values do not fit.

    >>> import graphc as gx
    >>> gx.debug.print("x = {}, y = {:.2f}", gx.asarray([1.0, 2.0]), 0.125)
    x = [1. 2.], y = 0.12
    """
    fault = _fault(template, len(values))
    if fault:
        raise OptionError(
            message(
                f"debug.print: {fault}",
                location=user_location(),
                hint="Use one {} for each value; write {{ and }} for braces.",
            )
        )
    apply_effect("debug_print", [as_tensor(x) for x in values], {"template": template})


def _fault(template: builtins.str, count: int) -> builtins.str:
    """What is wrong with a template for `count` values."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        return builtins.str(error)
    if any(names):
        numbers = {n for n in names if n.isdigit()}
        known = {builtins.str(i) for i in range(count)}
        return "" if numbers == set(names) and numbers <= known else f"unknown fields {sorted(set(names) - known)}"
    return "" if len(names) == count else f"{len(names)} fields and {count} values"
