"""Sphinx extension: the book as one page, which is printed as PDF, and as an EPUB (tools/site/takeaway.py).

Some extensions say how a web page shows their elements, and name only the builder "html": here the same holds for the
other two. What an e-book reader cannot show is exchanged: scripts go, so that an interactive figure leaves its
sentence, and formulas become MathML. The theme is for web pages and has no part in an EPUB.
"""

import re
from html import escape

from docutils import nodes
from latex2mathml.converter import convert
from lxml import etree
from lxml import html as markup

THEME = ("sphinx_book_theme", "pydata_sphinx_theme")


def prepare(app) -> None:
    """Before anything is written: who shows what, and who is asked."""
    known = app.registry.translation_handlers
    for name in ("singlehtml", "epub"):
        known[name] = known["html"] | known.get(name, {})
    if app.builder.name == "epub":
        known["epub"] |= {"math": (inline_formula, None), "math_block": (formula, None)}
        for listeners in app.events.listeners.values():
            listeners[:] = [one for one in listeners if not one.handler.__module__.startswith(THEME)]


def inline_formula(translator, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula(translator, node: nodes.math_block) -> None:
    """A displayed formula, with its number if it has one."""
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    translator.body.append(f'<div class="math"{anchor}>{number}{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def well_formed(text: str) -> str:
    """A piece of HTML as XML, without its scripts.

    A fold's beginning and end may be two pieces, with Markdown between them: what is missing is lent for a moment.
    """
    text = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
    open_folds = len(re.findall(r"<details\b", text)) - text.count("</details>")
    before, after = "<details>" * -open_folds, "</details>" * open_folds
    whole = markup.fragment_fromstring(before + text + after, create_parent="div")
    for element in whole.iter():
        if element.text is None and element.tag not in markup.defs.empty_tags:
            element.text = ""  # <p></p>, and not <p/>, which some take for a beginning
    parts = [escape(whole.text or ""), *(etree.tostring(part, encoding="unicode", method="xml") for part in whole)]
    return "".join(parts).removeprefix(before).removesuffix(after)


def for_readers(app, doctree, docname: str) -> None:
    """What stands in the book as HTML must be XML in an EPUB, or the whole page is not shown."""
    if app.builder.name != "epub":
        return
    for node in doctree.findall(nodes.raw):
        if "html" in node.get("format", ""):
            node.replace_self(nodes.raw("", well_formed(node.astext()), format="html"))


def setup(app) -> dict:
    app.connect("builder-inited", prepare, priority=0)
    app.connect("doctree-resolved", for_readers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
