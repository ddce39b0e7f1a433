"""The debug flag GRAPHC=."""

from __future__ import annotations

import pytest

from graphc.config import FLAGS, Config, from_environment, parse
from graphc.errors import GraphcError


def test_all_flags() -> None:
    everything = parse("print, verify,check,time,dump=out/x, stop-after=simplify")
    assert everything == Config(True, True, True, True, "out/x", "simplify")
    assert len(FLAGS) == len(Config.__dataclass_fields__)


@pytest.mark.parametrize("text", ["", " , "])
def test_nothing(text: str) -> None:
    assert parse(text) == Config()


def test_environment() -> None:
    assert from_environment({}) == Config()
    assert from_environment({"GRAPHC": "verify"}) == Config(verify=True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("verfy", "there is no flag 'verfy'; did you mean 'verify'"),
        ("all", "there is no flag 'all'\n"),
        ("dump", "flag 'dump' needs a value"),
        ("dump=", "flag 'dump' needs a value"),
        ("stop_after=x", "did you mean 'stop-after'"),
        ("verify=1", "flag 'verify' takes no value"),
        ("verify=", "flag 'verify' takes no value"),
        ("time,time", "flag 'time' is given twice"),
    ],
)
def test_errors(text: str, what: str) -> None:
    with pytest.raises(GraphcError) as caught:
        parse(text)
    assert what in str(caught.value)
    assert "Known flags: print, verify, check, time, dump=..., stop-after=..." in str(caught.value)
