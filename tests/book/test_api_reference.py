"""The API pages (book/api): every module of the package stands on one, and each name leads to its lines."""

import importlib.util
import pkgutil
import re
from types import SimpleNamespace

import pytest
from places import ROOT

import a3mini

PAGES = sorted((ROOT / "book" / "api").glob("*.md"))
# Modules whose names are documented elsewhere, or are commands.
ELSEWHERE = {"lazy", "decode", "evaluate", "notebook", "train", "__main__"}
ELSEWHERE |= {"cli", "config_file", "one_line", "loading", "using", "commands"}


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location("api_reference", ROOT / "book" / "_ext" / "api_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def missing(modules: set[str], pages: list[str]) -> set[str]:
    return modules - {name for page in pages for name in re.findall(r"automodule:: a3mini\.([\w.]+)", page)}


def test_every_module_stands_on_a_page():
    modules = {m.name.removeprefix("a3mini.") for m in pkgutil.walk_packages(a3mini.__path__, "a3mini.")}
    collected = ("notebook.explorers.", "notebook.plots.", "notebook.checks.ch")  # by their package
    modules = {name for name in modules if not name.startswith(collected)} - ELSEWHERE | {"notebook.explorers.base"}
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert not missing(modules, pages)
    assert missing({*modules, "new"}, pages) == {"new"}
    in_contents = re.findall(r"file: (book/api/\w+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert sorted(in_contents) == [f"book/api/{page.stem}" for page in PAGES]


@pytest.mark.parametrize(
    ("module", "name", "begins"),
    [
        ("a3mini.groups", "blocks", "def blocks("),
        ("a3mini.model", "A3ForCausalLM.forward", "    def forward("),
        ("a3mini.decode.groupwise", "Filling.known", "    @property"),
        ("a3mini.evaluate.intervals", "Interval", "class Interval"),
    ],
)
def test_a_name_leads_to_its_lines(extension, module, name, begins):
    file, first, last = extension.source_lines(module, name)
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert lines[first - 1].startswith(begins) or lines[first].startswith(begins)  # a decorator may stand before it
    assert first < last <= len(lines)


def test_what_has_no_source_here_has_no_link(extension):
    assert extension.source_lines("a3mini.groups", "GIVEN") is None
    assert extension.source_lines("a3mini.model", "A3Model.train") is None  # PyTorch's


def test_a_long_signature_is_no_broken_list(extension):
    line = '<dd><em class="sig-param">x</em>,</dd>'
    context = {"body": f"(<dl>\n{line}{line}</dl>) <dl><dt>a</dt><dd>b</dd></dl>"}
    extension.plain_signatures(None, "page", "", context, SimpleNamespace())
    assert context["body"].count("<dd>") == 1 and context["body"].count('class="sig-line"') == 2
