"""The command line. Layer 7: options and exit codes; `graphc.tools.commands` does the work.

Exit codes: 0 done, 1 `replay` found that evaluations disagree, 2 a mistake of the user (printed without a traceback), 1
anything else, too (with a traceback).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from graphc import target
from graphc.errors import GraphcError
from graphc.passes.pipelines import PASSES
from graphc.tools import commands

__all__ = ["main"]

_EXAMPLES = """examples:
  graphc inspect models.mlp:predict --shapes "x=f32[64, 784], w=f32[784, 10]"
  graphc inspect models.mlp:train_step --shapes "f32[64, 784], i64[64]" --kernels
  graphc inspect models.mlp:predict --shapes "x=f32[8]" --asm k0 --target x86-64-v3
  graphc opt layer.gir --passes "simplify, constant-fold{limit=100}" -o smaller.gir --verify
  graphc run layer.gir --npz inputs.npz --compiled
  graphc replay wrong.gir --reduce smaller.gir
  graphc cache --clear
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        status = options.command(options)
        sys.stdout.flush()
    except GraphcError as error:
        print(f"graphc: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, UnicodeDecodeError) as error:
        print(f"graphc: {error}", file=sys.stderr)
        return 2
    return status or 0


class _Version(argparse.Action):
    """Finds versions only when they are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(commands.version_text())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="graphc",
        description="A static-graph compiler for models written in Python, for CPUs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions and the host's ISA level")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_inspect(subparsers)
    _add_opt(subparsers)
    _add_run(subparsers)
    _add_replay(subparsers)
    _add_cache(subparsers)
    return parser


def _add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_inspect(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        subparsers,
        "inspect",
        "show what the compiler makes of a function",
        "--shapes is written like the arguments of a call; an array is dtype[sizes]:\n"
        "  \"x=f32[64, 784], params={'w': f32[784, 10]}, labels=i64[64], lr=0.1, training=True\"\n"
        "Arrays of floats are seeded normal numbers, others are zero. Without another option, a summary is printed.",
    )
    parser.set_defaults(command=commands.inspect_command)
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="a plain or compiled function, or a model")
    parser.add_argument("--shapes", default="", metavar="ARGUMENTS", help="example arguments, see below")
    parser.add_argument("--seed", type=int, default=0, help="of the example arrays")
    parser.add_argument("--no-contract", action="store_true", help="round each product and each sum")
    known = ", ".join(["host", *target.LEVELS])
    parser.add_argument("--target", metavar="NAME", help=f"compile for another machine: {known}")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--stage", metavar="NAME", help="the graph after a pass ('input': as traced)")
    what.add_argument("--diff", nargs=2, metavar=("BEFORE", "AFTER"), help="what changed between two stages")
    what.add_argument("--kernels", action="store_true", help="kernels with their loop nests")
    what.add_argument("--llvm", action="store_true", help="LLVM IR")
    what.add_argument("--asm", nargs="?", const="", metavar="KERNEL", help="assembly, of one kernel or of all")
    what.add_argument("--memory", action="store_true", help="the plan of scratch memory")
    what.add_argument("--dot", action="store_true", help="the traced graph for Graphviz")


def _add_opt(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        subparsers,
        "opt",
        "run passes over a graph in text form",
        f"passes: {', '.join(PASSES)}\noptions in braces: constant-fold{{limit=100}}",
    )
    parser.set_defaults(command=commands.opt_command)
    parser.add_argument("file", help="a .gir file, or - for standard input")
    parser.add_argument("--passes", metavar="LIST", help="names separated by commas (default: the optimising pipeline)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the result here instead of printing it")
    parser.add_argument("--stages", action="store_true", help="print the graph after every pass")
    parser.add_argument("--verify", action="store_true", help="verify the graph before the first and after each pass")
    parser.add_argument("--time", action="store_true", help="print each pass's time")


def _add_run(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        subparsers,
        "run",
        "evaluate a graph in text form",
        "Inputs that are not given are seeded normal numbers, or zero for integers and bools.",
    )
    parser.set_defaults(command=commands.run_command)
    parser.add_argument("file", help="a .gir file, or - for standard input")
    parser.add_argument("--npz", metavar="FILE", help="inputs by name")
    parser.add_argument("--compiled", action="store_true", help="run native code instead of the interpreter")
    parser.add_argument("--sizes", default="", metavar="LIST", help="symbolic sizes, as s0=8,s1=3 (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of inputs that are not given")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="abbreviate outputs of more elements")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the outputs to this .npz file, too")


def _add_replay(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        subparsers,
        "replay",
        "compare all evaluations of a graph in text form: interpreter, passes, native code with and without them",
        "Inputs are those of FILE.arguments.npz if it is there; others are seeded normal numbers, or zero. Exit code 1 if\n"
        "evaluations disagree.",
    )
    parser.set_defaults(command=commands.replay_command)
    parser.add_argument("file", help="a .gir file")
    parser.add_argument("--npz", metavar="FILE", help="inputs by name")
    parser.add_argument("--sizes", default="", metavar="LIST", help="symbolic sizes, as s0=8,s1=3 (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of inputs that are not given")
    parser.add_argument("--no-contract", action="store_true", help="round each product and each sum")
    parser.add_argument(
        "--reduce", metavar="FILE", help="write the smallest part that disagrees here, and its arguments"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look for it (default 60)")


def _add_cache(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        subparsers,
        "cache",
        "show or empty the disk cache",
        "GRAPHC_CACHE_DIR is its folder, GRAPHC_CACHE=off switches it off.",
    )
    parser.set_defaults(command=commands.cache_command)
    parser.add_argument("--clear", action="store_true", help="remove all entries")
