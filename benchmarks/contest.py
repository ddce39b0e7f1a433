"""Contestants in interleaved rounds: A B C A B C ..., each framework in a worker process of its own.

Interleaving lets a disturbance of the machine meet all contestants alike; medians and interquartile ranges are taken over
rounds. A contestant whose results disagree with the reference is not timed; one that fails is reported with its error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import programs_numpy
from benchmarks.workloads import Array, Case, Workload

__all__ = [
    "ROOT",
    "Result",
    "WorkerError",
    "compete",
    "difference",
    "environment",
    "installed",
    "quartiles",
    "reference",
]

ROOT = Path(__file__).resolve().parent.parent
_BLOCK_SECONDS = 2e-4
_PACKAGES = {"graphc": "graphc", "numpy": "numpy", "torch": "torch", "torch-compile": "torch", "jax": "jax"}


class WorkerError(Exception):
    """A worker process failed or ended."""


@dataclass(slots=True)
class Result:
    """One framework on one case: seconds per call of each round, or why there are none."""

    workload: str
    case: str
    framework: str
    threads: int
    #: A round is so many blocks of so many calls; its figure is the median of its blocks.
    blocks: int = 0
    calls: int = 0
    difference: float | None = None
    seconds: list[float] = field(default_factory=list)
    #: Processor seconds of all threads over wall seconds.
    cores: list[float] = field(default_factory=list)
    fault: str = ""

    @property
    def median(self) -> float | None:
        """Median of the rounds, in seconds per call."""
        return quartiles(self.seconds)[1] if self.seconds else None

    @property
    def spread(self) -> float | None:
        """Interquartile range over the median."""
        if not self.seconds:
            return None
        low, middle, high = quartiles(self.seconds)
        return (high - low) / middle


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def installed(framework: str) -> bool:
    """Whether the framework's package is there; it is not imported."""
    return importlib.util.find_spec(_PACKAGES[framework]) is not None


def environment(threads: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A worker's environment: every framework's own way to say how many threads it may use; byte code is kept, as users
    have it."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    settings = dict.fromkeys(names, count)
    settings["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **settings, **(extra or {})}


def reference(workload: Workload, case: Case) -> list[Array]:
    """The outcome in NumPy on float64 data."""
    wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in workload.inputs(case).items()}
    return [np.asarray(a) for a in getattr(programs_numpy, workload.name)(wide).outcome()]


def difference(outcome: Sequence[Array], expected: Sequence[Array]) -> float:
    """Largest |outcome - expected| over largest |expected|, the worst of all arrays; infinite if shapes differ or a value
    is not finite."""
    if len(outcome) != len(expected):
        return float("inf")
    worst = 0.0
    for found, wanted in zip(outcome, expected, strict=True):
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
        worst = max(worst, float(np.abs(found - wanted).max(initial=0.0)) / scale)
    return worst


class _Contestant:
    """A worker process."""

    def __init__(self, framework: str, threads: int) -> None:
        self.framework = framework
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment(threads),
        )

    def ask(self, command: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a command (None: only wait for the greeting) and return the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            if command is not None:
                self.process.stdin.write(json.dumps(command) + "\n")
                self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write('{"quit": true}\n')
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def compete(
    workload: Workload,
    frameworks: Sequence[str],
    threads: int,
    rounds: int,
    seconds: float,
    progress: Callable[[], object],
    clock: str = "wall",
) -> list[Result]:
    """All cases of a workload; `seconds` is about how long one contestant's round takes, `clock` what it is timed by (a key
    of `worker.CLOCKS`). Calls `progress` once a round and contestant."""
    contestants: dict[str, _Contestant] = {}
    faults: dict[str, str] = {}
    results: list[Result] = []
    try:
        for framework in frameworks:
            if installed(framework):
                contestants[framework] = _Contestant(framework, threads)
            else:
                faults[framework] = "not installed"
        for framework, contestant in contestants.items():
            _attempt(faults, framework, lambda c=contestant: c.ask(None))  # type: ignore[misc]
        for number, case in enumerate(workload.cases):
            found = {f: Result(workload.name, case.name, f, threads, fault=faults.get(f, "")) for f in frameworks}
            for framework, result in found.items():
                if not result.fault:
                    _prepare(contestants[framework], workload, number, result, seconds)
            for _ in range(rounds):
                for framework, result in found.items():
                    if not result.fault:
                        _round(contestants[framework], result, clock)
                    progress()
            # A worker that failed has ended; one whose results were wrong may take part in the next case.
            faults.update({f: r.fault for f, r in found.items() if r.fault and r.difference is None})
            results += found.values()
    finally:
        for contestant in contestants.values():
            contestant.close()
    return results


def _attempt(faults: dict[str, str], framework: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return action()
    except WorkerError as fault:
        faults[framework] = str(fault)
        return None


def _prepare(contestant: _Contestant, workload: Workload, number: int, result: Result, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcome.npz"
        try:
            answer = contestant.ask({"prepare": workload.name, "case": number, "outcome": str(path)})
        except WorkerError as fault:
            result.fault = str(fault)
            return
        with np.load(path) as file:
            expected = reference(workload, workload.cases[number])
            result.difference = difference([file[k] for k in file.files], expected)
    result.calls = max(1, round(_BLOCK_SECONDS / answer["seconds"]))
    result.blocks = max(1, round(seconds / (answer["seconds"] * result.calls)))
    if not result.difference <= workload.tolerance:
        result.fault = f"wrong: differs from the reference by {result.difference:.1e}, allowed {workload.tolerance:.0e}"


def _round(contestant: _Contestant, result: Result, clock: str) -> None:
    try:
        answer = contestant.ask({"round": result.blocks, "calls": result.calls, "clock": clock})
    except WorkerError as fault:
        result.fault, result.difference, result.seconds = str(fault), None, []
        return
    result.seconds.append(answer["seconds"])
    result.cores.append(answer["cores"])
