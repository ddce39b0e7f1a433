"""Where in the user's source a node comes from. Layer 1: imports nothing of graphc.

A traced location is a code object and an instruction offset: recording one costs a fraction of a microsecond. File and
line are worked out when somebody asks. Locations are kept in a Graph's table, never in a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType

__all__ = ["CodeLocation", "FileLocation", "Location"]


@dataclass(frozen=True, slots=True)
class FileLocation:
    """A known file and line."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class CodeLocation:
    """An instruction of a code object; resolved lazily."""

    __slots__ = ("code", "instruction")

    def __init__(self, code: CodeType, instruction: int) -> None:
        self.code = code
        self.instruction = instruction

    @property
    def file(self) -> str:
        return self.code.co_filename

    @property
    def function(self) -> str:
        return self.code.co_name

    @property
    def line(self) -> int:
        line = self.code.co_firstlineno
        for start, end, number in self.code.co_lines():
            if start <= self.instruction < end and number is not None:
                line = number
        return line

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodeLocation):
            return NotImplemented
        return self.code is other.code and self.instruction == other.instruction

    def __hash__(self) -> int:
        return hash((id(self.code), self.instruction))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


Location = FileLocation | CodeLocation
