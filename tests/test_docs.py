"""The documentation is run: code blocks of README.md and docs/, examples in docstrings; everything public has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import graphc
from graphc import data, nn, optim
from graphc.frontend import compile as compiling
from graphc.frontend import report

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The page's Python blocks, each after as many empty lines as put it at its own line numbers."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return ["\n" * text[: m.start(1)].count("\n") + m[1] for m in found]


def joined(parts: list[str]) -> str:
    """Blocks as one program in which every line keeps its number."""
    lines: list[str] = []
    for part in parts:
        own = part.split("\n")
        lines += own[len(lines) :]
    return "\n".join(lines)


def test_there_are_blocks_to_run():
    assert len(blocks(ROOT / "README.md")) >= 4
    assert joined(["\na = 1\n", "\n\n\nb = 2\n"]) == "\na = 1\n\nb = 2\n"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_code_blocks_run(page: Path, tmp_path: Path):
    """One program a page, in an empty folder, in a new process: what it registers and exports stays there."""
    program = tmp_path / page.with_suffix(".py").name
    program.write_text(joined(blocks(page)), encoding="utf-8")
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}
    command = [sys.executable, program.name]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_commands_of_the_readme_exist():
    """`make x` in README.md is a target of the Makefile; the pages that it links to are there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


# -- docstrings ------------------------------------------------------------------------------------------------------


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(graphc.__path__, "graphc."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def _examples() -> list[Any]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for module in _modules() for test in finder.find(module) if test.examples]


EXAMPLES = {test.name: test for test in _examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    graphc.random.manual_seed(0)
    said: list[str] = []
    done = doctest.DocTestRunner(optionflags=flags).run(EXAMPLES[name], out=said.append)
    assert done.attempted > 0
    assert done.failed == 0, "".join(said)


#: Public objects whose docstring shows how they are used.
SHOWN = (
    graphc.compile,
    graphc.grad,
    graphc.value_and_grad,
    graphc.tensor,
    graphc.Tensor,
    graphc.no_grad,
    graphc.count_ops,
    graphc.where,
    graphc.random.Generator,
    compiling.CompiledFunction.inspect,
    compiling.CompiledFunction.export,
    report.Report,
    nn.Module,
    nn.Sequential,
    nn.Linear,
    nn.functional.cross_entropy,
    nn.utils.clip_grad_norm_,
    nn.utils.clip_grad_value_,
    nn.utils.get_total_norm,
    optim.Adam,
    optim.lr_scheduler.LambdaLR,
    optim.lr_scheduler.StepLR,
    optim.lr_scheduler.SequentialLR,
    optim.lr_scheduler.ReduceLROnPlateau,
    optim.SGD,
    optim.RMSprop,
    optim.Adagrad,
    optim.Adadelta,
    optim.Lion,
    optim.NAdam,
    optim.RAdam,
    data.DataLoader,
    data.TensorDataset,
    data.random_split,
)


@pytest.mark.parametrize("thing", SHOWN, ids=lambda t: t.__qualname__)
def test_main_functions_have_an_example(thing: Any):
    assert ">>> " in (thing.__doc__ or "")


def _public() -> Iterator[tuple[str, Any]]:
    for module in (graphc, graphc.random, nn, nn.functional, nn.init, nn.utils, optim, optim.lr_scheduler, data):
        yield module.__name__, module
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            mine = callable(thing) and getattr(thing, "__module__", "").partition(".")[0] == "graphc"
            if mine and not name.startswith("_"):
                yield f"{module.__name__}.{name}", thing


PUBLIC = dict(_public())


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_docstrings(name: str):
    """Functions, classes, and the public methods and properties that a class defines itself."""
    thing = PUBLIC[name]
    assert inspect.getdoc(thing), name
    if not isinstance(thing, type):
        return
    assert thing.__doc__ and not thing.__doc__.startswith(f"{thing.__name__}("), f"{name} has no docstring of its own"
    if issubclass(thing, tuple):
        return
    for method, member in vars(thing).items():
        if not method.startswith("_") and (callable(member) or isinstance(member, (property, classmethod))):
            assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"
