"""Sphinx extension: what stands around a page's text.

- Chapters have their number in the title, and so in the sidebar, in the search and in the browser's tab.
- Below a chapter's title stands the way to run it: the badges of the notebook's first cell, as buttons.
- Every page has a description, and a card for those who share its address.
- The footer says which version this is, and of which day.
- A page for addresses that do not exist, which works at any depth.
"""

import json
import os
import re
import subprocess
import time
from html import escape
from pathlib import Path

import yaml
from docutils import nodes

from a3mini import __version__

CHAPTER = re.compile(r"notebooks/(\d\d)_")
BADGE = re.compile(r"\[!\[([^\]]+)\]\([^)]*\)\]\(([^)]+)\)")
CARD, CARD_SIZE = "_static/card.png", (1200, 630)
CARD_ALT = 'The sentence "Tom lost his red toy car" in three groups, each in its own colour.'
LONGEST = 200  # letters of a description: search engines show about so many
NOT_FOUND = "404"


def number_chapter(app, doctree) -> None:
    """Before Sphinx collects the titles: ``priority`` below."""
    found = CHAPTER.match(app.env.docname)
    title = next(doctree.findall(nodes.title), None)
    if found and title is not None:
        title.insert(0, nodes.Text(f"{int(found[1])} "))


def repository(srcdir: Path) -> dict:
    return yaml.safe_load((srcdir / "_config.yml").read_text(encoding="utf-8"))["repository"]


def home(url: str) -> str:
    """Where GitHub serves the pages of a repository."""
    owner, name = url.rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


def buttons(notebook: Path) -> str:
    """The badges of a notebook's first cell, as links that look like buttons."""
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
    links = BADGE.findall("".join(first))
    made = "".join(f'<a class="a3-run" href="{escape(where)}">{escape(label)}</a>' for label, where in links)
    return f'<p class="a3-run-here">{made}</p>' if made else ""


def add_buttons(app, pagename, templatename, context, doctree) -> None:
    notebook = Path(app.srcdir) / f"{pagename}.ipynb"
    if CHAPTER.match(pagename) and notebook.exists():
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{buttons(notebook)}", 1)


def shorten(text: str, longest: int = LONGEST) -> str:
    """Whole sentences, as many as fit; of a first one that is too long, whole words."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    kept = re.match(rf"(.{{1,{longest}}}[.?!])(?=\s)", text)
    return kept[1] if kept else text[:longest].rsplit(" ", 1)[0] + " …"


def description(doctree) -> str:
    """The first paragraph of a page that is a sentence, without what only a reader of the page can see."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        text = paragraph.astext()
        if isinstance(paragraph.parent, nodes.section) and len(text) > 40 and "\\" not in text:
            return shorten(text)
    return ""


def describe(app, pagename, templatename, context, doctree) -> None:
    site = home(repository(Path(app.srcdir))["url"])
    text = description(doctree) or app.config.html_title or app.config.project
    title = re.sub(r"<[^>]+>", "", context.get("title") or app.config.project)
    width, height = CARD_SIZE
    properties = {
        "og:type": "article" if CHAPTER.match(pagename) else "website",
        "og:site_name": app.config.project,
        "og:title": title,
        "og:description": text,
        "og:url": f"{site}{pagename}.html",
        "og:image": site + CARD,
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": CARD_ALT,
    }
    tags = [f'<meta name="description" content="{escape(text)}">']
    tags += [f'<meta property="{name}" content="{escape(value)}">' for name, value in properties.items()]
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    if pagename == NOT_FOUND:
        tags = [from_the_root(site)]
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def from_the_root(site: str) -> str:
    """A server shows this page at any address, so its links begin at the site's root, wherever the site is."""
    path = "/" + site.split("/", 3)[3]
    return (
        f'<base href="{path}"><script>{{ const base = document.currentScript.previousElementSibling;'
        f' if (location.protocol === "file:") base.remove();'
        f' else if (!location.pathname.startsWith("{path}")) base.href = "/"; }}</script>'
        '<meta name="robots" content="noindex">'
    )


def last_change(folder: Path) -> tuple[str, float]:
    """Short name and time of the last commit; without one, no name, and now (or SOURCE_DATE_EPOCH)."""
    command = ["git", "-C", folder, "log", "-1", "--format=%h %ct"]
    try:
        name, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return name, float(seconds)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "", float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))


def sign(app) -> None:
    """Once for the whole site: which version, of which day, from which commit."""
    name, seconds = last_change(Path(app.srcdir))
    day = time.gmtime(seconds)
    url = repository(Path(app.srcdir))["url"]
    commit = f', commit <a href="{url}/commit/{name}">{name}</a>' if name else ""
    shown = f"{day.tm_mday} {time.strftime('%B %Y', day)}"
    about = f'<p>Version {__version__} of <time datetime="{time.strftime("%Y-%m-%d", day)}">'
    app.a3_signature = f"{about}{shown}</time>{commit}.</p>"


def add_signature(app, pagename, templatename, context, doctree) -> None:
    context["theme_extra_footer"] = context.get("theme_extra_footer", "") + app.a3_signature


def setup(app) -> dict:
    app.connect("builder-inited", sign)
    app.connect("doctree-read", number_chapter, priority=100)
    for add in (add_buttons, describe, add_signature):
        app.connect("html-page-context", add)
    app.config.html_additional_pages[NOT_FOUND] = "page_not_found.html"
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
