"""What all tables share: how results are found, and how a table, a number and the line about its source are written.

A table, or a figure, is a function. Its parameters are the results that it reads; one with a default may be missing.
"""

import inspect
import json
import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
from docutils import nodes
from matplotlib.figure import Figure

from a3mini.notebook.plots.themes import in_the_dark

COMMANDS = {  # what makes a result, where that is not the benchmark of its name alone
    "adaptation": "python benchmarks/adaptation.py losses",
    "adaptation_search": "python benchmarks/adaptation.py search",
    "adaptation_search_short": "python benchmarks/adaptation.py search --record adaptation_search_short",
    "colab_check": "make colab-check",
    "compact": "python benchmarks/compact.py train --data FOLDER`, then `python benchmarks/compact.py report",
    "gpu": "make gpu-check",
    "gpu_lab": "python benchmarks/gpu_lab.py run",
    "infilling": "python benchmarks/infilling.py --stories FILE",
    "notebook_times": "make timings",
    "quality_orders": 'python benchmarks/quality.py --orders "left to right" strided "random order" '
    "--record quality_orders",
    "version_matrix": "make matrix",
}
PUBLISHED = ("paper", "field")  # what others published: beside the pages, and not among our results


_BOOK = "a book of fairy tales in the public domain, as on Project Gutenberg; another edition makes slightly other rows"
_FOLDER = (
    "a folder with a file `.jsonl.gz` for each text, a document in each line under `text`; without "
    "it the command takes two texts that come as packages, and the numbers are others"
)
TEXTS = {  # files that a command names: what they are, and where to get them
    "tinystories_head.txt": "the beginning of the training split of `roneneldan/TinyStories` on the hub; without "
    "`--tinystories` the command reads the same stories from there",
    "bryant_stories.txt": f"Sara Cone Bryant, Stories to Tell to Children, {_BOOK}",
    "jacobs_english_fairy_tales.txt": f"Joseph Jacobs, English Fairy Tales, {_BOOK}",
    "--data eval": "a folder with a file for each task; without it the command reads the validation splits from the "
    "hub, by the names that `a3mini/evaluate/questions.py` has",
    "recipe.py --data": _FOLDER,
    "repetition.py --data": _FOLDER,
    "rocstories_cloze_val_spring2016.csv": "Story Cloze, validation set of spring 2016, which the makers of ROCStories "
    "give out on request; `--stories` takes a data set of the hub with its columns, too",
}


def reads(make: Callable, results: Path) -> dict[str, Path]:
    names = inspect.signature(make).parameters
    return {name: (results.parent if name in PUBLISHED else results) / f"{name}.json" for name in names}


def made(make: Callable, results: Path) -> str | Figure:
    """Markdown or a figure, from the folder of the results."""
    found = {name: json.loads(file.read_text("utf-8")) for name, file in reads(make, results).items() if file.exists()}
    for name, parameter in inspect.signature(make).parameters.items():
        if name not in found and parameter.default is parameter.empty:
            return not_yet(name)
    with plt.rc_context():
        return make(**found)


def not_yet(result: str) -> str:
    return f"Not measured yet: run `{COMMANDS.get(result, f'python benchmarks/{result}.py')}`."


def save(figure: Figure, light: Path, dark: Path) -> None:
    """In both themes; the same bytes for the same figure."""
    light.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "a3"}):
        figure.savefig(light, metadata={"Date": None, "Creator": None})
        with in_the_dark(figure):
            figure.savefig(dark, metadata={"Date": None, "Creator": None})
    plt.close(figure)


class _Filler(string.Formatter):
    def get_field(self, name, args, kwargs):
        try:
            return super().get_field(name, args, kwargs)
        except KeyError:
            return None, name

    def format_field(self, value, spec: str) -> str:
        if isinstance(value, list):
            text = f"{format(value[0], spec)} ± {format(value[1], spec.lstrip('+'))}"
        elif isinstance(value, dict):
            text = "{} [{}, {}]".format(*(format(value[key], spec) for key in ("mean", "low", "high")))
        else:
            return "" if value is None else format(value, spec)
        return text.replace("%", "").replace("-", "−").replace(" ", "\u202f")  # a narrow space that does not break


def fill(template: str, row: dict) -> str:
    """``str.format`` for cells. What is missing stays empty, and a mean brings its interval.

    That is [mean, half], 1.23 ± 0.04, or {mean, low, high}, 12.3 [11.0, 13.5]; without the % of a spec: titles have it.
    """
    return _Filler().vformat(template, (), row)


def table(columns: str, rows: Iterable[dict] | dict[str, dict], *below: str) -> str:
    """``columns``: "title: cell | title: cell"; a row of a dict knows its key as ``name``; ``below``: sentences."""
    titles, cells = zip(*(column.rsplit(": ", 1) for column in columns.split(" | ")), strict=True)
    rows = [{"name": name, **row} for name, row in rows.items()] if isinstance(rows, dict) else rows
    lines = [titles, ["---"] * len(titles), *([fill(cell, row) for cell in cells] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n" + " ".join(below)


def pairs(left: str, right: str, cells: dict[str, str], *below: str) -> str:
    rows = [{"left": name, "right": cell} for name, cell in cells.items()]
    return table(f"{left}: {{left}} | {right}: {{right}}", rows, *below)


def across(column: str, names: Iterable) -> str:
    """The same column for each of some names, which stand where it has $."""
    return " | ".join(column.replace("$", str(name)) for name in names)


def measured(names: Iterable[str], rows: Iterable[dict]) -> list[str]:
    """Those of the names that a row has: a result from before a benchmark asked for more still has its table."""
    there = set().union(*rows)
    return [name for name in names if name in there]


def plain(text: str) -> str:
    """What a model wrote, on one line; no sign of it means anything to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#$~&])", r"\\\1", " ".join(text.split()))


def listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def models(systems: dict[str, dict]) -> str:
    return f"Models: {'; '.join(dict.fromkeys(one['model'] for one in systems.values() if one.get('model')))}."


def source(result: dict, about: str = "") -> str:
    """What a template says about a result, and in a paragraph of its own how it was made and where its texts are."""
    made = "Measured by `{command}` on {date}: {hardware}, {threads} threads, {all}, seed {seed}, {wall_seconds:.0f} s."
    known = result | {"all": listed(result["versions"])}
    made = made.format(**known)
    for one in result.get("renewed", ()):
        made += " {what} by `{command}` on {date}.".format(**one)
    texts = "; ".join(f"`{file}`: {what}" for file, what in TEXTS.items() if file in result["command"])
    made += f" Texts: {texts}." if texts else ""
    return f"{about.format(**known)}\n\n{made}\n\n"


def fold_sources(shown: list[nodes.Node]) -> list[nodes.Node]:
    """Few readers ask how a result was made, so this waits in a fold. ``shown``: nodes of a page."""
    found = []
    for node in shown:
        if isinstance(node, nodes.paragraph) and node.astext().startswith(("Measured by ", "Made by ")):
            begin = '<details class="a3-source"><summary>How this was measured</summary>'
            node = [nodes.raw("", begin, format="html"), node, nodes.raw("", "</details>", format="html")]
        found += node if isinstance(node, list) else [node]
    return found
