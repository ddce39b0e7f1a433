"""Bad input and its messages, as a user sees them.

`tests/golden/test_errors/<group>.txt` holds small programs and what comes of each: `works`, or the error's class and
message. A program that names `mode` runs twice, dynamically (`mode` does nothing) and compiled (`mode` is
`gx.compile`); where both fail, the classes agree. `# here` marks the user's line that the message must name, `# here:
names NAME` a line whose error must name NAME (a file, a variable of the environment) instead. Python's own errors
(`x + "a"`) are good where Python raises them at the user's line itself, so that a traceback ends there.
`pytest --bless` rewrites the outcomes; read them before you commit them.

    ## name of the case
    mode(lambda x: x + np.ones(4))(v)  # here
    -- ShapeError
    add: operands cannot be broadcast together
      ...
"""

from __future__ import annotations

import builtins
import linecache
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import data, errors, nn, optim
from graphc.errors import GraphcError

GOLDEN = Path(__file__).parents[1] / "golden" / "test_errors"
GROUPS = (
    "arguments",
    "axes",
    "concrete_values",
    "control_flow",
    "creation",
    "data",
    "dtypes",
    "einsum",
    "files",
    "gradients",
    "indices",
    "layouts",
    "leaks",
    "linalg",
    "models",
    "numpy_functions",
    "random",
    "reductions",
    "shapes",
    "transforms",
    "vmap",
    "windows",
    "writes",
)
WORKS = "works"


@dataclass(frozen=True)
class Case:
    """A program with its outcomes: (mode or "", class of the error or "works", message)."""

    name: str
    program: str
    outcomes: tuple[tuple[str, str, str], ...]

    @property
    def text(self) -> str:
        blocks = [f"## {self.name}\n{self.program}"]
        for mode, kind, message in self.outcomes:
            blocks.append(f"-- {mode + ': ' if mode else ''}{kind}\n" + (message + "\n" if message else ""))
        return "".join(blocks)

    @property
    def guilty(self) -> str | None:
        """The place that the message must name."""
        for number, line in enumerate(self.program.splitlines(), 1):
            marked = re.search(r"# here(?:: names (\S+))?$", line)
            if marked:
                return marked[1] or f"user.py:{number}"
        return None


def read(path: Path) -> list[Case]:
    """The cases of a file."""
    cases = []
    for block in path.read_text(encoding="utf-8").split("## ")[1:]:
        name, _, rest = block.partition("\n")
        program, *outcomes = re.split(r"^-- ", rest.rstrip("\n") + "\n", flags=re.MULTILINE)
        parsed = []
        for outcome in outcomes:
            head, _, message = outcome.partition("\n")
            mode, _, kind = head.rpartition(": ")
            parsed.append((mode, kind, message.rstrip("\n")))
        cases.append(Case(name, program, tuple(parsed)))
    return cases


Patch = Callable[[object, str, Any], None]


def outcomes_of(case: Case, folder: Path, patch: Patch) -> tuple[tuple[str, str, str], ...]:
    """What comes of a program: one outcome, or one for each mode where they differ."""
    if not re.search(r"\bmode\b", case.program):
        return (("", *outcome(case, folder, patch, None)),)
    dynamic = outcome(case, folder, patch, lambda f, **_: f)
    compiled = outcome(case, folder, patch, gx.compile)
    if dynamic == compiled:
        return (("", *dynamic),)
    return (("dynamic", *dynamic), ("compiled", *compiled))


