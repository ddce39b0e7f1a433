"""Run the benchmarks: `python -m benchmarks [--only NAME] [--rounds N] [--threads 1,2] [--frameworks a,b]`.

Writes results.json and results.md into the output folder and prints the tables. Frameworks that are not installed are
listed as such. torch-compile takes part only if named: it compiles for seconds, and needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine, report
from benchmarks.cold import Cold, measure_cold
from benchmarks.contest import Result, compete
from benchmarks.report import Key
from benchmarks.worker import CLOCKS, MODULES
from benchmarks.workloads import COLD, WORKLOADS, Workload

__all__ = ["main", "parse"]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; names are checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    names = [*(w.name for w in WORKLOADS), "cold"]
    parser.add_argument(
        "--only", default=",".join(names), help=f"comma-separated, of {', '.join(names)}; mlp means all mlp_*"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each contestant (15)")
    parser.add_argument("--seconds", type=float, default=0.04, help="length of a round, about (0.04)")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes for each first call (3)")
    parser.add_argument("--threads", default="1", help="comma-separated numbers of threads (1)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu (of all threads) if the machine is busy with other work",
    )
    parser.add_argument("--frameworks", default="graphc,numpy,torch,jax", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder (benchmarks/results)")
    options = parser.parse_args(arguments)
    options.only = [n for part in options.only.split(",") for n in names if n == part or n.startswith(f"{part}_")]
    options.frameworks = options.frameworks.split(",")
    unknown = [f for f in options.frameworks if f not in MODULES]
    try:
        options.threads = [int(t) for t in options.threads.split(",")]
    except ValueError:
        parser.error(f"--threads takes numbers, not {options.threads}")
    if unknown or not options.only:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else f"--only knows {', '.join(names)}")
    if min(options.rounds, options.processes, *options.threads) < 1:
        parser.error("rounds, processes and threads are at least 1")
    return options


def floors(workloads: Sequence[Workload], threads: Sequence[int], flops: float) -> dict[Key, float]:
    """Seconds that no program can beat: multiply-adds at the peak rate of the cores, or one copy of the bytes."""
    found: dict[Key, float] = {}
    for workload in workloads:
        for case in workload.cases:
            for count in threads:
                if case.flops:
                    found[workload.name, case.name, count] = case.flops / (flops * count)
                elif case.bytes and count == 1:
                    found[workload.name, case.name, count] = machine.copy_seconds(case.bytes)
    return found


def run(options: argparse.Namespace) -> tuple[list[Result], list[Cold]]:
    """All that was asked for, with one progress bar."""
    workloads = [w for w in WORKLOADS if w.name in options.only]
    started = COLD if "cold" in options.only else ()
    frameworks = options.frameworks
    rounds = options.rounds * len(frameworks) * len(options.threads) * sum(len(w.cases) for w in workloads)
    processes = len(started) * (options.processes + 1) * (len(frameworks) + ("graphc" in frameworks))
    results: list[Result] = []
    cold: list[Cold] = []
    with tqdm(total=rounds + processes, unit="round", file=sys.stderr) as bar:
        for count in options.threads:
            for workload in workloads:
                bar.set_description(workload.name)
                results += compete(
                    workload, frameworks, count, options.rounds, options.seconds, bar.update, options.clock
                )
        for name in started:
            bar.set_description(f"cold {name}")
            cold += measure_cold(name, frameworks, options.processes, bar.update, options.clock)
    return results, cold


def main(arguments: Sequence[str]) -> None:
    """Measure, write, print."""
    options = parse(arguments)
    facts = machine.facts(shlex.join(["python", "-m", "benchmarks", *arguments]))
    facts["clock"] = options.clock
    bounds = floors([w for w in WORKLOADS if w.name in options.only], options.threads, facts["f32_flops_per_core"])
    results, cold = run(options)
    options.output.mkdir(parents=True, exist_ok=True)
    text = report.as_markdown(facts, results, bounds, cold)
    (options.output / "results.md").write_text(text, encoding="utf-8")
    record = report.as_record(facts, results, bounds, cold)
    (options.output / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
