"""The benchmark harness: commands, comparison, statistics and tables. No test judges a time."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import cold, contest, machine, programs_graphc, programs_numpy, report, startup, worker  # noqa: E402
from benchmarks.contest import Result  # noqa: E402
from benchmarks.workloads import COLD, WORKLOADS, named  # noqa: E402


def result(framework: str, seconds: list[float], **fields: object) -> Result:
    return Result("gelu", "1M f32", framework, 1, seconds=seconds, cores=[1.0] * len(seconds), **fields)


# -- workloads and programs ----------------------------------------------------------------------------------------------


def test_every_framework_has_every_program():
    for module in set(worker.MODULES.values()):
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {w.name for w in WORKLOADS} <= functions, module


def test_data_are_the_same_in_every_process():
    for workload in WORKLOADS:
        first, second = workload.inputs(workload.cases[0]), workload.inputs(workload.cases[0])
        assert all(np.array_equal(first[k], second[k]) and first[k].dtype == second[k].dtype for k in first)


def test_work_of_the_training_step():
    # By hand: 2 * 64 * (2 * 784*128 + 3 * 128*10) multiplications and additions.
    assert named("mlp_training").cases[0].flops == 26_181_632
    assert named("matmul").cases[6].flops == 2 * 64 * 784 * 128


def test_cold_workloads_exist():
    assert all(named(name) for name in COLD)
    with pytest.raises(KeyError):
        named("unknown")


@pytest.mark.parametrize("name", [w.name for w in WORKLOADS])
def test_graphc_and_numpy_agree_with_the_reference(name):
    workload = named(name)
    case = workload.cases[-1 if name != "matmul" else 7]
    expected = contest.reference(workload, case)
    assert all(np.asarray(e).dtype.itemsize == 8 for e in expected)
    for module in (programs_numpy, programs_graphc):
        outcome = [np.asarray(a) for a in getattr(module, name)(workload.inputs(case)).outcome()]
        assert contest.difference(outcome, expected) <= workload.tolerance


# -- comparison and statistics -------------------------------------------------------------------------------------------


def test_difference():
    one = np.array([1.0, -4.0])
    assert contest.difference([one], [one]) == 0
    assert contest.difference([np.array([1.0, -3.0])], [one]) == 0.25
    assert contest.difference([one, np.array([3.0])], [one, np.array([2.0])]) == 0.5
    assert contest.difference([np.array([0.5])], [np.array([0.0])]) == 0.5
    assert contest.difference([np.zeros((0, 3))], [np.zeros((0, 3))]) == 0
    for wrong in ([one, one], [one[None]], [np.array([1.0, np.nan])], [np.array([1.0, np.inf])]):
        assert contest.difference(wrong, [one]) == float("inf")


def test_quartiles_median_and_spread():
    assert contest.quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    found = result("numpy", [5.0, 1.0, 2.0, 4.0, 3.0])
    assert found.median == 3.0
    assert found.spread == pytest.approx(2 / 3)
    assert result("numpy", []).median is None
    assert result("numpy", []).spread is None


def test_measure_counts_calls_and_takes_the_median():
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 29.0])
    calls = []
    seconds, _ = worker.measure(lambda: calls.append(None), 3, 4, clock=lambda: next(ticks))
    assert len(calls) == 4 + 3 * 4  # one block is not counted
    assert seconds == 2.0 / 4  # blocks took 1, 2 and 9


def test_peak_memory_is_this_process():
    assert 10 << 20 < startup.peak_bytes() < 64 << 30


# -- workers -------------------------------------------------------------------------------------------------------------


def test_contest_interleaves_and_lists_what_is_absent(monkeypatch):
    monkeypatch.setattr(contest, "installed", lambda framework: framework != "jax")
    order: list[str] = []
    real = contest._round
    monkeypatch.setattr(contest, "_round", lambda c, r, clock: (order.append(r.framework), real(c, r, clock)))
    steps: list[None] = []
    workload = replace(named("overhead"))
    found = contest.compete(workload, ["graphc", "numpy", "jax"], 1, 2, 0.001, lambda: steps.append(None))
    assert order == ["graphc", "numpy"] * 2
    assert len(steps) == 6
    graphc, numpy, jax = found
    assert len(graphc.seconds) == len(numpy.seconds) == 2
    assert graphc.difference is not None and graphc.difference <= 1e-6
    assert jax.fault == "not installed" and not jax.seconds


def test_wrong_results_are_not_timed():
    workload = replace(named("overhead"), tolerance=-1.0)
    (found,) = contest.compete(workload, ["numpy"], 1, 2, 0.001, lambda: None)
    assert found.fault.startswith("wrong: differs from the reference by ")
    assert not found.seconds


def test_a_failing_worker_is_reported(monkeypatch):
    broken = replace(named("overhead"), name="no_such_workload")
    monkeypatch.setattr(contest, "reference", lambda workload, case: [])
    (found,) = contest.compete(broken, ["numpy"], 1, 1, 0.001, lambda: None)
    assert "no_such_workload" in found.fault
    assert found.difference is None and not found.seconds


def test_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    settings = contest.environment(2, {"EXTRA": "x"})
    assert settings["OMP_NUM_THREADS"] == settings["NPROC"] == "2"
    assert settings["EXTRA"] == "x"
    assert "PYTHONDONTWRITEBYTECODE" not in settings


def test_cold_start_reports_all_figures(monkeypatch):
    monkeypatch.setattr(cold, "installed", lambda framework: framework == "numpy")
    found = cold.measure_cold("overhead", ["numpy", "torch"], 1, lambda: None)
    assert [c.fault for c in found] == ["", "not installed"]
    assert set(found[0].values) == {"import", "first_call", "next_call", "peak_bytes", "bytes_before"}
    assert all(len(v) == 1 for v in found[0].values.values())


# -- report --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5, "1.50 s"),
        (0.9996, "1.00 s"),
        (0.0999, "99.9 ms"),
        (0.000999, "999 us"),
        (0.00099999, "1.00 ms"),
        (9.996e-6, "10.0 us"),
        (4.2e-10, "0.42 ns"),
    ],
)
def test_format_seconds(seconds, text):
    assert report.format_seconds(seconds) == text


def test_ratio_table():
    results = [
        result("graphc", [2e-3, 2e-3, 2e-3]),
        result("numpy", [8e-3, 9e-3, 10e-3]),
        result("torch", [3e-3, 3e-3, 3e-3]),
        result("jax", [], fault="not installed"),
    ]
    head, _, row = report.ratio_table(results, {("gelu", "1M f32", 1): 1e-4}, 1).splitlines()
    assert [c.strip() for c in head.split("|")[1:-1]][2:] == [
        "graphc",
        "numpy",
        "torch",
        "jax",
        "fastest peer / graphc",
    ]
    assert [c.strip() for c in row.split("|")[2:-1]] == [
        "100 us",
        "2.00 ms ±0%",
        "9.00 ms ±6% (4.50)",
        "3.00 ms ±0% (1.50)",
        "not installed",
        "**1.50** (torch)",
    ]


def test_ratio_table_without_graphc_or_without_peers():
    alone = report.ratio_table([result("graphc", [1e-3])], {}, 1).splitlines()[-1]
    assert alone.split("|")[-2].strip() == "-"
    peer = report.ratio_table([result("numpy", [1e-3])], {}, 1).splitlines()[-1]
    assert "1.00 ms" in peer and "(" not in peer.split("|")[3]


def test_record_and_text_hold_everything():
    facts = {
        **{"command": "x", "date": "d", "processor": "p", "cores": 2, "isa": "i", "system": "s", "python": "3"},
        **{"f32_flops_per_core": 1e11, "copy_bytes_per_second": 1e10, "clock": "cpu", "versions": {"jax": None}},
    }
    results = [result("graphc", [2e-3]), result("numpy", [1e-3])]
    results[1].cores = [0.5]
    starts = [
        cold.Cold("gelu", "graphc", {"import": [0.1], "first_call": [0.2], "next_call": [1e-3], "peak_bytes": [2**20]})
    ]
    text = report.as_markdown(facts, results, {}, [*starts, cold.Cold("gelu", "torch", fault="not installed")])
    for part in ("jax absent", "processor time", "In 50 %", "1 thread", "300 ms", "1 MiB", "not installed"):
        assert part in text
    record = report.as_record(facts, results, {}, starts)
    assert [r["over_base"] for r in record["results"]] == [1.0, 0.5]
    assert record["machine"] == facts


def test_floors(monkeypatch):
    monkeypatch.setattr(machine, "copy_seconds", lambda traffic: traffic / 1e10)
    found = command.floors(WORKLOADS, [1, 2], 1e11)
    assert found["matmul", "32x32x32", 2] == pytest.approx(2 * 32**3 / 2e11)
    assert found["gelu", "1M f32", 1] == pytest.approx((8 << 20) / 1e10)
    assert ("gelu", "1M f32", 2) not in found


def test_command_line(capsys):
    options = command.parse(["--only", "mlp,overhead", "--threads", "1,2", "--frameworks", "numpy"])
    assert options.only == ["mlp_training", "mlp_inference", "overhead"]
    assert options.threads == [1, 2]
    assert command.parse([]).only == [*(w.name for w in WORKLOADS), "cold"]
    for wrong in (["--only", "nothing"], ["--frameworks", "fortran"], ["--rounds", "0"], ["--threads", "x"]):
        with pytest.raises(SystemExit):
            command.parse(wrong)
    assert "nothing" not in capsys.readouterr().out
