"""The book says what the package does: names, numbers, examples. Each rule is shown to catch a mutant.

The spelling is checked by codespell (``make lint``).
"""

import ast
import builtins
import copy
import doctest
import importlib
import inspect
import io
import json
import keyword
import math
import pkgutil
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from statistics import NormalDist

import nbformat
import pytest
import torch
from book_text import FENCED, cells, notebooks, texts
from places import ROOT
from safetensors import safe_open

import a3mini
from a3mini import groups
from a3mini.train import devices, memory

MODULES = sorted(m.name for m in pkgutil.walk_packages(a3mini.__path__, "a3mini.") if not m.name.endswith("__main__"))
NOTEBOOKS = notebooks()
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


# A notebook has a size


MOST_CELLS, MOST_WORDS = 60, 2500


def size(notebook) -> tuple[int, int]:
    return len(notebook.cells), sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")


@each_notebook
def test_a_notebook_is_not_too_long(name):
    count, words = size(NOTEBOOKS[name])
    assert count <= MOST_CELLS and words <= MOST_WORDS


def test_size_counts_cells_and_words():
    longer = copy.deepcopy(next(iter(NOTEBOOKS.values())))
    longer.cells.append(nbformat.v4.new_markdown_cell("one two"))
    before = size(next(iter(NOTEBOOKS.values())))
    assert size(longer) == (before[0] + 1, before[1] + 2)


# A notebook builds an idea once, in a cell with the tag `teaches`, and compares it with the package there


# The same word for another thing, or for a helper of two lines that only this notebook needs.
OTHER_THINGS = {
    ("01_factorisation.ipynb", "entropy"): "of some positions of a table, not of the tokens of a text",
    ("01_factorisation.ipynb", "sample"): "sentences from a table",
    ("01_factorisation.ipynb", "train"): "ten lines for two tiny models; notebook 05 builds the real loop",
    ("03_two_stream_attention.ipynb", "rotate"): "a part of two_streams, which is compared as a whole",
    ("03_two_stream_attention.ipynb", "train"): "toy texts of six letters",
    ("04_from_a_pretrained_model.ipynb", "encode"): "one sentence",
    ("07_any_order_decoding.ipynb", "encode"): "one text as one group",
    ("07_any_order_decoding.ipynb", "distinct"): "over many texts at once; the package's is of one text",
    ("07_any_order_decoding.ipynb", "sample"): "texts of one way of decoding",
    ("08_exact_parallel_decoding.ipynb", "draw"): "a word from a table",
    ("09_adapt_on_gpu.ipynb", "fill"): "prints the blanks of three stories",
}


@cache
def definitions() -> dict[str, list[ast.AST]]:
    """By name: the public functions and classes of the package; checks have the names of exercises and are left out."""
    found = {}
    for path in (ROOT / "a3mini").rglob("*.py"):
        if "checks" not in path.parts:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(node)
    return found


def shape(function: ast.AST) -> str:
    """A function without its names and docstrings: a copy has the same shape, whatever it is called."""
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    tree, names = copy.deepcopy(ast.Module(body, [])), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.setdefault(node.id, f"n{len(names)}")
    return ast.dump(tree)


