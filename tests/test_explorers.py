"""What all explorers share: the page's face, the colours, the arithmetic of groups in both languages."""

import json
import re

import pytest
import torch

from a3mini import theme
from a3mini.explorers import MaskExplorer, base

GROUPS = torch.tensor([0, 1, 1, 2, 3, 2, -1])


def example() -> MaskExplorer:
    return MaskExplorer("Tom lost his red toy car .".split(), GROUPS, "a sentence of the tests")


@pytest.mark.parametrize("size,theme_", [("desktop", "light"), ("phone", "dark")])
def test_the_face_of_the_page(open_explorer, size, theme_, tmp_path):
    window = open_explorer(example(), example(), size=size, theme=theme_)
    first = window.page.locator(".a3-explorer").first
    assert first.get_attribute("data-face") == "page"
    assert first.get_attribute("data-theme") == theme_
    assert "a sentence of the tests" in first.locator(".a3-source").inner_text()
    assert not window.too_wide()
