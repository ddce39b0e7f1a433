"""The pass manager: runs a pipeline and does, around every pass, what `GRAPHC=` asks for. Layer 4, passes.

Only the manager verifies, prints, times, dumps, checks and stops. Every stage is kept: a stage is a graph, and graphs share
their nodes, so keeping them all costs little.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from graphc.config import Config
from graphc.errors import GraphcError, VerifyError, message
from graphc.ir.graph import Graph
from graphc.ir.printer import difference, save, to_text
from graphc.ir.verify import verify
from graphc.passes.base import Journal, Pass, Rewriter
from graphc.passes.check import check_pass
from graphc.passes.pipelines import PASSES

__all__ = ["Compilation", "Stage", "run_pipeline"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A graph on its way: as it came out of the pass `name`, after `milliseconds`; `counters` say what the pass did."""

    name: str
    graph: Graph
    milliseconds: float = 0.0
    counters: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        counted = "".join(f"\n#   {count} x {name}" for name, count in self.counters.items())
        return f"# {self.name} ({self.milliseconds:.2f} ms){counted}\n{to_text(self.graph)}"


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a pipeline did: the first stage is its input. `stopped`: `stop-after` ended it early."""

    stages: tuple[Stage, ...]
    stopped: bool = False

    @property
    def graph(self) -> Graph:
        """The result."""
        return self.stages[-1].graph

    def changes(self) -> str:
        """What each pass changed, as diffs; passes that changed nothing are left out."""
        pairs = zip(self.stages, self.stages[1:], strict=False)
        diffs = ((after, difference(before.graph, after.graph)) for before, after in pairs)
        return "\n".join(f"# {stage.name} ({stage.milliseconds:.2f} ms)\n{diff}" for stage, diff in diffs if diff)


def run_pipeline(
    passes: Sequence[Pass],
    graph: Graph,
    *,
    config: Config | None = None,
    sample_arguments: Sequence[Any] | None = None,
) -> Compilation:
    """Run `passes` in order. `sample_arguments` are arrays on which GRAPHC=check evaluates (else a seeded sample).

    Raises
    ------
    VerifyError
        With `config.verify`, if the graph, or what a pass made of it, breaks an invariant.
    RuleError
        With `config.check`, if a pass that preserves values changed one.
    """
    config = config or Config()
    _check_stop(config.stop_after, passes)
    dump = _Dump(config.dump, graph.name) if config.dump else None
    stages = [Stage("input", graph)]
    _observe(stages[0], graph, config, dump, after="before the first pass")
    for pass_ in passes:
        before = stages[-1].graph
        stage = _run(pass_, before)
        stages.append(stage)
        _observe(stage, before, config, dump, after=f"after the pass {pass_.name!r}")
        _check_interface(pass_, before, stage.graph)
        if config.check and pass_.preserves == "values" and not stage.graph.same_as(before):
            check_pass(pass_, before, stage.graph, sample_arguments)
        if config.stop_after == pass_.name:
            return Compilation(tuple(stages), stopped=True)
    return Compilation(tuple(stages))


def _run(pass_: Pass, graph: Graph) -> Stage:
    journal = Journal()
    start = time.perf_counter()
    result = pass_.apply(graph, journal) if isinstance(pass_, Rewriter) else pass_.run(graph)
    return Stage(pass_.name, result, 1e3 * (time.perf_counter() - start), dict(journal.counters))


def _observe(stage: Stage, before: Graph, config: Config, dump: _Dump | None, *, after: str) -> None:
    if config.time:
        _say(
            f"[graphc] {stage.graph.name}: {stage.name:24} {stage.milliseconds:8.2f} ms, {len(stage.graph.nodes)} nodes"
        )
    if config.print and (stage.name == "input" or not stage.graph.same_as(before)):
        _say(str(stage))
    if dump is not None:
        dump.write(stage)
    if config.verify:
        try:
            verify(stage.graph)
        except VerifyError as error:
            raise VerifyError(f"{after}: {error}") from None


def _check_stop(name: str | None, passes: Sequence[Pass]) -> None:
    """A pass of another pipeline is legal: one compilation may run several."""
    known = dict.fromkeys([*PASSES, *(p.name for p in passes)])
    if name is not None and name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known passes: {', '.join(known)}."
        raise GraphcError(message(f"stop-after: there is no pass {name!r}", hint=hint))


def _check_interface(pass_: Pass, before: Graph, after: Graph) -> None:
    if pass_.preserves == "nothing":
        return
    same_outputs = [v.type for v in before.outputs] == [v.type for v in after.outputs]
    if before.inputs != after.inputs or not same_outputs:
        raise GraphcError(f"pass {pass_.name!r} says that it preserves the graph's interface and does not")


class _Dump:
    """A folder of its own for each pipeline run: `DIR/<graph>`, `DIR/<graph>.2`, ..."""

    def __init__(self, folder: str, graph: str) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", graph) or "graph"
        for number in itertools.count(1):
            self.folder = Path(folder) / (name if number == 1 else f"{name}.{number}")
            try:
                self.folder.mkdir(parents=True)
            except FileExistsError:
                continue
            break
        self.written = 0

    def write(self, stage: Stage) -> None:
        save(stage.graph, self.folder / f"{self.written:02}-{stage.name}.gir")
        self.written += 1


def _say(text: str) -> None:
    print(text, file=sys.stderr)
