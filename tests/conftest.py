"""Options and fixtures of all tests: `--slow`, `--bless`, and golden files.

A golden file holds the text that a test is to produce. It is found by the test's name,
`tests/golden/<test file>/<test>.txt`, and `pytest --bless` writes what the tests produce now. Look at the difference
before you commit it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--bless", action="store_true", help="rewrite golden files with what the tests produce")


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled code goes to a folder of this run: tests neither use the user's cache nor fill it, and debug flags that the
    user has set do not reach them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GRAPHC", raising=False)
        patch.delenv("GRAPHC_CACHE", raising=False)
        patch.setenv("GRAPHC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: needs --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--bless"))


@pytest.fixture
def golden(request: pytest.FixtureRequest, bless: bool) -> Callable[[str], None]:
    """`golden(text)` compares text with the test's golden file."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name).strip("-")
    path = GOLDEN / request.node.path.stem / f"{name}.txt"

    def compare(text: str) -> None:
        if bless:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {path.name}: run pytest --bless and look at what it wrote"
        assert text == path.read_text(encoding="utf-8")

    return compare
