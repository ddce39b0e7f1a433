"""The examples run as a user runs them: as scripts, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


def run(*arguments: str, folder: Path) -> str:
    """What the demo prints; a failure shows its errors."""
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, str(DIGITS / "train.py"), *arguments]
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def check(printed: str, least: float) -> None:
    """All stations of the demo, and numbers that can be right."""
    accuracy = re.search(r"^test accuracy ([\d.]+) %, after 1 compilation$", printed, re.MULTILINE)
    assert accuracy and float(accuracy[1]) >= least
    difference = re.search(r"^largest relative difference of the (\d+) losses: (\S+)$", printed, re.MULTILINE)
    assert difference and int(difference[1]) > 20 and float(difference[2]) <= 1e-5
    ops = re.search(r"^calls from Python +(\d+) ops +1\b", printed, re.MULTILINE)
    assert ops and int(ops[1]) > 20
    exported = re.search(
        r"^ +359 images classified without graphc and llvmlite: (\d+) right, accuracy ([\d.]+) %$",
        printed,
        re.MULTILINE,
    )
    assert exported and exported[2] == accuracy[1] == f"{int(exported[1]) / 3.59:.1f}"


def test_digits_quickly(tmp_path: Path):
    pytest.importorskip("sklearn")
    check(run("--quick", folder=tmp_path), least=50.0)


@pytest.mark.slow
def test_digits(tmp_path: Path):
    pytest.importorskip("sklearn")
    check(run("--seed", "1", folder=tmp_path), least=97.0)
