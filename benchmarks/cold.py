"""First calls in fresh processes: import time, first call, peak memory. graphc twice: with an empty disk cache and with a
filled one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contest import ROOT, environment, installed, quartiles

__all__ = ["Cold", "measure_cold"]

_TIMEOUT = 120


@dataclass(slots=True)
class Cold:
    """Measurements of a framework's fresh processes; each list has one number a process."""

    workload: str
    framework: str
    values: dict[str, list[float]] = field(default_factory=dict)
    fault: str = ""

    def median(self, name: str) -> float | None:
        """The median of a measurement, None if there is none."""
        return quartiles(self.values[name])[1] if name in self.values else None


def measure_cold(
    workload: str, frameworks: Sequence[str], processes: int, progress: Callable[[], object], clock: str = "wall"
) -> list[Cold]:
    """Interleaved fresh processes, one thread each, timed by `clock` (a key of `worker.CLOCKS`). Calls `progress` once a
    process."""
    with tempfile.TemporaryDirectory() as folder:
        warm = {"GRAPHC_CACHE_DIR": str(Path(folder) / "warm")}
        found = []
        for framework in frameworks:
            found.append(Cold(workload, framework, fault="" if installed(framework) else "not installed"))
            if framework == "graphc":
                found.append(Cold(workload, "graphc, cached"))
        for number in range(-1, processes):  # the first round fills caches and is not counted
            for cold in found:
                if not cold.fault:
                    empty = {"GRAPHC_CACHE_DIR": str(Path(folder) / f"empty{number}")}
                    _start(cold, clock, warm if cold.framework == "graphc, cached" else empty, counted=number >= 0)
                progress()
    return found


def _start(cold: Cold, clock: str, settings: dict[str, str], *, counted: bool) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.startup", cold.framework.partition(",")[0], cold.workload, clock],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(1, settings),
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        cold.fault = f"took longer than {_TIMEOUT} s"
        return
    if done.returncode:
        cold.fault = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
    elif counted:
        for name, value in json.loads(done.stdout.splitlines()[-1]).items():
            cold.values.setdefault(name, []).append(value)