def built(cell) -> dict[str, ast.AST]:
    """Functions and classes that a code cell defines at its top."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node for node in ast.parse(cell.source).body if isinstance(node, kinds)}


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def redefined(name: str, notebook) -> set[str]:
    """What cells without the tag define although the package has it: by name, or as a copy that is no one-liner."""
    copies = {shape(node) for nodes in definitions().values() for node in nodes if len(list(ast.walk(node))) > 60}
    return {
        mine
        for cell in cells(notebook, "code")
        if not {"teaches", "exercise"} & {*tags(cell)}
        for mine, node in built(cell).items()
        if (mine in definitions() and (name, mine) not in OTHER_THINGS) or shape(node) in copies
    }


def not_compared(notebook) -> list[str]:
    """Cells with the tag of which nothing meets the package in a cell that asserts something."""
    code = cells(notebook, "code")
    imported, problems = set(), []
    for cell in code:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("a3mini"):
                imported |= {alias.asname or alias.name for alias in node.names}
    for cell in code:
        if "teaches" in tags(cell):
            mine = built(cell).keys()
            meets = False
            for other in code:
                tree = ast.parse(other.source)
                used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
                asserts = any(isinstance(node, ast.Assert) for node in ast.walk(tree))
                meets |= asserts and bool(used & mine) and bool(used & imported)
            if not mine or not meets:
                problems.append(cell.id)
    return problems


@each_notebook
def test_a_notebook_builds_nothing_twice(name):
    assert not redefined(name, NOTEBOOKS[name])


@each_notebook
def test_what_a_notebook_builds_is_compared_with_the_package(name):
    assert not not_compared(NOTEBOOKS[name])


def test_most_chapters_build_something():
    teaching = [name for name, notebook in NOTEBOOKS.items() if any("teaches" in tags(c) for c in notebook.cells)]
    assert len(teaching) >= 6


def test_the_list_of_other_things_has_nothing_stale():
    used = {(name, mine) for name, nb in NOTEBOOKS.items() for cell in cells(nb, "code") for mine in built(cell)}
    assert OTHER_THINGS.keys() <= used
    assert all(mine in definitions() for _, mine in OTHER_THINGS)


def test_a_copy_is_noticed():
    def with_cell(source: str, *cell_tags: str):
        notebook = copy.deepcopy(NOTEBOOKS["02_groups_and_masks.ipynb"])
        cell = copy.deepcopy(cells(notebook, "code")[0])
        cell.source, cell.metadata = source, {"tags": list(cell_tags)}
        notebook.cells.append(cell)
        return notebook

    renamed = inspect.getsource(groups.blocks).replace("def blocks", "def mine").replace("position", "where")
    for source, found in (("def query_mask(x): ...", {"query_mask"}), (renamed, {"mine"}), ("def new(x): ...", set())):
        assert redefined("02_groups_and_masks.ipynb", with_cell(source)) == found
    lonely = with_cell("def never_used(x): ...", "teaches")
    assert not redefined("02_groups_and_masks.ipynb", lonely)
    assert not_compared(lonely) == [lonely.cells[-1].id]


# Every name in `backticks` exists


SPAN = re.compile(r"(?<![`}])`([^`\n]+)`(?!`)")  # {role}`...` is no code
NAME = re.compile(r"[A-Za-z_]\w*")
# What belongs to other programs or to the reader.
FOREIGN = {
    "--multi_gpu": "an option of accelerate",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "an environment variable of oneDNN",
    "my": "a file of the reader's",
    "name": "stands for a name",
}


@cache
def known_names() -> set[str]:
    """Names and short strings in the code of this repository. Comments and docstrings may themselves be out of date."""
    found = set(dir(builtins)) | set(keyword.kwlist) | set(keyword.softkwlist) | {*sys.stdlib_module_names}
    for folder in ("a3mini", "tools", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
                if token.type == tokenize.NAME:
                    found.add(token.string)
                elif token.type == tokenize.STRING and '"""' not in token.string:
                    found |= {*NAME.findall(token.string)}
    for name in ("Makefile", "_config.yml", "pyproject.toml", "constraints.txt", ".github/workflows/publish.yml"):
        found |= {*NAME.findall((ROOT / name).read_text(encoding="utf-8"))}
    return found


