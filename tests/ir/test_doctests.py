"""The examples in docstrings of the IR and the passes."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import config, errors
from graphc.ir import dims
from graphc.passes import pipelines


@pytest.mark.parametrize("module", [config, errors, dims, pipelines], ids=lambda m: m.__name__)
def test_examples(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
