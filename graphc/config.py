"""The single debug flag `GRAPHC=` as a frozen record. Layer 0: imports only the error tree.

`GRAPHC=print,verify,dump=/tmp/graphs` is a comma-separated list of the flags in `FLAGS`. What they do is the pass
manager's business; this module only reads them, and refuses what it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from graphc.errors import GraphcError, message

__all__ = ["FLAGS", "VARIABLE", "Config", "from_environment", "parse"]

#: The name of the environment variable.
VARIABLE = "GRAPHC"

#: Flag, whether it takes a value, what it does.
FLAGS: tuple[tuple[str, bool, str], ...] = (
    ("print", False, "print the graph after each pass that changed it"),
    ("verify", False, "verify the graph before the first and after each pass"),
    (
        "check",
        False,
        "evaluate before and after each value-preserving pass; name the pass and rule that changed a value",
    ),
    ("time", False, "print each pass's time"),
    ("dump", True, "write each stage's graph to this folder"),
    ("stop-after", True, "stop the pipeline after the pass of this name"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """What `GRAPHC=` asks for."""

    print: bool = False
    verify: bool = False
    check: bool = False
    time: bool = False
    dump: str | None = None
    stop_after: str | None = None


def parse(text: str) -> Config:
    """Read a list of flags.

    Raises
    ------
    GraphcError
        If a flag is unknown, given twice, lacks its value or has one that it does not take.

    >>> parse("verify, dump=out")
    Config(print=False, verify=True, check=False, time=False, dump='out', stop_after=None)
    """
    takes_value = {name: value for name, value, _ in FLAGS}
    found: dict[str, bool | str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if name not in takes_value:
            near = get_close_matches(name, takes_value, n=1)
            raise _error(f"there is no flag {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if takes_value[name] and not value:
            raise _error(f"flag {name!r} needs a value: {name}=...")
        if equals and not takes_value[name]:
            raise _error(f"flag {name!r} takes no value, got {value!r}")
        field = name.replace("-", "_")
        if field in found:
            raise _error(f"flag {name!r} is given twice")
        found[field] = value if takes_value[name] else True
    return Config(**found)  # type: ignore[arg-type]


def from_environment(environment: Mapping[str, str] | None = None) -> Config:
    """The flags of the environment variable; all off if it is not set."""
    return parse((os.environ if environment is None else environment).get(VARIABLE, ""))


def _error(what: str) -> GraphcError:
    known = ", ".join(f"{name}=..." if value else name for name, value, _ in FLAGS)
    return GraphcError(message(f"{VARIABLE}: {what}", hint=f"Known flags: {known}."))