@cache
def objects() -> dict[str, object]:
    """What a dotted name may begin with: modules of the package by their last name, and its public classes."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        found[module.__name__.rsplit(".", 1)[-1]] = module
        found |= {n: v for n, v in vars(module).items() if isinstance(v, type) and v.__module__.startswith("a3mini")}
    return found


# The usual name of an instance, beside the module of the same name.
TINY = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
INSTANCES = {
    "model": a3mini.A3ForCausalLM(a3mini.A3Config(**TINY)),
    "config": a3mini.A3Config(**TINY),
    "trace": a3mini.decode.Trace,
    "plan": devices.Plan,
}


def fields(thing: object) -> set[str]:
    """What may stand behind the dot: attributes, and the fields of a class."""
    return {*dir(thing), *getattr(thing, "__dataclass_fields__", ()), *getattr(thing, "__annotations__", ())}


def has(thing: object, parts: list[str]) -> bool:
    for part in parts if thing is not None else ():
        if part not in fields(thing):
            return False
        thing = getattr(thing, part, None)
        if thing is None:  # a field without a default: what is behind it is not known here
            return True
    return thing is not None


def wrong_name(span: str, own: set[str]) -> str | None:
    """What in a span of code is nowhere; None if all is there. ``own``: the names in the notebook's own code."""
    if span.startswith("git "):
        return None
    if found := re.match(r"make ([a-z-]+)", span):
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        return None if found[1] in targets else found[1]
    for path in re.findall(r"(?<![\w/.])(?:a3mini|book|notebooks|tools|tests|benchmarks)/[\w./-]+\w", span):
        if not (ROOT / path).exists() and not path.startswith("book/results/"):  # some are still to be measured
            return path
    bare = re.sub(r"[\w./-]+\.(?:csv|txt|jsonl?|safetensors|ipynb|ya?ml|py|md|html|tsv)\b|\S*/\S*", " ", span)
    for option in re.findall(r"(?<!\S)--([a-z][\w-]*)", bare):
        positive = option.removeprefix("no-")  # argparse makes --no-cache of --cache
        if f"--{option}" not in FOREIGN and not {positive, positive.replace("-", "_")} & options():
            return f"--{option}"
    bare = re.sub(r"(?<!\S)--[a-z][\w-]*", " ", bare)
    for dotted in re.findall(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", bare):
        first, *rest = dotted.split(".")
        # In a notebook a variable may have the name of a module.
        start = [objects().get(first) if first not in own or first in dir(a3mini) else None, INSTANCES.get(first)]
        start += [start[1].model] if first == "model" else []  # a parameter's name leaves out the outer model
        if rest and not all(thing is None for thing in start) and not any(has(thing, rest) for thing in start):
            return dotted
        for part in (first, *rest):
            if part not in known_names() and part not in own and part not in objects() and part not in FOREIGN:
                return part
    return None


@cache
def options() -> set[str]:
    """The options of our commands, as argparse or pytest is told about them."""
    code = [p.read_text(encoding="utf-8") for f in ("a3mini", "tools", "benchmarks") for p in (ROOT / f).rglob("*.py")]
    found = {name for text in code for name in re.findall(r'"--([a-z][\w-]*)"', text)}
    config = {name.replace("_", "-") for name in known_names()}  # a3mini's options are made from dataclass fields
    return found | config


def own_names(notebook) -> set[str]:
    """The names in a notebook's code, exercises' stubs and folded solutions included."""
    code = [cell.source for cell in cells(notebook, "code")]
    code += [fence for cell in cells(notebook, "markdown") for fence in FENCED.findall(cell.source)]
    return {name for text in code for name in NAME.findall(text)}


@pytest.mark.parametrize("name", texts())
def test_names_in_backticks_exist(name):
    own = own_names(NOTEBOOKS[name]) if name in NOTEBOOKS else set()
    spans = SPAN.findall(FENCED.sub("", texts()[name]))
    assert not {span: wrong for span in spans if (wrong := wrong_name(span, own))}


@pytest.mark.parametrize(
    ("span", "wrong"),
    [
        ("groups.blocks", None),
        ("groups.blocks_of", "groups.blocks_of"),
        ("decode.generate(model)", None),
        ("A3ForCausalLM.from_pretrained", None),
        ("Curriculum.fetch", "Curriculum.fetch"),
        ("make book", None),
        ("make bread", "bread"),
        ("tools/site/links.py", None),
        ("tools/linx.py", "tools/linx.py"),
        ("a3mini train --lora-rank 4", None),
        ("a3mini train --lora-rang 4", "--lora-rang"),
        ("resampled_twice", "resampled_twice"),
    ],
)
def test_a_wrong_name_is_noticed(span, wrong):
    assert wrong_name(span, set()) == wrong


# Every number in prose has a source


UNITS = r"%|ms\b|s\b|seconds?\b|hours?\b|[kMGT]B\b|nats?\b|bits?\b|million\b|billion\b|trillion\b|times\b|points?\b"
NUMBER = re.compile(rf"(?<![\w.,/^{{-])\d[\d,]*(?:(?:\.\d+)? ?(?:{UNITS})|\.\d+(?![\w.-]*\w))")
NO_NUMBERS = re.compile(
    r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->|(?m:^#+ [^\n]*)|(?m:^\*\*Time\.\*\*[^\n]*)", re.DOTALL
)


def adapter_size() -> float:
    """Millions of numbers in the adapter that ships."""
    with safe_open(ROOT / "a3mini" / "models" / "smollm2_a3" / "adapter.safetensors", "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys()) / 1e6


def smollm2_size() -> float:
    """Millions of weights of SmolLM2-135M."""
    return memory.count(devices.MODELS["HuggingFaceTB/SmolLM2-135M"]).all / 1e6


def of_recipe(arm: str, where: str = "mean of what is used", seed: int | None = None) -> float:
    """How far an arm of the ablation is from its base, nats, whichever is ahead; of one seed, or the mean."""
    found = json.loads((ROOT / "book" / "results" / "recipe.json").read_text(encoding="utf-8"))["arms"][arm]
    return abs(found["difference"][where]["mean"] if seed is None else found["by_seed"][where][seed])


def of_repetition(arm: str, way: str, what: str) -> float:
    """What became of an arm that read the same text many times, nats: "loss" at its lowest, or its "rise" since."""
    found = json.loads((ROOT / "book" / "results" / "repetition.json").read_text(encoding="utf-8"))
    return found["arms"][arm]["best"][way][what]


def lowest(first: tuple[str, str], second: tuple[str, str]) -> float:
    """How far the lowest loss of the first arm is above that of the second."""
    return of_repetition(*first, "loss") - of_repetition(*second, "loss")


Z95 = NormalDist().inv_cdf(0.975)
# Numbers that code can produce: by file and number, the value. The number in the text must be this value, rounded.
VALUES = {
    ("adaptation.md", "4.9 million"): adapter_size,
    ("adaptation.md", "135 million"): smollm2_size,
    ("choose.md", "135 million"): smollm2_size,
    ("00_quickstart.ipynb", "135 million"): smollm2_size,
    ("training.md", "0.42"): lambda: of_recipe("cold query rows"),
    ("training.md", "0.36"): lambda: of_recipe("cold query rows", seed=0),
    ("training.md", "0.47"): lambda: of_recipe("cold query rows", seed=1),
    ("training.md", "0.50"): lambda: of_recipe("cold query rows", "left to right"),
    ("training.md", "0.51 nats"): lambda: of_recipe("AdamW"),
    ("training.md", "0.16 nats"): lambda: of_recipe("rows count alike"),
    ("training.md", "0.09 nats"): lambda: of_recipe("half left to right"),
    ("training.md", "0.11"): lambda: of_recipe("half left to right", seed=0),
    ("training.md", "0.08"): lambda: of_recipe("half left to right", seed=1),
    ("training.md", "0.14"): lambda: of_recipe("half left to right", "left to right"),
    ("training.md", "0.10 nats"): lambda: of_recipe("the paper's stages", "random order"),
    ("training.md", "0.04 nats"): lambda: of_recipe("autoregression first"),
    ("study.md", "1.96"): lambda: of_repetition("A3", "left to right", "rise"),
    ("study.md", "0.83 nats"): lambda: of_repetition("A3", "random order", "rise"),
    ("study.md", "0.12"): lambda: of_repetition("masked diffusion", "random order", "rise"),
    ("study.md", "0.10"): lambda: lowest(("A3", "random order"), ("masked diffusion", "random order")),
    ("study.md", "0.09"): lambda: lowest(("A3", "left to right"), ("autoregression", "left to right")),
    ("notation.md", "1.44 bits"): lambda: 1 / math.log(2),
    ("01_factorisation.ipynb", "1.44 bits"): lambda: 1 / math.log(2),
    ("01_factorisation.ipynb", "0.69"): lambda: math.log(2),
    ("10_evaluate.ipynb", "1.96"): lambda: Z95,
    ("10_evaluate.ipynb", "0.025"): lambda: (1 - 0.95) / 2,
    ("10_evaluate.ipynb", "0.975"): lambda: (1 + 0.95) / 2,
}
# Numbers that were chosen, or that others chose: why they need no measurement.
SETTINGS = {
    "the unit, not a number": [("notation.md", "1 nat"), ("glossary.md", "1 nat"), ("01_factorisation.ipynb", "1 nat")],
    "a multiple of a symbol": [("01_factorisation.ipynb", "2s")],
    "the level of our intervals": [
        *((name, "95 %") for name in ("paper_results.md", "study.md")),
        *((name, "95%") for name in ("glossary.md", "10_evaluate.ipynb")),
    ],
    "what the paper says of itself": [
        ("paper_results.md", "10 billion"),
        ("study.md", "8 billion"),
        ("06_progressive_adaptation.ipynb", "2 billion"),
        ("10_evaluate.ipynb", "8 billion"),
    ],
    "what others found": [
        *(("puzzles.md", number) for number in ("10 %", "90 %")),
        *(("choose.md", number) for number in ("0.1", "0.25")),
    ],
    "how the packaged model was stored": [("00_quickstart.ipynb", "4 bits")],
    "the rules of an exercise": [
        ("00_quickstart.ipynb", "100 times"),
        ("01_factorisation.ipynb", "0.05"),
        ("05_train_compact_model.ipynb", "0.04 nats"),
    ],
    "the table of the toy world, drawn by the code": [
        ("01_factorisation.ipynb", "95%"),
        ("08_exact_parallel_decoding.ipynb", "5%"),
    ],
    "set by the cell below, or in the example itself": [
        ("02_groups_and_masks.ipynb", "0.1"),
        *(("05_train_compact_model.ipynb", number) for number in ("10%", "30%", "90%", "8 nats", "15 times", "0.5")),
        ("05_train_compact_model.ipynb", "4.9 nats"),  # "a number like"
        *(("instructors.md", number) for number in ("4 nats", "8 nats", "0.4")),
        ("07_any_order_decoding.ipynb", "0.7"),
        ("07_any_order_decoding.ipynb", "0.4"),
        ("08_exact_parallel_decoding.ipynb", "16 nats"),
        ("10_evaluate.ipynb", "0.5"),
    ],
    "guesses to choose from": [("09_adapt_on_gpu.ipynb", "1%"), ("09_adapt_on_gpu.ipynb", "10%")],
    "what Google gives for nothing": [("09_adapt_on_gpu.ipynb", "15 GB")],
    "guessing among four, and among two": [("10_evaluate.ipynb", "25%"), ("10_evaluate.ipynb", "50%")],
}
CHOSEN = {place for places in SETTINGS.values() for place in places}


def numbers(text: str) -> list[str]:
    return NUMBER.findall(NO_NUMBERS.sub(lambda found: " " * len(found[0]), text))


def unsourced(name: str, text: str) -> list[str]:
    """The numbers of a text that have no source, or another value than their source."""
    problems = []
    for number in numbers(text):
        digits = re.match(r"[\d,.]*\d", number)[0].replace(",", "")
        if (name, number) in VALUES:
            decimals = len(digits.partition(".")[2])
            if round(VALUES[name, number](), decimals) != float(digits):
                problems.append(f"{number}: its source says {VALUES[name, number]()}")
        elif (name, number) not in CHOSEN:
            problems.append(number)
    return problems


@pytest.mark.parametrize("name", texts())
def test_a_number_has_a_source(name):
    advice = "print it from code, put it into a generated block, or say where it comes from: VALUES, SETTINGS above"
    assert not unsourced(name, texts()[name]), advice


def test_no_source_is_left_over():
    found = {(name, number) for name, text in texts().items() for number in numbers(text)}
    assert not {*VALUES, *CHOSEN} - found


def test_a_number_without_a_source_is_noticed():
    text = "It takes 12.5 s, `3.5`, 40 % of 7 tokens, and 4.8 million numbers of 135 million."
    assert numbers(text) == ["12.5 s", "40 %", "4.8 million", "135 million"]
    assert unsourced("adaptation.md", text) == ["12.5 s", "40 %", "4.8 million"]
    wrong = {**VALUES, ("adaptation.md", "135 million"): lambda: 134.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "VALUES", wrong)
        assert unsourced("adaptation.md", "135 million") == ["135 million: its source says 134.0"]


# Examples in docstrings run


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module), extraglobs={"torch": torch})
    assert not found.failed


def test_central_functions_have_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in ("groups", "masks", "objective"):
        assert any(test.examples for test in finder.find(importlib.import_module(f"a3mini.{module}")))


def test_a_wrong_example_is_noticed():
    example = ">>> groups.blocks(3, 1)\ntensor([0, 1, 1])\n"
    test = doctest.DocTestParser().get_doctest(example, {"groups": groups}, "mutant", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1


# Spelling


def test_the_spelling_is_right_and_an_error_is_noticed(tmp_path):
    codespell = [Path(sys.executable).with_name("codespell")]
    assert subprocess.run(codespell, cwd=ROOT, capture_output=True, text=True).stdout == ""
    wrong = "rec" + "ieved"  # in one piece, codespell would find it here
    (tmp_path / "page.md").write_text(f"A {wrong} token.\n")
    assert wrong in subprocess.run([*codespell, tmp_path], cwd=ROOT, capture_output=True, text=True).stdout
