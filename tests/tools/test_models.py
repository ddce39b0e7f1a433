"""docs/models.md is what the tree gives; every gap has a reason; every layer with parameters is compared with PyTorch."""

from __future__ import annotations

import inspect
from pathlib import Path

from torch_cases import CASES

from graphc import nn
from graphc.tools.models import MISSING, SECTIONS, has, page

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
LAYERS = ("Layers", "Normalisation", "Recurrent", "Attention", "Activations")
#: Layers that are compared elsewhere: with SciPy and loops in tests/nn/test_spatial.py, with NumPy in test_attention.py; the
#: stacks are parts of the Transformer.
ELSEWHERE = {
    *(f"{kind}Pool{rank}d" for kind in ("Max", "Avg", "AdaptiveAvg") for rank in (1, 2, 3)),
    *("KeyValueCache", "SinusoidalEncoding", "RotaryEmbedding", "TransformerEncoder", "TransformerDecoder", "GLU"),
}


def test_the_page_is_current(bless: bool) -> None:
    if bless:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run pytest --bless on this file"


def test_every_gap_has_a_reason_and_no_other_name() -> None:
    names = [name for text in SECTIONS.values() for name in text.split()]
    assert len(set(names)) == len(names)
    assert {name for name in names if not has(name)} == set(MISSING)


def test_every_layer_is_compared_with_pytorch() -> None:
    listed = {name.removeprefix("nn.") for title in LAYERS for name in SECTIONS[title].split() if has(name)}
    layers = {name for name in listed if inspect.isclass(getattr(nn, name, None))}
    assert layers - {case.layer for case in CASES} <= ELSEWHERE
