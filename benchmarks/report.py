"""Tables of results: Markdown text and a JSON record. Pure functions of measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.cold import Cold
from benchmarks.contest import Result
from benchmarks.workloads import named

__all__ = [
    "BASE",
    "as_markdown",
    "as_record",
    "cold_table",
    "disturbed",
    "fastest_peer",
    "format_seconds",
    "ratio_table",
]

#: The framework that ratios are taken to.
BASE = "graphc"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_CLOCKS = {"wall": "wall clock", "cpu": "processor time (of all threads)"}
Key = tuple[str, str, int]


def format_seconds(seconds: float) -> str:
    """Three digits and a unit.

    >>> format_seconds(0.0001234)
    '123 us'
    """
    scale, unit = next((s for s in _UNITS if seconds >= 0.9995 * s[0]), _UNITS[-1])
    value = seconds / scale
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def grouped(results: Sequence[Result]) -> dict[Key, dict[str, Result]]:
    """Results of each case and number of threads, by framework; order kept."""
    groups: dict[Key, dict[str, Result]] = {}
    for r in results:
        groups.setdefault((r.workload, r.case, r.threads), {})[r.framework] = r
    return groups


def fastest_peer(group: Mapping[str, Result]) -> tuple[str, float] | None:
    """Name and median of the fastest framework but the base."""
    peers = [(r.median, name) for name, r in group.items() if name != BASE and r.median is not None]
    if not peers:
        return None
    median, name = min(peers)
    return name, median


def ratio_table(results: Sequence[Result], floors: Mapping[Key, float], threads: int) -> str:
    """Rows: cases. Cells: median, interquartile range, and in brackets the median over the base's."""
    groups = {k: v for k, v in grouped(results).items() if k[2] == threads}
    frameworks = list(dict.fromkeys(r.framework for r in results))
    peers = [f for f in frameworks if f != BASE]
    rows = [["workload", "floor", *([BASE] if BASE in frameworks else []), *peers, f"fastest peer / {BASE}"]]
    for key, group in groups.items():
        base = group[BASE].median if BASE in group else None
        row = [_label(key), format_seconds(floors[key]) if key in floors else "-"]
        row += [_cell(group[f], None if f == BASE else base) for f in ([BASE] if BASE in group else []) + peers]
        best = fastest_peer(group)
        row.append("-" if base is None or best is None else f"**{best[1] / base:.2f}** ({best[0]})")
        rows.append(row)
    return _table(rows)


def disturbed(results: Sequence[Result]) -> float:
    """Share of the rounds of one-threaded work in which the process had a core for less than nine tenths of the time."""
    shares = [c for r in results if r.threads == 1 for c in r.cores]
    return sum(c < 0.9 for c in shares) / len(shares) if shares else 0.0


def _label(key: Key) -> str:
    return f"{named(key[0]).title}, {key[1]}"


def _cell(result: Result, base: float | None) -> str:
    if result.median is None or result.spread is None:
        return result.fault or "-"
    text = f"{format_seconds(result.median)} ±{50 * result.spread:.0f}%"
    return text if base is None else f"{text} ({result.median / base:.2f})"


def cold_table(found: Sequence[Cold]) -> str:
    """Rows: fresh processes of a workload and framework."""
    rows = [["first call of", "framework", "import", "first call", "together", "next calls", "peak memory"]]
    for cold in found:
        if cold.fault:
            rows.append([cold.workload, cold.framework, cold.fault, "-", "-", "-", "-"])
            continue
        imported, first = cold.median("import") or 0.0, cold.median("first_call") or 0.0
        times = [imported, first, imported + first, cold.median("next_call") or 0.0]
        memory = f"{(cold.median('peak_bytes') or 0) / 2**20:.0f} MiB"
        rows.append([cold.workload, cold.framework, *(format_seconds(t) for t in times), memory])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def as_markdown(
    facts: Mapping[str, Any], results: Sequence[Result], floors: Mapping[Key, float], cold: Sequence[Cold]
) -> str:
    """The whole report."""
    versions = ", ".join(f"{name} {v or 'absent'}" for name, v in facts["versions"].items())
    lines = [
        f"`{facts['command']}`, {facts['date']}. {facts['processor']}, {facts['cores']} cores, {facts['isa']}; "
        f"{facts['f32_flops_per_core'] / 1e9:.0f} GFLOP/s f32 a core, copy {facts['copy_bytes_per_second'] / 1e9:.0f} GB/s. "
        f"{facts['system']}, Python {facts['python']}; {versions}.",
        "",
        f"Timed by {_CLOCKS[facts['clock']]}. Median of rounds ± half the interquartile range; in brackets the median "
        f"over {BASE}'s (above 1: {BASE} is faster).",
        f"In {100 * disturbed(results):.0f} % of the one-thread rounds the machine was busy with something else.",
    ]
    for threads in dict.fromkeys(r.threads for r in results):
        note = "" if threads == 1 else f" ({BASE} has one thread)"
        lines += [
            "",
            f"### {threads} thread{'s' if threads > 1 else ''}{note}",
            "",
            ratio_table(results, floors, threads),
        ]
    if cold:
        lines += ["", "### First calls in fresh processes, 1 thread", "", cold_table(cold)]
    return "\n".join(lines) + "\n"


def as_record(
    facts: Mapping[str, Any], results: Sequence[Result], floors: Mapping[Key, float], cold: Sequence[Cold]
) -> dict[str, Any]:
    """What is written as JSON."""
    groups = grouped(results)
    return {
        "machine": dict(facts),
        "results": [
            {
                **asdict(r),
                "median": r.median,
                "spread": r.spread,
                "floor": floors.get((r.workload, r.case, r.threads)),
                "over_base": _over_base(r, groups[(r.workload, r.case, r.threads)]),
            }
            for r in results
        ],
        "cold": [asdict(c) for c in cold],
    }


def _over_base(result: Result, group: Mapping[str, Result]) -> float | None:
    base = group[BASE].median if BASE in group else None
    return None if base is None or result.median is None else result.median / base
