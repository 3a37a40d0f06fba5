"""Sphinx extension: the directive ``{explorer} NAME`` puts an interactive figure on a Markdown page.

The page gets the same self-contained HTML that a notebook shows; builders that do not write HTML get a sentence.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from a3mini.notebook import explorers

# By name: how to make the explorer from the folder of the results, and which results it reads.
EXPLORERS = {
    "bounds": (lambda results: explorers.BoundsExplorer.example(), ()),
    "mask": (lambda results: explorers.MaskExplorer.example(), ()),
    "playground": (lambda results: explorers.Playground.example(), ()),
    "puzzle": (lambda results: explorers.PuzzleExplorer.from_file(results / "puzzles.json"), ("puzzles.json",)),
    "trade_off": (
        lambda results: explorers.TradeOffExplorer.from_file(results / "tradeoff.json"),
        ("tradeoff.json",),
    ),
    "two_streams": (lambda results: explorers.TwoStreams.example(), ()),
}


class ExplorerDirective(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in EXPLORERS:
            raise self.error(f"explorer: there is no {name!r}, only {', '.join(sorted(EXPLORERS))}")
        make, reads = EXPLORERS[name]
        results, folder = Path(self.env.srcdir) / "book" / "results", Path(explorers.__file__).parent
        code = [folder.parent / "theme.py", *folder.glob("*.*"), *(folder.parent / "page").glob("*.js")]
        for file in [*code, *(results / read for read in reads), Path(__file__)]:
            self.env.note_dependency(str(file))  # the page is read again when one of them has changed
        try:
            explorer = make(results)
        except (OSError, ValueError) as error:
            raise self.error(f"explorer {name}: {error}") from error
        instead = addnodes.only("", nodes.paragraph("", explorer.summary), expr="not format_html")
        return [nodes.raw("", explorer.to_html(), format="html"), instead]


def setup(app) -> dict:
    app.add_directive("explorer", ExplorerDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
