"""Sphinx extension: the API reference, from the docstrings of a3mini.

Sphinx's own autodoc, napoleon and linkcode do the work. Here stands what a YAML file cannot say: where the source of a
name is at the repository, which members say nothing, how a long signature is marked up, that all behind the first
sentence is folded, and the directive ``{all_names}``: every name of the reference, from A to Z.
"""

import importlib
import importlib.util
import inspect
import re
from html import escape
from itertools import groupby
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import a3mini

PACKAGE = Path(a3mini.__file__).resolve().parent


def source_lines(module: str, name: str) -> tuple[str, int, int] | None:
    """File, first and last line of a name of the package; None for what has no source of its own here."""
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    found = inspect.unwrap(found.fget) if isinstance(found, property) else found
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(found))).resolve().relative_to(PACKAGE)
        lines, first = inspect.getsourcelines(found)
    except (TypeError, ValueError, OSError):  # a constant, or a method that another library defines
        return None
    return f"{PACKAGE.name}/{file.as_posix()}", first, first + len(lines) - 1


def set_source_links(app, config) -> None:
    """``linkcode_resolve`` is how sphinx.ext.linkcode asks; the URL stands in _config.yml alone."""
    repository = yaml.safe_load((Path(app.srcdir) / "_config.yml").read_text(encoding="utf-8"))["repository"]

    def resolve(domain: str, info: dict) -> str | None:
        found = source_lines(info["module"], info["fullname"]) if info.get("module") else None
        return found and "{url}/blob/{branch}/{0}#L{1}-L{2}".format(*found, **repository)

    config.linkcode_resolve = resolve


def skip_what_says_nothing(app, what, name, member, skip, options) -> bool | None:
    """Fields of a named tuple: their own docstring is "Alias for field number 0"."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


PARAMETERS = re.compile(r'<dl>\s*(<dd><em class="sig-param">.*?)</dl>', re.DOTALL)


def plain_signatures(app, pagename, templatename, context, doctree) -> None:
    """A parameter on its own line is no definition: Sphinx writes <dd> without <dt>, and screen readers stumble."""

    def spans(match: re.Match) -> str:
        inside = match[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
        return f'<span class="sig-lines">{inside}</span>'

    if context.get("body"):
        context["body"] = PARAMETERS.sub(spans, context["body"])


# Folds

INSIDE = {"Parameters": "arguments", "Returns": "result", "Raises": "errors", "Yields": "result"}


def label(hidden: list[nodes.Node]) -> str:
    """What a fold holds, in words: "Arguments, result, example"."""
    found = []
    for node in hidden:
        if isinstance(node, nodes.field_list):
            found += [INSIDE.get(name.astext(), "more") for name in node.findall(nodes.field_name)]
        elif isinstance(node, addnodes.desc):
            found.append({"method": "methods"}.get(node["objtype"], "attributes"))
        elif isinstance(node, nodes.rubric):
            found.append(node.astext().lower().rstrip("s:"))
        elif isinstance(node, nodes.doctest_block):
            found.append("example")
    found = list(dict.fromkeys(found)) or ["more"]
    return ", ".join(found).capitalize()


def fold(app, doctree, docname: str) -> None:
    """Of each name the signature and the first paragraph stay in sight."""
    if app.builder.name != "html" or not docname.startswith("book/api/"):
        return
    for content in list(doctree.findall(addnodes.desc_content)):
        first = 1 if content.children and isinstance(content[0], nodes.paragraph) else 0
        hidden = [node for node in content.children[first:] if not isinstance(node, addnodes.index)]
        if hidden:
            begin = f'<details class="a3-api"><summary>{escape(label(hidden))}</summary>'
            content.insert(first, nodes.raw("", begin, format="html"))
            content.append(nodes.raw("", "</details>", format="html"))


# All names, from A to Z


class all_names(nodes.General, nodes.Element):
    """Its place is taken when every page has been read."""


class AllNames(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [all_names()]


def first_sentence(name: str) -> str:
    """The first paragraph of a docstring, as it stands there, up to its first full stop."""
    module = next(part for part in parents(name) if importlib.util.find_spec(part))
    found = importlib.import_module(module)
    for part in name.removeprefix(module).strip(".").split("."):
        found = getattr(found, part, None)
    text = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split()) if callable(found) else ""
    return re.split(r"(?<=[.:]) (?=[A-Z])", text)[0].replace("``", "")


def parents(name: str) -> list[str]:
    """The longest first: what may be the module of a dotted name."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1) if parts[end - 1][0].islower()]


def listed(app) -> list[tuple[str, str, str, str]]:
    """Short name, full name, page and anchor of each function, class and exception that the pages document."""
    objects = app.env.domains["py"].get_objects()
    kinds = ("function", "class", "exception")
    found = {(name, page, anchor) for name, _, kind, page, anchor, _ in objects if kind in kinds}
    return sorted((name.rsplit(".", 1)[-1], name, page, anchor) for name, page, anchor in found)


def list_names(app, doctree, docname: str) -> None:
    for place in list(doctree.findall(all_names)):
        parts = []
        for letter, names in groupby(sorted(listed(app), key=lambda n: n[0].lower()), key=lambda n: n[0][0].upper()):
            section = nodes.section(ids=[f"names-{letter.lower()}"])
            section += nodes.title("", letter)
            entries = nodes.bullet_list(classes=["a3-names"])
            for short, name, page, anchor in names:
                link = make_refnode(app.builder, docname, page, anchor, nodes.literal("", short))
                where = name.rsplit(".", 1)[0].removeprefix("a3mini.")
                about = [link, nodes.Text(" in "), nodes.emphasis("", where), nodes.Text(f". {first_sentence(name)}")]
                entries += nodes.list_item("", nodes.paragraph("", "", *about))
            section += entries
            parts.append(section)
        place.replace_self(parts)


def setup(app) -> dict:
    app.add_node(all_names)
    app.add_directive("all_names", AllNames)
    app.connect("doctree-resolved", list_names)
    app.connect("doctree-resolved", fold)
    app.connect("config-inited", set_source_links)
    app.connect("autodoc-skip-member", skip_what_says_nothing)
    app.connect("html-page-context", plain_signatures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
