"""Sphinx extension: the directive ``{result} NAME`` puts a table or a figure on a page, made from book/results/*.json.

NAME is a function of one of the modules below. A figure takes the options and the caption of ``{figure}``.
"""

import os
from pathlib import Path

from both_themes import pair
from docutils import nodes
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective

from . import (
    ablation,
    blanks,
    choose,
    compact,
    decoding,
    field,
    machines,
    page,
    puzzles,
    repetition,
    rewriting,
    study,
    tasks,
    warm_start,
)
from .common import fold_sources, made, reads, save

MODULES = (ablation, blanks, choose, compact, decoding, field, machines, page, puzzles, repetition, rewriting, study,
           tasks, warm_start)  # fmt: skip
SHOWN = {
    name: make
    for module in MODULES
    for name, make in vars(module).items()
    if name[0] != "_" and getattr(make, "__module__", None) == module.__name__
}


class ResultDirective(SphinxDirective, Figure):
    def run(self) -> list[nodes.Node]:
        name, results = self.arguments[0], Path(self.env.srcdir) / "book" / "results"
        if name not in SHOWN:
            raise self.error(f"result: there is no {name!r}, only {', '.join(sorted(SHOWN))}")
        for file in [*Path(__file__).parent.glob("*.py"), *reads(SHOWN[name], results).values()]:
            self.env.note_dependency(str(file))  # the page is read again when one of them has changed
        try:
            shown = made(SHOWN[name], results)
        except (LookupError, TypeError, ValueError) as error:
            raise self.error(f"result {name}: {type(error).__name__}: {error}") from error
        if isinstance(shown, str):
            return fold_sources(self.parse_text_to_nodes(shown))
        folder = Path(self.env.doctreedir) / "results"  # it lives as long as the page that was read
        pictures = [folder / f"{name}{theme}.svg" for theme in ("", "-dark")]
        save(shown, *pictures)
        light, dark = ("/" + Path(os.path.relpath(picture, self.env.srcdir)).as_posix() for picture in pictures)
        self.arguments = [light]
        found = Figure.run(self)
        if self.env.app.builder.name != "html":
            return found
        for image in [image for node in found for image in node.findall(nodes.image)]:
            # not beside the caption: the theme would hide that with the picture
            image.replace_self(nodes.paragraph("", "", image.deepcopy(), image.deepcopy()))
        for image in [image for node in found for image in node.findall(nodes.image)][1::2]:
            pair(image.parent[0], image, dark)
        return found


def setup(app) -> dict:
    app.add_directive("result", ResultDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
