"""Sphinx extension: the API reference, from the docstrings of a3mini.

Sphinx's own autodoc, napoleon and linkcode do the work. Here stands what a YAML file cannot say: where the source of a
name is at the repository, which members say nothing, and how a long signature is marked up.
"""

import importlib
import inspect
import re
from pathlib import Path

import yaml

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


def setup(app) -> dict:
    app.connect("config-inited", set_source_links)
    app.connect("autodoc-skip-member", skip_what_says_nothing)
    app.connect("html-page-context", plain_signatures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
