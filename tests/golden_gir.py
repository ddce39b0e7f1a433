"""Golden files of the passes: input, passes and expected output in one readable file, several cases to a file.

    # case: a name
    # passes: simplify, constant-fold{limit=4}
    graph ...
    # gives:
    graph ...

An error that is expected stands after `# fails:` instead of `# gives:`, each line behind `# `. The file's own text
before the first case is kept. `pytest --bless` writes what comes out after the input of each case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import graphc.ops  # noqa: F401  (fills the registry)
from graphc.errors import GraphcError
from graphc.ir.parser import parse
from graphc.ir.printer import to_text
from graphc.ir.verify import verify
from graphc.passes.manager import run_pipeline
from graphc.passes.pipelines import parse_passes


@dataclass(frozen=True)
class Case:
    """One case as text; `expected` includes its `# gives:` or `# fails:` line."""

    name: str
    passes: str
    source: str
    expected: str

    def outcome(self) -> str:
        """What comes out now, in the form of `expected`."""
        try:
            graph = parse(self.source, file=self.name)
            result = run_pipeline(parse_passes(self.passes), graph).graph
            verify(result)
        except GraphcError as error:
            lines = f"{type(error).__name__}: {error}".rstrip().split("\n")
            return "# fails:\n" + "".join(f"# {line}".rstrip() + "\n" for line in lines)
        return "# gives:\n" + to_text(result)

    def text(self, expected: str) -> str:
        return f"# case: {self.name}\n# passes: {self.passes}\n{self.source}{expected}"


def read(path: Path) -> tuple[str, list[Case]]:
    """The text before the first case, and the cases."""
    head, *parts = re.split(r"^# case: ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return head, [_case(part) for part in parts]


def _case(part: str) -> Case:
    name, _, rest = part.partition("\n")
    found = re.match(r"# passes: ?(.*)\n", rest)
    assert found is not None, f"case {name!r} names no passes"
    body = rest[found.end() :]
    split = re.search(r"^# (gives|fails):$", body, flags=re.MULTILINE)
    source = body[: split.start()] if split else body.rstrip("\n") + "\n"
    expected = body[split.start() :].rstrip("\n") + "\n" if split else ""
    return Case(name.strip(), found[1].strip(), source, expected)


def bless(path: Path) -> None:
    """Rewrite the file with what comes out now."""
    head, cases = read(path)
    path.write_text(head + "\n".join(c.text(c.outcome()) for c in cases), encoding="utf-8")
