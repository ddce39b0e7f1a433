"""One cold start: `python -m benchmarks.startup FRAMEWORK WORKLOAD CLOCK` prints a JSON line with seconds and bytes.

Import of the framework, then the first call of a program of a workload's first case (building it included), then the
fastest of some further calls, and the peak of resident memory. A process of its own for each measurement.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from benchmarks.worker import CLOCKS, load_programs
from benchmarks.workloads import named

__all__ = ["main", "peak_bytes"]


def peak_bytes() -> int:
    """Peak resident memory of this process. Linux's VmHWM where there is one: ru_maxrss may still hold the parent's."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(framework: str, workload_name: str, clock_name: str) -> None:
    """Measure and print."""
    workload, clock = named(workload_name), CLOCKS[clock_name]
    data = workload.inputs(workload.cases[0])
    before = peak_bytes()
    start = clock()
    programs = load_programs(framework)
    imported = clock()
    program = getattr(programs, workload_name)(data)
    program.call()
    called = clock()
    times = []
    for _ in range(20):
        begin = clock()
        program.call()
        times.append(clock() - begin)
    facts = {
        "import": imported - start,
        "first_call": called - imported,
        "next_call": float(np.median(times)),
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
