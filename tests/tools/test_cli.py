"""The command line, in process; one test starts it as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc.errors import DTypeError, ParseError
from graphc.ir import registry
from graphc.ir.parser import load
from graphc.ir.printer import save
from graphc.tools import examples
from graphc.tools.cli import main

MODELS = """
import numpy as np
import graphc as gx
from graphc import nn

def plain(x, params, rate=2.0):
    return np.tanh(x @ params["w"] + params["b"]) * rate

class Held:
    @gx.compile(static_argnames="n")
    def power(x, n):
        return x * x + n

model = nn.Linear(4, 3)
number = 3

def wrong(x):
    numbers = x.tolist()
    return numbers
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cli_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("cli_models", None)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A graph's file with a large constant and an index."""
    table = np.random.default_rng(5).standard_normal((20, 6)).astype(np.float32)
    captured = gx.compile(lambda x, i: gx.take((x * 1.0) @ table, i, axis=0) + 0.0).trace(
        np.zeros((4, 20), np.float32), np.zeros(2, np.int64)
    )
    path = tmp_path / "layer.gir"
    save(captured.graph, path)
    return path


def test_as_a_program(models: Path):
    command = [sys.executable, "-m", "graphc", "inspect", "cli_models:plain", "--shapes"]
    done = subprocess.run(
        [*command, "x=f32[2,3], params={'w': f32[3,4], 'b': f32[4]}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plain: (x: f32[2, 3], params['b']: f32[4], params['w']: f32[3, 4]) -> (f32[2, 4])")
    done = subprocess.run([*command, "x=f99[2]"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown dtype 'f99'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["passes", "codegen", "arena:"]),
        (["--stage", "input"], ['graph "plain"', "tanh(", "cli_models.py:7"]),
        (["--diff", "input", "fusion"], ["--- before", "= fused("]),
        (["--kernels"], ["kernel", "flops", "k0 "]),
        (["--llvm"], ["i64 @graphc_entry(", '"x86-64-v3"']),
        (["--asm"], ["graphc_entry:"]),
        (["--asm", "k0"], ["k0:"]),
        (["--memory"], ["offset", "arena:"]),
        (["--dot"], ["digraph"]),
    ],
)
def test_inspect(models: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]):
    shapes = "x=f32[2, 3], params={'w': f32[3, 4], 'b': f32[4]}, rate=0.5"
    assert main(["inspect", "cli_models:plain", "--shapes", shapes, "--target", "x86-64-v3", *options]) == 0
    shown = capsys.readouterr().out
    for word in words:
        assert word in shown