def outcome(case: Case, folder: Path, patch: Patch, mode: Any) -> tuple[str, str]:
    """The class of the error and its message, with folders taken out."""
    user = ModuleType("user")
    user.__dict__.update(
        np=np,
        gx=gx,
        nn=nn,
        optim=optim,
        data=data,
        mode=mode,
        folder=folder,
        patch=patch,
        v=np.array([1.0, 2.0, 3.0], np.float32),
        m=np.ones((3, 4), np.float32),
        n=np.array([1, 2, 3]),
    )
    path = str(folder / "user.py")
    linecache.cache[path] = (len(case.program), None, case.program.splitlines(keepends=True), path)
    code = compile(case.program, path, "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(code, user.__dict__)
        except Exception as error:
            return type(error).__name__, _clean(_place(error) or str(error), folder)
    return WORKS, _clean("\n".join(f"{w.category.__name__}: {w.message}" for w in caught), folder)


def _place(error: BaseException) -> str:
    """Where Python itself raised an error in the user's code (its words change with its version); "" for errors raised in
    libraries."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None
    file = traceback.tb_frame.f_code.co_filename
    if isinstance(error, GraphcError) or not file.endswith("user.py"):
        return ""
    return f"  (raised at {file}:{traceback.tb_lineno})"


def _clean(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER").replace("FOLDER/user.py", "user.py")
    return re.sub(r"[0-9a-f]{48}", "KEY", text)


def _cases() -> list[Any]:
    cases = [(group, case) for group in GROUPS for case in read(GOLDEN / f"{group}.txt")]
    return [pytest.param(group, case, id=f"{group}-{case.name.replace(' ', '-')}") for group, case in cases]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder with a disk cache of its own."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        monkeypatch.setenv("GRAPHC_CACHE_DIR", str(Path(name) / "cache"))
        yield Path(name)


def test_every_group_is_run():
    assert sorted(GROUPS) == sorted(path.stem for path in GOLDEN.glob("*.txt"))
    for group in GROUPS:
        names = [case.name for case in read(GOLDEN / f"{group}.txt")]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(("group", "case"), _cases())
def test_message(group: str, case: Case, folder: Path, bless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(case, outcomes=outcomes_of(case, folder, monkeypatch.setattr))
    if bless:
        path = GOLDEN / f"{group}.txt"
        cases = [found if c.name == case.name else c for c in read(path)]
        path.write_text("\n".join(c.text for c in cases), encoding="utf-8")
        return
    assert found.text == case.text


@pytest.mark.parametrize(("group", "case"), _cases())
def test_message_has_all_parts(group: str, case: Case) -> None:
    """The user's place where one is marked (and none is not), a way on, classes that agree in both modes."""
    assert case.outcomes, "no outcome yet: run pytest --bless"
    failed = [(kind, text) for _, kind, text in case.outcomes if kind != WORKS]
    assert bool(failed) == (case.guilty is not None), "mark the guilty line with `# here`"
    for kind, text in failed:
        if "(raised at " in text:
            assert text.endswith(f"(raised at {case.guilty})")
            continue
        assert issubclass(_class(kind), GraphcError), kind
        place = rf"^  (at|made at) {re.escape(case.guilty or '')}$" if "user.py" in (case.guilty or "") else case.guilty
        assert re.search(place or "", text, re.MULTILINE), text
        assert "\n  hint: " in text, text
    if len(failed) == 2:
        dynamic, compiled = (_class(kind) for kind, _ in failed)
        # What is traced has no value: that is found before whatever the value is wrong for.
        assert compiled is errors.TracerConversionError or issubclass(compiled, dynamic)


def _class(name: str) -> type[BaseException]:
    return getattr(errors, name, None) or getattr(builtins, name)


# -- NumPy's classes --------------------------------------------------------------------------------------------------------

#: Where NumPy does not fail, or with another class, and why.
_DEVIATIONS = {
    "reshape to a negative size": "NumPy takes any negative size for -1",
    "tril of a vector of rank 0": "NumPy says that len() has no answer; the standard asks for rank 2",
    "assignment of a float to an int element": "NumPy truncates silently",
    "Python integer out of range as a choice": "NumPy wraps silently: docs/architecture.md",
    "median of nothing": "NumPy warns and gives NaN",
    "text among the operands": "NumPy reads the text as a number and fails at that",
    "text into an element": "NumPy reads the text as a number and fails at that",
    **dict.fromkeys(
        (
            "dtype of text",
            "astype of text",
            "complex scalar inside",
            "complex dtype",
            "long double",
            "sum to a dtype of text",
        ),
        "a dtype that graphc has not",
    ),
    **dict.fromkeys(
        ("clipping complex numbers", "greatest complex number", "order of complex numbers"),
        "the standard leaves the order of complex numbers open; NumPy goes by real parts first",
    ),
    **dict.fromkeys(("complex into real elements", "complex to real"), "NumPy warns and drops imaginary parts"),
    "result of a broadcast in place": "a rule about state, not about the value",
    "functional update out of bounds": "NumPy has no such thing",
}
_COMPARED = ("axes", "creation", "dtypes", "einsum", "indices", "linalg", "reductions", "shapes", "windows")
_SAME_NAMES = r"\bgx\.(einsum|zeros|ones|full|eye|arange|linspace|where|take|put_along_axis|concat|stack|reshape|sum)\b"
_PUBLIC = (
    OverflowError,
    ZeroDivisionError,
    np.exceptions.AxisError,
    np.linalg.LinAlgError,
    IndexError,
    ValueError,
    TypeError,
)


def _numpys(case: Case) -> type[BaseException] | bool | None:
    """The class of what NumPy raises for the program on arrays, None if nothing; False if the program is not NumPy's."""
    program = re.sub(_SAME_NAMES, r"np.\1", case.program.replace("gx.tensor(", "np.asarray("))
    if re.search(r"\b(gx|nn|optim|data|folder|patch)\b", program) or not re.search(r"\bmode\b", program):
        return False
    scope = {"np": np, "mode": lambda f: f, "v": np.arange(1, 4, dtype=np.float32), "m": np.ones((3, 4), np.float32)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(program, {**scope, "n": np.array([1, 2, 3])})
        except Exception as error:
            return next(c for c in (*_PUBLIC, type(error)) if isinstance(error, c))
    return None


def test_classes_are_numpys() -> None:
    """`except ValueError` around NumPy code goes on working: what fails in NumPy fails with the same class here."""
    compared, deviations = 0, set()
    for group in _COMPARED:
        for case in read(GOLDEN / f"{group}.txt"):
            theirs = _numpys(case)
            kinds = [_class(kind) for mode, kind, _ in case.outcomes if mode != "compiled" and kind != WORKS]
            if theirs is False or any(issubclass(kind, errors.UnsupportedError) for kind in kinds):
                continue
            compared += 1
            fits = (not kinds) if theirs is None else bool(kinds) and all(issubclass(kind, theirs) for kind in kinds)
            if not fits:
                deviations.add(case.name)
    assert deviations <= set(_DEVIATIONS), deviations - set(_DEVIATIONS)
    assert compared > 150
