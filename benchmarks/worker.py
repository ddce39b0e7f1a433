"""One framework in a process of its own: `python -m benchmarks.worker FRAMEWORK`, commanded over standard input.

One JSON object a line in, one out:

    {"prepare": WORKLOAD, "case": NUMBER, "outcome": PATH.npz}  -> {"seconds": of one call, about}
    {"round": BLOCKS, "calls": CALLS_OF_A_BLOCK, "clock": ...}  -> {"seconds": of one call, "cores": ...}
    {"quit": true}                                              -> nothing; the process ends

`prepare` builds the program, writes its outcome, warms it up and estimates its speed. What fails answers {"error": text}.
Whatever else writes to standard output goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads import Program, named

__all__ = ["CLOCKS", "MODULES", "load_programs", "main", "measure"]

#: Framework, and the module of its programs.
MODULES = {
    "graphc": "benchmarks.programs_graphc",
    "numpy": "benchmarks.programs_numpy",
    "torch": "benchmarks.programs_torch",
    "torch-compile": "benchmarks.programs_torch",
    "jax": "benchmarks.programs_jax",
}
#: What a round may be timed by. Processor time (of all threads) serves machines that are busy with something else too.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_WARM_SECONDS = 0.3
_WARM_CALLS = 3


def load_programs(framework: str) -> Any:
    """The framework's module of programs; the first import of the framework."""
    if framework == "torch-compile":
        os.environ["BENCHMARK_TORCH_COMPILE"] = "1"
    return importlib.import_module(MODULES[framework])


def measure(
    call: Callable[[], object], blocks: int, calls: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Seconds of one call, and processor time of all threads over wall time.

    The median of blocks of calls, each timed by itself: a block in which the machine was busy elsewhere does not count.
    One block before is not counted either, because another process has used the caches meanwhile.
    """
    times = []
    numbers = range(calls)
    for _ in numbers:
        call()
    cpu, begin = time.process_time(), time.perf_counter()
    for _ in range(blocks):
        start = clock()
        for _ in numbers:
            call()
        times.append(clock() - start)
    wall = time.perf_counter() - begin
    return statistics.median(times) / calls, (time.process_time() - cpu) / max(wall, 1e-12)


def _estimate(call: Callable[[], object]) -> float:
    """Seconds of one call, about, after warming up."""
    count, start = 0, time.perf_counter()
    while count < _WARM_CALLS or time.perf_counter() - start < _WARM_SECONDS:
        call()
        count += 1
    return max(measure(call, 3, max(1, count // 12))[0], 1e-9)


class _Worker:
    def __init__(self, framework: str) -> None:
        self.programs = load_programs(framework)
        self.program: Program | None = None

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "prepare" in command:
            return self.prepare(command["prepare"], command["case"], command["outcome"])
        assert self.program is not None
        seconds, cores = measure(self.program.call, command["round"], command["calls"], CLOCKS[command["clock"]])
        return {"seconds": seconds, "cores": cores}

    def prepare(self, name: str, case: int, path: str) -> dict[str, Any]:
        workload = named(name)
        self.program = getattr(self.programs, name)(workload.inputs(workload.cases[case]))
        np.savez(path, *[np.asarray(array) for array in self.program.outcome()])
        return {"seconds": _estimate(self.program.call)}


def main(framework: str) -> None:
    """Answer commands until told to quit, or until the parent is gone."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        worker = _Worker(framework)
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            if "quit" in command:
                return
            print(json.dumps(worker.answer(command)), file=replies, flush=True)
    except Exception as fault:  # the parent reports it; this process is over
        traceback.print_exc()
        text = f"{type(fault).__name__}: {fault}".strip().splitlines()[0]
        print(json.dumps({"error": text}), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