def test_inspect_compiled_functions_and_models(models: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "cli_models:Held.power", "--shapes", "f64[3], n=2", "--llvm"]) == 0
    assert " contract " in capsys.readouterr().out
    assert main(["inspect", "cli_models:Held.power", "--shapes", "f64[3], n=2", "--llvm", "--no-contract"]) == 0
    assert " contract " not in capsys.readouterr().out
    assert main(["inspect", "cli_models:model", "--shapes", "f32[2, 4]"]) == 0
    assert "weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "cli_models.plain"], ["is not package.module:function"]),
        (["inspect", "no_such_module:f"], ["there is no module 'no_such_module'"]),
        (["inspect", "not-a/module:f"], ["'not-a/module' is not the name of a module"]),
        (["inspect", "cli_models:nothing"], ["'cli_models' has no attribute 'nothing'"]),
        (["inspect", "cli_models:number"], ["only functions and modules can be compiled"]),
        (["inspect", "cli_models:plain", "--shapes", "f32[2"], ["cannot read the arguments", "hint"]),
        (["inspect", "cli_models:plain", "--shapes", "f32[3]"], ["missing a required argument: 'params'"]),
        (["inspect", "cli_models:wrong", "--shapes", "f32[3]"], ["asks for the value", "cli_models.py:18"]),
        (["inspect", "cli_models:wrong", "--shapes", "f32[3]", "--target", "z80"], ["unknown target 'z80'"]),
        (["inspect", "cli_models:Held.power", "--shapes", "f32[3], 1", "--stage", "x"], ["no 'x' here"]),
        (["opt", "nothing.gir"], ["No such file", "nothing.gir"]),
        (["opt", "cli_models.py"], ["cli_models.py:7:22", "^"]),
        (["run", "cli_models.py"], ["cli_models.py:7:22", "^"]),
        (["run", "cli_models.py", "--npz", "nothing.npz"], ["cli_models.py"]),
    ],
)
def test_mistakes_exit_with_2_and_without_traceback(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("graphc: ") and "Traceback" not in shown.err
    for word in words:
        assert word in shown.err


def test_a_fault_of_the_users_module_is_not_hidden(models: Path):
    (models / "cli_broken.py").write_text("import does_not_exist_either\n")
    with pytest.raises(ModuleNotFoundError, match="does_not_exist_either"):
        main(["inspect", "cli_broken:f"])


def test_options_that_exit(capsys: pytest.CaptureFixture[str]):
    for arguments, code, word in [
        (["--version"], 0, "graphc "),
        (["--help"], 0, "examples:"),
        (["opt", "--help"], 0, "constant-fold"),
        (["inspect", "--help"], 0, "f32[64, 784]"),
        ([], 2, "COMMAND"),
        (["inspect", "a:b", "--llvm", "--dot"], 2, "not allowed with"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == code
        shown = capsys.readouterr()
        assert word in shown.out + shown.err


def test_opt(layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["opt", str(layer), "--passes", "simplify", "--verify", "--time"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("graph ") and "multiply" in load(layer).nodes.__repr__()
    assert "multiply" not in shown.out and "simplify" in shown.err and "constants are printed as digests" in shown.err
    out = tmp_path / "out.gir"
    assert main(["opt", str(layer), "-o", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert len(load(out).nodes) < len(load(layer).nodes)
    assert main(["opt", str(layer), "--passes", "dead-code, fusion", "--stages"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")][-1].startswith("# fusion")
    assert main(["opt", str(layer), "--passes", "fuse"]) == 2
    assert "there is no pass 'fuse'" in capsys.readouterr().err


def test_opt_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text = 'graph "g"(%x: f32[3]) -> (f32[3]) {\n  %0: f32[3] = tanh(%x)\n  return %0\n}\n'
    (tmp_path / "in").write_text(text)
    with open(tmp_path / "in") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert main(["opt", "-"]) == 0
    assert capsys.readouterr().out == text.replace("%0: f32[3] = tanh(%x)", "%1: f32[3] = tanh(%x)").replace("%1", "%0")


def test_run_interpreted_and_compiled(layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = {"x": np.random.default_rng(1).standard_normal((4, 20)).astype(np.float32), "i": np.array([2, -1])}
    np.savez(tmp_path / "in.npz", **given)
    results = []
    for extra in ([], ["--compiled"]):
        out = tmp_path / f"out{len(extra)}.npz"
        assert main(["run", str(layer), "--npz", str(tmp_path / "in.npz"), "-o", str(out), *extra]) == 0
        assert capsys.readouterr().out.startswith("output0: f32[2, 6]\n  [[")
        with np.load(out) as held:
            results.append(held["output0"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)
    with np.load(layer.with_suffix(".npz")) as held:
        (table,) = (held[name] for name in held.files)
    np.testing.assert_allclose(results[0], (given["x"] @ table)[[2, -1]], rtol=1e-4, atol=1e-5)
    assert main(["run", str(layer), "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert main(["run", str(layer), "--seed", "3"]) == 0
    assert capsys.readouterr().out == first
    np.savez(tmp_path / "bad.npz", y=given["x"])
    assert main(["run", str(layer), "--npz", str(tmp_path / "bad.npz")]) == 2
    assert "the graph has no input y" in capsys.readouterr().err
    np.savez(tmp_path / "bad.npz", x=given["x"][:2])
    assert main(["run", str(layer), "--npz", str(tmp_path / "bad.npz")]) == 2
    assert "f32[2, 20]" in capsys.readouterr().err
    np.savez(tmp_path / "bad.npz", x=np.array([{}]))
    assert main(["run", str(layer), "--npz", str(tmp_path / "bad.npz")]) == 2
    assert "cannot read arrays" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--compiled"]])
def test_run_with_symbolic_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]):
    path = tmp_path / "symbolic.gir"
    path.write_text('graph "g"(%x: f32[s0, 3]) -> (f32[s0, 3]) {\n  %0: f32[s0, 3] = tanh(%x)\n  return %0\n}\n')
    out = tmp_path / "out.npz"
    for sizes, expected in ((["--sizes", "s0=7"], 7), ([], 4)):
        assert main(["run", str(path), "-o", str(out), *sizes, *extra]) == 0
        with np.load(out) as held:
            assert held["output0"].shape == (expected, 3)
    assert main(["run", str(path), "--sizes", "n=7"]) == 2
    assert "cannot read the size 'n=7'" in capsys.readouterr().err


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    gx.compile(lambda x: x * 41.5)(np.ones(2))
    assert main(["cache"]) == 0
    assert f"{tmp_path / 'cache'}: 1 entries" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "cleared" in capsys.readouterr().out and list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    assert main(["cache"]) == 0
    assert "off" in capsys.readouterr().out


# -- example arguments -------------------------------------------------------------------------------------------------


def test_example_arguments():
    args, kwargs = examples.arguments(
        "f32[2, 3], (i64[4], bool[1]), a=f64[], b={'k': [u32[0, 2], float32[1]]}, c=-0.5, d=None, e='f32[2]'"
    )
    assert (args[0].dtype, args[0].shape) == (np.float32, (2, 3)) and args[0].std() > 0
    assert args[1][0].dtype == np.int64 and not args[1][0].any() and args[1][1].dtype == np.bool_
    assert kwargs["a"].shape == () and kwargs["a"].dtype == np.float64
    assert kwargs["b"]["k"][0].shape == (0, 2) and kwargs["b"]["k"][1].dtype == np.float32
    assert (kwargs["c"], kwargs["d"], kwargs["e"]) == (-0.5, None, "f32[2]")
    again, _ = examples.arguments("f32[2, 3]")
    np.testing.assert_array_equal(again[0], args[0])
    assert examples.arguments("") == ([], {})


@pytest.mark.parametrize(
    "text",
    [
        "f32[-1]",
        "f32[x]",
        "f32[2.0]",
        "__import__('os')",
        "x",
        "**{}",
        "a=1)(",
        "f32[1][2]",
        "{**{}}",
        "*[1]",
        "a=1, a=2",
    ],
)
def test_other_text_is_refused(text: str):
    with pytest.raises(ParseError):
        examples.arguments(text)
    with pytest.raises(DTypeError, match="known are bool"):
        examples.arguments("f8[2]")


def test_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """All ways agree; with a lowering that is wrong they do not, and what is written shows it, too."""
    text = 'graph "g"(%x: f32[s0, 3]) -> (f32[s0, 3]) {\n  %0: f32[s0, 3] = rint(%x)\n'
    path, small = tmp_path / "g.gir", tmp_path / "small.gir"
    path.write_text(text + "  %1: f32[s0, 3] = negative(%0)\n  return %1\n}\n")
    assert main(["replay", str(path), "--sizes", "s0=5"]) == 0
    assert capsys.readouterr().out == "all evaluations agree\n"
    np.savez(tmp_path / "g.arguments.npz", x=np.full((2, 3), 0.75, np.float32))
    with monkeypatch.context() as patch:
        patch.setitem(vars(registry.get("rint")), "scalar", lambda s, x: s.trunc(x))
        assert main(["replay", str(path), "--reduce", str(small)]) == 1
        shown = capsys.readouterr().out
        assert "compiled, optimised: output 0 differs in 1 of 1 elements; first at [0, 0]: was" in shown
        assert "compiled, unoptimised" in shown and "after" not in shown
        assert [n.op.name for n in load(small).nodes] == ["input", "rint"]
        assert main(["replay", str(small)]) == 1
        assert main(["replay", str(path), "--npz", str(tmp_path / "small.arguments.npz")]) == 2
    assert main(["replay", str(small), "--no-contract"]) == 0
