"""Text tables with aligned columns, for reports and the command line. Layer 5: imports nothing of graphc.

Numbers are aligned right. A table is at most `WIDTH` characters wide: where it would be wider, the columns that may give
way are cut, the widest first, with an ellipsis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["WIDTH", "Column", "count", "render", "shortened"]

WIDTH = 120
_GAP = "  "
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, whether it is aligned right, and which end may be cut: `""` (none), `"end"` or `"start"`."""

    head: str
    right: bool = False
    cut: str = ""


def render(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, width: int = WIDTH) -> str:
    """The table as text; cells are shown with `str`, None as nothing."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(c.head), *(len(row[i]) for row in cells), 0) for i, c in enumerate(columns)]
    _narrow(columns, widths, width)
    lines = [_line(columns, widths, [c.head for c in columns])]
    lines += [_line(columns, widths, row) for row in cells]
    return "\n".join(lines)


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Take what is too much from the columns that may be cut, always from the widest."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    flexible = [i for i, c in enumerate(columns) if c.cut]
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
        excess -= 1


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    shown = [
        (str.rjust if c.right else str.ljust)(shortened(text, width, c.cut), width)
        for c, width, text in zip(columns, widths, cells, strict=True)
    ]
    return _GAP.join(shown).rstrip()


def shortened(text: str, width: int, cut: str = "end") -> str:
    """The text in at most `width` characters."""
    if len(text) <= width or not cut:
        return text
    return text[: width - 1] + "…" if cut == "end" else "…" + text[len(text) - width + 1 :]


def count(number: object) -> str:
    """An integer with thousands separators; other things (symbolic sizes) by `str`."""
    return f"{number:,}" if isinstance(number, int) else str(number)
