"""Do the tests test? Faults planted in a copy of the sources (`tests/plants.py`) must each make the named tests fail.

All these tests pass on the unchanged copy, which is tried first. Then each plant is put in, its tests run in a process of
their own, and it is taken out again. Slow: `make test-all` runs them.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plants import PLANTS, Plant

ROOT = Path(__file__).parent.parent

#: Exit status of pytest when tests ran and some failed.
FAILED = 1

_CLOCK = itertools.count(2_000_000_000)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests, and the package as it is installed: passes and codegen stand within graphc there."""
    folder = tmp_path_factory.mktemp("planted")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    shutil.copytree(ROOT / "graphc", folder / "source" / "graphc", ignore=ignore)
    for room in ("passes", "codegen"):
        shutil.copytree(ROOT / room, folder / "source" / "graphc" / room, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    sound = _run(folder, tuple(sorted({test for plant in PLANTS for test in plant.tests})))
    assert sound.returncode == 0, f"fails without any fault\n{sound.stdout[-3000:]}{sound.stderr[-1000:]}"
    yield folder
    shutil.rmtree(folder)


def _path(copy: Path, file: str) -> Path:
    room = "" if file.startswith("graphc/") else "graphc"
    return copy / "source" / room / file


def _run(copy: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "source"), "GRAPHC_CACHE": "off"}
    environment.pop("GRAPHC", None)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_plants_fit() -> None:
    """Each text is in its file exactly once, and names are unique. Not slow, so that moved sources show at once."""
    assert len(PLANTS) >= 20
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    for plant in PLANTS:
        count = (ROOT / plant.file).read_text(encoding="utf-8").count(plant.old)
        assert count == 1, (
            f"{plant.name!r}: its text is {count} times in {plant.file}; bring tests/plants.py up to date"
        )
        assert plant.old != plant.new


@pytest.mark.slow
def test_copy_is_what_is_tested(copy: Path) -> None:
    code = "import graphc, graphc.passes.fold, graphc.codegen.emit as e; print(graphc.__file__, e.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(copy / "source")}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    assert all(Path(path).is_relative_to(copy) for path in ran.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_planted_fault_is_caught(copy: Path, plant: Plant) -> None:
    path = _path(copy, plant.file)
    text = path.read_text(encoding="utf-8")
    assert text.count(plant.old) == 1, f"its text is not in {plant.file} exactly once: bring tests/plants.py up to date"
    _write(path, text.replace(plant.old, plant.new))
    try:
        ran = _run(copy, plant.tests)
    finally:
        _write(path, text)
    # A crash of native code is noticed, too; an error while collecting tests would say nothing.
    assert ran.returncode == FAILED or ran.returncode < 0, f"not caught\n{ran.stdout[-3000:]}"


@pytest.mark.slow
def test_a_failing_random_graph_is_replayed_from_its_file(copy: Path) -> None:
    """The message of a failing test says how to replay what it wrote: that shows the fault, and no fault when it is mended."""
    plant = next(p for p in PLANTS if p.name == "a lifetime ends one action early")
    path = _path(copy, plant.file)
    text = path.read_text(encoding="utf-8")
    tests = tuple(test for test in plant.tests if "random" in test)
    _write(path, text.replace(plant.old, plant.new))
    try:
        found = re.search(r"replay: python (\S+) (\S+\.gir)$", _run(copy, tests).stdout, re.MULTILINE)
        assert found is not None
        commands = [[found[1], found[2]], ["-m", "graphc", "replay", found[2], "--no-contract"]]
        assert [_python(copy, command).returncode for command in commands] == [FAILED, FAILED]
    finally:
        _write(path, text)
    assert [_python(copy, command).returncode for command in commands] == [0, 0]


def _python(copy: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "source"), "GRAPHC_CACHE": "off"}
    return subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def _write(path: Path, text: str) -> None:
    """Write with a time of its own: compiled files are told apart by their source's time and size only."""
    path.write_text(text, encoding="utf-8")
    stamp = next(_CLOCK)
    os.utime(path, (stamp, stamp))
